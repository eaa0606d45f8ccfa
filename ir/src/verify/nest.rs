//! Checks nests: scopes, types, ranks, bounds and loop kinds.

use std::collections::HashSet;

use super::{Stage, VerifyError, call};
use crate::access::bounds::{too_far, too_large};
use crate::access::{Reductions, carried_by};
use crate::affine::{Affine, Var};
use crate::interp::{binary_defined, unary_defined};
use crate::nest::{BufId, Buffer, Expr, For, Index, LoopKind, Program, Role, Stmt};
use crate::types::DType;
use crate::visit::Extents;

pub(super) fn check_nests(program: &Program, stage: Stage, errors: &mut Vec<VerifyError>) {
    let (mut bound, mut declared) = (HashSet::new(), HashSet::new());
    for nest in &program.nests {
        let mut checker = Checker {
            program,
            stage,
            nest: &nest.name,
            path: Vec::new(),
            bound: &mut bound,
            declared: &mut declared,
            vars: Extents::default(),
            locals: Vec::new(),
            dead: 0,
            errors,
        };
        checker.block(&nest.body);
    }
}

struct Checker<'a> {
    program: &'a Program,
    stage: Stage,
    nest: &'a str,
    path: Vec<String>,
    /// All variables bound so far anywhere, and all locals declared.
    bound: &'a mut HashSet<Var>,
    declared: &'a mut HashSet<BufId>,
    /// Variables and locals in scope here.
    vars: Extents,
    locals: Vec<BufId>,
    /// How many of the loops around here never run.
    dead: usize,
    errors: &'a mut Vec<VerifyError>,
}

impl<'a> Checker<'a> {
    fn error(&mut self, message: impl Into<String>) {
        self.errors.push(VerifyError {
            nest: self.nest.to_owned(),
            path: self.path.join(" > "),
            message: message.into(),
        });
    }

    fn block(&mut self, body: &[Stmt]) {
        let locals = self.locals.len();
        for stmt in body {
            self.path.push(self.describe(stmt));
            self.stmt(stmt);
            self.path.pop();
        }
        self.locals.truncate(locals);
    }

