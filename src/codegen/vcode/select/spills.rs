//! Which local buffers cannot live in registers, as far as indices tell: found before selection, which would
//! have to start again for each.

use nestjit_ir::visit::walk_expr;
use nestjit_ir::{BufId, Expr, For, Index, LoopKind, Stmt, Var};

use super::{MAX_CHUNKS, Region};
use crate::codegen::hash::FastSet;

/// The private locals of a region with an index that is neither known nor the lane's.
pub(super) fn spilled(region: &Region<'_>, lanes: usize) -> FastSet<BufId> {
    let mut finder = Finder { region, lanes, known: FastSet::default(), found: FastSet::default() };
    if !region.private.is_empty() {
        finder.block(region.body, false);
    }
    finder.found
}

struct Finder<'a> {
    region: &'a Region<'a>,
    /// Of a vector register.
    lanes: usize,
    /// The variables whose values are known or lanes.
    known: FastSet<Var>,
    found: FastSet<BufId>,
}

impl Finder<'_> {
    fn block(&mut self, body: &[Stmt], in_lanes: bool) {
        for stmt in body {
            let (value, target) = match stmt {
                Stmt::For(l) => {
                    self.for_loop(l, in_lanes);
                    continue;
                }
                Stmt::Store(s) => (&s.value, (s.buf, &s.index)),
                Stmt::Reduce(r) => (&r.value, (r.buf, &r.index)),
                Stmt::Temp(_) | Stmt::Call(_) => continue,
            };
            self.access(target.0, target.1);
            walk_expr(value, &mut |e| {
                if let Expr::Load(l) = e {
                    self.access(l.buf, &l.index);
                }
            });
        }
    }

    fn for_loop(&mut self, l: &For, in_lanes: bool) {
        let has_lanes = l.kind == LoopKind::Vector && !in_lanes && !self.region.facts.inner_has_lanes(l);
        let counted = match l.kind {
            _ if self.region.ranges.contains(&l.var) => true,
            _ if has_lanes => l.extent > MAX_CHUNKS * self.lanes,
            LoopKind::Unrolled => false,
            _ => l.extent > 1,
        };
        if !counted {
            self.known.insert(l.var);
        }
        self.block(&l.body, in_lanes || has_lanes);
    }

    fn access(&mut self, buf: BufId, index: &[Index]) {
        let known = |i: &Index| match i {
            Index::Affine(a) => a.vars().all(|v| self.known.contains(&v)),
            Index::Value(_) => false,
        };
        if self.region.private.contains(&buf) && !index.iter().all(known) {
            self.found.insert(buf);
        }
    }
}
