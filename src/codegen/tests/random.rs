//! Random nests: loops of every kind, elements of every type, locals, reductions, padded accesses, layouts and halos.

use nestjit_ir::{
    Affine, BinOp, BufId, Buffer, DType, Expr, Index, Kind, Layout, LoopKind, NestBuilder, Program, ReduceOp,
    Role, SCALAR, Scalar, UnOp, Var,
};
use proptest::prelude::*;

use super::harness::{Choices, check, check_with, inputs, target};
use crate::machine::MachineModel;

/// How many whole numbers nests may compute indices from; more than they have rows.
const NUMBERS: usize = 5;

/// What expressions may use at some point of a nest.
#[derive(Clone)]
struct Scope {
    /// Loop variables, outermost first.
    vars: Vec<Var>,
    /// Scalars.
    scalars: Vec<BufId>,
    /// Rows that are indexed by the loop variable given.
    rows: Vec<(BufId, Var)>,
}

struct Generator {
    c: Choices,
    inputs: Vec<(BufId, Vec<usize>)>,
    /// Whole numbers, as many as there are rows at most.
    numbers: BufId,
    /// Elements of each row.
    width: usize,
}

impl Generator {
    /// An index into a row that is known at run time only.
    fn computed(&mut self, scope: &Scope) -> Index {
        let at = match self.c.below(3) {
            0 => Affine::constant(self.c.below(NUMBERS) as i64),
            _ => Affine::var(scope.vars[0]),
        };
        let number = Expr::load(self.numbers, [at]).max(Expr::i64(0));
        Index::Value(Box::new(number.min(Expr::i64(self.width as i64 - 1))))
    }

    fn load(&mut self, scope: &Scope) -> Expr {
        let at = self.c.below(self.inputs.len());
        let (buf, shape) = self.inputs[at].clone();
        let index: Vec<Affine> = shape
            .iter()
            .map(|_| {
                let mut i = Affine::constant(self.c.below(4) as i64 - 2);
                for &v in &scope.vars {
                    if self.c.chance(40) {
                        i = i + Affine::term(v, self.c.of(&[1, 1, 1, 2, -1]));
                    }
                }
                i
            })
            .collect();
        let otherwise = self.c.of(&[0.0, 0.0, 1.5]);
        Expr::load_or(buf, index, Expr::f32(otherwise))
    }

    fn condition(&mut self, scope: &Scope) -> Expr {
        let op = self.c.of(&[BinOp::Lt, BinOp::Le, BinOp::Gt, BinOp::Ge, BinOp::Eq, BinOp::Ne]);
        if let (Some(&v), true) = (scope.vars.last(), self.c.chance(50)) {
            return Expr::index(v).binary(op, Expr::i64(self.c.below(6) as i64));
        }
        self.load(scope).binary(op, Expr::f32(0.25))
    }

    fn expr(&mut self, scope: &Scope, depth: usize) -> Expr {
        if depth == 0 || self.c.chance(20) {
            return match self.c.below(6) {
                0 => Expr::f32(self.c.of(&[0.5, -1.25, 2.0])),
                1 if !scope.scalars.is_empty() => Expr::load(self.c.of(&scope.scalars), SCALAR),
                2 if !scope.rows.is_empty() => {
                    let (row, v) = self.c.of(&scope.rows);
                    if self.c.chance(30) {
                        return Expr::load(row, [self.computed(scope)]);
                    }
                    Expr::load(row, [v])
                }
                3 if !scope.vars.is_empty() => Expr::index(self.c.of(&scope.vars)).cast(DType::F32),
                _ => self.load(scope),
            };
        }
        let a = self.expr(scope, depth - 1);
        match self.c.below(13) {
            12 => {
                let dtype = self.dtype();
                bounded(self.typed(scope, dtype, 2))
            }
            0 => -a,
            1 => a.unary(UnOp::Abs),
            2 => a.unary(UnOp::Abs).sqrt(),
            3 => a.unary(UnOp::Tanh),
            4 => a.relu(),
            5 => {
                let (c, b) = (self.condition(scope), self.expr(scope, depth - 1));
                c.select(a, b)
            }
            6 => a.max(self.expr(scope, depth - 1)),
            7 => a.min(self.expr(scope, depth - 1)),
            8 => a - self.expr(scope, depth - 1),
            // Bounded factors keep sums of products comparable.
            9 | 10 => a * self.expr(scope, depth - 1).unary(UnOp::Tanh),
            _ => a + self.expr(scope, depth - 1),
        }
    }

    fn dtype(&mut self) -> DType {
        self.c.of(&DType::ALL)
    }

