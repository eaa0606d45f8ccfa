//! Finding convolutions with a 3x3 window and stride 1 by the roles of their loops.
//!
//! Whether rewriting one pays is decided in `cost`.

use nestjit_ir::access::carried::{all_independent, overwrites};
use nestjit_ir::visit::{Extents, walk_exprs, walk_loops, walk_stmts};
use nestjit_ir::{
    Affine, BinOp, BufId, Expr, For, Index, Load, LoopKind, Program, ReduceOp, Role, Stmt, Var,
};

use super::algorithm::Filtering;
use crate::passes::schedule::chain::{extents_of, unchain};
use crate::passes::schedule::indices::{only_f32, stride};
use crate::passes::schedule::pad;
use crate::remark::NotFiltered;

/// A loop by its variable and extent.
pub type Loop = (Var, usize);

/// A convolution in a perfect chain of loops.
#[derive(Clone, PartialEq, Debug)]
pub struct Convolution {
    /// Loops around everything else: batches.
    pub batch: Vec<For>,
    /// The output's rows and columns, and its channels.
    pub rows: Loop,
    pub columns: Loop,
    pub filters: Loop,
    /// The input channels.
    pub channels: Loop,
    /// The reads of the input, with the variables of its window, and of the filters.
    pub input: Load,
    pub window: [Var; 2],
    pub weights: Load,
    /// The sum.
    pub accumulator: BufId,
    /// Other sums of products that the innermost loop makes, such as a projection that is added: their
    /// accumulators and statements.
    pub aside: Vec<(BufId, Vec<Stmt>)>,
    /// What happens with the sums: the other statements of the innermost loop.
    pub epilogue: Vec<Stmt>,
    /// Whether the input's rows are exchanged, since its channels lie apart.
    pub gathered: bool,
    /// Whether those of the results are, since something that the epilogue accesses does.
    pub scattered: bool,
}

/// The convolution that a loop nest is; `None` if it is none with a 3x3 window and stride 1.
pub fn find(program: &Program, l: &For) -> Option<Result<Convolution, NotFiltered>> {
    let (mut conv, obstacle) = candidate(program, l)?;
    if let Some(obstacle) = obstacle {
        return Some(Err(obstacle));
    }
    let way = |o: ChannelOperand| o.way(|buf, index, var| stride(program, buf, index, var));
    let [Some(input), Some(epilogue)] = operands(&conv).map(way) else {
        return Some(Err(NotFiltered::Layout));
    };
    conv.gathered = input == ChannelWay::Exchange;
    // Rows that are exchanged come as they lie in the buffer.
    let largest = conv.extents(Filtering::F4.outputs());
    if conv.gathered && pad::reads_beside(program, &conv.extents(1), &largest, &conv.input) {
        return Some(Err(NotFiltered::Layout));
    }
    conv.scattered = epilogue == ChannelWay::Exchange;
    Some(Ok(conv))
}

/// The convolution that a loop nest is, and why it cannot be rewritten wherever its operands lie.
pub fn candidate(program: &Program, l: &For) -> Option<(Convolution, Option<NotFiltered>)> {
    // Most nests have no window, and need not be copied.
    let mut threes = 0;
    walk_loops(&l.body, &mut |l| threes += usize::from(l.extent == 3));
    if threes < 2 {
        return None;
    }
    let (chain, body) = unchain(l.clone());
    if chain.iter().any(|l| l.kind != LoopKind::Serial) || !only_f32(program, &body) {
        return None;
    }
    let extents = extents_of(&chain).with(&Extents::of(&body));
    let (sums, epilogue) = sums(program, &extents, &body)?;
    let conv = (0..sums.len()).find_map(|at| convolution(&chain, &sums, at, &epilogue))?;
    let obstacle = obstacle(program, &extents, (&chain, &body), &conv);
    Some((conv, obstacle))
}

