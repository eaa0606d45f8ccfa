//! What statements take on a machine: the one count of work that passes and predictions share.

use nestjit_ir::visit::walk_expr;
use nestjit_ir::{BinOp, Expr, Load, Reduce, Stmt, UnOp};

use crate::machine::MachineModel;

/// The share of the peak that operations are taken to reach: with less than all loads from the first-level cache, and
/// remainders.
pub const SHARE: f64 = 0.5;

/// Cycles to store an element: what is stored comes from memory, or goes there.
const STORE_CYCLES: f64 = 0.2;

/// Nanoseconds of a function of the runtime.
const CALL: f64 = 1000.0;

/// What statements take on one core, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Work {
    /// Sums of products.
    pub products: f64,
    /// All else.
    pub other: f64,
}

impl Work {
    /// All of it.
    pub fn nanoseconds(&self) -> f64 {
        self.products + self.other
    }
}

/// What one execution of statements takes on one core, in vector code.
pub fn work(body: &[Stmt], machine: &MachineModel) -> Work {
    let vectors = SHARE * machine.vector_ops * machine.ghz;
    let operation = 1.0 / (vectors * machine.isa.f32_lanes() as f64);
    block(body, operation, STORE_CYCLES / machine.ghz)
}

fn block(body: &[Stmt], operation: f64, store: f64) -> Work {
    let mut sum = Work::default();
    for stmt in body {
        match stmt {
            Stmt::For(l) => {
                let inner = block(&l.body, operation, store);
                sum.products += l.extent as f64 * inner.products;
                sum.other += l.extent as f64 * inner.other;
            }
            Stmt::Store(s) => sum.other += store + operation * expr_work(&s.value),
            Stmt::Reduce(Reduce { value: Expr::Binary(BinOp::Mul, ..), .. }) => sum.products += operation,
            Stmt::Reduce(r) => sum.other += 2.0 * operation * expr_work(&r.value),
            Stmt::Temp(_) => {}
            Stmt::Call(_) => sum.other += CALL,
        }
    }
    sum
}

/// How much work an expression is, in units of a simple arithmetic operation.
pub fn expr_work(expr: &Expr) -> f64 {
    let mut work = 0.0;
    walk_expr(expr, &mut |e| {
        work += match e {
            Expr::Const(_) | Expr::Index(_) => 0.0,
            Expr::Load(_) | Expr::Select(..) | Expr::Cast(..) | Expr::Check(_) => 1.0,
            Expr::Unary(op, _) => unary_work(*op),
            Expr::Binary(BinOp::Div, ..) => 4.0,
            Expr::Binary(BinOp::Pow, ..) => 40.0,
            Expr::Binary(..) => 1.0,
        };
    });
    work
}

fn unary_work(op: UnOp) -> f64 {
    match op {
        UnOp::Neg | UnOp::Abs | UnOp::Not | UnOp::BitNot | UnOp::IsNan | UnOp::IsInf | UnOp::Sign => 1.0,
        UnOp::Floor | UnOp::Ceil | UnOp::Round | UnOp::Trunc => 1.0,
        UnOp::Sqrt => 6.0,
        _ => 20.0,
    }
}

/// Whether an expression has an operation that takes many instructions and temporaries.
pub fn has_transcendental(expr: &Expr) -> bool {
    let mut found = false;
    walk_expr(expr, &mut |e| {
        found |= match e {
            Expr::Unary(op, _) => unary_work(*op) > 10.0,
            Expr::Binary(BinOp::Pow, ..) => true,
            _ => false,
        };
    });
    found
}

/// An access of one lane of a vector whose elements lie apart, in vector operations.
pub const LANE: f64 = 1.25;

/// How many times as long a guarded access takes.
pub const GUARD: f64 = 2.0;

/// Vector operations for each of `extent` iterations that are lanes: ragged ends waste some.
pub fn lane_share(extent: usize, lanes: usize) -> f64 {
    (extent as f64 / lanes as f64).ceil() / extent as f64
}

/// Vector operations to access a vector of a block that is transposed in registers: half a shuffle per row and step beside
/// the access itself.
pub fn transposed_access(lanes: usize) -> f64 {
    1.0 + 0.5 * f64::from(lanes.ilog2())
}

