//! The functions that generated code calls: mathematics that is rarely needed, and bulk copies.
//!
//! `f32` functions are computed in `f64` and rounded once. Each function has C's calling convention and a
//! name under which generated code refers to it; to add one, add a line to [`TABLE`].

use nestjit_ir::{BinOp, DType, UnOp};

/// The signature of a function in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signature {
    /// One operand and a result of one type.
    Unary(DType),
    /// Two operands and a result of one type.
    Binary(DType),
    /// `memcpy(to, from, bytes)`.
    Copy,
}

/// A function: its name, its signature and its address.
pub(super) struct RuntimeFn {
    pub name: &'static str,
    pub signature: Signature,
    pub address: Address,
}

/// The address of a function.
#[derive(Clone, Copy)]
pub(super) struct Address(pub *const u8);

// SAFETY: the address of a function is the same, and the function callable, on every thread.
unsafe impl Sync for Address {}

/// The position of the function with this name in [`TABLE`].
pub(super) fn find(name: &str) -> Option<usize> {
    TABLE.iter().position(|f| f.name == name)
}

/// The function that computes a unary operation, if it is computed by a call.
pub(super) fn unary(op: UnOp, dtype: DType) -> Option<usize> {
    find(&format!("{}_{}", op.name(), dtype.name()))
}

/// The function that computes a binary operation, if it is computed by a call.
pub(super) fn binary(op: BinOp, dtype: DType) -> Option<usize> {
    find(&format!("{}_{}", op.name(), dtype.name()))
}

macro_rules! table {
    (unary { $($u32:ident $u64:ident $f:path;)* } binary { $($b32:ident $b64:ident $g:path;)* }) => {
        $(
            extern "C" fn $u32(x: f32) -> f32 {
                $f(f64::from(x)) as f32
            }
            extern "C" fn $u64(x: f64) -> f64 {
                $f(x)
            }
        )*
        $(
            extern "C" fn $b32(x: f32, y: f32) -> f32 {
                $g(f64::from(x), f64::from(y)) as f32
            }
            extern "C" fn $b64(x: f64, y: f64) -> f64 {
                $g(x, y)
            }
        )*
        /// Every function that generated code may call.
        pub(super) static TABLE: &[RuntimeFn] = &[
            $(
                entry(stringify!($u32), Signature::Unary(DType::F32), $u32 as *const u8),
                entry(stringify!($u64), Signature::Unary(DType::F64), $u64 as *const u8),
            )*
            $(
                entry(stringify!($b32), Signature::Binary(DType::F32), $b32 as *const u8),
                entry(stringify!($b64), Signature::Binary(DType::F64), $b64 as *const u8),
            )*
            entry("mod_f32", Signature::Binary(DType::F32), mod_f32 as *const u8),
            entry("mod_f64", Signature::Binary(DType::F64), mod_f64 as *const u8),
            entry("pow_i64", Signature::Binary(DType::I64), pow_i64 as *const u8),
            entry("pow_u64", Signature::Binary(DType::U64), pow_u64 as *const u8),
            entry("copy", Signature::Copy, copy as *const u8),
        ];
    };
}

const fn entry(name: &'static str, signature: Signature, address: *const u8) -> RuntimeFn {
    RuntimeFn { name, signature, address: Address(address) }
}

table! {
    unary {
        exp_f32 exp_f64 libm::exp;
        expm1_f32 expm1_f64 libm::expm1;
        log_f32 log_f64 libm::log;
        log1p_f32 log1p_f64 libm::log1p;
        sigmoid_f32 sigmoid_f64 sigmoid;
        tanh_f32 tanh_f64 libm::tanh;
        erf_f32 erf_f64 libm::erf;
        sin_f32 sin_f64 libm::sin;
        cos_f32 cos_f64 libm::cos;
        tan_f32 tan_f64 libm::tan;
        asin_f32 asin_f64 libm::asin;
        acos_f32 acos_f64 libm::acos;
        atan_f32 atan_f64 libm::atan;
        sinh_f32 sinh_f64 libm::sinh;
        cosh_f32 cosh_f64 libm::cosh;
        asinh_f32 asinh_f64 libm::asinh;
        acosh_f32 acosh_f64 libm::acosh;
        atanh_f32 atanh_f64 libm::atanh;
    }
    binary {
        pow_f32 pow_f64 libm::pow;
        atan2_f32 atan2_f64 libm::atan2;
        rem_f32 rem_f64 rem;
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// Exact, so the detour of `f32` through `f64` changes nothing.
fn rem(x: f64, y: f64) -> f64 {
    x % y
}

macro_rules! floor_mod {
    ($name:ident $t:ty) => {
        /// The remainder with the sign of the divisor. The correction rounds, so each type has its own.
        extern "C" fn $name(x: $t, y: $t) -> $t {
            match x % y {
                r if r == 0.0 => r.copysign(y),
                r if (r < 0.0) != (y < 0.0) => r + y,
                r => r,
            }
        }
    };
}
floor_mod!(mod_f32 f32);
floor_mod!(mod_f64 f64);

/// Wrapping; for narrower types the low bits are right too.
extern "C" fn pow_i64(base: i64, exponent: i64) -> i64 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 if exponent & 1 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    pow_u64(base as u64, exponent as u64) as i64
}

/// Wrapping.
extern "C" fn pow_u64(base: u64, exponent: u64) -> u64 {
    let (mut base, mut exponent, mut result) = (base, exponent, 1u64);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    result
}

/// # Safety
/// `to` and `from` must be valid for `bytes` bytes and not overlap.
unsafe extern "C" fn copy(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(from, to, bytes) };
}
