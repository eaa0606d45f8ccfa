//! Vector loops in vector loops: any of them may have the lanes, as their iterations are independent.

use nestjit_ir::visit::{walk_expr, walk_loops};
use nestjit_ir::{BufId, Expr, For, Index, LoopKind, Stmt, Var};

use super::facts::Facts;

/// Whether the vector loops in the body of a vector loop make better lanes than the loop itself: more
/// accesses to adjacent elements, fewer lanes that stay empty.
pub(super) fn inner_has_lanes(facts: &Facts<'_>, l: &For, lanes: usize) -> bool {
    let mut inner = false;
    walk_loops(&l.body, &mut |l| inner |= is_vector(l));
    if !inner {
        return false;
    }
    let mut cost = Cost { facts, lanes, own: l.var, own_extent: l.extent, sums: (0.0, 0.0) };
    cost.block(&l.body, None, 1.0);
    cost.sums.1 <= cost.sums.0
}

fn is_vector(l: &For) -> bool {
    l.kind == LoopKind::Vector && l.extent > 0
}

/// What a lane that does not lie beside its neighbour costs, compared with a whole register.
const STRIDED: f64 = 1.25;

/// The cost per element with the loop's own lanes, and with those of the loops inside.
struct Cost<'a> {
    facts: &'a Facts<'a>,
    lanes: usize,
    own: Var,
    own_extent: usize,
    sums: (f64, f64),
}

impl Cost<'_> {
    fn block(&mut self, body: &[Stmt], inner: Option<(Var, usize)>, times: f64) {
        for stmt in body {
            let (value, target) = match stmt {
                Stmt::For(l) => {
                    let inner = if is_vector(l) { inner.or(Some((l.var, l.extent))) } else { inner };
                    self.block(&l.body, inner, times * l.extent as f64);
                    continue;
                }
                Stmt::Store(s) => (&s.value, (s.buf, &s.index)),
                Stmt::Reduce(r) => (&r.value, (r.buf, &r.index)),
                Stmt::Temp(_) | Stmt::Call(_) => continue,
            };
            self.access(target.0, target.1, inner, times);
            walk_expr(value, &mut |e| {
                if let Expr::Load(l) = e {
                    self.access(l.buf, &l.index, inner, times);
                }
            });
        }
    }

    fn access(&mut self, buf: BufId, index: &[Index], inner: Option<(Var, usize)>, times: f64) {
        let form = self.facts.form(buf, index);
        let cost = |lane: Option<(Var, usize)>| match (lane, &form.offset) {
            (Some((v, extent)), Some(at)) if matches!(at.coeff(v), 0 | 1) => {
                extent.div_ceil(self.lanes) as f64 / extent.max(1) as f64
            }
            _ => STRIDED,
        };
        let (own, inner) = (cost(Some((self.own, self.own_extent))), cost(inner));
        self.sums.0 += own * times;
        self.sums.1 += inner * times;
    }
}
