//! Which loop of the consumer is which loop of the producer, and taking perfect loop nests apart and together.
//!
//! Loops are matched by the dimension of the shared buffer that they index: a producer that stores
//! `%t[n,m]` and a consumer that loads `%t[i,j]` match `n` with `i` and `m` with `j`, whatever the order of the
//! loops. A term of a composite index matches one with the same coefficient (`%t[32*h+d]` and `%t[32*a+b]`).
//! Whether matched loops may be fused is decided in [`super::merge`].

use nestjit_ir::access::{Access, AccessKind, accesses};
use nestjit_ir::{Affine, BufId, For, Index, LoopKind, Program, Stmt, Var, visit};

use super::profit::{Contraction, contractions};
use crate::passes::schedule::chain;

/// The head of a loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub var: Var,
    pub extent: usize,
    pub kind: LoopKind,
}

/// The loops of a perfect nest, outermost first, and the innermost body.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub heads: Vec<Head>,
    pub body: Vec<Stmt>,
}

impl Chain {
    /// Takes a loop apart.
    pub fn of(side: &Side<'_>) -> Chain {
        Chain { heads: side.heads.clone(), body: side.body.to_vec() }
    }

    /// The whole nest, with the loops over `vars` outermost.
    pub fn outermost(mut self, vars: &[Var]) -> Vec<Stmt> {
        self.heads.sort_by_key(|h| vars.iter().position(|v| *v == h.var).unwrap_or(vars.len()));
        wrap(&self.heads, self.body)
    }

    /// The body within the loops for which `keep` holds.
    pub fn within(&self, keep: impl Fn(Var) -> bool) -> Vec<Stmt> {
        let kept: Vec<Head> = self.heads.iter().filter(|h| keep(h.var)).copied().collect();
        wrap(&kept, self.body.clone())
    }

    /// Renames a loop variable everywhere.
    pub fn rename(&mut self, from: Var, to: Var) {
        for head in self.heads.iter_mut().filter(|h| h.var == from) {
            head.var = to;
        }
        visit::subst_var(&mut self.body, from, &Affine::var(to));
    }
}

/// A loop of a block, and what merging wants to know about it.
pub(super) struct Side<'a> {
    pub whole: &'a For,
    /// The loops of the perfect nest, outermost first.
    pub heads: Vec<Head>,
    /// What the innermost of them encloses.
    pub body: &'a [Stmt],
    pub accesses: Vec<Access<'a>>,
    /// Buffers declared inside.
    pub locals: Vec<BufId>,
    pub contractions: Vec<Contraction<'a>>,
}

