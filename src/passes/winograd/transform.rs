//! The transforms of Winograd's minimal filtering: straight-line code for a product with one of its matrices.

use nestjit_ir::Expr;

/// Expressions for the product of a matrix and a vector. What several rows share is given to `keep`, which stores
/// it and says how to read it.
///
/// Two neighbouring rows that differ in the signs of some columns only share the sums of both groups of columns;
/// two neighbouring columns that agree up to the sign in every row share their sum and their difference.
pub(super) fn product(matrix: &[&[f64]], vector: &[Expr], keep: &mut dyn FnMut(Expr) -> Expr) -> Vec<Expr> {
    let (rows, vector) = pair_columns(matrix, vector, keep);
    let mut out = Vec::with_capacity(rows.len());
    let mut i = 0;
    while i < rows.len() {
        let split = rows.get(i + 1).and_then(|next| groups(&rows[i], next));
        if let Some((same, flipped)) = split {
            let (a, b) = (keep(sum(&same, &vector)), keep(sum(&flipped, &vector)));
            out.extend([a.clone() + b.clone(), a - b]);
            i += 2;
        } else {
            out.push(sum(&rows[i], &vector));
            i += 1;
        }
    }
    out
}

/// Replaces neighbouring columns that agree up to the sign in every row by their sum and their difference.
fn pair_columns(
    matrix: &[&[f64]],
    vector: &[Expr],
    keep: &mut dyn FnMut(Expr) -> Expr,
) -> (Vec<Vec<f64>>, Vec<Expr>) {
    let mut rows: Vec<Vec<f64>> = matrix.iter().map(|r| r.to_vec()).collect();
    let mut vector = vector.to_vec();
    let mut j = 0;
    while j + 1 < vector.len() {
        let agree = |sign: f64| rows.iter().filter(|r| r[j] != 0.0 && r[j] == sign * r[j + 1]).count();
        let idle = rows.iter().filter(|r| r[j] == 0.0 && r[j + 1] == 0.0).count();
        let (sums, differences) = (agree(1.0), agree(-1.0));
        // Each is worth keeping if it is used more than once, and either is if the other is not used at all.
        let pays = sums + differences + idle == rows.len() && sums.max(differences) > 1;
        if !pays {
            j += 1;
            continue;
        }
        let (a, b) = (vector[j].clone(), vector[j + 1].clone());
        vector[j] = if sums > 0 { keep(a.clone() + b.clone()) } else { Expr::f32(0.0) };
        vector[j + 1] = if differences > 0 { keep(a - b) } else { Expr::f32(0.0) };
        for r in &mut rows {
            let (left, right) = (r[j], r[j + 1]);
            (r[j], r[j + 1]) = if left == right { (left, 0.0) } else { (0.0, left) };
        }
        j += 2;
    }
    (rows, vector)
}

/// The columns in which two rows agree and those in which they differ in sign, as rows; `None` if that is not
/// all, or nothing to share.
fn groups(a: &[f64], b: &[f64]) -> Option<(Vec<f64>, Vec<f64>)> {
    let part = |sign: f64| -> Vec<f64> {
        a.iter().zip(b).map(|(&x, &y)| if x != 0.0 && x == sign * y { x } else { 0.0 }).collect()
    };
    let (same, flipped) = (part(1.0), part(-1.0));
    let covered = (0..a.len()).all(|k| same[k] + flipped[k] == a[k] && same[k] - flipped[k] == b[k]);
    let terms = |row: &[f64]| row.iter().filter(|c| **c != 0.0).count();
    (covered && terms(&same) > 0 && terms(&flipped) > 0 && terms(a) > 2).then_some((same, flipped))
}

/// `sum(row[k] * vector[k])`: additions for factors of one, products that can be fused with them for others.
fn sum(row: &[f64], vector: &[Expr]) -> Expr {
    let mut terms: Vec<(f64, &Expr)> =
        row.iter().copied().zip(vector).filter(|(factor, _)| *factor != 0.0).collect();
    // Starting with a plain term leaves every product an addition to be fused with.
    terms.sort_by_key(|(factor, _)| if *factor == 1.0 { 0 } else { 1 + usize::from(*factor < 0.0) });
    let mut total: Option<Expr> = None;
    for (factor, value) in terms {
        let value = value.clone();
        total = Some(match total {
            None if factor == 1.0 => value,
            None => Expr::f32(factor as f32) * value,
            Some(sum) if factor == 1.0 => sum + value,
            Some(sum) if factor == -1.0 => sum - value,
            Some(sum) => Expr::f32(factor as f32) * value + sum,
        });
    }
    total.unwrap_or(Expr::f32(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::schedule::minimal_filtering::algorithm::Filtering;
    use nestjit_ir::{BinOp, Scalar};

    fn value(e: &Expr) -> f64 {
        match e {
            Expr::Const(Scalar::F32(v)) => f64::from(*v),
            Expr::Binary(op, a, b) => match op {
                BinOp::Add => value(a) + value(b),
                BinOp::Sub => value(a) - value(b),
                BinOp::Mul => value(a) * value(b),
                _ => panic!("an operation that no transform needs"),
            },
            _ => panic!("only literals"),
        }
    }

    #[test]
    fn products_are_those_of_the_matrix() {
        let x = [3.0, -1.5, 0.25, 7.0, -2.0, 11.0];
        for filtering in [Filtering::F2, Filtering::F4] {
            for matrix in [filtering.input_matrix(), filtering.output_matrix()] {
                let n = filtering.inputs();
                let vector: Vec<Expr> = x[..n].iter().map(|&v| Expr::f32(v as f32)).collect();
                let found = product(matrix, &vector, &mut |e| e);
                for (row, e) in matrix.iter().zip(&found) {
                    let expected: f64 = row.iter().zip(x).map(|(a, b)| a * b).sum();
                    assert!((value(e) - expected).abs() < 1e-12, "{} is not {expected}", value(e));
                }
                assert_eq!(found.len(), matrix.len());
            }
        }
    }

    #[test]
    fn filtering_is_convolution() {
        let (d, g) = ([1.0, -2.0, 0.5, 3.0, 4.0, -1.0], [0.5, -1.0, 2.0]);
        for filtering in [Filtering::F2, Filtering::F4] {
            let n = filtering.inputs();
            let u: Vec<f64> =
                filtering.filter_matrix().iter().map(|r| r.iter().zip(g).map(|(a, b)| a * b).sum()).collect();
            let v: Vec<f64> =
                filtering.input_matrix().iter().map(|r| r.iter().zip(d).map(|(a, b)| a * b).sum()).collect();
            for (i, row) in filtering.output_matrix().iter().enumerate() {
                let y: f64 = (0..n).map(|k| row[k] * u[k] * v[k]).sum();
                let expected: f64 = (0..3).map(|k| d[i + k] * g[k]).sum();
                assert!((y - expected).abs() < 1e-12, "{y} is not {expected}");
            }
        }
    }
}
