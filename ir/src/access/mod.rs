//! What statements touch, which of it must stay in order, and whether it stays inside the buffers.
//!
//! [`accesses`] lists reads and writes; [`depend`] decides whether loops may be fused, reordered or run in
//! parallel; [`carried`] answers quickly what the iterations of a loop pass to each other, and [`reach`] which parts of buffers
//! statements touch; [`bounds`] proves indices; `meet` finds iterations. All of it is legality; what is worth doing is decided
//! elsewhere.

pub mod bounds;
pub mod carried;
pub mod depend;
pub(crate) mod meet;
pub mod reach;

use std::collections::BTreeSet;
use std::rc::Rc;

pub use bounds::{BoundsError, check_bounds, check_reach};
pub use depend::{
    Conflict, Dependence, Reductions, can_fuse, can_swap, carried_by, carried_dependences, dependences,
};

use crate::nest::{BufId, Expr, For, Index, Program, Stmt};
use crate::ops::ReduceOp;
use crate::visit;

/// How an access touches its elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AccessKind {
    /// A load.
    Read,
    /// A store.
    Write,
    /// A reduction: reads and writes, but commutes with others of the same operation.
    Update(ReduceOp),
}

/// Loops around an access, shared by all accesses of a block.
pub type Loops<'a> = Rc<[&'a For]>;

/// One access of a statement list.
#[derive(Clone, Debug)]
pub struct Access<'a> {
    /// The buffer.
    pub buf: BufId,
    /// How it is touched.
    pub kind: AccessKind,
    /// The index; `None` if the whole buffer is meant (calls).
    pub index: Option<&'a [Index]>,
    /// Whether the access says what to do outside the buffer.
    pub has_otherwise: bool,
    /// The loops around the access, within the statement list, outermost first.
    pub loops: Loops<'a>,
}

impl Access<'_> {
    /// Whether a loop around the access never runs.
    pub fn is_dead(&self) -> bool {
        self.loops.iter().any(|l| l.extent == 0)
    }

    /// The access as text: `%x[n,k]`.
    pub fn show(&self, program: &Program) -> String {
        program.show_access(self.buf, self.index.unwrap_or_default()).to_string()
    }
}

/// All accesses in the order of the statements; within a statement reads first. Accesses to locals that are
/// declared in `body` are included.
pub fn accesses(body: &[Stmt]) -> Vec<Access<'_>> {
    let mut list = Vec::with_capacity(16);
    collect(body, &Loops::from([]), &mut list);
    list
}

fn collect<'a>(body: &'a [Stmt], loops: &Loops<'a>, list: &mut Vec<Access<'a>>) {
    for stmt in body {
        let (buf, kind, value) = match stmt {
            Stmt::For(l) => {
                let inside = loops.iter().copied().chain([l]).collect();
                collect(&l.body, &inside, list);
                continue;
            }
            Stmt::Temp(_) => continue,
            Stmt::Call(c) => {
                let whole = |&buf, kind| Access {
                    buf,
                    kind,
                    index: None,
                    has_otherwise: false,
                    loops: loops.clone(),
                };
                list.extend(c.inputs.iter().map(|b| whole(b, AccessKind::Read)));
                list.extend(c.outputs.iter().map(|b| whole(b, AccessKind::Write)));
                continue;
            }
            Stmt::Store(s) => (s.buf, AccessKind::Write, &s.value),
            Stmt::Reduce(r) => (r.buf, AccessKind::Update(r.op), &r.value),
        };
        let index = visit::target_index(stmt).unwrap_or_default();
        for i in index {
            if let Index::Value(e) = i {
                collect_expr(e, loops, list);
            }
        }
        collect_expr(value, loops, list);
        list.push(Access { buf, kind, index: Some(index), has_otherwise: false, loops: loops.clone() });
    }
}

fn collect_expr<'a>(expr: &'a Expr, loops: &Loops<'a>, list: &mut Vec<Access<'a>>) {
    visit::walk_expr(expr, &mut |e| {
        if let Expr::Load(l) = e {
            list.push(Access {
                buf: l.buf,
                kind: AccessKind::Read,
                index: Some(&l.index),
                has_otherwise: l.otherwise.is_some(),
                loops: loops.clone(),
            });
        }
    });
}

/// Whether a statement or one within it accesses a buffer.
pub fn touches(stmt: &Stmt, buf: BufId) -> bool {
    let loads = |e: &Expr| {
        let mut found = false;
        visit::walk_expr(e, &mut |e| found |= matches!(e, Expr::Load(l) if l.buf == buf));
        found
    };
    let at = |index: &[Index]| index.iter().any(|i| matches!(i, Index::Value(e) if loads(e)));
    match stmt {
        Stmt::For(l) => l.body.iter().any(|s| touches(s, buf)),
        Stmt::Store(s) => s.buf == buf || at(&s.index) || loads(&s.value),
        Stmt::Reduce(r) => r.buf == buf || at(&r.index) || loads(&r.value),
        Stmt::Call(c) => c.inputs.contains(&buf) || c.outputs.contains(&buf),
        Stmt::Temp(_) => false,
    }
}

/// The buffers that `body` reads (reductions read what they update), without the locals it declares.
pub fn reads(body: &[Stmt]) -> BTreeSet<BufId> {
    touched(body, |kind| kind != AccessKind::Write)
}

/// The buffers that `body` writes, without the locals it declares.
pub fn writes(body: &[Stmt]) -> BTreeSet<BufId> {
    touched(body, |kind| kind != AccessKind::Read)
}

fn touched(body: &[Stmt], wanted: impl Fn(AccessKind) -> bool) -> BTreeSet<BufId> {
    let locals = visit::declared_temps(body);
    let list = accesses(body);
    list.iter().filter(|a| wanted(a.kind)).map(|a| a.buf).filter(|b| !locals.contains(b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buffer, DType, NestBuilder, Role, SCALAR};

    #[test]
    fn reads_and_writes_leave_out_declared_locals() {
        let mut p = Program::default();
        let x = p.add_buffer(Buffer::new("x", DType::F32, &[4, 8], Role::In));
        let at = p.add_buffer(Buffer::new("at", DType::I64, &[4], Role::In));
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[4], Role::Out));
        let mut b = NestBuilder::new(&mut p, "f");
        let mut t = BufId(0);
        b.for_("i", 4, |b, i| {
            t = b.temp("t", DType::F32, &[]);
            b.store(t, SCALAR, Expr::f32(0.0));
            b.for_("k", 8, |b, k| b.reduce(ReduceOp::Add, t, SCALAR, Expr::load(x, [i, k])));
            b.store(y, [Expr::load(at, [i])], Expr::load(t, SCALAR));
        });
        b.finish();
        let body = &p.nests[0].body;
        assert_eq!(reads(body).into_iter().collect::<Vec<_>>(), [x, at]);
        assert_eq!(writes(body).into_iter().collect::<Vec<_>>(), [y]);
        let Stmt::For(l) = &body[0] else { panic!("a loop") };
        assert!(reads(&l.body[2..]).contains(&t) && writes(&l.body[1..]).contains(&t));
        let kinds: Vec<_> = accesses(body).iter().map(|a| (a.buf, a.kind, a.loops.len())).collect();
        use AccessKind::*;
        let expected = [
            (t, Write, 1),
            (x, Read, 2),
            (t, Update(ReduceOp::Add), 2),
            (at, Read, 1),
            (t, Read, 1),
            (y, Write, 1),
        ];
        assert_eq!(kinds, expected);
    }
}
