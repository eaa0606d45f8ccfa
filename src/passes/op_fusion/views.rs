//! Views: what would only be copied into a part of another buffer is stored there in the first place, and what
//! only repeats a part of another buffer is read there. Concatenation then costs nothing.
//!
//! Before and after:
//!
//! ```text
//! for c < 3 { for i < 9 { %a[c,i] = .. } }          for c < 3 { for i < 9 { %y[c,i] = .. } }
//! for c < 5 { for i < 9 { %b[c,i] = .. } }          for c < 5 { for i < 9 { %y[c+3,i] = .. } }
//! for c < 3 { for i < 9 { %y[c,i] = %a[c,i] } }
//! for c < 5 { for i < 9 { %y[c+3,i] = %b[c,i] } }
//! ```
//!
//! A temporary with several such copies becomes part of the largest. Copies that have become copies of parts of
//! one buffer are then views of it: in a DenseNet, the input of every layer is a prefix of one buffer.
//!
//! Legal if nothing else writes that part, all accesses can be rewritten (no run-time function, no padding along
//! a dimension that is cut), and what is viewed does not change afterwards.

use nestjit_ir::access::reach::disjoint;
use nestjit_ir::access::{AccessKind, accesses};
use nestjit_ir::hash::{FastMap, FastSet};
use nestjit_ir::visit::{self, Extents};
use nestjit_ir::{Affine, BufId, Expr, Index, Load, LoopKind, Nest, Program, Role, Stmt, Store, Var};

use super::align::perfect;

/// Rewriting makes new copies of parts; so many rounds find chains of concatenations.
const ROUNDS: usize = 4;

/// Where an element of a buffer lies in another: for each dimension of the other, the dimension whose index it
/// takes, and what is added.
type Places = Vec<(Option<usize>, i64)>;

/// A buffer that is part of another.
#[derive(Clone, Debug)]
struct View {
    of: BufId,
    places: Places,
}

/// A view that was made.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// The buffer that is not one of its own any more.
    pub buf: BufId,
    /// What it is a part of.
    pub of: BufId,
    /// The nest that stores it (or, of copies, the one that stored what was copied).
    pub producer: String,
    /// The nest that copied.
    pub copy: String,
}

/// A nest that only copies elements, each index a loop or a constant.
struct Copy {
    nest: usize,
    from: (BufId, Vec<Affine>),
    to: (BufId, Vec<Affine>),
    /// The elements copied.
    len: usize,
}

/// What a nest does to a buffer, as far as views are concerned.
struct Write {
    nest: usize,
    /// The range of each index; `None` if unknown.
    bounds: Option<Vec<(i64, i64)>>,
}

/// Turns copies into views. `parts` are parallel to the nests and lose what they lose.
pub(super) fn apply(program: &Program, nests: &mut Vec<Nest>, parts: &mut Vec<usize>) -> Vec<Made> {
    let mut made = Vec::new();
    for _ in 0..ROUNDS {
        let found = Finder::new(program, nests).find();
        if found.is_empty() {
            break;
        }
        let views: FastMap<BufId, View> =
            found.iter().map(|f| (f.0, View { of: f.1.of, places: f.1.places.clone() })).collect();
        for nest in nests.iter_mut().filter(|nest| mentions(&nest.body, &|b| views.contains_key(&b))) {
            rewrite(&views, &mut nest.body);
        }
        for (buf, view, nest) in found {
            let producer = nests.iter().take(nest).rev().find(|n| writes(&n.body, view.of));
            let producer = producer.map_or_else(String::new, |n| n.name.clone());
            made.push(Made { buf, of: view.of, producer, copy: nests[nest].name.clone() });
        }
        remove_self_copies(nests, parts);
    }
    made
}

struct Finder<'a> {
    program: &'a Program,
    nests: &'a [Nest],
    copies: Vec<Copy>,
    /// What is done to the buffers that are copied, and copied to.
    writes: FastMap<BufId, Vec<Write>>,
    /// The nests that read one of these.
    reads: FastMap<BufId, Vec<usize>>,
}

