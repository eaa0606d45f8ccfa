//! Which loop of the consumer is which loop of the producer, and taking perfect loop nests apart and together.
//!
//! Loops are matched by the dimension of the shared buffer that they index: a producer that stores
//! `%t[n,m]` and a consumer that loads `%t[i,j]` match `n` with `i` and `m` with `j`, whatever the order of the
//! loops. A term of a composite index matches one with the same coefficient (`%t[32*h+d]` and `%t[32*a+b]`).
//! Whether matched loops may be fused is decided in [`super::merge`].

use nestjit_ir::access::{Access, AccessKind};
use nestjit_ir::{Affine, BufId, For, Index, LoopKind, Stmt, Var, visit};

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
    pub fn of(l: &For) -> Chain {
        let heads = heads(l);
        let mut innermost = l;
        while let [Stmt::For(next)] = innermost.body.as_slice() {
            innermost = next;
        }
        Chain { heads, body: innermost.body.clone() }
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

    /// Where a variable stands.
    pub fn position(&self, var: Var) -> Option<usize> {
        self.heads.iter().position(|h| h.var == var)
    }

    /// Whether exactly the outermost loops are those of `vars`, in that order.
    pub fn starts_with(&self, vars: &[Var]) -> bool {
        vars.len() <= self.heads.len() && self.heads.iter().zip(vars).all(|(h, v)| h.var == *v)
    }
}

/// The loops of a perfect nest, outermost first.
pub(super) fn heads(l: &For) -> Vec<Head> {
    let mut heads = Vec::new();
    let mut next = Some(l);
    while let Some(l) = next {
        heads.push(Head { var: l.var, extent: l.extent, kind: l.kind });
        next = match l.body.as_slice() {
            [Stmt::For(inner)] => Some(inner),
            _ => None,
        };
    }
    heads
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
pub(super) fn align(
    first: (&[Head], &[Access<'_>]),
    second: (&[Head], &[Access<'_>]),
    buffers: &[BufId],
) -> Alignment {
    let mut result = Alignment::default();
    for buf in buffers {
        let of = |list: &'_ [Access<'_>]| -> Vec<Vec<Index>> {
            let mut all: Vec<&Access<'_>> = list.iter().filter(|a| a.buf == *buf).collect();
            all.sort_by_key(|a| matches!(a.kind, AccessKind::Read));
            // A handful of accesses says how a buffer is walked; dependences look at all of them.
            all.iter().take(4).filter_map(|a| a.index.map(<[Index]>::to_vec)).collect()
        };
        for x in &of(first.1) {
            for y in &of(second.1) {
                for (x, y) in x.iter().zip(y) {
                    if let (Index::Affine(x), Index::Affine(y)) = (x, y) {
                        match_terms((first.0, x), (second.0, y), &mut result);
                    }
                }
            }
        }
    }
    let place = |v: Var| first.0.iter().position(|h| h.var == v);
    result.pairs.sort_by_key(|(v, _)| place(*v));
    result
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
                // The same step over another range is a slice, not a window.
                result.window |= loops().next().is_some() && loops().all(|t| t.1 != c1);
            }
        }
    }
}
