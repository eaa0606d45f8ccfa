//! Finding contractions and the roles of the loops around them.
//!
//! A *leaf* is a block that declares an accumulator and sums products into it in a loop: the loops around the
//! block index the output, the loops inside are reduced over. A square is no product of two operands: there is nothing that a
//! tile could use again. Nothing here looks at what operation a nest came from.

use std::collections::BTreeSet;

use nestjit_ir::access::carried::{Carried, carried};
use nestjit_ir::access::writes;
use nestjit_ir::visit::{Extents, walk_expr, walk_exprs};
use nestjit_ir::{BinOp, BufId, DType, Expr, For, Index, Load, Program, ReduceOp, Role, Stmt, Var};

use super::dot::Products;
use crate::lanes;
use crate::passes::cost::has_transcendental;
use crate::passes::schedule::indices::{guarded_by, index_uses, vectorizable};

/// A loop around a leaf.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct OutputLoop {
    /// The variable.
    pub var: Var,
    /// The extent.
    pub extent: usize,
    /// Whether it may be cut and moved inwards.
    pub jammable: bool,
    /// Whether it may change places with its perfectly nested neighbours.
    pub independent: bool,
    /// Whether the loop inside it is the only statement of its body.
    pub perfect: bool,
    /// Whether everything in it could be computed by vectors along it.
    pub vectorizable: bool,
}

/// A sum of products into a local.
#[derive(Clone, PartialEq, Debug)]
pub struct Contraction {
    /// The loads of both factors.
    pub loads: Vec<Load>,
    /// The loops reduced over, outermost first.
    pub reduced: Vec<(Var, usize)>,
    /// Whether these loops hold nothing else, so that they may change places.
    pub alone: bool,
    /// The type of the sum.
    pub sum: DType,
    /// Whether it adds up products of two different loads and nothing else.
    pub is_product: bool,
    /// What dot products could be made of, if it is a sum of products of such loads that are extended to its type.
    pub products: Option<Products>,
    /// The accumulator.
    pub into: BufId,
    /// The factors that are computed from integers.
    pub computed: Vec<Computed>,
}

/// A factor that is computed from integers.
#[derive(Clone, PartialEq, Debug)]
pub struct Computed {
    /// The first of its loads.
    pub load: Load,
    /// How many operations it takes.
    pub operations: f64,
    /// Whether it is some of the bits of an integer.
    pub is_part: bool,
    /// Its other loads.
    pub others: Vec<Load>,
}

impl Contraction {
    /// How often the product is computed for one output.
    pub fn steps(&self) -> usize {
        self.reduced.iter().map(|r| r.1).product()
    }
}

/// A block with contractions.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The loops around the block, outermost first.
    pub path: Vec<OutputLoop>,
    /// The contractions in it.
    pub contractions: Vec<Contraction>,
    /// What the block loads elsewhere and stores, outside its loops: the epilogue.
    pub epilogue: Vec<(BufId, Vec<Index>)>,
    /// Whether the epilogue needs many temporaries.
    pub heavy: bool,
    /// The buffers written by the statement of the nest that the block is in.
    pub written: BTreeSet<BufId>,
    /// Locals declared on the way, and how many loops of the path are around the declaration.
    locals: Vec<(BufId, usize)>,
}

impl Leaf {
    /// Multiply-adds in all.
    pub fn macs(&self) -> f64 {
        let outputs: f64 = self.path.iter().map(|l| l.extent as f64).product();
        outputs * self.contractions.iter().map(|c| c.steps() as f64).sum::<f64>()
    }

    /// Whether a load reads something else in each iteration of this loop of the path: its index depends on it,
    /// or the local that it reads is declared inside.
    pub fn varies(&self, load: &Load, var: Var) -> bool {
        let declared_inside = || {
            let depth = self.locals.iter().find(|l| l.0 == load.buf).map_or(0, |l| l.1);
            self.path.iter().take(depth).any(|l| l.var == var)
        };
        index_uses(&load.index, var) || declared_inside()
    }

    /// The bytes of the locals that are declared between this loop of the path and the block: cutting the
    /// loop and moving it inwards makes a copy of it for each iteration of a tile.
    pub fn enclosed_bytes(&self, program: &Program, var: Var) -> usize {
        let at = self.path.iter().position(|l| l.var == var);
        let enclosed = self.locals.iter().filter(|(_, depth)| at.is_some_and(|at| *depth > at));
        enclosed.map(|(buf, _)| program.buf(*buf).storage_bytes()).sum()
    }

