//! Which parts of which buffers statements touch. Parts are boxes: a range of indices for each dimension.
//!
//! Nests that write different parts of one buffer (the operands of a concatenation) do not depend on each other.

use smallvec::SmallVec;

use super::{Access, AccessKind, accesses};
use crate::nest::{BufId, Index, Program, Stmt};
use crate::visit::{Extents, declared_temps};

/// A range of indices for each dimension; no ranges at all mean the whole buffer.
pub type Region = SmallVec<[(i64, i64); 4]>;

/// Parts of buffers, in the order of these: few.
#[derive(Clone, Default, Debug)]
pub struct Reach(Vec<(BufId, Region)>);

impl Reach {
    /// The buffers, in order.
    pub fn bufs(&self) -> impl Iterator<Item = BufId> + '_ {
        self.0.iter().map(|part| part.0)
    }

    /// Adds a part of a buffer.
    pub fn add(&mut self, buf: BufId, region: Region) {
        match self.0.binary_search_by_key(&buf, |part| part.0) {
            Ok(at) => self.0[at].1 = enclose(&self.0[at].1, &region),
            Err(at) => self.0.insert(at, (buf, region)),
        }
    }

    /// The same parts of other buffers, which are in the same order.
    pub fn renamed(&self, to: impl Fn(BufId) -> BufId) -> Reach {
        Reach(self.0.iter().map(|(buf, region)| (to(*buf), region.clone())).collect())
    }

    fn get(&self, buf: BufId) -> Option<&Region> {
        self.0.binary_search_by_key(&buf, |part| part.0).ok().map(|at| &self.0[at].1)
    }

    /// Adds all parts of another.
    pub fn extend(&mut self, other: &Reach) {
        for (buf, region) in &other.0 {
            self.add(*buf, region.clone());
        }
    }

    /// Whether some element may be touched by both.
    pub fn meets(&self, other: &Reach) -> bool {
        let (few, many) = if self.0.len() <= other.0.len() { (self, other) } else { (other, self) };
        few.0.iter().any(|(buf, a)| many.get(*buf).is_some_and(|b| !disjoint(a, b)))
    }

    /// Whether some element of a buffer may be touched by both.
    pub fn meet_in(&self, other: &Reach, buf: BufId) -> bool {
        matches!((self.get(buf), other.get(buf)), (Some(a), Some(b)) if !disjoint(a, b))
    }

    /// The bytes of the part of a buffer that both touch, at most.
    pub fn shared_bytes(&self, other: &Reach, program: &Program, buf: BufId) -> usize {
        let (Some(a), Some(b)) = (self.get(buf), other.get(buf)) else { return 0 };
        let buffer = program.buf(buf);
        let range = |r: &Region, d: usize, n: usize| r.get(d).copied().unwrap_or((0, n as i64 - 1));
        let dims = buffer.shape.iter().enumerate().map(|(d, &n)| {
            let (a, b) = (range(a, d, n), range(b, d, n));
            let (lo, hi) = (a.0.max(b.0).max(0), a.1.min(b.1).min(n as i64 - 1));
            usize::try_from(hi - lo + 1).unwrap_or(0)
        });
        dims.product::<usize>() * buffer.dtype.size()
    }
}

/// Whether two parts of one buffer have no element in common.
pub fn disjoint(a: &[(i64, i64)], b: &[(i64, i64)]) -> bool {
    a.iter().zip(b).any(|(a, b)| a.1 < b.0 || b.1 < a.0)
}

fn enclose(a: &Region, b: &Region) -> Region {
    match a.is_empty() || b.is_empty() {
        true => Region::new(),
        false => a.iter().zip(b).map(|(a, b)| (a.0.min(b.0), a.1.max(b.1))).collect(),
    }
}

/// The part of its buffer that an access touches; the whole buffer if that is not known.
pub fn region(access: &Access<'_>, extents: &Extents) -> Region {
    let range = |i: &Index| i.as_affine().and_then(|a| extents.range(a));
    access.index.and_then(|index| index.iter().map(range).collect()).unwrap_or_default()
}

/// What a statement list reads and writes, without what it declares itself.
pub fn touched(body: &[Stmt]) -> (Reach, Reach) {
    let locals = declared_temps(body);
    let extents = Extents::of(body);
    let (mut reads, mut writes) = (Reach::default(), Reach::default());
    for access in accesses(body) {
        if locals.contains(&access.buf) {
            continue;
        }
        let region = region(&access, &extents);
        if access.kind != AccessKind::Write {
            reads.add(access.buf, region.clone());
        }
        if access.kind != AccessKind::Read {
            writes.add(access.buf, region);
        }
    }
    (reads, writes)
}
