//! Windows: the part of a buffer that an iteration of some loops uses, if no other iteration uses it.
//!
//! What is made of it, a local or a decision, is the passes'.

use nestjit_ir::access::{accesses, touches};
use nestjit_ir::visit::Extents;
use nestjit_ir::{Affine, BufId, For, Index, Program, Stmt, Var};

/// Where a buffer can be declared, and what remains of it there.
#[derive(Clone, Debug)]
pub struct Window {
    /// The loops around the declaration, outermost first.
    pub loops: Vec<Var>,
    /// The bytes that remain.
    pub bytes: usize,
    /// What becomes of each dimension.
    pub dims: Vec<Dim>,
}

/// What becomes of a dimension.
#[derive(Clone, PartialEq, Debug)]
pub enum Dim {
    /// It stays as it is.
    Whole(usize),
    /// Indices lose `base`; `extent` elements remain.
    Part { base: Affine, extent: usize },
}

impl Dim {
    /// The elements that remain.
    pub fn extent(&self) -> usize {
        match self {
            Dim::Whole(extent) | Dim::Part { extent, .. } => *extent,
        }
    }
}

/// The deepest loops of `body` around all uses of a buffer such that each iteration uses elements of its own.
/// `None` if that is not possible within any loop.
pub fn window(program: &Program, body: &[Stmt], buf: BufId) -> Option<Window> {
    let mut path: Vec<&For> = Vec::new();
    let mut block = body;
    let uses = |s: &Stmt| touches(s, buf);
    loop {
        let mut using = block.iter().filter(|s| uses(s));
        match (using.next(), using.next()) {
            (Some(Stmt::For(l)), None) => {
                path.push(l);
                block = &l.body;
            }
            (Some(_), _) => break,
            (None, _) => return None,
        }
    }
    let outermost = path.first()?;
    let mut extents = Extents::of(&outermost.body);
    extents.set(outermost.var, outermost.extent);
    let list: Vec<_> = accesses(block).into_iter().filter(|a| a.buf == buf).collect();
    let indices: Option<Vec<&[Index]>> = list.iter().map(|a| a.index).collect();
    let indices = indices?;
    let vars: Vec<Var> = path.iter().map(|l| l.var).collect();
    let rank = program.buf(buf).shape.len();
    let own =
        (0..vars.len()).take_while(|at| (0..rank).any(|d| separates(&indices, d, &vars[..=*at], &extents)));
    let loops: Vec<Var> = vars[..own.count()].to_vec();
    if loops.is_empty() {
        return None;
    }
    let shape = &program.buf(buf).shape;
    let guarded = list.iter().any(|a| a.has_otherwise);
    let dims: Vec<Dim> =
        (0..rank).map(|d| shrink(&indices, d, shape[d], guarded, &loops, &extents)).collect();
    let elements: usize = dims.iter().map(Dim::extent).product();
    Some(Window { loops, bytes: elements * program.buf(buf).dtype.size(), dims })
}

/// Whether dimension `d` shows that different iterations of the last of `vars` (in the same iteration of the
/// others) use different elements.
fn separates(indices: &[&[Index]], d: usize, vars: &[Var], extents: &Extents) -> bool {
    let Some((own, outer)) = vars.split_last() else { return false };
    let Some(Index::Affine(sample)) = indices.first().map(|i| &i[d]) else { return false };
    let step = sample.coeff(*own);
    let (mut lo, mut hi) = (i64::MAX, i64::MIN);
    for index in indices {
        let Index::Affine(a) = &index[d] else { return false };
        if a.coeff(*own) != step || outer.iter().any(|v| a.coeff(*v) != sample.coeff(*v)) {
            return false;
        }
        let rest = vars.iter().fold(a.clone(), |a, v| a.subst(*v, &Affine::constant(0)));
        let Some(range) = extents.range(&rest) else { return false };
        (lo, hi) = (lo.min(range.0), hi.max(range.1));
    }
    hi.saturating_sub(lo) < step.abs()
}

fn shrink(
    indices: &[&[Index]],
    d: usize,
    size: usize,
    guarded: bool,
    loops: &[Var],
    extents: &Extents,
) -> Dim {
    let whole = Dim::Whole(size);
    let (mut base, mut lo, mut hi) = (None, i64::MAX, i64::MIN);
    for index in indices {
        let Index::Affine(a) = &index[d] else { return whole };
        // An index that may lie outside is compared with the bounds of the whole buffer.
        let inside = |(lo, hi): (i64, i64)| lo >= 0 && usize::try_from(hi).is_ok_and(|hi| hi < size);
        if guarded && !extents.range(a).is_some_and(inside) {
            return whole;
        }
        let rest = loops.iter().fold(a.clone(), |a, v| a.subst(*v, &Affine::constant(0)));
        let fixed = a.clone() - rest.clone();
        if base.get_or_insert_with(|| fixed.clone()) != &fixed {
            return whole;
        }
        let Some(range) = extents.range(&rest) else { return whole };
        (lo, hi) = (lo.min(range.0), hi.max(range.1));
    }
    match (base, usize::try_from(hi.saturating_sub(lo))) {
        (Some(base), Ok(span)) if span < size => Dim::Part { base: base.plus(lo), extent: span + 1 },
        _ => whole,
    }
}
