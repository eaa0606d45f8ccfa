//! ChooseLayout: the dimension that vectors run along becomes the innermost one in memory.
//!
//! Temporaries of three and more dimensions, and locals of two and more, get a physical order: as they are written, or
//! with one of their dimensions (the channels, say) moved innermost. The order is chosen for all temporaries that nests connect
//! at once, by an estimate of the vector operations of these nests (`cost`), and refined one temporary at a
//! time: where neighbours differ, a nest reads one order and writes the other. Inputs and outputs of the model
//! stay as they are: nests that want another order exchange rows on the way. Constants are packed later. What loops do
//! with the layouts is for Winograd, Tile and Vectorize.

mod cost;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use nestjit_ir::excerpt::{Detail, Key, Uses};
use nestjit_ir::hash::{FastMap, FastSet};
use nestjit_ir::visit::{walk_exprs, walk_stmts};
use nestjit_ir::{BufId, Expr, Layout, Nest, Program, Role, Stmt};
use smallvec::SmallVec;

use self::cost::NestCost;
use super::PassContext;
use super::each_nest::set_apart;
use crate::error::Result;
use crate::remark::{Reason, Remark};
use crate::unit::Unit;

/// The share of the cost of the nests concerned that a change must save.
const LEAST_GAIN: f64 = 0.02;

/// Or it makes one of them, such as one that converts an input, take less than this share, and all together no more.
const MUCH_LESS: f64 = 0.8;

/// How often all temporaries of a component are reconsidered at most.
const ROUNDS: usize = 3;

/// Chooses layouts.
///
/// # Errors
/// None; the signature is the pipeline's.
pub fn run(unit: &mut Unit, ctx: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let mut layouts = Layouts::new(&unit.program, ctx);
    for component in layouts.components() {
        layouts.choose(&component);
    }
    let chosen = layouts.orders;
    for (buf, order) in &chosen {
        remarks.push(remark(&unit.program, *buf, order));
        unit.program.buf_mut(*buf).layout = Layout::ordered(order.clone());
    }
    Ok(!chosen.is_empty())
}

/// For each buffer of a nest, one more than the dimension that lies innermost, or 0 if it lies as it is written.
type InnerDims = SmallVec<[u16; 12]>;

/// The temporaries, the nests that touch them, and the orders chosen so far.
struct Layouts<'a> {
    program: &'a Program,
    lanes: usize,
    /// For each temporary, the nests that touch it.
    users: BTreeMap<BufId, Vec<usize>>,
    /// For each nest with a temporary, its kind and its buffers.
    nests: BTreeMap<usize, (usize, Uses)>,
    /// For each kind of nest, equal up to names, what the cost of one of them depends on, and its buffers.
    kinds: Vec<(NestCost<'a>, Uses)>,
    /// The costs of nests of a kind for the orders of their buffers, as far as they were asked for.
    costs: RefCell<FastMap<(usize, InnerDims), f64>>,
    /// The orders that differ from the logical one.
    orders: BTreeMap<BufId, Vec<usize>>,
}

