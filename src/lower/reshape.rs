//! Reshape: loops over a common refinement of both shapes, in which both indices are affine, or a plain copy.

use nestjit_ir::{Affine, Var};

use super::context::Context;
use crate::error::Result;

pub(super) fn reshape(cx: &mut Context<'_, '_>) -> Result<()> {
    let x = cx.array(0)?;
    let y = cx.result()?;
    let refined = refine(&x.shape, &y.shape);
    // What is copied as it is must be of one type.
    let x = match refined {
        None if x.stored() != y.stored() => {
            let same = cx.temp("operand0", y.stored(), &x.shape)?;
            let mut b = cx.nest("operand0");
            b.for_each("i", &x.shape, |b, i| same.store(b, i, x.at(i)));
            b.finish();
            same
        }
        Some(_) | None => x,
    };
    let mut b = cx.nest("");
    match refined {
        Some(extents) => b.for_each("i", &extents, |b, i| {
            let at = coarse_index(&extents, i, &x.shape);
            y.store(b, coarse_index(&extents, i, &y.shape), x.at(at));
        }),
        None => b.call("copy", &[x.buf], &[y.buf], &[]),
    }
    b.finish();
    Ok(())
}

/// The coarsest shape without extents of 1 of which both shapes' dimensions are products of neighbours. Both
/// must have the same number of elements, and at least one.
fn refine(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    // Where dimensions begin, counted in elements from the end.
    let mut cuts = vec![1];
    for shape in [a, b] {
        let mut elements = 1;
        for extent in shape.iter().rev() {
            elements *= extent;
            cuts.push(elements);
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    let mut extents = Vec::with_capacity(cuts.len() - 1);
    for pair in cuts.windows(2) {
        if pair[1] % pair[0] != 0 {
            return None;
        }
        extents.push(pair[1] / pair[0]);
    }
    extents.reverse();
    Some(extents)
}

/// The index into `shape`, whose dimensions are products of neighbouring `extents`.
fn coarse_index(extents: &[usize], vars: &[Var], shape: &[usize]) -> Vec<Affine> {
    let mut fine = extents.iter().zip(vars).rev().peekable();
    let mut index: Vec<Affine> = shape
        .iter()
        .rev()
        .map(|extent| {
            let (mut at, mut stride) = (Affine::constant(0), 1);
            while stride < *extent {
                let Some((extent, var)) = fine.next() else { break };
                at = at + *var * stride as i64;
                stride *= extent;
            }
            at
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_refined_to_common_factors() {
        assert_eq!(refine(&[2, 3, 4], &[6, 4]), Some(vec![2, 3, 4]));
        assert_eq!(refine(&[1, 64, 7, 7], &[1, 3136]), Some(vec![64, 7, 7]));
        assert_eq!(refine(&[6, 4], &[2, 12]), Some(vec![2, 3, 4]));
        assert_eq!(refine(&[], &[1, 1]), Some(vec![]));
        assert_eq!(refine(&[6, 4], &[4, 6]), None);
    }

    #[test]
    fn indices_are_affine_in_the_refinement() {
        let vars = [Var(0), Var(1), Var(2)];
        let index = coarse_index(&[2, 3, 4], &vars, &[2, 1, 12]);
        assert_eq!(index, [vars[0].into(), Affine::constant(0), vars[1] * 4 + vars[2]]);
    }
}
