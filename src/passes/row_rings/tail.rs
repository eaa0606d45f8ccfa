//! What a nest does besides the rows of its stage, once they are all there: squeeze-and-excite pools them and computes
//! a factor for each channel.
//!
//! Sums over all rows are kept per strip, so that no pass over the tensor remains:
//!
//! ```text
//! for c { %a = 0.0  for h { %a += %d[c,h] } .. }      for p { for t { 4 rows of %d; for c { %parts[p,c] += .. } } }
//!                                                   for c { %a = 0.0  for q { %a += %parts[q,c] } .. }
//! ```

use nestjit_ir::access::{accesses, writes};
use nestjit_ir::visit::{fresh_copy, rename_vars, subst_var_expr};
use nestjit_ir::{
    Affine, BufId, Buffer, Expr, For, Index, Load, LoopKind, Program, Reduce, ReduceOp, Role, SCALAR, Scalar,
    Stmt, Store, Var, indices,
};

use crate::passes::schedule::chain::{looped, rechain, unchain};

/// The first loops of a nest, as a chain, their body, and the statements that follow, in loops of their own.
pub(super) struct Split {
    pub chain: Vec<For>,
    pub body: Vec<Stmt>,
    pub rest: Vec<Stmt>,
}

/// Takes what follows the first loops of a nest out of them; `None` if that cannot be done.
pub(super) fn split(body: &[Stmt]) -> Option<Split> {
    let split = first(body)?;
    let touched: Vec<BufId> = accesses(&split.body).iter().map(|a| a.buf).collect();
    let apart = writes(&split.rest).iter().all(|b| !touched.contains(b));
    apart.then_some(split)
}

fn first(body: &[Stmt]) -> Option<Split> {
    let (Stmt::For(l), after) = body.split_first()? else { return None };
    let head = For { body: Vec::new(), ..l.clone() };
    let mut split = match l.body.first() {
        Some(Stmt::For(_)) => first(&l.body)?,
        _ => Split { chain: Vec::new(), body: l.body.clone(), rest: Vec::new() },
    };
    split.chain.insert(0, head);
    if !split.rest.is_empty() {
        let rest = std::mem::take(&mut split.rest);
        split.rest.push(Stmt::For(For { body: rest, ..l.clone() }));
    }
    split.rest.extend_from_slice(after);
    Some(split)
}

/// A reduction over all rows of a tensor.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Sum {
    /// The loops around it, outermost first, and the scalar that takes the result.
    around: Vec<For>,
    accumulator: BufId,
    op: ReduceOp,
    identity: Scalar,
    /// The loops reduced over, the one over rows among them, and what is summed up.
    loops: Vec<For>,
    row: Var,
    value: Expr,
}

/// The reductions over all rows of `buf` in `stmts`.
pub(super) fn sums(program: &Program, stmts: &[Stmt], buf: BufId, dim: usize) -> Vec<Sum> {
    let mut found = Vec::new();
    collect(program, stmts, (buf, dim), &mut Vec::new(), &mut found);
    found
}

fn collect(
    program: &Program,
    block: &[Stmt],
    rows: (BufId, usize),
    around: &mut Vec<For>,
    found: &mut Vec<Sum>,
) {
    for (at, stmt) in block.iter().enumerate() {
        let Stmt::For(l) = stmt else { continue };
        match sum(program, &block[..at], l, rows, around) {
            Some(sum) => found.push(sum),
            None => {
                around.push(For { body: Vec::new(), ..l.clone() });
                collect(program, &l.body, rows, around, found);
                around.pop();
            }
        }
    }
}

fn sum(
    program: &Program,
    before: &[Stmt],
    l: &For,
    (buf, dim): (BufId, usize),
    around: &[For],
) -> Option<Sum> {
    let (mut loops, body) = unchain(l.clone());
    let [Stmt::Reduce(Reduce { op, buf: accumulator, value: Expr::Load(load), .. })] = body.as_slice() else {
        return None;
    };
    // The accumulator is a scalar that starts just before.
    let Some(Stmt::Store(start)) = before.last() else { return None };
    let identity = op.identity(program.buf(*accumulator).dtype);
    let scalar = program.buf(*accumulator).role == Role::Local && program.buf(*accumulator).shape.is_empty();
    if !scalar || start.buf != *accumulator || start.value.as_const() != Some(identity) {
        return None;
    }
    let row = load.index.get(dim)?.as_affine()?.as_var()?;
    let elsewhere = |(d, i): (usize, &Index)| d != dim && i.as_affine().is_none_or(|a| a.uses(row));
    let whole = loops.iter().any(|l| l.var == row && l.extent == program.buf(buf).shape[dim]);
    if load.buf != buf || load.otherwise.is_some() || !whole || load.index.iter().enumerate().any(elsewhere) {
        return None;
    }
    loops.iter_mut().for_each(|l| l.body = Vec::new());
    Some(Sum {
        around: around.to_vec(),
        accumulator: *accumulator,
        op: *op,
        identity,
        loops,
        row,
        value: Expr::Load(load.clone()),
    })
}

