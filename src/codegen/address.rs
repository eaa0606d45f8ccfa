//! Which indices need a check at run time.
//!
//! Knows shapes and halos; where elements lie is `nestjit_ir::layout`'s knowledge.

use nestjit_ir::visit::Extents;
use nestjit_ir::{Affine, Buffer, Expr};

/// The indices of a dimension that need no check: the logical ones, and those in the halo if that is what
/// the access wants to see there.
pub(super) fn allowed(buffer: &Buffer, dim: usize, otherwise: Option<&Expr>) -> (i64, i64) {
    let extent = buffer.shape[dim] as i64;
    match (buffer.halo.get(dim), otherwise.and_then(Expr::as_const)) {
        (Some(&(lo, hi)), Some(fill)) if fill == buffer.halo_fill => (-(lo as i64), extent - 1 + hi as i64),
        _ => (0, extent - 1),
    }
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
    use nestjit_ir::{DType, Role, Var};

    #[test]
    fn a_halo_makes_an_index_allowed_if_it_holds_what_is_asked_for() {
        let mut x = Buffer::new("x", DType::F32, &[5, 5], Role::In);
        x.halo = vec![(1, 1), (2, 0)];
        assert_eq!(allowed(&x, 0, Some(&Expr::f32(0.0))), (-1, 5));
        assert_eq!(allowed(&x, 0, Some(&Expr::f32(1.0))), (0, 4));
        assert_eq!(allowed(&x, 1, None), (0, 4));
        let k = Var(0);
        let mut extents = Extents::default();
        extents.set(k, 8);
        assert!(inside(&(k - 1), (-1, 6), &extents) && !inside(&(k - 1), (0, 6), &extents));
        extents.set(k, 0);
        assert!(inside(&(k - 1), (0, 6), &extents), "what is never executed needs no check");
    }
}
