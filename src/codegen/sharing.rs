//! Which nests are the same code: equal up to the names of their buffers and loop variables.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use nestjit_ir::{Affine, BufId, Expr, Index, Load, Nest, Program, Role, Site, Stmt, Var};
use smallvec::SmallVec;

/// What two nests share exactly if one function can serve both: the nest with buffers and variables numbered in order
/// of occurrence, and what the buffers are. Pointers are bound in an order that follows from the nest.
pub(super) type Key = Vec<u64>;

/// The key of a nest.
pub(super) fn key(program: &Program, nest: &Nest) -> Key {
    let mut writer = Writer {
        program,
        key: Recorder::default(),
        bufs: Vec::new(),
        sites: Vec::new(),
        vars: Vec::new(),
        loops: 0,
    };
    writer.block(&nest.body);
    writer.key.0
}

/// Keeps what is hashed. Hashes of values are distinct sequences of numbers, as long as the values are.
#[derive(Default)]
struct Recorder(Vec<u64>);

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
    program: &'a Program,
    key: Recorder,
    /// The buffers so far.
    bufs: Vec<BufId>,
    /// The sites of checks so far.
    sites: Vec<Arc<Site>>,
    /// The variables of the loops around, and their numbers.
    vars: Vec<(Var, u32)>,
    /// The loops so far.
    loops: u32,
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
                self.write((l.extent, l.kind));
                self.vars.push((l.var, self.loops));
                self.loops += 1;
                self.block(&l.body);
                self.vars.pop();
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

    /// A buffer: its number, and what it is if that is new.
    fn buf(&mut self, buf: BufId) {
        if let Some(number) = self.bufs.iter().position(|b| *b == buf) {
            self.write(number);
            return;
        }
        self.write(self.bufs.len());
        self.bufs.push(buf);
        if let Some(b) = self.program.buffers.get(buf.0 as usize) {
            self.write((b.role == Role::Local, b.dtype, &b.shape, &b.layout, &b.halo, b.halo_fill));
        }
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
        // A variable of a loop around has a number, another one its name.
        let known = |v: Var| self.vars.iter().rev().find(|known| known.0 == v);
        let mut terms: SmallVec<[(bool, u32, i64); 6]> = a
            .terms()
            .iter()
            .map(|&(v, c)| known(v).map_or((false, v.0, c), |(_, number)| (true, *number, c)))
            .collect();
        terms.sort_unstable();
        self.write((a.offset(), terms.as_slice()));
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
                self.write((c.low, c.high));
                self.site(&c.site);
                self.expr(&c.value);
            }
        }
    }

    /// The number of a site: what it names is the nest's own.
    fn site(&mut self, site: &Arc<Site>) {
        let known = self.sites.iter().position(|s| s == site);
        self.write(known.unwrap_or(self.sites.len()));
        if known.is_none() {
            self.sites.push(Arc::clone(site));
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

#[cfg(test)]
mod tests {
    use super::*;
    use nestjit_ir::parse::parse;
    use nestjit_ir::{Buffer, DType, Expr, NestBuilder, Role};

    #[test]
    fn names_do_not_matter_but_shapes_and_constants_do() {
        let mut p = Program::default();
        let mut nest = |name: &str, n: usize, c: f32| {
            let x = p.add_buffer(Buffer::new(format!("x{name}"), DType::F32, &[n], Role::In));
            let y = p.add_buffer(Buffer::new(format!("y{name}"), DType::F32, &[n], Role::Out));
            let mut b = NestBuilder::new(&mut p, name);
            b.for_(name, n, |b, i| b.store(y, [i], Expr::load(x, [i]) * Expr::f32(c)));
            b.finish()
        };
        let ids = [nest("a", 4, 2.0), nest("b", 4, 2.0), nest("c", 5, 2.0), nest("d", 4, 3.0)];
        let keys: Vec<Key> = ids.iter().map(|&i| key(&p, &p.nests[i])).collect();
        assert_eq!(keys[0], keys[1]);
        assert!(keys[0] != keys[2] && keys[0] != keys[3]);
    }

    /// One function would compute the wrong thing for one of the two.
    #[test]
    fn whatever_changes_the_code_changes_the_key() {
        let text =
            "nest @a(in %x: f32[4,6], in %i: i64[4], const %w: f32[4,6], out %y: f32[4], out %z: f32[4]) {
            for n < 4 {
              temp %t: f32[6]
              for k < 6 { %t[k] = (%x[n,k-1] else 0.5) * %w[n,k] }
              %y[n] = -1.0
              for k < 6 { %y[n] += %t[5-k] }
              %z[n] = select(%y[n] > 0.0, exp(%x[n,2]), %w[(%i[n]),0] + f32(idx(3*n)))
            }
          }";
        let of = |text: &str| {
            let program = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            key(&program, &program.nests[0])
        };
        let known = of(text);
        assert_eq!(known, of(&text.replace("%x", "%input").replace("@a", "@b")));
        for (from, to) in [
            // Where elements lie, and what lies around them.
            ("%w: f32[4,6]", "%w: f32[4,6] layout(1,0)"),
            ("%w: f32[4,6]", "%w: f32[4,6] panel(1,2)"),
            ("%w: f32[4,6]", "%w: f32[4,6] halo(1:1,0:0 = 0.0)"),
            ("%w: f32[4,6]", "%w: f32[4,7]"),
            ("%t: f32[6]", "%t: f32[7]"),
            // Indices.
            ("%x[n,k-1]", "%x[n,k+1]"),
            ("%x[n,k-1]", "%x[n,2*k-1]"),
            ("%x[n,k-1]", "%x[n,n-1]"),
            ("%x[n,2]", "%x[n,3]"),
            ("%x[n,2]", "%w[n,2]"),
            ("%t[5-k]", "%t[k]"),
            ("(%i[n])", "(%i[3-n])"),
            ("idx(3*n)", "idx(2*n)"),
            // Outside of a buffer.
            ("else 0.5", "else 0.25"),
            ("else 0.5", "else -0.5"),
            ("(%x[n,k-1] else 0.5)", "%x[n,k]"),
            // What is computed.
            ("%y[n] += ", "%y[n] max= "),
            ("%y[n] += ", "%y[n] = "),
            ("%y[n] = -1.0", "%y[n] = -2.0"),
            (" * %w", " + %w"),
            ("exp(", "tanh("),
            ("> 0.0", ">= 0.0"),
            // Loops.
            ("for k < 6 { %t", "for k < 5 { %t"),
            ("for k < 6 { %t", "for k < 6 vector { %t"),
            ("for n < 4 {", "for n < 4 parallel {"),
        ] {
            assert!(text.contains(from), "{from}");
            assert_ne!(known, of(&text.replacen(from, to, 1)), "{from} and {to}");
        }
    }
}