    /// The loop of that variable.
    pub fn output_loop(&self, var: Var) -> Option<&OutputLoop> {
        self.path.iter().find(|l| l.var == var)
    }
}

/// All leaves in `body`, in program order.
pub fn leaves(program: &Program, body: &[Stmt]) -> Vec<Leaf> {
    let mut found = Vec::new();
    for stmt in body {
        if let Stmt::For(l) = stmt {
            let outer = Extents::of(body);
            let first = found.len();
            visit(program, &outer, l, &mut Way::default(), &mut found);
            let written = writes(std::slice::from_ref(stmt));
            found[first..].iter_mut().for_each(|leaf: &mut Leaf| leaf.written = written.clone());
        }
    }
    found
}

/// The loops around a block and the locals declared between them.
#[derive(Default)]
struct Way {
    path: Vec<OutputLoop>,
    locals: Vec<(BufId, usize)>,
}

fn visit(program: &Program, all: &Extents, l: &For, way: &mut Way, found: &mut Vec<Leaf>) {
    let state = carried(l, all);
    way.path.push(OutputLoop {
        var: l.var,
        extent: l.extent,
        jammable: state != Carried::Other,
        independent: state == Carried::Nothing,
        perfect: matches!(l.body.as_slice(), [Stmt::For(_)]),
        vectorizable: vectorizable(program, &l.body) && !guarded_by(program, all, &l.body, l.var),
    });
    let outer_locals = way.locals.len();
    for stmt in &l.body {
        if let Stmt::Temp(b) = stmt {
            way.locals.push((*b, way.path.len()));
        }
    }
    let mut inside = Vec::new();
    for stmt in &l.body {
        if let Stmt::For(inner) = stmt {
            visit(program, all, inner, way, &mut inside);
        }
    }
    // A block beside whose own contractions there are larger ones further in (a border, say) is not a leaf.
    let inner_macs: f64 = inside.iter().map(Leaf::macs).sum();
    match leaf(program, &l.body, way) {
        Some(leaf) if leaf.macs() >= inner_macs => found.push(leaf),
        _ => found.append(&mut inside),
    }
    way.locals.truncate(outer_locals);
    way.path.pop();
}

fn leaf(program: &Program, block: &[Stmt], way: &Way) -> Option<Leaf> {
    let locals: Vec<BufId> = block
        .iter()
        .filter_map(|s| match s {
            Stmt::Temp(b) if program.buf(*b).shape.is_empty() => Some(*b),
            _ => None,
        })
        .collect();
    let mut contractions = Vec::new();
    for stmt in block {
        if let Stmt::For(l) = stmt {
            let first = contractions.len();
            collect(program, l, &locals, &mut Vec::new(), &mut contractions);
            let alone = contractions.len() == first + 1 && alone(l);
            contractions[first..].iter_mut().for_each(|c| c.alone = alone);
        }
    }
    if contractions.is_empty() || !vectorizable(program, block) {
        return None;
    }
    let mut epilogue = Vec::new();
    let mut heavy = false;
    for stmt in block {
        let (buf, index, value) = match stmt {
            Stmt::Store(s) => (s.buf, &s.index, &s.value),
            Stmt::Reduce(r) => (r.buf, &r.index, &r.value),
            _ => continue,
        };
        epilogue.push((buf, index.clone()));
        heavy |= has_transcendental(value);
        walk_exprs(std::slice::from_ref(stmt), &mut |e| {
            let Expr::Load(l) = e else { return };
            // The same registers for all lanes, and more to find a byte in them.
            match lanes::lookup(program, l.buf, &l.index) {
                Some(_) => heavy = true,
                None => epilogue.push((l.buf, l.index.clone())),
            }
        });
    }
    epilogue.retain(|(b, _)| program.buf(*b).role != Role::Local || !program.buf(*b).shape.is_empty());
    let (path, locals) = (way.path.clone(), way.locals.clone());
    Some(Leaf { path, contractions, epilogue, heavy, written: BTreeSet::new(), locals })
}

/// Whether the loop is a perfect chain around one statement.
fn alone(l: &For) -> bool {
    match l.body.as_slice() {
        [Stmt::For(inner)] => alone(inner),
        body => body.len() == 1,
    }
}