/// The convolution whose sum is the one at `at`.
fn convolution(chain: &[For], sums: &[Sum], at: usize, epilogue: &[Stmt]) -> Option<Convolution> {
    let Sum { accumulator, reduced, factors: [a, b], .. } = &sums[at];
    let around = |v: Var| chain.iter().find(|l| l.var == v).map(|l| (v, l.extent));
    let uses = |load: &Load, v: Var| load.index.iter().any(|i| i.as_affine().is_none_or(|a| a.uses(v)));
    let spatial = |load: &Load| {
        reduced.iter().filter(|k| k.1 == 3).any(|k| {
            load.index
                .iter()
                .filter_map(Index::as_affine)
                .any(|a| a.uses(k.0) && a.vars().any(|v| around(v).is_some()))
        })
    };
    let (input, weights) = if spatial(a) { (a, b) } else { (b, a) };

    // The window's loops move one dimension of the input together with a loop around.
    let mut window = Vec::new();
    for index in &input.index {
        let a = index.as_affine()?;
        let Some(k) = reduced.iter().find(|k| k.1 == 3 && a.uses(k.0) && a.terms().len() == 2) else {
            continue;
        };
        let o = a.vars().find(|v| *v != k.0).and_then(around)?;
        if a.coeff(k.0) != 1 || a.coeff(o.0) != 1 || uses(weights, o.0) {
            return None;
        }
        window.push((*k, o));
    }
    let &[(kh, rows), (kw, columns)] = window.as_slice() else { return None };
    let mut others = reduced.iter().filter(|r| **r != kh && **r != kw);
    let channels = *others.next()?;
    if kh == kw || rows == columns || others.next().is_some() {
        return None;
    }
    // Every other dimension of the input is a channel, or fixed by the loops around.
    let plain = |index: &Index| index.as_affine().and_then(Affine::as_var);
    let touching = |v: Var| input.index.iter().filter(|i| i.as_affine().is_some_and(|a| a.uses(v))).count();
    // A part of the channels may be read.
    let is_channel = |i: &Index| i.as_affine().is_some_and(|a| a.terms() == [(channels.0, 1)]);
    if input.index.iter().filter(|i| is_channel(i)).count() != 1
        || [kh.0, kw.0, rows.0, columns.0, channels.0].iter().any(|v| touching(*v) != 1)
        || !matches!(input.otherwise.as_deref(), None | Some(Expr::Const(_)))
    {
        return None;
    }
    // The filters are indexed by the window, the channels and one loop around, each in a dimension of its own.
    let vars: Vec<Var> = weights.index.iter().map(plain).collect::<Option<_>>()?;
    let mut filters = vars.iter().filter(|v| ![kh.0, kw.0, channels.0].contains(v));
    let filters = filters.next().filter(|_| vars.len() == 4).and_then(|v| around(*v))?;
    if ![kh.0, kw.0, channels.0, filters.0].iter().all(|v| vars.contains(v)) || uses(input, filters.0) {
        return None;
    }

    let inner = [rows.0, columns.0, filters.0];
    let others = sums.iter().enumerate().filter(|s| s.0 != at);
    Some(Convolution {
        batch: chain.iter().filter(|l| !inner.contains(&l.var)).cloned().collect(),
        rows,
        columns,
        filters,
        channels,
        input: input.clone(),
        window: [kh.0, kw.0],
        weights: weights.clone(),
        accumulator: *accumulator,
        aside: others.map(|(_, s)| (s.accumulator, s.stmts.clone())).collect(),
        epilogue: epilogue.to_vec(),
        gathered: false,
        scattered: false,
    })
}

impl Convolution {
    /// The extents of all loops, of rows and columns as tiles of so many results fill them.
    pub fn extents(&self, tile: usize) -> Extents {
        let mut extents = extents_of(&self.batch);
        extents.set(self.channels.0, self.channels.1);
        self.window.iter().for_each(|k| extents.set(*k, 3));
        for (var, extent) in [self.rows, self.columns] {
            extents.set(var, extent.next_multiple_of(tile));
        }
        extents
    }
}

/// A buffer and where it is accessed.
pub type Access = (BufId, Vec<Index>);

/// Accesses whose elements must be adjacent, or the same, for neighbouring values of a variable, or else of another
/// one: then rows are exchanged, each element once.
#[derive(Clone, PartialEq, Debug)]
pub struct ChannelOperand {
    pub accesses: Vec<Access>,
    pub along: Var,
    pub or_else: Var,
}

/// How an operand comes to vectors along the channels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChannelWay {
    /// As it lies.
    Direct,
    /// Rows are exchanged first, or last.
    Exchange,
}

