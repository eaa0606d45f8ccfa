//! Proves that affine indices stay inside their buffers.
//!
//! Loads with `otherwise` and indices computed at run time are no business of this module: the first say what
//! they mean outside, the second are checked when they run.

use std::fmt;

use super::{Access, accesses};
use crate::nest::{Index, Program, Stmt};
use crate::visit::Extents;

/// An index that can lie outside its buffer, or that could not be proved not to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoundsError {
    /// The access: `%x[n,k+1]`.
    pub access: String,
    /// The dimension.
    pub dim: usize,
    /// The extent of the dimension.
    pub extent: usize,
    /// The smallest and the largest index; `None` if unknown.
    pub range: Option<(i64, i64)>,
}

impl fmt::Display for BoundsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BoundsError { access, dim, extent, range } = self;
        write!(f, "{access}: index {dim} ")?;
        match range {
            Some((lo, hi)) => write!(f, "runs from {lo} to {hi}, outside 0..{extent}"),
            None => write!(f, "has no known range (extent {extent})"),
        }
    }
}

impl std::error::Error for BoundsError {}

/// Every access of `body` that may leave its buffer. `outer` holds the extents of loops around `body`.
pub fn check_bounds(program: &Program, body: &[Stmt], outer: &Extents) -> Vec<BoundsError> {
    let mut extents = outer.clone();
    extents.collect(body);
    accesses(body).iter().flat_map(|a| check_access(program, a, &extents)).collect()
}

fn check_access(program: &Program, access: &Access<'_>, extents: &Extents) -> Vec<BoundsError> {
    let mut errors = Vec::new();
    if access.has_otherwise || access.is_dead() {
        return errors;
    }
    let shape = &program.buf(access.buf).shape;
    for (dim, (index, &extent)) in access.index.unwrap_or_default().iter().zip(shape).enumerate() {
        let Index::Affine(a) = index else { continue };
        let range = extents.range(a);
        let inside = range.is_some_and(|(lo, hi)| lo >= 0 && usize::try_from(hi).is_ok_and(|hi| hi < extent));
        if !inside {
            errors.push(BoundsError { access: access.show(program), dim, extent, range });
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buffer, DType, Expr, NestBuilder, Role};

    fn errors(extent: usize, index: impl FnOnce(crate::Var) -> Expr) -> Vec<String> {
        let mut p = Program::default();
        p.add_buffer(Buffer::new("x", DType::F32, &[4], Role::In));
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[8], Role::Out));
        let mut b = NestBuilder::new(&mut p, "f");
        b.for_("i", extent, |b, i| b.store(y, [i], index(i)));
        b.finish();
        check_bounds(&p, &p.nests[0].body, &Extents::default()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn indices_are_proved_or_reported() {
        let x = crate::BufId(0);
        assert!(errors(4, |i| Expr::load(x, [i])).is_empty());
        assert_eq!(
            errors(4, |i| Expr::load(x, [i + 1])),
            ["%x[i+1]: index 0 runs from 1 to 4, outside 0..4"]
        );
        assert_eq!(
            errors(4, |i| Expr::load(x, [i - 1])),
            ["%x[i-1]: index 0 runs from -1 to 2, outside 0..4"]
        );
        assert!(errors(4, |i| Expr::load_or(x, [i - 1], Expr::f32(0.0))).is_empty());
        assert!(errors(0, |i| Expr::load(x, [i + 100])).is_empty());
        assert_eq!(errors(9, |_| Expr::f32(0.0)), ["%y[i]: index 0 runs from 0 to 8, outside 0..8"]);
        // The load inside `otherwise` is checked although the one around it is not.
        let inner = |i: crate::Var| Expr::load_or(x, [i - 1], Expr::load(x, [i + 1]));
        assert_eq!(errors(4, inner).len(), 1);
        assert_eq!(
            errors(4, |_| Expr::load(x, [crate::Var(7)])),
            ["%x[?]: index 0 has no known range (extent 4)"]
        );
    }
}