/// Contractions into `locals` in the loop, with the loops reduced over.
fn collect(
    program: &Program,
    l: &For,
    locals: &[BufId],
    reduced: &mut Vec<(Var, usize)>,
    found: &mut Vec<Contraction>,
) {
    reduced.push((l.var, l.extent));
    for stmt in &l.body {
        match stmt {
            Stmt::For(inner) => collect(program, inner, locals, reduced, found),
            Stmt::Reduce(r)
                if r.op == ReduceOp::Add
                    && locals.contains(&r.buf)
                    && matches!(&r.value, Expr::Binary(BinOp::Mul, a, b) if a != b) =>
            {
                let mut loads = Vec::new();
                walk_exprs(std::slice::from_ref(stmt), &mut |e| {
                    if let Expr::Load(l) = e
                        && !loads.contains(l)
                    {
                        loads.push(l.clone());
                    }
                });
                // Factors that are computed for each step have nothing that a tile could use again, and what they are computed
                // from is no part of its cost.
                let scalar = |l: &Load| {
                    let buffer = program.buf(l.buf);
                    buffer.role == Role::Local && buffer.shape.is_empty()
                };
                if !loads.iter().all(scalar) {
                    let sum = program.buf(r.buf).dtype;
                    let plain =
                        |a: &Expr, b: &Expr| matches!((a, b), (Expr::Load(a), Expr::Load(b)) if a != b);
                    let is_product = matches!(&r.value, Expr::Binary(BinOp::Mul, a, b) if plain(a, b));
                    let (reduced, products) = (reduced.clone(), products(program, &r.value, sum));
                    let (alone, computed) = (false, computed(program, &r.value));
                    let into = r.buf;
                    found.push(Contraction {
                        loads,
                        reduced,
                        alone,
                        sum,
                        is_product,
                        products,
                        into,
                        computed,
                    });
                }
            }
            _ => {}
        }
    }
    reduced.pop();
}

/// The factors of a product that are computed from integers.
fn computed(program: &Program, value: &Expr) -> Vec<Computed> {
    let Expr::Binary(BinOp::Mul, a, b) = value else { return Vec::new() };
    let factor = |e: &Expr| {
        let (mut loads, mut operations, mut is_part) = (Vec::new(), 0.0, false);
        walk_expr(e, &mut |e| {
            is_part |= matches!(e, Expr::Binary(BinOp::And | BinOp::Shr, ..));
            match e {
                Expr::Load(l) => loads.push(l.clone()),
                // Narrow integers are extended to 32 bits when they are loaded.
                Expr::Cast(to, from) if to.is_int() && from.dtype(program).is_int() => {}
                Expr::Cast(..) | Expr::Binary(..) | Expr::Unary(..) | Expr::Select(..) => operations += 1.0,
                Expr::Const(_) | Expr::Index(_) | Expr::Check(_) => {}
            }
        });
        let mut loads = loads.into_iter();
        let load = loads.next().filter(|l| program.buf(l.buf).dtype.is_int() && operations > 0.0)?;
        Some(Computed { load, operations, is_part, others: loads.collect() })
    };
    [a, b].into_iter().filter_map(|e| factor(e)).collect()
}

/// What a product of two loads that are extended to the type of the sum is made of.
fn products(program: &Program, value: &Expr, sum: DType) -> Option<Products> {
    let Expr::Binary(BinOp::Mul, a, b) = value else { return None };
    let loaded = |e: &Expr| match e {
        Expr::Cast(to, inner) if *to == sum => match &**inner {
            Expr::Load(l) => Some(program.buf(l.buf).dtype),
            _ => None,
        },
        _ => None,
    };
    match (sum, loaded(a)?, loaded(b)?) {
        (DType::I32, DType::U8, DType::I8) | (DType::I32, DType::I8, DType::U8) => Some(Products::Bytes),
        (DType::F32, DType::BF16, DType::BF16) => Some(Products::Halves),
        _ => None,
    }
}

/// How many different elements of its buffer a load touches while the variables of `inner` run, at least.
pub fn footprint(load: &Load, inner: &Extents) -> f64 {
    load.index
        .iter()
        .map(|i| match i {
            Index::Affine(a) => {
                let (mut values, mut span) = (1.0, Some(0i64));
                for (extent, c) in a.terms().iter().filter_map(|&(v, c)| Some((inner.get(v)?, c))) {
                    values *= extent as f64;
                    let last = extent.checked_sub(1).and_then(|last| i64::try_from(last).ok());
                    let width = last.and_then(|last| c.checked_mul(last)?.checked_abs());
                    span = span.zip(width).and_then(|(span, width)| span.checked_add(width));
                }
                values.min(span.map_or(1.0, |span| span as f64 + 1.0))
            }
            Index::Value(_) => 1.0,
        })
        .product()
}