impl<'a> Finder<'a> {
    fn new(program: &'a Program, nests: &'a [Nest]) -> Finder<'a> {
        let copies: Vec<Copy> = nests.iter().enumerate().filter_map(|(at, nest)| copy(at, nest)).collect();
        let involved: FastSet<BufId> = copies.iter().flat_map(|c| [c.from.0, c.to.0]).collect();
        let (writes, reads) = (FastMap::default(), FastMap::default());
        let mut finder = Finder { program, nests, copies, writes, reads };
        if involved.is_empty() {
            return finder;
        }
        for (at, nest) in nests.iter().enumerate() {
            if !mentions(&nest.body, &|b| involved.contains(&b)) {
                continue;
            }
            let mut extents = None;
            for access in accesses(&nest.body).into_iter().filter(|a| involved.contains(&a.buf)) {
                if access.kind == AccessKind::Read {
                    let readers = finder.reads.entry(access.buf).or_default();
                    if readers.last() != Some(&at) {
                        readers.push(at);
                    }
                    continue;
                }
                let extents = extents.get_or_insert_with(|| Extents::of(&nest.body));
                let bounds = access.index.and_then(|index| {
                    index.iter().map(|i| i.as_affine().and_then(|a| extents.range(a))).collect()
                });
                finder.writes.entry(access.buf).or_default().push(Write { nest: at, bounds });
            }
        }
        finder
    }

    /// Views of this round, each with the nest that copied. No buffer is viewed by one and a view by another:
    /// such chains take another round.
    fn find(&self) -> Vec<(BufId, View, usize)> {
        let mut best: Vec<(&Copy, Places)> = Vec::new();
        let mut seen: FastMap<BufId, usize> = FastMap::default();
        for copy in &self.copies {
            let Some(places) = self.stored_in_place(copy) else { continue };
            let len = |c: &Copy| self.program.buf(c.to.0).len();
            match seen.get(&copy.from.0) {
                Some(&at) if len(best[at].0) >= len(copy) => {}
                Some(&at) => best[at] = (copy, places),
                None => {
                    seen.insert(copy.from.0, best.len());
                    best.push((copy, places));
                }
            }
        }
        let mut found: Vec<(BufId, View, usize)> =
            best.into_iter().map(|(c, places)| (c.from.0, View { of: c.to.0, places }, c.nest)).collect();
        if found.is_empty() {
            found = self.repeated();
        }
        let viewed: Vec<BufId> = found.iter().map(|f| f.0).collect();
        found.retain(|f| !viewed.contains(&f.1.of));
        found
    }

    /// Whether what a copy reads can be stored where it goes.
    fn stored_in_place(&self, copy: &Copy) -> Option<Places> {
        let ((from, source), (to, target)) = (&copy.from, &copy.to);
        let (from_buf, to_buf) = (self.program.buf(*from), self.program.buf(*to));
        if from == to || from_buf.role != Role::Temp || copy.len != from_buf.len() {
            return None;
        }
        if source.iter().any(|a| a.offset() != 0) || from_buf.dtype != to_buf.dtype {
            return None;
        }
        let places: Places = target
            .iter()
            .map(|a| {
                let Some(&(var, _)) = a.terms().first() else { return Some((None, a.offset())) };
                let dim = source.iter().position(|s| s.uses(var))?;
                Some((Some(dim), a.offset()))
            })
            .collect::<Option<_>>()?;
        // Nothing else writes there, and all that is written is written before.
        let extents = Extents::of(&self.nests[copy.nest].body);
        let region: Vec<(i64, i64)> = target.iter().map(|a| extents.range(a)).collect::<Option<_>>()?;
        let others = self.writes.get(to)?.iter().filter(|w| w.nest != copy.nest);
        let apart = |w: &Write| w.bounds.as_ref().is_some_and(|b| disjoint(b, &region));
        let written = self.writes.get(from)?;
        let before = written.iter().all(|w| w.nest < copy.nest && w.bounds.is_some());
        (others.into_iter().all(apart) && before && self.rewritable(*from, *to, &places)).then_some(places)
    }

    /// Buffers all parts of which repeat the same part of one other buffer.
    fn repeated(&self) -> Vec<(BufId, View, usize)> {
        let mut by_target: FastMap<BufId, Vec<&Copy>> = FastMap::default();
        let mut order = Vec::new();
        for copy in &self.copies {
            let copies = by_target.entry(copy.to.0).or_default();
            if copies.is_empty() {
                order.push(copy.to.0);
            }
            copies.push(copy);
        }
        let view = |buf: BufId| {
            let copies = &by_target[&buf];
            let (first, places) = (copies[0], repeats(copies)?);
            let source = first.from.0;
            let buffer = self.program.buf(buf);
            let all = copies.iter().map(|c| c.len).sum::<usize>() == buffer.len()
                && self.writes.get(&buf).is_some_and(|w| w.len() == copies.len());
            if !all || copies.len() < 2 || buffer.role != Role::Temp || source == buf {
                return None;
            }
            if buffer.dtype != self.program.buf(source).dtype {
                return None;
            }
            // What is viewed stays as it is from the first copy on.
            let region: Vec<(i64, i64)> = places
                .iter()
                .map(|&(dim, delta)| {
                    let last = dim.map_or(0, |d| buffer.shape[d] as i64 - 1);
                    (delta, delta + last)
                })
                .collect();
            let later = |w: &&Write| copies.iter().any(|c| w.nest > c.nest);
            let stays = self.writes.get(&source).into_iter().flatten().filter(later);
            let stays = stays.into_iter().all(|w| w.bounds.as_ref().is_some_and(|b| disjoint(b, &region)));
            let ok = stays && self.rewritable(buf, source, &places);
            ok.then_some((buf, View { of: source, places }, first.nest))
        };
        order.into_iter().filter_map(view).collect()
    }

    /// Whether all accesses of a buffer can become accesses of the other.
    fn rewritable(&self, buf: BufId, of: BufId, places: &Places) -> bool {
        let (shape, whole) = (&self.program.buf(buf).shape, &self.program.buf(of).shape);
        // Indices along dimensions that are not cut mean the same in both.
        let kept = |d: usize| places.iter().zip(whole).any(|(p, n)| *p == (Some(d), 0) && *n == shape[d]);
        let writers = self.writes.get(&buf).into_iter().flatten().map(|w| w.nest);
        let readers = self.reads.get(&buf).into_iter().flatten().copied();
        let mut nests: Vec<usize> = writers.chain(readers).collect();
        nests.sort_unstable();
        nests.dedup();
        nests.into_iter().all(|at| {
            let body = &self.nests[at].body;
            let extents = Extents::of(body);
            accesses(body).iter().filter(|a| a.buf == buf).all(|a| {
                let Some(index) = a.index else { return false };
                index.iter().enumerate().all(|(d, i)| match i {
                    Index::Affine(e) => {
                        let inside = |(lo, hi): (i64, i64)| lo >= 0 && (hi as usize) < shape[d];
                        kept(d) || !a.has_otherwise || extents.range(e).is_some_and(inside)
                    }
                    Index::Value(_) => kept(d),
                })
            })
        })
    }
}