impl<'a> Side<'a> {
    /// Looks at a statement, if it is a loop.
    pub fn of(program: &Program, stmt: &'a Stmt) -> Option<Side<'a>> {
        let Stmt::For(whole) = stmt else { return None };
        let all = std::slice::from_ref(stmt);
        let (heads, body) = perfect(whole);
        Some(Side {
            whole,
            heads,
            body,
            accesses: accesses(all),
            locals: visit::declared_temps(all),
            contractions: contractions(program, all),
        })
    }

    /// Whether exactly the outermost loops are those of `vars`, in that order.
    pub fn starts_with(&self, vars: &[Var]) -> bool {
        vars.len() <= self.heads.len() && self.heads.iter().zip(vars).all(|(h, v)| h.var == *v)
    }
}

/// The loops of a perfect nest, outermost first, and the innermost body.
pub(super) fn perfect(l: &For) -> (Vec<Head>, &[Stmt]) {
    let (chain, body) = chain::perfect(l);
    (chain.into_iter().map(|l| Head { var: l.var, extent: l.extent, kind: l.kind }).collect(), body)
}

/// `body` within loops.
pub(super) fn wrap(heads: &[Head], body: Vec<Stmt>) -> Vec<Stmt> {
    heads
        .iter()
        .rev()
        .fold(body, |body, h| vec![Stmt::For(For { var: h.var, extent: h.extent, kind: h.kind, body })])
}

/// Loops that index the same dimensions of the same buffers.
#[derive(Clone, Default, Debug)]
pub(super) struct Alignment {
    /// A loop of the first and a loop of the second, in the order of the first's loops.
    pub pairs: Vec<(Var, Var)>,
    /// Whether some dimension is read in steps or windows that no pair describes (`%t[2*h+k]`).
    pub window: bool,
}

/// Matches the loops of two perfect nests by what they do to `buffers`.
pub(super) fn align(first: &Side<'_>, second: &Side<'_>, buffers: &[BufId]) -> Alignment {
    let mut result = Alignment::default();
    for buf in buffers {
        // A handful of accesses says how a buffer is walked; dependences look at all of them.
        for x in samples(first, *buf) {
            for y in samples(second, *buf) {
                for (x, y) in x.iter().zip(y) {
                    if let (Index::Affine(x), Index::Affine(y)) = (x, y) {
                        match_terms((&first.heads, x), (&second.heads, y), &mut result);
                    }
                }
            }
        }
    }
    let place = |v: Var| first.heads.iter().position(|h| h.var == v);
    result.pairs.sort_by_key(|(v, _)| place(*v));
    result
}

/// A loop of the second nest that walks along a dimension which the first walks along in blocks (`%t[32*b+i]`), and
/// the size of the blocks.
pub(super) fn tiled(first: &Side<'_>, second: &Side<'_>, buffers: &[BufId]) -> Option<(Var, usize)> {
    let extent = |side: &Side<'_>, v: Var| side.heads.iter().find(|h| h.var == v).map(|h| h.extent);
    for buf in buffers {
        for x in samples(first, *buf) {
            for y in samples(second, *buf) {
                for (x, y) in x.iter().zip(y) {
                    let (Index::Affine(x), Index::Affine(y)) = (x, y) else { continue };
                    for &(block, size) in x.terms().iter().filter(|t| t.1 > 1) {
                        let (Some(blocks), Ok(size)) = (extent(first, block), usize::try_from(size)) else {
                            continue;
                        };
                        let whole = |t: &&(Var, i64)| t.1 == 1 && extent(second, t.0) == Some(blocks * size);
                        if let Some(t) = y.terms().iter().find(whole) {
                            return Some((t.0, size));
                        }
                    }
                }
            }
        }
    }
    None
}

/// Some indices at which a buffer is accessed, those of writes first.
fn samples<'a>(side: &Side<'a>, buf: BufId) -> Vec<&'a [Index]> {
    let of = |written: bool| {
        let kind = move |a: &&Access<'a>| (a.kind != AccessKind::Read) == written;
        side.accesses.iter().filter(move |a| a.buf == buf).filter(kind).filter_map(|a| a.index)
    };
    of(true).chain(of(false)).take(4).collect()
}

fn match_terms(first: (&[Head], &Affine), second: (&[Head], &Affine), result: &mut Alignment) {
    for &(v1, c1) in first.1.terms() {
        let Some(h1) = first.0.iter().find(|h| h.var == v1) else { continue };
        if result.pairs.iter().any(|p| p.0 == v1) {
            continue;
        }
        let candidate = second.1.terms().iter().find_map(|&(v2, c2)| {
            let h2 = second.0.iter().find(|h| h.var == v2)?;
            let free = result.pairs.iter().all(|p| p.1 != v2);
            (c1 == c2 && h1.extent == h2.extent && free).then_some(v2)
        });
        match candidate {
            Some(v2) => result.pairs.push((v1, v2)),
            None => {
                let loops = || second.1.terms().iter().filter(|t| second.0.iter().any(|h| h.var == t.0));
                // The same step over another range is a slice, the opposite one a reversal: no windows.
                result.window |= loops().next().is_some() && loops().all(|t| t.1 != c1 && t.1 != -c1);
            }
        }
    }
}
