//! Proves that affine indices stay inside their buffers, and that no index leads to numbers beyond 64 bits.
//!
//! Whether an index is inside is asked for accesses without `otherwise` only, and not for indices computed at run
//! time: the first say what they mean outside, the second are checked when they run. How far an index reaches matters
//! always: guards compare its value, addresses multiply it by strides, and both must be right where nothing is read.

use std::fmt;

use super::{Access, accesses};
use crate::affine::Affine;
use crate::nest::{Buffer, Expr, Index, Program, Stmt};
use crate::visit::{Extents, target_index, walk_exprs, walk_stmts};

/// The largest storage of a buffer in bytes: 2^57, what processors address.
pub const MAX_BYTES: usize = 1 << 57;

/// How many bytes from its buffer an index may lie, coefficients and constants added up without their signs: 2^59.
/// Inside of a buffer of [`MAX_BYTES`] none lies that far, and code generation can look some iterations ahead, count
/// lanes and add halos without leaving 64 bits.
pub const MAX_REACH: u128 = 1 << 59;

/// How large an index may be that is used as a value: 2^62.
pub const MAX_VALUE: u128 = 1 << 62;

/// Why an index of dimension `dim` cannot be computed with, if it cannot: it, or the bytes that it stands for in any
/// layout of the buffer, could leave 64 bits.
pub fn too_far(buffer: &Buffer, dim: usize, index: &Affine, extents: &Extents) -> Option<String> {
    let reach = index.reach(|v| extents.get(v).unwrap_or(0));
    let others =
        (0..buffer.shape.len()).filter(|d| *d != dim).map(|d| buffer.stored_extent(d).max(1) as u128);
    let step = others.fold(buffer.dtype.size() as u128, u128::saturating_mul);
    match reach {
        None => Some(format!("index {dim} overflows")),
        Some(reach) if reach.saturating_mul(step) > MAX_REACH => {
            Some(format!("index {dim} overflows: it reaches further than 2^59 bytes"))
        }
        Some(_) => None,
    }
}

/// Why an index cannot be used as a value, if it cannot.
pub fn too_large(value: &Affine, extents: &Extents) -> bool {
    value.reach(|v| extents.get(v).unwrap_or(0)).is_none_or(|reach| reach > MAX_VALUE)
}

/// The first index in `body` that is [`too_far`] or [`too_large`]. Ids and ranks must be those of the program. `outer`
/// holds the extents of loops around `body`.
pub fn check_reach(program: &Program, body: &[Stmt], outer: &Extents) -> Option<String> {
    let mut extents = outer.clone();
    extents.collect(body);
    let mut first = None;
    let mut access = |buf, index: &[Index]| {
        for (dim, i) in index.iter().enumerate() {
            if let (None, Index::Affine(a)) = (&first, i) {
                let error = too_far(program.buf(buf), dim, a, &extents);
                first = error.map(|e| format!("{}: {e}", program.show_access(buf, index)));
            }
        }
    };
    walk_stmts(body, &mut |s| {
        let buf = match s {
            Stmt::Store(s) => s.buf,
            Stmt::Reduce(r) => r.buf,
            Stmt::For(_) | Stmt::Temp(_) | Stmt::Call(_) => return,
        };
        access(buf, target_index(s).unwrap_or_default());
    });
    let mut values = None;
    walk_exprs(body, &mut |e| match e {
        Expr::Load(l) => access(l.buf, &l.index),
        Expr::Index(a) if values.is_none() && too_large(a, &extents) => {
            values = Some(format!("idx({}) overflows", program.show_affine(a)));
        }
        _ => {}
    });
    first.or(values)
}

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
    use crate::{DType, NestBuilder, Role};

    #[test]
    fn the_reach_counts_bytes_in_any_layout() {
        let mut x = Buffer::new("x", DType::F32, &[4, 1 << 20], Role::In);
        let i = crate::Var(0);
        let mut extents = Extents::default();
        extents.set(i, 3);
        let error = |x: &Buffer, dim, a: &Affine| too_far(x, dim, a, &extents).is_some();
        // One row is 2^22 bytes.
        assert!(!error(&x, 0, &Affine::constant(1 << 37)) && error(&x, 0, &Affine::constant((1 << 37) + 1)));
        assert!(!error(&x, 1, &Affine::constant(1 << 55)) && error(&x, 1, &Affine::constant((1 << 55) + 1)));
        assert!(!error(&x, 1, &Affine::term(i, 1 << 53)) && error(&x, 1, &Affine::term(i, 1 << 54)));
        // Terms that cancel count as well, and so does a halo.
        let far = Affine::term(i, 1 << 53).plus(-(1 << 53));
        assert!(!error(&x, 1, &far) && error(&x, 1, &far.plus(-(1 << 53))));
        x.halo = vec![(4, 4), (0, 0)];
        assert!(error(&x, 1, &far));
        assert!(error(&x, 0, &Affine::OVERFLOW));
        assert!(
            !too_large(&Affine::constant(1 << 62), &extents)
                && too_large(&Affine::term(i, 1 << 61), &extents)
        );
    }

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