impl Sum {
    /// Whether this is the outermost loop around it.
    pub fn is_within(&self, var: Var) -> bool {
        self.around.first().is_some_and(|l| l.var == var)
    }
}

/// A sum in parts, one for each strip.
pub(super) struct Parts {
    sum: Sum,
    /// `[strips][around..]`.
    buf: BufId,
    strips: usize,
}

impl Parts {
    pub fn new(program: &mut Program, sum: Sum, strips: usize) -> Parts {
        let buffer = program.buf(sum.accumulator);
        let (name, dtype) = (format!("{}.parts", buffer.name), buffer.dtype);
        let shape: Vec<usize> = [strips].into_iter().chain(sum.around.iter().map(|l| l.extent)).collect();
        let name = program.unique_buffer_name(&name);
        let buf = program.add_buffer(Buffer::new(name, dtype, &shape, Role::Temp));
        Parts { sum, buf, strips }
    }

    fn index(&self, strip: &Affine) -> Vec<Index> {
        let around = self.sum.around.iter().map(|l| Affine::var(l.var));
        indices([strip.clone()].into_iter().chain(around))
    }

    /// `body` in the loops around the sum. The outermost is the ring's if that has one over a batch.
    fn around(&self, program: &mut Program, batch: Option<Var>, body: Vec<Stmt>) -> Vec<Stmt> {
        let skip = usize::from(batch.is_some());
        let mut stmts = rechain(self.sum.around[skip..].to_vec(), body);
        if let (Some(batch), Some(own)) = (batch, self.sum.around.first()) {
            rename_vars(&mut stmts, &mut |v| if v == own.var { batch } else { v });
        }
        fresh_copy(program, &stmts)
    }

    /// Before the first row of a strip.
    pub fn start(&self, program: &mut Program, batch: Option<Var>, strip: &Affine) -> Vec<Stmt> {
        let value = Expr::Const(self.sum.identity);
        let store = Stmt::Store(Store { buf: self.buf, index: self.index(strip), value });
        self.around(program, batch, vec![store])
    }

    /// After `count` rows from `first` on.
    pub fn add(
        &self,
        program: &mut Program,
        batch: Option<Var>,
        strip: &Affine,
        (first, count): (&Affine, usize),
    ) -> Vec<Stmt> {
        let Sum { accumulator, op, loops, row, value, .. } = &self.sum;
        let resize = |l: &For| For { extent: if l.var == *row { count } else { l.extent }, ..l.clone() };
        let mut value = value.clone();
        subst_var_expr(&mut value, *row, &first.add(&Affine::var(*row)));
        let part = self.index(strip);
        let load = Expr::Load(Load { buf: self.buf, index: part.clone(), otherwise: None });
        let add = Stmt::Reduce(Reduce { op: *op, buf: *accumulator, index: Vec::new(), value });
        let mut body = vec![
            Stmt::Temp(*accumulator),
            Stmt::Store(Store { buf: *accumulator, index: Vec::new(), value: load }),
        ];
        body.extend(rechain(loops.iter().map(resize).collect(), vec![add]));
        let value = Expr::load(*accumulator, SCALAR);
        body.push(Stmt::Store(Store { buf: self.buf, index: part, value }));
        self.around(program, batch, body)
    }

    /// Lets the tail add up the parts instead of the rows.
    pub fn redirect(&self, program: &mut Program, stmts: &mut [Stmt]) {
        for stmt in stmts {
            let Stmt::For(l) = stmt else { continue };
            if self.sum.loops.first().is_none_or(|outer| outer.var != l.var) {
                self.redirect(program, &mut l.body);
                continue;
            }
            let q = program.add_var("strip");
            let index = self.index(&Affine::var(q));
            let value = Expr::Load(Load { buf: self.buf, index, otherwise: None });
            let (op, buf) = (self.sum.op, self.sum.accumulator);
            let add = Stmt::Reduce(Reduce { op, buf, index: Vec::new(), value });
            *stmt = looped(q, self.strips, LoopKind::Serial, vec![add]);
        }
    }
}
