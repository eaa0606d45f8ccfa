//! What a nest costs when its temporaries lie in certain orders.
//!
//! Counted are operations of the vector unit: each loop nest is vectorised along the loop that is best for the
//! orders, an access to neighbours is one operation per vector, a strided one takes an operation per lane, unless
//! blocks of it can be transposed in registers.
//! Only the differences between orders matter; what is the same for all of them is left out.

use std::collections::BTreeMap;

use nestjit_ir::layout;
use nestjit_ir::visit::{declared_temps, walk_stmts};
use nestjit_ir::{
    Affine, BinOp, BufId, DType, Expr, For, Index, Load, Nest, Program, ReduceOp, Role, Stmt, Var,
};

use crate::lanes;
use crate::passes::PassContext;
use crate::passes::cost;
use crate::passes::schedule::chain::{has_loop, perfect};
use crate::passes::schedule::indices::{expr_uses, index_uses};
use crate::passes::schedule::minimal_filtering::convolution::{ChannelOperand, ChannelWay};
use crate::passes::schedule::minimal_filtering::{Prospect, prospects};
use crate::passes::schedule::tiles::dot::Products;

/// A vector that lies in two lines of the cache, in vector operations.
const UNALIGNED: f64 = 1.3;

/// How many products share an operand in a register tile.
const REUSE: usize = 6;

/// What it costs a nest to exchange an element on its way to or from vectors, in vector operations.
const EXCHANGE: f64 = 0.5;

/// A product of bytes that is one of four in an instruction, in multiply-adds, and one that an instruction of its own
/// makes, which is slow.
const DOT: f64 = 0.25;
const MULTIPLIED: f64 = 2.0;

/// The orders that differ from the logical one.
pub(super) type Orders = BTreeMap<BufId, Vec<usize>>;

/// The statements of a nest, and those for which there will be a faster form in some orders.
pub(super) struct NestCost<'a> {
    body: &'a [Stmt],
    prospects: Vec<Prospect>,
}

impl<'a> NestCost<'a> {
    pub fn new(program: &Program, nest: &'a Nest, ctx: &PassContext<'_>) -> NestCost<'a> {
        let prospects = if ctx.minimal_filtering { prospects(program, nest, ctx.target) } else { Vec::new() };
        NestCost { body: &nest.body, prospects }
    }

    /// Vector operations of one execution.
    pub fn cost(&self, program: &Program, lanes: usize, orders: &Orders) -> f64 {
        let model = LayoutModel { program, lanes, orders };
        // What it costs to have the vectors along the channels, if that is possible.
        let exchange = |o: &ChannelOperand| match o.way(|buf, index, var| model.stride(buf, index, var))? {
            ChannelWay::Direct => Some(0.0),
            ChannelWay::Exchange => {
                let largest = o.accesses.iter().map(|a| program.buf(a.0).len()).max();
                Some(EXCHANGE * largest.unwrap_or(0) as f64)
            }
        };
        let statements = self.body.iter().enumerate().map(|(at, stmt)| {
            let cost = model.block(std::slice::from_ref(stmt));
            let prospect = self.prospects.iter().find(|p| p.statement == at);
            let exchanges = |p: &Prospect| p.operands.iter().map(exchange).sum::<Option<f64>>();
            match prospect.and_then(|p| Some((p, exchanges(p)?))) {
                Some((p, exchanges)) => cost.min(cost * p.share + exchanges),
                None => cost,
            }
        });
        statements.sum()
    }
}

struct LayoutModel<'a> {
    program: &'a Program,
    lanes: usize,
    orders: &'a Orders,
}

/// A loop: its variable and extent.
type Loop = (Var, usize);

