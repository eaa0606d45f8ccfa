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
/// is `[n * n][ci][filters]`, of whose elements `places` says where they lie in `out`: for each of the three, what every
/// index contributes. Computed in `f64` and rounded once.
pub(super) fn filters(
    filtering: Filtering,
    w: &[[u8; 4]],
    factors: Option<&[f64]>,
    strides: [usize; 4],
    range: Range<usize>,
    places: &[Vec<usize>],
    out: &mut [[u8; 4]],
) {
    let n = filtering.inputs();
    let g = filtering.filter_matrix();
    let mut half = vec![[[0.0; TOGETHER]; 3]; n];
    for (c, channel) in places[1].iter().enumerate() {
        for first in range.clone().step_by(TOGETHER) {
            let count = TOGETHER.min(range.end - first);
            let filters = &places[2][first..first + count];
            let neighbours = filters.windows(2).all(|two| two[1] == two[0] + 1);
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
                    let at = places[0][i * n + j] + channel;
                    let rounded = |sum: &f64| (*sum as f32).to_ne_bytes();
                    if neighbours {
                        let out = &mut out[at + filters[0]..][..count];
                        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = rounded(sum));
                    } else {
                        filters.iter().zip(sums).for_each(|(f, sum)| out[at + f] = rounded(sum));
                    }
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
            // Filters side by side, and in panels of three between which the rest lies.
            let row_major = [(0..n * n).map(|t| t * ci * co).collect(), vec![0, co], (0..co).collect()];
            let panels: Vec<usize> = (0..co).map(|o| o / 3 * (3 * n * n * ci) + o % 3).collect();
            let panels = [(0..n * n).map(|t| t * ci * 3).collect(), vec![0, 3], panels];
            for places in [row_major, panels] {
                let mut out = vec![[0; 4]; n * n * ci * co.next_multiple_of(3)];
                filters(filtering, &w, Some(&factors), strides, 0..TOGETHER, &places, &mut out);
                let rest = &w[TOGETHER * ci * 9..];
                filters(filtering, rest, Some(&factors), strides, TOGETHER..co, &places, &mut out);
                for at in 0..n * n * ci * co {
                    let (i, j, c, o) = (at / (n * ci * co), at / (ci * co) % n, at / co % ci, at % co);
                    let found = f32::from_ne_bytes(out[places[0][i * n + j] + places[1][c] + places[2][o]]);
                    let mut expected = 0.0;
                    for (kh, kw) in (0..9).map(|k| (k / 3, k % 3)) {
                        expected += g[i][kh] * g[j][kw] * f64::from(value(o, c, kh, kw)) * factors[o];
                    }
                    assert!(
                        (f64::from(found) - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                        "{found} {expected}"
                    );
                }
            }
        }
    }
}