impl<'a> Layouts<'a> {
    fn new(program: &'a Program, ctx: &PassContext<'_>) -> Layouts<'a> {
        let mut called: FastSet<BufId> = FastSet::default();
        for nest in &program.nests {
            walk_stmts(&nest.body, &mut |s| {
                if let Stmt::Call(c) = s {
                    called.extend(c.inputs.iter().chain(&c.outputs));
                }
            });
        }
        let free = |b: BufId| {
            let buffer = program.buf(b);
            let least = match buffer.role {
                Role::Temp => 3,
                // What is left of a temporary where nests were merged.
                Role::Local => 2,
                Role::In | Role::Out | Role::Const => return false,
            };
            buffer.shape.len() >= least && buffer.layout.is_row_major() && !called.contains(&b)
        };
        let mut users: BTreeMap<BufId, Vec<usize>> = BTreeMap::new();
        let (mut nests, mut kinds) = (BTreeMap::new(), Vec::new());
        let mut known: FastMap<Key, usize> = FastMap::default();
        for (n, nest) in program.nests.iter().enumerate() {
            let touched: Vec<BufId> = touched(nest).into_iter().filter(|&b| free(b)).collect();
            if !touched.is_empty() {
                let uses = Uses::of(&[&nest.body]);
                let mut key = uses.key(program, &[&nest.body], Detail::Schedule);
                set_apart(&mut key);
                let kind = *known.entry(key).or_insert_with(|| {
                    kinds.push((NestCost::new(program, nest, ctx), uses.clone()));
                    kinds.len() - 1
                });
                nests.insert(n, (kind, uses));
            }
            for b in touched {
                users.entry(b).or_default().push(n);
            }
        }
        let lanes = ctx.target.isa.f32_lanes();
        let (orders, costs) = (BTreeMap::new(), RefCell::default());
        Layouts { program, lanes, users, nests, kinds, costs, orders }
    }

    /// Temporaries connected by nests.
    fn components(&self) -> Vec<Vec<BufId>> {
        let mut left: BTreeSet<BufId> = self.users.keys().copied().collect();
        let mut components = Vec::new();
        while let Some(first) = left.pop_first() {
            let mut component = vec![first];
            let mut next = 0;
            while next < component.len() {
                let users: BTreeSet<usize> = self.users[&component[next]].iter().copied().collect();
                let near = |b: &BufId| self.users[b].iter().any(|n| users.contains(n));
                let found: Vec<BufId> = left.iter().copied().filter(near).collect();
                found.iter().for_each(|b| {
                    left.remove(b);
                });
                component.extend(found);
                next += 1;
            }
            component.sort_unstable();
            components.push(component);
        }
        components
    }

    /// Chooses the orders of a component.
    fn choose(&mut self, component: &[BufId]) {
        let nests: BTreeSet<usize> = component.iter().flat_map(|b| self.users[b].iter().copied()).collect();
        let mut best = self.cost(&nests) * (1.0 - LEAST_GAIN);
        let mut chosen = None;
        let ranks = component.iter().map(|&b| self.program.buf(b).shape.len()).max().unwrap_or(0);
        let (locals, temps): (Vec<BufId>, Vec<BufId>) =
            component.iter().partition(|b| self.program.buf(**b).role == Role::Local);
        for inner in 0..ranks.saturating_sub(1) {
            for &b in &temps {
                self.set(b, Some(inner));
            }
            self.settle(&locals);
            let cost = self.cost(&nests);
            if cost < best {
                (best, chosen) = (cost, Some(inner));
            }
        }
        for &b in &temps {
            self.set(b, chosen);
        }
        // Locals follow the temporaries. One that had its order first would keep others from theirs.
        for &b in &locals {
            self.set(b, None);
        }
        self.refine(&temps);
        self.settle(&locals);
        self.refine(component);
    }

    /// Gives temporaries better orders, one at a time.
    fn refine(&mut self, bufs: &[BufId]) {
        for _ in 0..ROUNDS {
            let mut changed = false;
            for &b in bufs {
                changed |= self.improve(b);
            }
            if !changed {
                break;
            }
        }
    }

    /// Gives locals their best orders, for those of the temporaries: what dimensions they have left tells nothing about
    /// those of others.
    fn settle(&mut self, locals: &[BufId]) {
        for &b in locals {
            self.set(b, None);
        }
        for &b in locals {
            self.improve(b);
        }
    }

    /// Gives one temporary its best order, the others left as they are.
    fn improve(&mut self, buf: BufId) -> bool {
        let users: BTreeSet<usize> = self.users[&buf].iter().copied().collect();
        let before: Vec<f64> = users.iter().map(|n| self.cost_of(*n)).collect();
        let all: f64 = before.iter().sum();
        let mut best = all * (1.0 - LEAST_GAIN);
        let current = self.orders.get(&buf).cloned();
        let mut better = None;
        let inner = (0..self.program.buf(buf).shape.len() - 1).map(Some).chain([None]);
        for inner in inner {
            self.set(buf, inner);
            let order = self.orders.get(&buf).cloned();
            if order == current {
                continue;
            }
            let much_less = |(n, before): (&usize, &f64)| self.cost_of(*n) < MUCH_LESS * before;
            let limit = if users.iter().zip(&before).any(much_less) { best.max(all) } else { best };
            let cost = self.cost(&users);
            if cost < limit && better.is_none() || cost < best {
                best = cost;
                better = Some(order);
            }
        }
        let order = better.clone().unwrap_or(current);
        self.orders.remove(&buf);
        if let Some(order) = order {
            self.orders.insert(buf, order);
        }
        better.is_some()
    }

    /// Puts this dimension innermost, or none; dimensions without extent are never moved.
    fn set(&mut self, buf: BufId, inner: Option<usize>) {
        let shape = &self.program.buf(buf).shape;
        self.orders.remove(&buf);
        let Some(inner) = inner.filter(|&d| d + 1 < shape.len() && shape[d] > 1) else { return };
        if shape[inner + 1..].iter().all(|&s| s == 1) {
            return;
        }
        let others = (0..shape.len()).filter(|&d| d != inner);
        self.orders.insert(buf, others.chain([inner]).collect());
    }

    fn cost(&self, nests: &BTreeSet<usize>) -> f64 {
        nests.iter().map(|n| self.cost_of(*n)).sum()
    }

    fn cost_of(&self, nest: usize) -> f64 {
        let (kind, uses) = &self.nests[&nest];
        let inner = |b: &BufId| self.orders.get(b).and_then(|o| o.last()).map_or(0, |d| *d as u16 + 1);
        let dims: InnerDims = uses.bufs().iter().map(inner).collect();
        *self.costs.borrow_mut().entry((*kind, dims)).or_insert_with(|| {
            let (cost, there) = &self.kinds[*kind];
            let pairs = there.bufs().iter().zip(uses.bufs());
            let orders = pairs.filter_map(|(t, b)| Some((*t, self.orders.get(b)?.clone()))).collect();
            cost.cost(self.program, self.lanes, &orders)
        })
    }
}

/// The buffers that a nest accesses.
fn touched(nest: &Nest) -> BTreeSet<BufId> {
    let mut bufs = BTreeSet::new();
    walk_stmts(&nest.body, &mut |s| match s {
        Stmt::Store(s) => {
            bufs.insert(s.buf);
        }
        Stmt::Reduce(r) => {
            bufs.insert(r.buf);
        }
        Stmt::For(_) | Stmt::Temp(_) | Stmt::Call(_) => {}
    });
    walk_exprs(&nest.body, &mut |e| {
        if let Expr::Load(l) = e {
            bufs.insert(l.buf);
        }
    });
    bufs
}

fn remark(program: &Program, buf: BufId, order: &[usize]) -> Remark {
    let innermost = order.last().copied().unwrap_or(0);
    Remark::buffer(buf, Reason::Layout { innermost, shape: program.buf(buf).shape.clone() })
}
