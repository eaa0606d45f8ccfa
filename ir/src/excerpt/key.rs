//! What statements have in common exactly if what is done to one of them can be done to the other.

use std::hash::{Hash, Hasher};

use super::Uses;
use crate::affine::{Affine, Var};
use crate::hash::{FastHasher, each_word};
use crate::nest::{BufId, Expr, Index, Load, Program, Role, Stmt};

/// What two lists of statements share exactly if they are equal but for names and numbers: the statements with
/// buffers, variables and sites numbered as in an excerpt, and what the buffers are. More may be added.
#[derive(Clone, Debug, Default)]
pub struct Key {
    /// The numbers that it consists of, those below 128 in a byte each: nearly all of them.
    bytes: Vec<u8>,
    /// Of the numbers. Keys are long, and tables ask for it again whenever they grow.
    hash: FastHasher,
}

impl Key {
    /// The number of bytes.
    #[expect(clippy::len_without_is_empty, reason = "there is no empty key")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a number.
    #[inline]
    pub fn push(&mut self, number: u64) {
        self.hash.write_u64(number);
        if number < 0x80 {
            self.bytes.push(number as u8);
        } else {
            self.push_bytes(number);
        }
    }

    /// The bytes of a number of more than 7 bits: 7 in each, and whether there are more.
    fn push_bytes(&mut self, mut rest: u64) {
        while rest >= 0x80 {
            self.bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
    }
}

impl Extend<u64> for Key {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, numbers: I) {
        numbers.into_iter().for_each(|number| self.push(number));
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.hash.finish() == other.hash.finish() && self.bytes == other.bytes
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash.finish());
    }
}

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
        let mut writer = Writer {
            uses: self,
            bufs: Places::of(self.bufs.iter().map(|b| b.0)),
            vars: Places::of(self.vars.iter().map(|v| v.0)),
            key: Recorder(Key { bytes: Vec::with_capacity(BYTES), ..Key::default() }),
        };
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

/// Where numbers are in an ascending list: a table if they lie close together, as those of most nests do.
pub(super) struct Places {
    first: u32,
    /// For each number from the first on, its place.
    table: Vec<u32>,
}

/// The longest table.
const SPAN: usize = 1024;

impl Places {
    /// Where these numbers are, which ascend.
    pub fn of(numbers: impl DoubleEndedIterator<Item = u32> + Clone) -> Places {
        let first = numbers.clone().next().unwrap_or(0);
        let span = numbers.clone().next_back().map_or(0, |last| (last - first) as usize + 1);
        let mut table = Vec::new();
        if span <= SPAN {
            table = vec![u32::MAX; span];
            numbers.enumerate().for_each(|(place, n)| table[(n - first) as usize] = place as u32);
        }
        Places { first, table }
    }

    /// The place of a number that is in the list, or that `find` finds there if there is no table.
    #[inline]
    pub fn get(&self, number: u32, find: impl FnOnce() -> u32) -> u32 {
        match self.table.get(number.wrapping_sub(self.first) as usize) {
            Some(place) => *place,
            None => find(),
        }
    }
}

/// Room for most keys of single nests.
const BYTES: usize = 512;

/// Keeps what is hashed. Hashes of values are distinct sequences of numbers, as long as the values are.
struct Recorder(Key);

impl Hasher for Recorder {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.write_usize(bytes.len());
        each_word(bytes, |word| self.0.push(word));
    }
    #[inline]
    fn write_u8(&mut self, n: u8) {
        self.0.push(n.into());
    }
    #[inline]
    fn write_u32(&mut self, n: u32) {
        self.0.push(n.into());
    }
    #[inline]
    fn write_u64(&mut self, n: u64) {
        self.0.push(n);
    }
    #[inline]
    fn write_i64(&mut self, n: i64) {
        // Small ones are short whatever their sign.
        self.0.push((n << 1 ^ n >> 63) as u64);
    }
    #[inline]
    fn write_usize(&mut self, n: usize) {
        self.0.push(n as u64);
    }
    #[inline]
    fn write_isize(&mut self, n: isize) {
        self.0.push(n as u64);
    }
    fn finish(&self) -> u64 {
        0
    }
}

/// Writes a key. Every construct begins with what tells it from the others that may stand in its place.
struct Writer<'a> {
    uses: &'a Uses,
    bufs: Places,
    vars: Places,
    key: Recorder,
}

impl Writer<'_> {
    #[inline]
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
        let place = self.bufs.get(buf.0, || self.uses.buf(buf).map_or(u32::MAX, |b| b.0));
        self.write(place);
    }

    fn var(&mut self, var: Var) {
        let place = self.vars.get(var.0, || self.uses.var(var).map_or(u32::MAX, |v| v.0));
        self.write(place);
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
