//! What statements have in common exactly if what is done to one of them can be done to the other.

use std::hash::{Hash, Hasher};

use super::Uses;
use crate::affine::{Affine, Var};
use crate::nest::{BufId, Expr, Index, Load, Program, Role, Stmt};

/// What two lists of statements share exactly if they are equal but for names and numbers: the statements with
/// buffers, variables and sites numbered as in an excerpt, and what the buffers are.
pub type Key = Vec<u64>;

/// What of buffers counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detail {
    /// What schedules depend on: all but names.
    Schedule,
    /// What machine code depends on: of the role, whether a buffer is local.
    Code,
}

impl Uses {
    /// The key of statements that use this, and nothing else.
    pub fn key(&self, program: &Program, bodies: &[&[Stmt]], detail: Detail) -> Key {
        let mut writer = Writer { uses: self, key: Recorder::default() };
        writer.write(bodies.len());
        bodies.iter().for_each(|body| writer.block(body));
        for b in &self.bufs {
            let Some(b) = program.buffers.get(b.0 as usize) else { continue };
            match detail {
                Detail::Schedule => writer.write(b.role),
                Detail::Code => writer.write(b.role == Role::Local),
            }
            writer.write((b.dtype, &b.shape, &b.layout, &b.halo, b.halo_fill));
        }
        writer.key.0
    }
}

/// Keeps what is hashed. Hashes of values are distinct sequences of numbers, as long as the values are.
#[derive(Default)]
struct Recorder(Key);

impl Hasher for Recorder {
    fn write(&mut self, bytes: &[u8]) {
        self.write_usize(bytes.len());
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }
    fn write_u64(&mut self, n: u64) {
        self.0.push(n);
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
    fn finish(&self) -> u64 {
        0
    }
}

/// Writes a key. Every construct begins with what tells it from the others that may stand in its place.
struct Writer<'a> {
    uses: &'a Uses,
    key: Recorder,
}

impl Writer<'_> {
    fn write(&mut self, value: impl Hash) {
        value.hash(&mut self.key);
    }

    fn block(&mut self, body: &[Stmt]) {
        self.write(body.len());
        body.iter().for_each(|s| self.stmt(s));
    }

    fn stmt(&mut self, stmt: &Stmt) {
        self.write(std::mem::discriminant(stmt));
        match stmt {
            Stmt::For(l) => {
                self.var(l.var);
                self.write((l.extent, l.kind));
                self.block(&l.body);
            }
            Stmt::Store(s) => {
                self.buf(s.buf);
                self.index(&s.index);
                self.expr(&s.value);
            }
            Stmt::Reduce(r) => {
                self.write(r.op);
                self.buf(r.buf);
                self.index(&r.index);
                self.expr(&r.value);
            }
            Stmt::Temp(buf) => self.buf(*buf),
            Stmt::Call(c) => {
                self.write((&c.function, &c.attrs, c.inputs.len(), c.outputs.len()));
                c.inputs.iter().chain(&c.outputs).for_each(|b| self.buf(*b));
            }
        }
    }

    fn buf(&mut self, buf: BufId) {
        self.write(self.uses.buf(buf).map_or(u32::MAX, |b| b.0));
    }

    fn var(&mut self, var: Var) {
        self.write(self.uses.var(var).map_or(u32::MAX, |v| v.0));
    }

    fn index(&mut self, index: &[Index]) {
        self.write(index.len());
        for i in index {
            self.write(std::mem::discriminant(i));
            match i {
                Index::Affine(a) => self.affine(a),
                Index::Value(e) => self.expr(e),
            }
        }
    }

    fn affine(&mut self, a: &Affine) {
        self.write((a.offset(), a.terms().len()));
        for &(v, c) in a.terms() {
            self.var(v);
            self.write(c);
        }
    }

    fn expr(&mut self, expr: &Expr) {
        self.write(std::mem::discriminant(expr));
        match expr {
            Expr::Const(s) => self.write(s),
            Expr::Load(l) => self.load(l),
            Expr::Index(a) => self.affine(a),
            Expr::Unary(op, a) => {
                self.write(op);
                self.expr(a);
            }
            Expr::Binary(op, a, b) => {
                self.write(op);
                self.expr(a);
                self.expr(b);
            }
            Expr::Select(c, a, b) => {
                self.expr(c);
                self.expr(a);
                self.expr(b);
            }
            Expr::Cast(to, a) => {
                self.write(to);
                self.expr(a);
            }
            Expr::Check(c) => {
                // What a site names is the statements' own.
                self.write((c.low, c.high, self.uses.sites.iter().position(|s| *s == c.site)));
                self.expr(&c.value);
            }
        }
    }

    fn load(&mut self, l: &Load) {
        self.buf(l.buf);
        self.index(&l.index);
        self.write(l.otherwise.is_some());
        if let Some(otherwise) = &l.otherwise {
            self.expr(otherwise);
        }
    }
}