/// How the target of some copies lies in their common source.
fn repeats(copies: &[&Copy]) -> Option<Places> {
    let source = copies.first()?.from.0;
    let rank = copies.first()?.from.1.len();
    let mut places: Vec<Option<(Option<usize>, i64)>> = vec![None; rank];
    // Dimensions that a part has one element of fit whatever the others say.
    let mut fixed: Vec<(usize, i64, &[Affine])> = Vec::new();
    for copy in copies {
        if copy.from.0 != source {
            return None;
        }
        for (d, a) in copy.from.1.iter().enumerate() {
            let Some(&(var, _)) = a.terms().first() else {
                fixed.push((d, a.offset(), &copy.to.1));
                continue;
            };
            let dim = copy.to.1.iter().position(|t| t.uses(var))?;
            let place = (Some(dim), a.offset() - copy.to.1[dim].offset());
            if *places[d].get_or_insert(place) != place {
                return None;
            }
        }
    }
    for (d, at, target) in fixed {
        match places[d] {
            Some((Some(dim), delta)) if target[dim].as_const().is_some_and(|t| t + delta == at) => {}
            Some((Some(_), _)) => return None,
            Some((None, c)) if c != at => return None,
            _ => places[d] = Some((None, at)),
        }
    }
    places.into_iter().collect()
}

/// The only statement in a chain of loops, if it stores an element of a buffer.
fn copied(body: &[Stmt]) -> Option<(&Store, &Load)> {
    match body {
        [Stmt::For(l)] => copied(&l.body),
        [Stmt::Store(store)] => match &store.value {
            Expr::Load(load) => Some((store, load)),
            _ => None,
        },
        _ => None,
    }
}