/// What an expression takes: every load what `load` says, all else `operation` for a simple operation.
pub fn value(expr: &Expr, operation: f64, load: impl Fn(&Load) -> f64) -> f64 {
    let (mut loads, mut count) = (0.0, 0.0);
    walk_expr(expr, &mut |e| {
        if let Expr::Load(l) = e {
            count += 1.0;
            loads += load(l);
        }
    });
    loads + (expr_work(expr) - count) * operation
}

/// The simple operations of one execution of statements, each store being one.
pub fn operations(body: &[Stmt]) -> f64 {
    let of = |s: &Stmt| match s {
        Stmt::For(l) => l.extent as f64 * operations(&l.body),
        Stmt::Store(s) => 1.0 + expr_work(&s.value),
        Stmt::Reduce(r) => 1.0 + expr_work(&r.value),
        Stmt::Temp(_) | Stmt::Call(_) => 0.0,
    };
    body.iter().map(of).sum()
}

/// The shares of the rates of long reads that nests reach which read and write several streams, from the second and the
/// last level of caches and from memory.
const STREAMED: [f64; 3] = [0.8, 0.82, 0.85];

/// That of the last-level cache if more than a small part of it is used, which others want, too.
const CROWDED: f64 = 2.0 / 3.0;

/// The shares that operands of tiles reach, which are read in short runs and waited for: from the second level of caches
/// and from the last.
const SHORT_RUNS: [f64; 2] = [8.0 / 15.0, 4.0 / 11.0];

/// That of the columns of a panel, which are read line by line from the second level.
const PANELS: f64 = 0.5614;

/// The share of the second-level cache that what is used again may fill.
pub const L2_ROOM: f64 = 0.75;

/// That which what is read once may fill, so that it is still in the last level when it is read again in the next run.
const L2_ONCE: f64 = 0.5;

/// The share of the last-level cache that is a small part of it, and that which may be used at all.
const L3_SMALL: f64 = 0.125;
const L3_ROOM: f64 = 0.5;

/// Bytes that a core moves per cycle in long runs, by where they are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rates {
    /// Bytes of the second and the last level of caches.
    caches: [f64; 2],
    /// In the second-level cache.
    pub l2: f64,
    /// In a small part of the last-level cache.
    pub l3: f64,
    /// In more of it.
    pub crowded: f64,
    /// In memory.
    pub memory: f64,
}

impl Rates {
    /// Those of a machine.
    pub fn of(machine: &MachineModel) -> Rates {
        let [_, l2, l3] = machine.caches.map(|cache| cache.rate);
        let l3 = STREAMED[1] * l3;
        let memory = STREAMED[2] * machine.memory.core_gbytes / machine.ghz;
        let caches = [machine.l2_bytes() as f64, machine.l3_bytes() as f64];
        Rates { caches, l2: STREAMED[0] * l2, l3, crowded: CROWDED * l3, memory }
    }

    /// Whether what is used again and again stays in the second-level cache.
    pub fn stays(&self, bytes: f64) -> bool {
        bytes <= L2_ROOM * self.caches[0]
    }

    /// The rate for what passes between parts of a nest again and again, and shares the caches with all else.
    pub fn again(&self, bytes: f64) -> f64 {
        if !self.stays(bytes) && bytes > L3_SMALL * self.caches[1] && bytes <= L3_ROOM * self.caches[1] {
            self.crowded
        } else {
            self.alone(bytes)
        }
    }

    /// The rate for what has the caches for itself.
    pub fn alone(&self, bytes: f64) -> f64 {
        if self.stays(bytes) { self.l2 } else { self.beyond(bytes) }
    }

    /// The rate for what does not stay in the second-level cache.
    pub fn beyond(&self, bytes: f64) -> f64 {
        if bytes <= L3_ROOM * self.caches[1] { self.l3 } else { self.memory }
    }

    /// The rate for what is read for the first time in a run: what is large has left the caches since the last one.
    pub fn first(&self, bytes: f64) -> f64 {
        if bytes <= L2_ONCE * self.caches[0] { self.l3 } else { self.memory }
    }
}

/// Cycles to bring a byte of a panel into the first level of caches.
pub fn panel_byte_cycles(machine: &MachineModel) -> f64 {
    1.0 / (PANELS * machine.caches[1].rate)
}

/// Cycles to bring a byte of an operand of a tile into the first and into the second level of caches.
pub fn byte_cycles(machine: &MachineModel) -> [f64; 2] {
    [1, 2].map(|level| 1.0 / (SHORT_RUNS[level - 1] * machine.caches[level].rate))
}