    /// A value of a type, computed exactly or nearly so: what is cut to integers must not depend on rounding.
    fn typed(&mut self, scope: &Scope, dtype: DType, depth: usize) -> Expr {
        if depth == 0 || self.c.chance(25) {
            let from = self.dtype();
            return match self.c.below(5) {
                0 => Expr::literal(dtype, self.c.of(&[0.0, 1.0, 3.0, 100.0])),
                1 if !scope.vars.is_empty() => Expr::index(self.c.of(&scope.vars)).cast(dtype),
                2 => self.load(scope).cast(from).cast(dtype),
                3 => self.condition(scope).cast(dtype),
                _ => self.load(scope).cast(dtype),
            };
        }
        let a = self.typed(scope, dtype, depth - 1);
        match self.c.below(7) {
            0 => {
                let (c, b) = (self.condition(scope), self.typed(scope, dtype, depth - 1));
                c.select(a, b)
            }
            1 => {
                let from = self.dtype();
                let b = self.typed(scope, from, depth - 1);
                let c = self.typed(scope, from, depth - 1);
                let compare = self.c.of(&[BinOp::Lt, BinOp::Le, BinOp::Eq, BinOp::Ne, BinOp::Gt]);
                b.binary(compare, c).select(a, Expr::literal(dtype, 1.0))
            }
            2 if dtype != DType::Bool => a.unary(self.c.of(&[UnOp::Neg, UnOp::Abs, UnOp::Sign])),
            _ => {
                let of_bools = [BinOp::And, BinOp::Or, BinOp::Xor, BinOp::Max, BinOp::Min];
                let of_floats = [BinOp::Add, BinOp::Sub, BinOp::Mul, BinOp::Max, BinOp::Min];
                let of_integers = [
                    BinOp::Add,
                    BinOp::Sub,
                    BinOp::Mul,
                    BinOp::Max,
                    BinOp::Min,
                    BinOp::And,
                    BinOp::Or,
                    BinOp::Xor,
                    BinOp::Shl,
                    BinOp::Shr,
                    BinOp::Div,
                    BinOp::Mod,
                ];
                let op = match dtype.kind() {
                    Kind::Bool => self.c.of(&of_bools),
                    Kind::Float => self.c.of(&of_floats),
                    // Division of 64 bits has no lanes.
                    _ if dtype.size() == 8 => self.c.of(&of_integers[..10]),
                    _ => self.c.of(&of_integers),
                };
                a.binary(op, self.typed(scope, dtype, depth - 1))
            }
        }
    }

    fn kind(&mut self) -> LoopKind {
        self.c.of(&[
            LoopKind::Serial,
            LoopKind::Unrolled,
            LoopKind::Vector,
            LoopKind::Vector,
            LoopKind::Vector,
        ])
    }

    /// Fills a row, reduces over it, or accumulates into it; what exists afterwards goes to the scope.
    fn statement(
        &mut self,
        b: &mut NestBuilder<'_>,
        scope: &mut Scope,
        width: usize,
        last: &mut Option<BufId>,
    ) {
        let kind = self.kind();
        match self.c.below(7) {
            5 | 6 => {
                let dtype = self.dtype();
                // Sums of halves depend on their order too much.
                let half = matches!(dtype, DType::F16 | DType::BF16);
                let ops = [ReduceOp::Max, ReduceOp::Min, ReduceOp::Add];
                let op = self.c.of(if half { &ops[..2] } else { &ops });
                let typed = b.temp("typed", dtype, &[width]);
                b.for_kind("i", width, kind, |b, i| {
                    let inner = self.row_scope(scope, *last, i);
                    let value = self.typed(&inner, dtype, 2);
                    b.store(typed, [i], value);
                });
                let (s, all) = (b.temp("s", DType::F32, &[]), b.temp("all", dtype, &[]));
                b.store(all, SCALAR, Expr::Const(op.identity(dtype)));
                b.for_kind("i", width, kind, |b, i| b.reduce(op, all, SCALAR, Expr::load(typed, [i])));
                b.store(s, SCALAR, bounded(Expr::load(all, SCALAR)));
                scope.scalars.push(s);
                let row = b.temp("row", DType::F32, &[width]);
                b.for_kind("i", width, kind, |b, i| b.store(row, [i], bounded(Expr::load(typed, [i]))));
                *last = Some(row);
            }
            4 => {
                let (Some(row), index) = (*last, self.computed(scope)) else { return };
                let value = self.expr(scope, 1);
                match self.c.chance(50) {
                    true => b.store(row, [index], value),
                    false => b.reduce(ReduceOp::Add, row, [index], value),
                }
            }
            0 => {
                let s = b.temp("s", DType::F32, &[]);
                let op = self.c.of(&[ReduceOp::Add, ReduceOp::Max, ReduceOp::Min]);
                b.store(
                    s,
                    SCALAR,
                    Expr::Const(if op == ReduceOp::Add { Scalar::F32(0.5) } else { op.identity(DType::F32) }),
                );
                b.for_kind("i", width, kind, |b, i| {
                    let inner = self.row_scope(scope, *last, i);
                    let value = self.expr(&inner, 2);
                    b.reduce(op, s, SCALAR, value);
                });
                scope.scalars.push(s);
            }
            1 => {
                let s = b.temp("s", DType::F32, &[]);
                let value = self.expr(scope, 2);
                b.store(s, SCALAR, value);
                scope.scalars.push(s);
            }
            2 => {
                let row = b.temp("row", DType::F32, &[width]);
                b.for_kind("i", width, kind, |b, i| {
                    let inner = self.row_scope(scope, *last, i);
                    let value = self.expr(&inner, 3);
                    b.store(row, [i], value);
                });
                *last = Some(row);
            }
            _ => {
                let row = b.temp("acc", DType::F32, &[width]);
                b.for_kind("i", width, kind, |b, i| b.store(row, [i], Expr::f32(0.0)));
                let (extent, outside) = (self.c.below(4), self.c.chance(70));
                let body = |g: &mut Generator, b: &mut NestBuilder<'_>, k: Var, i: Var| {
                    let mut inner = g.row_scope(scope, *last, i);
                    inner.vars.insert(1, k);
                    let value = g.expr(&inner, 1).unary(UnOp::Tanh) * g.load(&inner);
                    b.reduce(ReduceOp::Add, row, [i], value);
                };
                if outside {
                    b.for_("k", extent, |b, k| b.for_kind("i", width, kind, |b, i| body(self, b, k, i)));
                } else {
                    b.for_kind("i", width, kind, |b, i| b.for_("k", extent, |b, k| body(self, b, k, i)));
                }
                *last = Some(row);
            }
        }
    }

    fn row_scope(&self, scope: &Scope, last: Option<BufId>, i: Var) -> Scope {
        let mut inner = scope.clone();
        inner.vars.push(i);
        inner.rows.extend(last.map(|row| (row, i)));
        inner
    }
}