impl LayoutModel<'_> {
    /// Statements that no vectorised loop is around.
    fn block(&self, body: &[Stmt]) -> f64 {
        body.iter()
            .map(|s| match s {
                Stmt::For(l) => self.nest(l),
                other => self.vectorized(std::slice::from_ref(other), &[], None),
            })
            .sum()
    }

    /// A loop nest: the best of its outer loops, or each nest inside for itself.
    fn nest(&self, l: &For) -> f64 {
        let (chain, body) = perfect(l);
        let chain: Vec<Loop> = chain.into_iter().map(|l| (l.var, l.extent)).collect();
        let times: f64 = chain.iter().map(|l| l.1 as f64).product();
        let inner_loops = has_loop(body);
        let mut best =
            times * if inner_loops { self.block(body) } else { self.vectorized(body, &chain, None) };
        for (at, &lane) in chain.iter().enumerate() {
            let innermost = !inner_loops && at + 1 == chain.len();
            if lane.1 > 1 && self.may_be_lanes(body, lane.0, innermost) {
                best = best.min(times * self.vectorized(body, &chain, Some(lane)));
            }
        }
        best
    }

    /// Whether iterations of a loop write to different places, or it is an innermost reduction.
    fn may_be_lanes(&self, body: &[Stmt], lane: Var, innermost: bool) -> bool {
        let own = declared_temps(body);
        let mut apart = true;
        walk_stmts(body, &mut |s| {
            apart &= match s {
                Stmt::Store(s) => own.contains(&s.buf) || index_uses(&s.index, lane),
                Stmt::Reduce(r) => innermost || own.contains(&r.buf) || index_uses(&r.index, lane),
                Stmt::For(_) | Stmt::Temp(_) => true,
                Stmt::Call(_) => false,
            }
        });
        apart
    }

    fn is_local(&self, buf: BufId) -> bool {
        self.program.buf(buf).role == Role::Local
    }

    /// One execution of `body` with this loop as the lanes; `around` are the loops of its nest.
    fn vectorized(&self, body: &[Stmt], around: &[Loop], lane: Option<Loop>) -> f64 {
        match self.rows_of_blocks(body, around, lane) {
            // A tile whose results are transposed has its rows along these, and operands serve no others.
            Some(rows) => {
                self.statements(body, (around, &rows), lane).min(self.statements(body, (&[], around), lane))
            }
            None => self.statements(body, (around, around), lane),
        }
    }

    /// The loops along which blocks are transposed, if what `body` stores takes that for these lanes.
    fn rows_of_blocks(&self, body: &[Stmt], around: &[Loop], lane: Option<Loop>) -> Option<Vec<Loop>> {
        let mut found = None;
        walk_stmts(body, &mut |s| {
            if let Stmt::Store(s) = s
                && !self.is_local(s.buf)
                && self.transposed(s.buf, &s.index, around, lane) < self.access(s.buf, &s.index, lane)
            {
                let adjacent = |l: &&Loop| l.1 > 1 && self.stride(s.buf, &s.index, l.0) == Some(1);
                found = Some(around.iter().filter(adjacent).copied().collect());
            }
        });
        found
    }

    /// One execution of `body`: blocks may be transposed along the first of these loops, the second ones may be rows of tiles.
    fn statements(&self, body: &[Stmt], (blocks, rows): (&[Loop], &[Loop]), lane: Option<Loop>) -> f64 {
        body.iter()
            .map(|s| match s {
                Stmt::For(l) => l.extent as f64 * self.statements(&l.body, (blocks, rows), lane),
                Stmt::Store(s) => {
                    let value = self.value(&s.value, blocks, lane);
                    self.transposed(s.buf, &s.index, blocks, lane) + value
                }
                Stmt::Reduce(r) if r.op == ReduceOp::Add => match &r.value {
                    Expr::Binary(BinOp::Mul, a, b) => self.product(a, b, rows, lane),
                    value => self.share(lane) + self.reduced(value, lane),
                },
                Stmt::Reduce(r) => self.share(lane) + self.reduced(&r.value, lane),
                Stmt::Temp(_) | Stmt::Call(_) => 0.0,
            })
            .sum()
    }

    /// A multiply-add, beside which its operands are loaded; those that do not vary with all loops around are
    /// used several times once loaded.
    fn product(&self, a: &Expr, b: &Expr, around: &[Loop], lane: Option<Loop>) -> f64 {
        let times = match (extended_byte(self.program, a), extended_byte(self.program, b)) {
            (Some(a), Some(b)) => {
                let waste = self.dot(a, b, around, lane).or_else(|| self.dot(b, a, around, lane));
                waste.map_or(MULTIPLIED, |waste| waste * DOT)
            }
            _ => 1.0,
        };
        times * self.multiplied(a, b, around, lane)
    }

    /// How many times as many products as there are dot products of bytes have, if products along some loop of a reduction
    /// are added up by one instruction, four at a time: `shared` is the same for all lanes and contiguous along the loop,
    /// the other operand is packed.
    fn dot(&self, shared: &Load, packed: &Load, around: &[Loop], lane: Option<Loop>) -> Option<f64> {
        let (lane, _) = lane?;
        let reduced =
            |v: &Var| *v != lane && around.iter().all(|l| l.0 != *v) && index_uses(&packed.index, *v);
        let vars = shared.index.iter().filter_map(Index::as_affine).flat_map(Affine::vars);
        let signs = [shared, packed].map(|l| self.program.buf(l.buf).dtype.kind());
        let possible = signs[0] != signs[1]
            && self.program.buf(packed.buf).role == Role::Const
            && packed.otherwise.is_none()
            && !index_uses(&shared.index, lane);
        let along =
            vars.filter(|v| possible && reduced(v) && self.stride(shared.buf, &shared.index, *v) == Some(1));
        // Weights are as long as the loops that they are read in.
        let length = |v: Var| {
            let own = |i: &Index| i.as_affine().and_then(Affine::as_var) == Some(v);
            let dim = packed.index.iter().position(own);
            dim.map_or(1, |d| self.program.buf(packed.buf).shape[d].max(1))
        };
        let waste = |n: usize| n.next_multiple_of(Products::Bytes.group()) as f64 / n as f64;
        along.map(|v| waste(length(v))).min_by(f64::total_cmp)
    }

    fn multiplied(&self, a: &Expr, b: &Expr, around: &[Loop], lane: Option<Loop>) -> f64 {
        let operand = |e: &Expr| match e {
            Expr::Cast(_, inner) if matches!(**inner, Expr::Load(_)) => self.operand(inner, around, lane),
            e => self.operand(e, around, lane),
        };
        self.share(lane).max(operand(a) + operand(b))
    }

    /// A factor of a multiply-add.
    fn operand(&self, e: &Expr, around: &[Loop], lane: Option<Loop>) -> f64 {
        match e {
            Expr::Load(l) => {
                // One element for all lanes serves all vectors of a tile.
                let times = |r: &Loop| {
                    if lane.is_some_and(|v| v.0 == r.0) { r.1 / self.lanes } else { r.1 }
                };
                let shared = around.iter().filter(|r| !index_uses(&l.index, r.0));
                let reuse = shared.map(times).max().unwrap_or(1);
                // Constants are packed for their readers.
                let packed = self.program.buf(l.buf).role == Role::Const && l.otherwise.is_none();
                let cost = if packed { self.share(lane) } else { self.load(l, &[], lane) };
                cost / reuse.clamp(1, REUSE) as f64
            }
            other => self.value(other, &[], lane),
        }
    }

    /// The operations of an expression; `around` are the loops along which blocks may be transposed.
    fn value(&self, value: &Expr, around: &[Loop], lane: Option<Loop>) -> f64 {
        cost::value(value, self.share(lane), |l| self.load(l, around, lane))
    }

    /// The operations of what is reduced. What windows read beyond the edges of an operand is in a padded copy, to which
    /// blocks are transposed.
    fn reduced(&self, value: &Expr, lane: Option<Loop>) -> f64 {
        let window = |l: &Load| {
            let beside = |i: &Index| i.as_affine().and_then(Affine::as_var) == lane.map(|l| l.0);
            let buffer = self.program.buf(l.buf);
            // A temporary gets a border instead.
            (l.otherwise.is_some() && buffer.role != Role::Temp)
                && lanes::exchanged(buffer.dtype)
                && self.access(l.buf, &l.index, lane) >= cost::LANE
                && l.index.iter().any(beside)
        };
        cost::value(value, self.share(lane), |l| match lane {
            Some(_) if window(l) => UNALIGNED * self.share(lane),
            Some(_) | None => self.load(l, &[], lane),
        })
    }

    fn load(&self, load: &Load, around: &[Loop], lane: Option<Loop>) -> f64 {
        // A temporary that is read beyond its edges gets a border.
        let guarded = load.otherwise.is_some() && self.program.buf(load.buf).role != Role::Temp;
        let guard = if guarded { cost::GUARD } else { 1.0 };
        guard * self.transposed(load.buf, &load.index, around, lane)
    }

    /// An access that may be adjacent along another loop than the lanes'.
    fn transposed(&self, buf: BufId, index: &[Index], around: &[Loop], lane: Option<Loop>) -> f64 {
        let cost = self.access(buf, index, lane);
        let adjacent = |l: &Loop| l.1 > 1 && self.stride(buf, index, l.0) == Some(1);
        let exchanged = lanes::exchanged(self.program.buf(buf).dtype);
        if cost < cost::LANE || !exchanged || !around.iter().any(adjacent) {
            return cost;
        }
        cost.min(cost::transposed_access(self.lanes) * self.share(lane))
    }

    fn access(&self, buf: BufId, index: &[Index], lane: Option<Loop>) -> f64 {
        let Some((var, _)) = lane else { return 1.0 };
        if lanes::lookup(self.program, buf, index).is_some() {
            return lanes::LOOKUP * self.share(lane);
        }
        match self.stride(buf, index, var) {
            Some(0) => self.share(lane),
            Some(1) if self.aligned(buf, index) => self.share(lane),
            Some(1) => UNALIGNED * self.share(lane),
            _ => cost::LANE,
        }
    }

    /// Whether vectors along the innermost dimension start at multiples of their length.
    fn aligned(&self, buf: BufId, index: &[Index]) -> bool {
        let buffer = self.program.buf(buf);
        let order = self.orders.get(&buf).unwrap_or(&buffer.layout.order);
        let Some(&inner) = order.last() else { return true };
        let start = index[inner].as_affine().map_or(1, |a| a.offset());
        let several = index[inner].as_affine().is_none_or(|a| a.terms().len() > 1);
        !several
            && start == 0
            && (buffer.shape[inner].is_multiple_of(self.lanes) || buffer.role == Role::Local)
    }

    /// Vector operations per element: ragged ends waste lanes.
    fn share(&self, lane: Option<Loop>) -> f64 {
        lane.map_or(1.0, |(_, n)| cost::lane_share(n, self.lanes))
    }

    /// How far apart elements for neighbouring values of `var` lie in the order chosen.
    fn stride(&self, buf: BufId, index: &[Index], var: Var) -> Option<i64> {
        // Of a local within the loop there will be one for each lane, neighbours in memory.
        if !index_uses(index, var) {
            return Some(0);
        }
        let buffer = self.program.buf(buf);
        let coefficient = |d: usize| match &index[d] {
            Index::Affine(a) => Some(a.coeff(var)),
            Index::Value(e) if !expr_uses(e, var) => Some(0),
            Index::Value(_) => None,
        };
        match self.orders.get(&buf) {
            None => {
                let strides = layout::strides(buffer)?;
                (0..index.len()).map(|d| Some(coefficient(d)? * strides[d] as i64)).sum()
            }
            Some(order) => {
                let (mut step, mut total) = (1i64, 0);
                for &d in order.iter().rev() {
                    total += coefficient(d)? * step;
                    step *= buffer.shape[d] as i64;
                }
                Some(total)
            }
        }
    }
}

/// The load of a byte that an expression extends to 32 bits.
fn extended_byte<'e>(program: &Program, e: &'e Expr) -> Option<&'e Load> {
    let Expr::Cast(DType::I32, inner) = e else { return None };
    let Expr::Load(load) = &**inner else { return None };
    matches!(program.buf(load.buf).dtype, DType::U8 | DType::I8).then_some(load)
}