/// Reads a nest as a copy, if it is one.
fn copy(at: usize, nest: &Nest) -> Option<Copy> {
    let (store, load) = copied(&nest.body)?;
    let heads = match nest.body.as_slice() {
        [Stmt::For(l)] => perfect(l).0,
        _ => Vec::new(),
    };
    if load.otherwise.is_some() || heads.iter().any(|h| h.kind != LoopKind::Serial) {
        return None;
    }
    let simple = |index: &[Index]| -> Option<Vec<Affine>> {
        let mut used: Vec<Var> = Vec::new();
        for i in index {
            match i.as_affine()?.terms() {
                [] => {}
                [(v, 1)] if !used.contains(v) => used.push(*v),
                _ => return None,
            }
        }
        let all = heads.iter().all(|h| used.contains(&h.var));
        all.then(|| index.iter().filter_map(Index::as_affine).cloned().collect())
    };
    let (from, to) = (simple(&load.index)?, simple(&store.index)?);
    let len = heads.iter().map(|h| h.extent).product();
    Some(Copy { nest: at, from: (load.buf, from), to: (store.buf, to), len })
}

fn writes(body: &[Stmt], buf: BufId) -> bool {
    body.iter().any(|s| match s {
        Stmt::For(l) => writes(&l.body, buf),
        Stmt::Store(s) => s.buf == buf,
        Stmt::Reduce(r) => r.buf == buf,
        Stmt::Call(c) => c.outputs.contains(&buf),
        Stmt::Temp(_) => false,
    })
}

/// Whether one of these buffers is accessed.
fn mentions(body: &[Stmt], which: &dyn Fn(BufId) -> bool) -> bool {
    let mut found = false;
    visit::walk_stmts(body, &mut |s| match s {
        Stmt::Store(s) => found |= which(s.buf),
        Stmt::Reduce(r) => found |= which(r.buf),
        Stmt::Call(c) => found |= c.inputs.iter().chain(&c.outputs).any(|b| which(*b)),
        Stmt::For(_) | Stmt::Temp(_) => {}
    });
    visit::walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e {
            found |= which(l.buf);
        }
    });
    found
}

/// Lets every access of a view go to what it is a part of.
fn rewrite(views: &FastMap<BufId, View>, body: &mut [Stmt]) {
    let place = |buf: &mut BufId, index: &mut Vec<Index>| {
        let Some(view) = views.get(buf) else { return };
        let old = std::mem::take(index);
        *index = view
            .places
            .iter()
            .map(|&(dim, offset)| match dim.map(|d| &old[d]) {
                Some(Index::Affine(a)) => Index::Affine(a.plus(offset)),
                Some(value) => value.clone(),
                None => Index::Affine(Affine::constant(offset)),
            })
            .collect();
        *buf = view.of;
    };
    visit::walk_stmts_mut(body, &mut |s| match s {
        Stmt::Store(s) => place(&mut s.buf, &mut s.index),
        Stmt::Reduce(r) => place(&mut r.buf, &mut r.index),
        Stmt::For(_) | Stmt::Temp(_) | Stmt::Call(_) => {}
    });
    visit::walk_exprs_mut(body, &mut |e| {
        if let Expr::Load(l) = e {
            place(&mut l.buf, &mut l.index);
        }
    });
}

/// Removes nests that copy elements to where they are. What they were part of the model for is what the nest
/// that stores these elements does now.
fn remove_self_copies(nests: &mut Vec<Nest>, parts: &mut Vec<usize>) {
    let mut moved: Vec<(usize, Vec<String>)> = Vec::new();
    let mut keep = vec![true; nests.len()];
    for (at, nest) in nests.iter().enumerate() {
        if copied(&nest.body).is_none_or(|(store, load)| store.buf != load.buf) {
            continue;
        }
        let Some(copy) = copy(at, nest).filter(|c| c.from == c.to) else { continue };
        keep[at] = false;
        let before = |n: &usize| keep[*n] && writes(&nests[*n].body, copy.to.0);
        if let Some(producer) = (0..at).rev().find(before) {
            moved.push((producer, nest.ops.clone()));
        }
    }
    for (to, ops) in moved {
        for op in ops {
            let known = nests.iter().zip(&keep).any(|(n, keep)| *keep && n.ops.contains(&op));
            if !known {
                nests[to].ops.push(op);
            }
        }
    }
    let mut kept = keep.iter();
    nests.retain(|_| kept.next() == Some(&true));
    let mut kept = keep.iter();
    parts.retain(|_| kept.next() == Some(&true));
}
