//! What statements take on a machine: the one count of work that passes and predictions share.

use nestjit_ir::visit::walk_expr;
use nestjit_ir::{BinOp, Expr, Reduce, Stmt, UnOp};

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

/// Bytes that a core moves per cycle in long runs, by where they are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rates {
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
        Rates { l2: STREAMED[0] * l2, l3, crowded: CROWDED * l3, memory }
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