impl ChannelOperand {
    /// The way, where elements lie as far apart as `stride` says; `None` if there is none.
    pub fn way(&self, stride: impl Fn(BufId, &[Index], Var) -> Option<i64>) -> Option<ChannelWay> {
        let adjacent = |(buf, index): &Access, var| matches!(stride(*buf, index, var), Some(0 | 1));
        if self.accesses.iter().all(|a| adjacent(a, self.along)) {
            return Some(ChannelWay::Direct);
        }
        let either = |a: &Access| adjacent(a, self.along) || adjacent(a, self.or_else);
        self.accesses.iter().all(either).then_some(ChannelWay::Exchange)
    }
}

/// What vectors along the channels access: the input, and what the epilogue does.
pub fn operands(conv: &Convolution) -> [ChannelOperand; 2] {
    let mut accesses: Vec<Access> = Vec::new();
    walk_stmts(&conv.epilogue, &mut |s| {
        if let Stmt::Store(s) = s {
            accesses.push((s.buf, s.index.clone()));
        }
    });
    walk_exprs(&conv.epilogue, &mut |e| {
        if let Expr::Load(l) = e {
            accesses.push((l.buf, l.index.clone()));
        }
    });
    let input = vec![(conv.input.buf, conv.input.index.clone())];
    let or_else = conv.columns.0;
    [
        ChannelOperand { accesses: input, along: conv.channels.0, or_else },
        ChannelOperand { accesses, along: conv.filters.0, or_else },
    ]
}

fn obstacle(
    program: &Program,
    extents: &Extents,
    (chain, body): (&[For], &[Stmt]),
    conv: &Convolution,
) -> Option<NotFiltered> {
    let Convolution { input, weights, .. } = conv;
    if program.buf(weights.buf).role != Role::Const || weights.otherwise.is_some() {
        return Some(NotFiltered::DynamicWeights);
    }
    if !all_independent(chain, body) || overwrites(extents, body, input) {
        return Some(NotFiltered::Dependence);
    }
    None
}

/// A sum of products, from zero.
struct Sum {
    accumulator: BufId,
    /// The declaration, the start and the loop.
    stmts: Vec<Stmt>,
    /// The loops, outermost first.
    reduced: Vec<Loop>,
    factors: [Load; 2],
}

/// The sums of products of a block in loops of these extents, and its other statements, which do nothing that the sums depend on; `None` if
/// there are other loops.
fn sums(program: &Program, extents: &Extents, body: &[Stmt]) -> Option<(Vec<Sum>, Vec<Stmt>)> {
    let (mut sums, mut others): (Vec<Sum>, Vec<Stmt>) = (Vec::new(), Vec::new());
    let mut rest = body;
    while let Some(stmt) = rest.first() {
        if let [Stmt::Temp(declared), Stmt::Store(start), Stmt::For(l), ..] = rest
            && start.buf == *declared
            && start.index.is_empty()
            && start.value.as_const().is_some_and(|v| v.as_f64() == 0.0)
        {
            let (reduced, factors) = products(l, *declared)?;
            sums.push(Sum { accumulator: *declared, stmts: rest[..3].to_vec(), reduced, factors });
            rest = &rest[3..];
            continue;
        }
        if matches!(stmt, Stmt::For(_)) {
            return None;
        }
        others.push(stmt.clone());
        rest = &rest[1..];
    }
    let apart = |l: &Load| program.buf(l.buf).role != Role::Local && !overwrites(extents, &others, l);
    sums.iter().all(|s| s.factors.iter().all(apart)).then_some((sums, others))
}

/// The loops of a sum of products into `accumulator`, outermost first, and the two factors.
fn products(l: &For, accumulator: BufId) -> Option<(Vec<Loop>, [Load; 2])> {
    let (chain, body) = unchain(l.clone());
    let [Stmt::Reduce(r)] = body.as_slice() else { return None };
    if r.op != ReduceOp::Add || r.buf != accumulator {
        return None;
    }
    let Expr::Binary(BinOp::Mul, a, b) = &r.value else { return None };
    let (Expr::Load(a), Expr::Load(b)) = (&**a, &**b) else { return None };
    let loops = chain.iter().map(|l| (l.var, l.extent)).collect();
    Some((loops, [a.clone(), b.clone()]))
}
