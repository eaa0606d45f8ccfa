//! Random programs from a stream of choices, so that proptest can shrink them.

use nestjit_ir::*;

/// A source of choices; when it runs dry, every choice is the first.
pub struct Choices<'a>(std::slice::Iter<'a, u8>);

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices(bytes.iter())
    }

    pub fn below(&mut self, n: usize) -> usize {
        usize::from(*self.0.next().unwrap_or(&0)) % n
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// What may be used at a point of a program.
struct Scope {
    vars: Vec<(Var, usize)>,
    readable: Vec<BufId>,
    writable: Vec<BufId>,
}

const NAMES: [&str; 8] = ["x", "x", "t.0", "/conv/Out_0", "a b\"\\", "12", "é\n\u{7f}", ""];

/// A buffer of any type, shape and layout, with any halo if it is given.
pub fn buffer(c: &mut Choices<'_>, p: &mut Program, role: Role) -> BufId {
    let dtype = c.pick(&[
        DType::F32,
        DType::F32,
        DType::I64,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::I32,
        DType::I8,
        DType::U8,
        DType::I16,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::Bool,
    ]);
    let shape: Vec<usize> = (0..c.below(4)).map(|_| c.pick(&[3, 1, 4, 2, 5])).collect();
    let name = p.unique_buffer_name(NAMES[c.below(NAMES.len())]);
    let mut b = Buffer::new(name, dtype, &shape, role);
    if c.one_in(3) {
        b.layout.order.reverse();
        if !shape.is_empty() {
            b.layout.panel = c.one_in(2).then_some((c.below(shape.len()), 1 + c.below(4)));
            let (dim, group) = (c.below(shape.len()), 1 + c.below(4));
            let free = b.layout.panel.is_none_or(|p| p.0 != dim);
            b.layout.interleave = (free && c.one_in(2)).then_some((dim, group));
            let given = matches!(role, Role::In | Role::Const);
            b.halo = if given && c.one_in(2) {
                shape.iter().map(|_| (c.below(3), c.below(3))).collect()
            } else {
                vec![]
            };
            b.halo_fill = if b.halo.is_empty() { b.halo_fill } else { scalar(c, dtype) };
        }
    }
    p.add_buffer(b)
}

fn scalar(c: &mut Choices<'_>, dtype: DType) -> Scalar {
    let bits = (0..4).fold(0u64, |b, _| b << 16 ^ (c.below(256) * 257) as u64);
    let numbers = [0.0, 1.0, -0.0, 0.1, -3.0, 1e-9, 12345.678, f64::INFINITY];
    let some = |c: &mut Choices<'_>| Scalar::from_f64(dtype, c.pick(&numbers));
    match dtype {
        DType::F32 if c.one_in(2) => Scalar::F32(f32::from_bits(bits as u32)),
        DType::F64 if c.one_in(2) => Scalar::F64(f64::from_bits(bits)),
        DType::F16 if c.one_in(2) => Scalar::F16(f16::from_bits(bits as u16)),
        DType::BF16 if c.one_in(2) => Scalar::BF16(bf16::from_bits(bits as u16)),
        DType::I64 => Scalar::I64(bits as i64),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::I32 | DType::I16 | DType::I8 => some(c),
        DType::U64 | DType::U32 | DType::U16 | DType::U8 | DType::Bool => some(c),
    }
}

/// An index that stays in `0..extent`, of which there is always one.
fn inside(c: &mut Choices<'_>, p: &Program, s: &Scope, extent: usize, depth: usize) -> Index {
    if depth > 0 && c.one_in(6) {
        let e = expr(c, p, s, DType::I64, depth - 1);
        return Index::Value(Box::new(e.binary(BinOp::Mod, Expr::i64(extent as i64))));
    }
    affine_inside(c, &s.vars, extent).into()
}

/// An affine index that stays in `0..extent`.
pub fn affine_inside(c: &mut Choices<'_>, vars: &[(Var, usize)], extent: usize) -> Affine {
    let mut sum = Affine::constant(0);
    let mut room = extent - 1;
    for _ in 0..c.below(3) {
        if vars.is_empty() {
            break;
        }
        let (v, n) = c.pick(vars);
        let factor = 1 + c.below(2);
        let span = factor * n.saturating_sub(1);
        if span <= room && !sum.uses(v) {
            room -= span;
            sum = if c.one_in(3) { sum - v * factor as i64 + span as i64 } else { sum + v * factor as i64 };
        }
    }
    sum + c.below(room + 1) as i64
}

fn load(c: &mut Choices<'_>, p: &Program, s: &Scope, b: BufId, depth: usize) -> Expr {
    let buffer = p.buf(b);
    if c.one_in(3) {
        let index: Vec<Affine> = buffer.shape.iter().map(|_| anywhere(c, s)).collect();
        return Expr::load_or(b, index, expr(c, p, s, buffer.dtype, depth.saturating_sub(1)));
    }
    let index: Vec<Index> = buffer.shape.iter().map(|&n| inside(c, p, s, n, depth)).collect();
    Expr::load(b, index)
}

fn anywhere(c: &mut Choices<'_>, s: &Scope) -> Affine {
    let mut sum = Affine::from(c.below(9) as i64 - 3);
    for &(v, _) in &s.vars {
        sum = sum + v * (c.below(5) as i64 - 2);
    }
    sum
}

fn expr(c: &mut Choices<'_>, p: &Program, s: &Scope, dtype: DType, depth: usize) -> Expr {
    let choice = if depth == 0 { c.below(3) } else { c.below(9) };
    match choice {
        0 => match s.readable.iter().copied().filter(|&b| p.buf(b).dtype == dtype).collect::<Vec<_>>() {
            of if of.is_empty() => scalar(c, dtype).into(),
            of => {
                let b = c.pick(&of);
                load(c, p, s, b, depth)
            }
        },
        1 => scalar(c, dtype).into(),
        2 if dtype == DType::I64 => Expr::Index(anywhere(c, s)),
        2 => scalar(c, dtype).into(),
        3 => {
            let op = c.pick(&UnOp::ALL);
            match DType::ALL.into_iter().find(|&d| interp::unary_defined(op, d) && op.result(d) == dtype) {
                _ if interp::unary_defined(op, dtype) && op.result(dtype) == dtype => {
                    expr(c, p, s, dtype, depth - 1).unary(op)
                }
                Some(d) => expr(c, p, s, d, depth - 1).unary(op),
                None => scalar(c, dtype).into(),
            }
        }
        4 => expr(c, p, s, DType::Bool, depth - 1)
            .select(expr(c, p, s, dtype, depth - 1), expr(c, p, s, dtype, depth - 1)),
        5 => {
            let from = c.pick(&DType::ALL);
            expr(c, p, s, from, depth - 1).cast(dtype)
        }
        _ => {
            let op = c.pick(&BinOp::ALL);
            let of = if op.is_comparison() { c.pick(&DType::ALL) } else { dtype };
            let (a, b) = (expr(c, p, s, of, depth - 1), expr(c, p, s, of, depth - 1));
            if interp::binary_defined(op, of) && op.result(of) == dtype {
                a.binary(op, b)
            } else {
                scalar(c, dtype).into()
            }
        }
    }
}

fn block(c: &mut Choices<'_>, b: &mut NestBuilder<'_>, s: &mut Scope, depth: usize) {
    let (readable, writable) = (s.readable.len(), s.writable.len());
    for _ in 0..1 + c.below(3) {
        match c.below(4) {
            0 if depth > 0 => {
                let kind = c.pick(&[LoopKind::Serial, LoopKind::Serial, LoopKind::Unrolled]);
                let extent = c.pick(&[3, 2, 4, 1, 5, 0]);
                b.for_kind(c.pick(&["i", "j", "i", "", "9 k"]), extent, kind, |b, v| {
                    s.vars.push((v, extent));
                    block(c, b, s, depth - 1);
                    s.vars.pop();
                });
            }
            1 if depth > 0 => {
                let t = buffer(c, b.program(), Role::Local);
                b.push(Stmt::Temp(t));
                let (shape, fill) = (b.program().buf(t).shape.clone(), scalar(c, b.program().buf(t).dtype));
                b.for_each("d", &shape, |b, v| b.store(t, v, fill.into()));
                s.readable.push(t);
                s.writable.push(t);
            }
            choice => {
                let target = c.pick(&s.writable);
                let buf = b.program().buf(target).clone();
                let p = b.program();
                let value = expr(c, p, s, buf.dtype, 3);
                let index: Vec<Index> = buf.shape.iter().map(|&n| inside(c, p, s, n, 1)).collect();
                if choice == 2 {
                    let op = c.pick(&[ReduceOp::Add, ReduceOp::Mul, ReduceOp::Max, ReduceOp::Min]);
                    b.reduce(op, target, index, value);
                } else {
                    b.store(target, index, value);
                }
            }
        }
    }
    s.readable.truncate(readable);
    s.writable.truncate(writable);
}

/// A program that the verifier accepts: a few inputs, and nests that fill temps and outputs one by one and
/// then do anything.
pub fn program(c: &mut Choices<'_>) -> Program {
    let mut p = Program::default();
    let mut known: Vec<BufId> = (0..c.below(4))
        .map(|_| {
            let role = c.pick(&[Role::In, Role::Const]);
            buffer(c, &mut p, role)
        })
        .collect();
    for _ in 0..1 + c.below(3) {
        let role = c.pick(&[Role::Out, Role::Temp]);
        let target = buffer(c, &mut p, role);
        let shape = p.buf(target).shape.clone();
        let mut scope = Scope { vars: Vec::new(), readable: known.clone(), writable: vec![target] };
        let mut b = NestBuilder::new(&mut p, NAMES[c.below(NAMES.len())]);
        for _ in 0..c.below(3) {
            b.op(NAMES[c.below(NAMES.len())]);
        }
        if c.one_in(8) {
            b.call(NAMES[c.below(NAMES.len())], &known, &[target], &[c.below(9) as i64 - 4]);
        } else {
            b.for_each("d", &shape, |b, v| {
                scope.vars.extend(v.iter().copied().zip(shape.iter().copied()));
                let dtype = b.program().buf(target).dtype;
                let value = expr(c, b.program(), &scope, dtype, 3);
                b.store(target, v, value);
            });
            scope.vars.clear();
            scope.readable.push(target);
            block(c, &mut b, &mut scope, 3);
        }
        b.finish();
        known.push(target);
    }
    p
}

/// Two loops of the same extent inside a loop of extent 2, working on a few small `i32` buffers: what
/// fusion is about. The first nest fills the buffers.
pub fn siblings(c: &mut Choices<'_>) -> Program {
    let mut p = Program::default();
    let bufs: Vec<BufId> = [&[12][..], &[6, 8], &[]]
        .iter()
        .map(|shape| {
            let name = p.unique_buffer_name("a");
            p.add_buffer(Buffer::new(name, DType::I32, shape, Role::Temp))
        })
        .collect();
    let mut b = NestBuilder::new(&mut p, "fill");
    for &buf in &bufs {
        let shape = b.program().buf(buf).shape.clone();
        b.for_each("d", &shape, |b, v| {
            let at = v.iter().enumerate().fold(Affine::constant(3), |a, (d, &v)| a + v * [7, 13][d]);
            b.store(buf, v, Expr::Index(at).cast(DType::I32));
        });
    }
    b.finish();
    let extent = 1 + c.below(5);
    let mut b = NestBuilder::new(&mut p, "pair");
    b.for_("o", 2, |b, o| {
        for name in ["i", "j"] {
            b.for_(name, extent, |b, v| {
                let mut vars = vec![(o, 2), (v, extent)];
                for _ in 0..1 + c.below(2) {
                    sibling_stmt(c, b, &bufs, &mut vars);
                }
            });
        }
    });
    b.finish();
    p
}

fn sibling_stmt(c: &mut Choices<'_>, b: &mut NestBuilder<'_>, bufs: &[BufId], vars: &mut Vec<(Var, usize)>) {
    if vars.len() < 4 && c.one_in(3) {
        let extent = 1 + c.below(3);
        return b.for_("k", extent, |b, k| {
            vars.push((k, extent));
            sibling_stmt(c, b, bufs, vars);
            vars.pop();
        });
    }
    let mut access = |b: &mut NestBuilder<'_>, load: bool| {
        let buf = c.pick(&[bufs[0], bufs[1], bufs[0], bufs[1], bufs[2]]);
        let shape = b.program().buf(buf).shape.clone();
        // Mostly the variables of the loops that are to be fused, so that legal cases are frequent.
        let scope = Scope { vars: vars.clone(), readable: vec![], writable: vec![] };
        let index: Vec<Index> = shape.iter().map(|&n| near(c, b.program(), &scope, n)).collect();
        let value = load.then(|| Expr::load_or(buf, &index, Expr::Const(Scalar::I32(5))));
        (buf, index, value)
    };
    let (buf, index, _) = access(b, false);
    let (_, _, first) = access(b, true);
    let (_, _, second) = access(b, true);
    let (Some(first), Some(second)) = (first, second) else { return };
    let value = first + second * Expr::Const(Scalar::I32(3)) + Expr::Const(Scalar::I32(1));
    match c.below(5) {
        0 => b.reduce(ReduceOp::Add, buf, index, value),
        1 => b.reduce(ReduceOp::Max, buf, index, value),
        _ => b.store(buf, index, value),
    }
}

fn near(c: &mut Choices<'_>, p: &Program, s: &Scope, extent: usize) -> Index {
    let (v, n) = s.vars[1];
    let room = extent.saturating_sub(n);
    if c.below(3) > 0 && n <= extent {
        let tail = s.vars.get(2).filter(|&&(_, m)| m <= room && c.one_in(2));
        return match tail {
            Some(&(k, m)) => (v + k + c.below((room + 2 - m).min(2)) as i64).into(),
            None => (v + c.below((room + 1).min(3)) as i64).into(),
        };
    }
    inside(c, p, s, extent, 0)
}