/// A value of any type as a small `f32`.
fn bounded(e: Expr) -> Expr {
    let value = e.cast(DType::F32);
    let small = value.clone().unary(UnOp::Abs).lt(Expr::f32(1000.0));
    small.select(value * Expr::f32(0.01), Expr::f32(0.25))
}

fn layout(c: &mut Choices, rank: usize) -> Layout {
    let mut layout = Layout::row_major(rank);
    if c.chance(30) {
        layout.order.reverse();
    }
    if c.chance(20) {
        layout.panel = Some((c.below(rank), 1 + c.below(5)));
    }
    let free = (0..rank).find(|&d| layout.panel.is_none_or(|p| p.0 != d));
    layout.interleave = free.filter(|_| c.chance(15)).map(|d| (d, 1 + c.below(5)));
    layout
}

fn random_program(seed: u64) -> Program {
    let mut p = Program::default();
    let numbers = p.add_buffer(Buffer::new("numbers", DType::I64, &[NUMBERS], Role::In));
    let mut g = Generator { c: Choices(seed | 1), inputs: Vec::new(), numbers, width: 0 };
    for i in 0..2 {
        let shape = [1 + g.c.below(5), 1 + g.c.below(9)];
        let x = p.add_buffer(Buffer::new(format!("x{i}"), DType::F32, &shape, Role::In));
        p.buf_mut(x).layout = layout(&mut g.c, 2);
        if g.c.chance(40) {
            p.buf_mut(x).halo = vec![(g.c.below(3), g.c.below(3)), (g.c.below(4), g.c.below(4))];
        }
        g.inputs.push((x, shape.to_vec()));
    }
    let (rows, width) = (g.c.below(NUMBERS), 1 + g.c.below(40));
    g.width = width;
    let y = p.add_buffer(Buffer::new("y", DType::F32, &[rows, width], Role::Out));
    p.buf_mut(y).layout = layout(&mut g.c, 2);
    let outer = g.c.of(&[LoopKind::Serial, LoopKind::Parallel(None), LoopKind::Unrolled]);
    let mut b = NestBuilder::new(&mut p, "random");
    b.for_kind("n", rows, outer, |b, n| {
        let mut scope = Scope { vars: vec![n], scalars: Vec::new(), rows: Vec::new() };
        let mut last = None;
        for _ in 0..g.c.below(4) {
            g.statement(b, &mut scope, width, &mut last);
        }
        let kind = g.kind();
        b.for_kind("i", width, kind, |b, i| {
            let inner = g.row_scope(&scope, last, i);
            let value = g.expr(&inner, 3);
            b.store(y, [n, i], value);
        });
    });
    b.finish();
    p
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_nests_compute_what_the_interpreter_computes(seed in any::<u64>(), fma in any::<bool>()) {
        let p = random_program(seed);
        if fma {
            check(&p, 1e-4);
        } else {
            let plain = MachineModel { fma: false, ..target() };
            check_with(&p, &plain, &inputs(&p), 1e-4);
        }
    }
}

#[test]
fn most_random_nests_contain_kernels_and_some_compute_indices() {
    let (mut kernels, mut computed) = (0, 0);
    for seed in 1..=60u64 {
        let p = random_program(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let code = check_with(&p, &target(), &inputs(&p), 1e-4);
        kernels += usize::from(code.disassembly(0).contains("kernel x4"));
        computed += usize::from(p.to_string().contains("min(max(%numbers["));
    }
    assert!(kernels > 30 && computed > 4, "{kernels} with kernels, {computed} with computed indices");
}
