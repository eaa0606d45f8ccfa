//! The filters of a convolution, transformed at compile time.

use std::ops::Range;

use nestjit_ir::layout::scaled;

use crate::passes::schedule::minimal_filtering::algorithm::Filtering;

/// Filters that are transformed together: their values lie side by side, as vectors.
pub(super) const TOGETHER: usize = 16;

/// A value of each of the filters that are transformed together.
type Values = [f64; TOGETHER];

/// Some of the transformed filters, those with the numbers `range`: `w` holds them as `f32` with these strides for their
/// number, channel, row and column; they are to be multiplied with `factors` by their number if there are any. The result
/// for all `co` filters is `[n * n][ci][co]`. Computed in `f64` and rounded once.
pub(super) fn filters(
    filtering: Filtering,
    w: &[[u8; 4]],
    factors: Option<&[f64]>,
    strides: [usize; 4],
    [co, ci]: [usize; 2],
    range: Range<usize>,
    out: &mut [f32],
) {
    let n = filtering.inputs();
    let g = filtering.filter_matrix();
    let mut half = vec![[[0.0; TOGETHER]; 3]; n];
    for c in 0..ci {
        for first in range.clone().step_by(TOGETHER) {
            let count = TOGETHER.min(range.end - first);
            let mut taps = [[[0.0; TOGETHER]; 3]; 3];
            for (kh, row) in taps.iter_mut().enumerate() {
                for (kw, values) in row.iter_mut().enumerate() {
                    let at = c * strides[1] + kh * strides[2] + kw * strides[3];
                    for (i, v) in values[..count].iter_mut().enumerate() {
                        let w = f32::from_ne_bytes(w[at + (first - range.start + i) * strides[0]]);
                        *v = f64::from(factors.map_or(w, |f| scaled(w, f[first + i])));
                    }
                }
            }
            for kw in 0..3 {
                product(g, [&taps[0][kw], &taps[1][kw], &taps[2][kw]], |i, sums| half[i][kw] = *sums);
            }
            for (i, [left, middle, right]) in half.iter().enumerate() {
                product(g, [left, middle, right], |j, sums| {
                    let at = ((i * n + j) * ci + c) * co + first;
                    out[at..at + count].iter_mut().zip(sums).for_each(|(out, sum)| *out = *sum as f32);
                });
            }
        }
    }
}

/// Calls `put` with each row of `g * taps` and its number. Two rows for a point and its negative, which differ in the
/// sign of the middle tap only, share their products.
fn product(g: &[[f64; 3]], taps: [&Values; 3], mut put: impl FnMut(usize, &Values)) {
    let mut i = 0;
    while let Some(&[a, b, c]) = g.get(i) {
        let outer: Values = std::array::from_fn(|k| a * taps[0][k] + c * taps[2][k]);
        let middle: Values = std::array::from_fn(|k| b * taps[1][k]);
        put(i, &std::array::from_fn(|k| outer[k] + middle[k]));
        if b != 0.0 && g.get(i + 1) == Some(&[a, -b, c]) {
            put(i + 1, &std::array::from_fn(|k| outer[k] - middle[k]));
            i += 1;
        }
        i += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_products_with_the_matrix_from_both_sides() {
        let (co, ci) = (19, 2);
        let value =
            |o: usize, c: usize, kh: usize, kw: usize| ((o * 7 + c * 5 + kh * 3 + kw) % 11) as f32 - 4.5;
        let strides = [ci * 9, 9, 3, 1];
        let mut w = vec![[0; 4]; co * ci * 9];
        for (at, w) in w.iter_mut().enumerate() {
            *w = value(at / (ci * 9), at / 9 % ci, at / 3 % 3, at % 3).to_ne_bytes();
        }
        let factors: Vec<f64> = (0..co).map(|o| 0.5 + o as f64).collect();
        for filtering in [Filtering::F2, Filtering::F4] {
            let (n, g) = (filtering.inputs(), filtering.filter_matrix());
            let mut out = vec![0.0; n * n * ci * co];
            filters(filtering, &w, Some(&factors), strides, [co, ci], 0..TOGETHER, &mut out);
            let rest = &w[TOGETHER * ci * 9..];
            filters(filtering, rest, Some(&factors), strides, [co, ci], TOGETHER..co, &mut out);
            for (at, found) in out.iter().enumerate() {
                let (i, j, c, o) = (at / (n * ci * co), at / (ci * co) % n, at / co % ci, at % co);
                let mut expected = 0.0;
                for (kh, kw) in (0..9).map(|k| (k / 3, k % 3)) {
                    expected += g[i][kh] * g[j][kw] * f64::from(value(o, c, kh, kw)) * factors[o];
                }
                assert!(
                    (f64::from(*found) - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                    "{found} {expected}"
                );
            }
        }
    }
}
