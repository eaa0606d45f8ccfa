//! Conversions to the half types that round once.
//!
//! Rounding to `f32` and then to a half type would round twice, and a value just beside the middle between two halves would end
//! up on the wrong side. So what is wider is brought to `f32` (or an integer to `f64`) *rounded to odd* first: towards
//! zero, and with the last bit set if anything was lost. What the last bit says then is all that the second rounding needs
//! to know, since a half type has more than two bits less.

use half::{bf16, f16};

/// The `f32` next to `value` towards zero, with an odd last bit if it is not exactly `value`.
const fn f32_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let back = nearest as f64;
    if value.is_nan() || back == value {
        return nearest;
    }
    let bits = nearest.to_bits();
    // The magnitude of the bits is that of the number.
    let towards_zero = if back.abs() > value.abs() { bits - 1 } else { bits };
    f32::from_bits(towards_zero | 1)
}

/// `value`, rounded to the nearest, ties to even; infinite from 65520 on.
pub const fn f16_from_f64(value: f64) -> f16 {
    f16::from_f32_const(f32_to_odd(value))
}

/// `value`, rounded to the nearest, ties to even.
pub const fn bf16_from_f64(value: f64) -> bf16 {
    bf16::from_f32_const(f32_to_odd(value))
}

/// How many low bits of an integer a half type can do without knowing, except for whether all are 0.
const STICKY: u32 = 12;

/// A `f64` that rounds to the half that `value` rounds to: `value` itself up to 2^53.
pub const fn f64_from_i64(value: i64) -> f64 {
    if value.unsigned_abs() < 1 << 53 {
        return value as f64;
    }
    let low = value & ((1 << STICKY) - 1);
    ((value - low) | ((low != 0) as i64) << STICKY) as f64
}

/// A `f64` that rounds to the half that `value` rounds to: `value` itself up to 2^53.
pub const fn f64_from_u64(value: u64) -> f64 {
    if value < 1 << 53 {
        return value as f64;
    }
    let low = value & ((1 << STICKY) - 1);
    ((value - low) | ((low != 0) as u64) << STICKY) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The half nearest to a number, found by comparing with neighbours: `bits` counts up from 0 with the magnitude.
    fn nearest(value: f64, as_f64: impl Fn(u16) -> f64, infinity: u16) -> u16 {
        let magnitude = value.abs();
        let next = (0..=infinity).find(|b| as_f64(*b) >= magnitude).unwrap_or(infinity);
        let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
        if next == 0 || as_f64(next) == magnitude {
            return sign | next;
        }
        let below = as_f64(next - 1);
        // Infinity stands for the number that would follow the largest.
        let above = if next == infinity { 2.0 * below - as_f64(next - 2) } else { as_f64(next) };
        let middle = below + (above - below) / 2.0;
        let up = magnitude > middle || (magnitude == middle && next % 2 == 0);
        sign | if up { next } else { next - 1 }
    }

    fn check(value: f64) {
        let f16_bits = f16_from_f64(value).to_bits();
        assert_eq!(f16_bits, nearest(value, |b| f16::from_bits(b).to_f64(), 0x7c00), "f16 of {value:e}");
        let bf16_bits = bf16_from_f64(value).to_bits();
        assert_eq!(bf16_bits, nearest(value, |b| bf16::from_bits(b).to_f64(), 0x7f80), "bf16 of {value:e}");
    }

    #[test]
    fn a_hair_beside_the_middle_between_two_halves_decides() {
        let halves =
            [0x0000u16, 0x0001, 0x0002, 0x03ff, 0x0400, 0x3bff, 0x3c00, 0x3c01, 0x4248, 0x7bfe, 0x7bff];
        let f16_middles = halves
            .map(|b| f16::from_bits(b).to_f64())
            .map(|v| (v, 2.0f64.powi(-25).max(v * 2.0f64.powi(-11))));
        let bf16_middles = [0x0000u16, 0x0001, 0x007f, 0x0080, 0x3f7f, 0x3f80, 0x3f81, 0x7f7e, 0x7f7f]
            .map(|b| bf16::from_bits(b).to_f64())
            .map(|v| (v, 2.0f64.powi(-134).max(v * 2.0f64.powi(-8))));
        for (value, half_step) in f16_middles.into_iter().chain(bf16_middles) {
            for middle in [value, value + half_step, value + half_step / 2.0] {
                for hair in [0.0, 1e-9, -1e-9, 1e-15, -1e-15] {
                    check(middle * (1.0 + hair));
                    check(-middle * (1.0 + hair));
                }
            }
        }
        for value in
            [65519.999, 65520.0, 65504.0, 1e300, 1e-300, 5e-324, f64::MAX, f64::INFINITY, 0.0, 3.4e38]
        {
            check(value);
            check(-value);
        }
    }

    #[test]
    fn not_a_number_stays_quiet_with_its_sign_and_upper_bits() {
        let nan = f64::from_bits(0xfffc_0000_0000_0001);
        assert_eq!(f16_from_f64(nan).to_bits(), 0xff00);
        assert_eq!(bf16_from_f64(nan).to_bits(), 0xffe0);
        let signalling = f64::from_bits(0x7ff0_0000_0000_0001);
        assert_eq!(f16_from_f64(signalling).to_bits(), 0x7e00);
        assert_eq!(bf16_from_f64(signalling).to_bits(), 0x7fc0);
    }

    #[test]
    fn integers_round_once() {
        // The last bit decides, and is lost in an f64.
        let middle = (1i64 << 62) + (1 << 54);
        let up = ((1i64 << 62) + (1 << 55)) as f64;
        for (value, rounded) in
            [(middle, (1i64 << 62) as f64), (middle + 1, up), (middle - 1, (1i64 << 62) as f64)]
        {
            assert_eq!(bf16_from_f64(f64_from_i64(value)).to_f64(), rounded, "{value}");
            assert_eq!(bf16_from_f64(f64_from_i64(-value)).to_f64(), -rounded, "-{value}");
            assert_eq!(bf16_from_f64(f64_from_u64(value as u64)).to_f64(), rounded, "{value}");
        }
        for value in [0, 1, 2047, 2049, 65519, 65520, (1 << 53) - 1, 1 << 53, i64::MAX] {
            check(f64_from_i64(value));
            check(f64_from_i64(-value));
        }
        assert_eq!(f64_from_i64(i64::MIN), i64::MIN as f64);
        assert_eq!(bf16_from_f64(f64_from_u64(u64::MAX)).to_f64(), 2.0f64.powi(64));
    }
}
