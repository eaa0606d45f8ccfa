//! Where elements lie: from logical indices to physical offsets, and which indices need a check.
//!
//! Knows layouts, panels and halos; emits no code.

use nestjit_ir::visit::Extents;
use nestjit_ir::{Affine, Buffer, Expr, Scalar};

/// The physical element strides of the dimensions of a buffer.
pub(super) struct Strides {
    /// Elements between neighbours in each dimension; for a panelled one, within its block.
    pub dims: Vec<i64>,
    /// The panelled dimension, its block size, and the elements between neighbouring blocks.
    pub panel: Option<(usize, i64, i64)>,
}

/// The strides of a buffer's layout, halo included.
pub(super) fn strides(buffer: &Buffer) -> Strides {
    let padded = buffer.padded_shape();
    let mut dims = vec![0; padded.len()];
    let mut stride = 1i64;
    let panel = buffer.layout.panel;
    if let Some((dim, block)) = panel {
        dims[dim] = 1;
        stride = block as i64;
    }
    for &d in buffer.layout.order.iter().rev() {
        if panel.is_none_or(|(dim, _)| dim != d) {
            dims[d] = stride;
            stride = stride.saturating_mul(padded[d] as i64);
        }
    }
    Strides { dims, panel: panel.map(|(dim, block)| (dim, block as i64, stride)) }
}

/// The elements before the first logical one in a dimension.
pub(super) fn halo_before(buffer: &Buffer, dim: usize) -> i64 {
    buffer.halo.get(dim).map_or(0, |h| h.0 as i64)
}

/// The physical offset of an element as an affine expression; `None` if a panelled index changes blocks in a
/// way that is not affine.
pub(super) fn offset(buffer: &Buffer, index: &[Affine], extents: &Extents) -> Option<Affine> {
    let strides = strides(buffer);
    let mut total = Affine::constant(0);
    for (d, i) in index.iter().enumerate() {
        let i = i.plus(halo_before(buffer, d));
        let part = match strides.panel {
            Some((dim, block, block_stride)) if dim == d => {
                let (outer, inner) = split(&i, block, extents)?;
                Affine::add(&outer.scale(block_stride), &inner)
            }
            _ => i.scale(strides.dims[d]),
        };
        total = Affine::add(&total, &part);
    }
    Some(total)
}

/// `index` as `block * outer + inner` with `0 <= inner < block`.
fn split(index: &Affine, block: i64, extents: &Extents) -> Option<(Affine, Affine)> {
    let (mut outer, mut inner) = (Affine::constant(0), Affine::constant(index.offset()));
    for &(v, c) in index.terms() {
        if c % block == 0 {
            outer = Affine::add(&outer, &Affine::term(v, c / block));
        } else {
            inner = Affine::add(&inner, &Affine::term(v, c));
        }
    }
    let blocks = extents.range(&inner)?.0.div_euclid(block);
    let (outer, inner) = (outer.plus(blocks), inner.plus(-blocks * block));
    (extents.range(&inner)?.1 < block).then_some((outer, inner))
}

/// The indices of a dimension that need no check: the logical ones, and those in the halo if that is what
/// the access wants to see there.
pub(super) fn allowed(buffer: &Buffer, dim: usize, otherwise: Option<&Expr>) -> (i64, i64) {
    let extent = buffer.shape[dim] as i64;
    match (buffer.halo.get(dim), otherwise.and_then(Expr::as_const)) {
        (Some(&(lo, hi)), Some(fill)) if same_value(fill, buffer.halo_fill) => {
            (-(lo as i64), extent - 1 + hi as i64)
        }
        _ => (0, extent - 1),
    }
}

fn same_value(a: Scalar, b: Scalar) -> bool {
    a == b
}

/// Whether an index always lies within `allowed`. An access that is never executed is.
pub(super) fn inside(index: &Affine, allowed: (i64, i64), extents: &Extents) -> bool {
    if index.vars().any(|v| extents.get(v) == Some(0)) {
        return true;
    }
    extents.range(index).is_some_and(|(lo, hi)| allowed.0 <= lo && hi <= allowed.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nestjit_ir::{DType, Layout, Role, Var};

    #[test]
    fn offsets_follow_permutations_halos_and_panels() {
        let (n, k, m) = (Var(0), Var(1), Var(2));
        let mut extents = Extents::default();
        extents.set(n, 4);
        extents.set(k, 8);
        extents.set(m, 8);
        let mut w = Buffer::new("w", DType::F32, &[8, 20], Role::Const);
        let at = |w: &Buffer, i: Affine, j: Affine| offset(w, &[i, j], &extents);
        assert_eq!(at(&w, k.into(), m + 3), Some(k * 20 + m + 3));
        w.layout = Layout { order: vec![1, 0], panel: None };
        assert_eq!(at(&w, k.into(), m.into()), Some(m * 8 + k));
        w.layout = Layout { order: vec![0, 1], panel: Some((1, 8)) };
        assert_eq!(at(&w, k.into(), n * 8 + m), Some(n * 64 + k * 8 + m));
        assert_eq!(at(&w, k.into(), n * 8 + 8), Some(n * 64 + k * 8 + 64));
        assert_eq!(at(&w, k.into(), m + 1), None);
        let mut x = Buffer::new("x", DType::F32, &[5, 5], Role::In);
        x.halo = vec![(1, 1), (2, 0)];
        assert_eq!(at(&x, k - 1, m - 2), Some(k * 7 + m));
        assert_eq!(allowed(&x, 0, Some(&Expr::f32(0.0))), (-1, 5));
        assert_eq!(allowed(&x, 0, Some(&Expr::f32(1.0))), (0, 4));
        assert!(inside(&(k - 1), (-1, 6), &extents) && !inside(&(k - 1), (0, 6), &extents));
    }
}