    fn describe(&self, stmt: &Stmt) -> String {
        let p = self.program;
        match stmt {
            Stmt::For(l) => format!("for {}", p.vars.get(l.var.0 as usize).map_or("?", String::as_str)),
            Stmt::Store(s) => format!("{} = ..", p.show_access(s.buf, &s.index)),
            Stmt::Reduce(r) => format!("{} {} ..", p.show_access(r.buf, &r.index), r.op.name()),
            Stmt::Temp(b) => format!("temp {}", p.show_access(*b, &[])),
            Stmt::Call(c) => format!("call {}", c.function),
        }
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::For(l) => self.for_loop(l),
            Stmt::Temp(b) => match self.program.buffers.get(b.0 as usize) {
                None => self.error(format!("buffer {} does not exist", b.0)),
                Some(buffer) if buffer.role != Role::Local => {
                    self.error(format!(
                        "%{} is declared as a temp but its role is {:?}",
                        buffer.name, buffer.role
                    ));
                }
                Some(buffer) => {
                    if !self.declared.insert(*b) {
                        self.error(format!("%{} is declared twice", buffer.name));
                    }
                    self.locals.push(*b);
                }
            },
            Stmt::Store(s) => self.assignment(s.buf, &s.index, &s.value),
            Stmt::Reduce(r) => self.assignment(r.buf, &r.index, &r.value),
            Stmt::Call(c) => {
                for &b in &c.inputs {
                    self.buffer(b);
                }
                for (i, &b) in c.outputs.iter().enumerate() {
                    if let Some(buffer) = self.buffer(b) {
                        self.writable(buffer);
                        if c.inputs.contains(&b) || c.outputs[..i].contains(&b) {
                            self.error(format!("%{} is an output and also something else", buffer.name));
                        }
                    }
                }
                if let Err(message) = call::check(self.program, c) {
                    self.error(message);
                }
            }
        }
    }

    fn for_loop(&mut self, l: &For) {
        let Some(name) = self.program.vars.get(l.var.0 as usize) else {
            return self.error(format!("variable {} does not exist", l.var.0));
        };
        if !self.bound.insert(l.var) {
            self.error(format!("variable {} ({name}) is bound by two loops", l.var.0));
        }
        if i64::try_from(l.extent).is_err() {
            self.error(format!("extent {} is too large", l.extent));
        }
        if matches!(l.kind, LoopKind::Vector | LoopKind::Unrolled) && self.stage < Stage::Scheduled {
            self.error(format!("a loop is '{}' before scheduling", l.kind.name()));
        }
        let before = self.errors.len();
        let outer = self.vars.clone();
        self.vars.set(l.var, l.extent);
        self.dead += usize::from(l.extent == 0);
        self.block(&l.body);
        self.dead -= usize::from(l.extent == 0);
        self.vars = outer;
        let reductions = match l.kind {
            LoopKind::Parallel(_) => Reductions::Conflict,
            LoopKind::Vector => Reductions::Commute,
            LoopKind::Serial | LoopKind::Unrolled => return,
        };
        // Dependences are asked for only about sound statements.
        if self.errors.len() == before
            && let Err(conflict) = carried_by(self.program, l, &self.vars, reductions)
        {
            self.error(format!("the loop cannot be '{}': {conflict}", l.kind.name()));
        }
    }

    /// The buffer, if it may be used here.
    fn buffer(&mut self, id: BufId) -> Option<&'a Buffer> {
        let Some(buffer) = self.program.buffers.get(id.0 as usize) else {
            self.error(format!("buffer {} does not exist", id.0));
            return None;
        };
        if buffer.role == Role::Local && !self.locals.contains(&id) {
            self.error(format!("%{} is used where no temp declares it", buffer.name));
            return None;
        }
        Some(buffer)
    }

    fn writable(&mut self, buffer: &Buffer) {
        if matches!(buffer.role, Role::In | Role::Const) {
            self.error(format!("%{} is written, but its role is '{}'", buffer.name, buffer.role.name()));
        }
    }

    fn assignment(&mut self, buf: BufId, index: &[Index], value: &Expr) {
        let target = self.access(buf, index, true);
        if let Some(buffer) = target {
            self.writable(buffer);
        }
        let found = self.expr(value);
        if let (Some(buffer), Some(found)) = (target, found)
            && buffer.dtype != found
        {
            self.error(format!(
                "a value of type {found} is stored into %{} of type {}",
                buffer.name, buffer.dtype
            ));
        }
    }

    /// Checks an access; `bounded` if every index must lie inside the buffer.
    fn access(&mut self, buf: BufId, index: &[Index], bounded: bool) -> Option<&'a Buffer> {
        let buffer = self.buffer(buf)?;
        if index.len() != buffer.shape.len() {
            self.error(format!(
                "%{} has {} dimensions but is accessed with {} indices",
                buffer.name,
                buffer.shape.len(),
                index.len()
            ));
            return None;
        }
        for (dim, (i, &extent)) in index.iter().zip(&buffer.shape).enumerate() {
            match i {
                Index::Value(e) => {
                    if let Some(found) = self.expr(e).filter(|&d| d != DType::I64) {
                        self.error(format!(
                            "index {dim} of %{} has type {found} instead of i64",
                            buffer.name
                        ));
                    }
                }
                Index::Affine(a) => {
                    if !self.affine(a) {
                    } else if let Some(error) = too_far(buffer, dim, a, &self.vars) {
                        self.error(format!("{}: {error}", self.program.show_access(buf, index)));
                    } else if bounded && self.dead == 0 {
                        self.bounds(buf, index, dim, a, extent);
                    }
                }
            }
        }
        Some(buffer)
    }

    fn bounds(&mut self, buf: BufId, index: &[Index], dim: usize, a: &Affine, extent: usize) {
        let range = self.vars.range(a);
        if range.is_some_and(|(lo, hi)| lo >= 0 && usize::try_from(hi).is_ok_and(|hi| hi < extent)) {
            return;
        }
        let access = self.program.show_access(buf, index);
        self.error(match range {
            Some((lo, hi)) => format!("{access}: index {dim} runs from {lo} to {hi}, outside 0..{extent}"),
            None => format!("{access}: index {dim} overflows"),
        });
    }

    /// Whether all variables are in scope.
    fn affine(&mut self, a: &Affine) -> bool {
        let unknown = a.vars().find(|&v| self.vars.get(v).is_none());
        if let Some(v) = unknown {
            let name = self.program.vars.get(v.0 as usize).map_or("?", String::as_str);
            self.error(format!("variable {} ({name}) is used outside its loop", v.0));
        }
        unknown.is_none()
    }

    /// The type of an expression, if it has one.
    fn expr(&mut self, e: &Expr) -> Option<DType> {
        match e {
            Expr::Const(s) => Some(s.dtype()),
            Expr::Index(a) => {
                if self.affine(a) && too_large(a, &self.vars) {
                    self.error(format!("idx({}) overflows", self.program.show_affine(a)));
                }
                Some(DType::I64)
            }
            Expr::Load(l) => {
                let buffer = self.access(l.buf, &l.index, l.otherwise.is_none());
                let otherwise = l.otherwise.as_ref().and_then(|e| self.expr(e));
                let dtype = buffer?.dtype;
                if let Some(found) = otherwise.filter(|&d| d != dtype) {
                    self.error(format!("'else' of type {found} for a load of type {dtype}"));
                }
                Some(dtype)
            }
            Expr::Unary(op, a) => {
                let dtype = self.expr(a)?;
                if !unary_defined(*op, dtype) {
                    self.error(format!("'{}' is not defined on {dtype}", op.name()));
                    return None;
                }
                Some(op.result(dtype))
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.expr(a), self.expr(b));
                let (a, b) = (a?, b?);
                if a != b {
                    self.error(format!("'{}' has operands of types {a} and {b}", op.name()));
                    return None;
                }
                if !binary_defined(*op, a) {
                    self.error(format!("'{}' is not defined on {a}", op.name()));
                    return None;
                }
                Some(op.result(a))
            }
            Expr::Select(c, a, b) => {
                let (c, a, b) = (self.expr(c), self.expr(a), self.expr(b));
                if let Some(found) = c.filter(|&d| d != DType::Bool) {
                    self.error(format!("the condition of 'select' has type {found}"));
                }
                let (a, b) = (a?, b?);
                if a != b {
                    self.error(format!("'select' has operands of types {a} and {b}"));
                }
                Some(a)
            }
            Expr::Cast(to, a) => {
                self.expr(a);
                Some(*to)
            }
            Expr::Check(c) => {
                if let Some(found) = self.expr(&c.value).filter(|&d| d != DType::I64) {
                    self.error(format!("a checked value has type {found} instead of i64"));
                }
                Some(DType::I64)
            }
        }
    }
}
