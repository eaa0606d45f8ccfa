//! Programs as text. The grammar is in the [crate documentation](crate); [`crate::parse`] reads it back.
//!
//! A [`Program`] or a nest is printed in [canonical](Program::canonical) form. Statements and expressions on
//! their own (for remarks and error messages) are printed with the names as they are.

mod literal;

use std::fmt::{self, Write};

use crate::affine::Affine;
use crate::nest::{BufId, Buffer, Expr, Index, Load, LoopKind, Nest, Program, Role, Stmt};
use crate::ops::BinOp;

impl Role {
    /// The keyword of the textual IR. A local is declared by a `temp` statement.
    pub const fn name(self) -> &'static str {
        match self {
            Role::In => "in",
            Role::Out => "out",
            Role::Const => "const",
            Role::Temp | Role::Local => "temp",
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = self.canonical();
        // Inputs and outputs are listed before the nests if these would list them in another order.
        let (touched, in_order) = p.listing();
        let mut first = true;
        for (buffer, touched) in p.buffers.iter().zip(&touched) {
            let interface = matches!(buffer.role, Role::In | Role::Out);
            if (!touched || interface && !in_order) && buffer.role != Role::Local {
                writeln!(f, "buffer {} {}", buffer.role.name(), p.show_buffer(buffer))?;
                first = false;
            }
        }
        for nest in &p.nests {
            if !std::mem::take(&mut first) {
                writeln!(f)?;
            }
            Printer { p: &p, f }.nest(nest)?;
        }
        Ok(())
    }
}

impl Program {
    /// One nest as text, as it would be in the text of a program of its own.
    pub fn show_nest<'a>(&'a self, nest: &'a Nest) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            let p = Program {
                buffers: self.buffers.clone(),
                vars: self.vars.clone(),
                nests: vec![nest.clone()],
                ..Program::default()
            };
            let p = p.canonical();
            Printer { p: &p, f }.nest(&p.nests[0])
        })
    }

    /// Statements as text.
    pub fn show_stmts<'a>(&'a self, body: &'a [Stmt]) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| Printer { p: self, f }.block(body, 0))
    }

    /// One statement as text, loops with their bodies.
    pub fn show_stmt<'a>(&'a self, stmt: &'a Stmt) -> impl fmt::Display + 'a {
        self.show_stmts(std::slice::from_ref(stmt))
    }

    /// An expression as text.
    pub fn show_expr<'a>(&'a self, expr: &'a Expr) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| Printer { p: self, f }.expr(expr, 0))
    }

    /// An affine expression as text.
    pub fn show_affine<'a>(&'a self, affine: &'a Affine) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| Printer { p: self, f }.affine(affine))
    }

    /// An access as text: `%x[n,k+1]`.
    pub fn show_access<'a>(&'a self, buf: BufId, index: &'a [Index]) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| Printer { p: self, f }.access(buf, index))
    }

    /// A buffer's declaration as text, without its role: `%x: f32[64,512]`.
    pub fn show_buffer<'a>(&'a self, buffer: &'a Buffer) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| Printer { p: self, f }.declaration(buffer))
    }
}

/// How strongly an infix operator binds; `None` for the functions.
pub(crate) const fn precedence(op: BinOp) -> Option<u8> {
    use BinOp::*;
    Some(match op {
        Or => 1,
        Xor => 2,
        And => 3,
        Eq | Ne | Lt | Le | Gt | Ge => 4,
        Shl | Shr => 5,
        Add | Sub => 6,
        Mul | Div => 7,
        Rem | Mod | Pow | Max | Min | Atan2 => return None,
    })
}

struct Printer<'a, 'b, 'c> {
    p: &'a Program,
    f: &'b mut fmt::Formatter<'c>,
}

impl Printer<'_, '_, '_> {
    fn nest(&mut self, nest: &Nest) -> fmt::Result {
        write!(self.f, "nest @{}(", Name(&nest.name))?;
        let mut signature = self.p.signature(&nest.body);
        self.p.in_order_of_interface(&mut signature);
        for (i, b) in signature.into_iter().enumerate() {
            let buffer = self.p.buf(b);
            write!(self.f, "{}{} ", if i > 0 { ", " } else { "" }, buffer.role.name())?;
            self.declaration(buffer)?;
        }
        self.f.write_str(")")?;
        if !nest.ops.is_empty() {
            self.f.write_str(" ops(")?;
            for (i, op) in nest.ops.iter().enumerate() {
                write!(self.f, "{}{}", if i > 0 { ", " } else { "" }, Quoted(op))?;
            }
            self.f.write_str(")")?;
        }
        self.f.write_str(" {\n")?;
        self.block(&nest.body, 1)?;
        self.f.write_str("}\n")
    }

    fn declaration(&mut self, b: &Buffer) -> fmt::Result {
        self.name(&b.name)?;
        write!(self.f, ": {}", b.dtype)?;
        if !b.shape.is_empty() {
            self.list("[", &b.shape, "]")?;
        }
        if b.layout.order.iter().enumerate().any(|(i, &d)| i != d) || b.layout.order.len() != b.shape.len() {
            self.list(" layout(", &b.layout.order, ")")?;
        }
        if let Some((dim, block)) = b.layout.panel {
            write!(self.f, " panel({dim},{block})")?;
        }
        if let Some((dim, group)) = b.layout.interleave {
            write!(self.f, " interleave({dim},{group})")?;
        }
        if !b.halo.is_empty() {
            self.f.write_str(" halo(")?;
            for (i, (lo, hi)) in b.halo.iter().enumerate() {
                write!(self.f, "{}{lo}:{hi}", if i > 0 { "," } else { "" })?;
            }
            write!(self.f, " = {})", b.halo_fill)?;
        }
        Ok(())
    }

    fn list<T: fmt::Display>(&mut self, open: &str, items: &[T], close: &str) -> fmt::Result {
        self.f.write_str(open)?;
        for (i, item) in items.iter().enumerate() {
            write!(self.f, "{}{item}", if i > 0 { "," } else { "" })?;
        }
        self.f.write_str(close)
    }

    fn block(&mut self, body: &[Stmt], depth: usize) -> fmt::Result {
        body.iter().try_for_each(|s| self.stmt(s, depth))
    }

    fn stmt(&mut self, stmt: &Stmt, depth: usize) -> fmt::Result {
        let indent = depth * 2;
        write!(self.f, "{:indent$}", "")?;
        match stmt {
            Stmt::For(l) => {
                let name = self.p.vars.get(l.var.0 as usize).map_or("?", String::as_str);
                let space = if l.kind.name().is_empty() { "" } else { " " };
                write!(self.f, "for {name} < {}", l.extent)?;
                if let LoopKind::Parallel(Some(parts)) = l.kind {
                    write!(self.f, " in {parts}")?;
                }
                writeln!(self.f, "{space}{} {{", l.kind.name())?;
                self.block(&l.body, depth + 1)?;
                write!(self.f, "{:indent$}}}", "")?;
            }
            Stmt::Store(s) => {
                self.access(s.buf, &s.index)?;
                self.f.write_str(" = ")?;
                self.expr(&s.value, 0)?;
            }
            Stmt::Reduce(r) => {
                self.access(r.buf, &r.index)?;
                write!(self.f, " {} ", r.op.name())?;
                self.expr(&r.value, 0)?;
            }
            Stmt::Temp(b) => {
                self.f.write_str("temp ")?;
                match self.p.buffers.get(b.0 as usize) {
                    Some(buffer) => self.declaration(buffer)?,
                    None => self.buffer_name(*b)?,
                }
            }
            Stmt::Call(c) => {
                if is_identifier(&c.function) {
                    write!(self.f, "call {}(", c.function)?;
                } else {
                    write!(self.f, "call {}(", Quoted(&c.function))?;
                }
                self.buffers(&c.inputs)?;
                self.f.write_str(") -> (")?;
                self.buffers(&c.outputs)?;
                self.f.write_str(")")?;
                if !c.attrs.is_empty() {
                    self.list(" attrs(", &c.attrs, ")")?;
                }
            }
        }
        self.f.write_str("\n")
    }

    fn buffers(&mut self, bufs: &[BufId]) -> fmt::Result {
        for (i, &b) in bufs.iter().enumerate() {
            self.f.write_str(if i > 0 { ", " } else { "" })?;
            self.buffer_name(b)?;
        }
        Ok(())
    }

    fn buffer_name(&mut self, b: BufId) -> fmt::Result {
        match self.p.buffers.get(b.0 as usize) {
            Some(buffer) => self.name(&buffer.name),
            None => write!(self.f, "%?{}", b.0),
        }
    }

    /// The name of a buffer.
    fn name(&mut self, name: &str) -> fmt::Result {
        match self.p.placeholders.shown(name) {
            Some(placeholder) => write!(self.f, "%{placeholder}"),
            None => write!(self.f, "%{}", Name(name)),
        }
    }

    fn access(&mut self, buf: BufId, index: &[Index]) -> fmt::Result {
        self.buffer_name(buf)?;
        for (i, index) in index.iter().enumerate() {
            self.f.write_str(if i > 0 { "," } else { "[" })?;
            match index {
                Index::Affine(a) => self.affine(a)?,
                Index::Value(e) => {
                    self.f.write_str("(")?;
                    self.expr(e, 0)?;
                    self.f.write_str(")")?;
                }
            }
        }
        if index.is_empty() { Ok(()) } else { self.f.write_str("]") }
    }

    fn affine(&mut self, a: &Affine) -> fmt::Result {
        for (i, &(v, c)) in a.terms().iter().enumerate() {
            let sign = match (c < 0, i) {
                (true, _) => "-",
                (false, 0) => "",
                (false, _) => "+",
            };
            self.f.write_str(sign)?;
            if c.unsigned_abs() != 1 {
                write!(self.f, "{}*", c.unsigned_abs())?;
            }
            self.f.write_str(self.p.vars.get(v.0 as usize).map_or("?", String::as_str))?;
        }
        match (a.offset(), a.terms().is_empty()) {
            (c, true) => write!(self.f, "{c}"),
            (0, false) => Ok(()),
            (c, false) => write!(self.f, "{c:+}"),
        }
    }

    /// Prints an expression, in parentheses if it binds less strongly than `min`.
    fn expr(&mut self, e: &Expr, min: u8) -> fmt::Result {
        match e {
            Expr::Const(s) => write!(self.f, "{s}"),
            Expr::Load(l) => self.load(l),
            Expr::Index(a) => {
                self.f.write_str("idx(")?;
                self.affine(a)?;
                self.f.write_str(")")
            }
            Expr::Unary(op, a) => self.function(op.name(), &[a]),
            Expr::Binary(op, a, b) => match precedence(*op) {
                None => self.function(op.name(), &[a, b]),
                Some(level) => {
                    let open = level < min;
                    self.f.write_str(if open { "(" } else { "" })?;
                    // Comparisons do not associate.
                    self.expr(a, if op.is_comparison() { level + 1 } else { level })?;
                    write!(self.f, " {} ", op.name())?;
                    self.expr(b, level + 1)?;
                    self.f.write_str(if open { ")" } else { "" })
                }
            },
            Expr::Select(c, a, b) => self.function("select", &[c, a, b]),
            Expr::Cast(d, a) => self.function(d.name(), &[a]),
            Expr::Check(c) => {
                self.f.write_str("check(")?;
                self.expr(&c.value, 0)?;
                write!(self.f, ", {}, {}, {}", c.low, c.high, c.site.kind.name())?;
                let (node, op, input) = (Quoted(&c.site.node), Quoted(&c.site.op), Quoted(&c.site.input));
                write!(self.f, ", {node}, {op}, {input})")
            }
        }
    }

    fn function(&mut self, name: &str, args: &[&Expr]) -> fmt::Result {
        write!(self.f, "{name}(")?;
        for (i, arg) in args.iter().enumerate() {
            self.f.write_str(if i > 0 { ", " } else { "" })?;
            self.expr(arg, 0)?;
        }
        self.f.write_str(")")
    }

    fn load(&mut self, l: &Load) -> fmt::Result {
        let Some(otherwise) = &l.otherwise else { return self.access(l.buf, &l.index) };
        self.f.write_str("(")?;
        self.access(l.buf, &l.index)?;
        self.f.write_str(" else ")?;
        self.expr(otherwise, 0)?;
        self.f.write_str(")")
    }
}

/// Whether a character may be in a name without quotes.
pub(crate) const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$')
}

fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The name of a buffer or nest, quoted where needed.
pub(crate) struct Name<'a>(pub &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() && self.0.chars().all(is_name_char) {
            f.write_str(self.0)
        } else {
            Quoted(self.0).fmt(f)
        }
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use crate::*;

    #[test]
    fn a_dense_layer_reads_like_the_textbook_loop() {
        let mut p = Program::default();
        let x = p.add_buffer(Buffer::new("x", DType::F32, &[64, 512], Role::In));
        let w = p.add_buffer(Buffer::new("w", DType::F32, &[512, 512], Role::Const));
        let bias = p.add_buffer(Buffer::new("b", DType::F32, &[512], Role::Const));
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[64, 512], Role::Out));
        let mut b = NestBuilder::new(&mut p, "dense0");
        b.op("Gemm").op("Relu \"0\"");
        b.for_kind("n", 64, LoopKind::Parallel(None), |b, n| {
            b.for_("m", 512, |b, m| {
                let t = b.temp("t", DType::F32, &[]);
                b.store(t, SCALAR, Expr::f32(0.0));
                b.for_("k", 512, |b, k| {
                    b.reduce(ReduceOp::Add, t, SCALAR, Expr::load(x, [n, k]) * Expr::load(w, [k, m]));
                });
                let sum = Expr::load(t, SCALAR) + Expr::load(bias, [m]);
                b.store(y, [n, m], sum.relu());
            });
        });
        b.finish();
        let text = r#"nest @dense0(in %x: f32[64,512], const %w: f32[512,512], const %b: f32[512], out %y: f32[64,512]) ops("Gemm", "Relu \"0\"") {
  for n < 64 parallel {
    for m < 512 {
      temp %t: f32
      %t = 0.0
      for k < 512 {
        %t += %x[n,k] * %w[k,m]
      }
      %y[n,m] = max(%t + %b[m], 0.0)
    }
  }
}
"#;
        assert_eq!(p.to_string(), text);
        assert_eq!(p.show_nest(&p.nests[0]).to_string(), text);
    }

    #[test]
    fn physical_properties_names_and_calls() {
        let mut p = Program::default();
        let mut x = Buffer::new("a b", DType::F32, &[1, 8, 4, 4], Role::Temp);
        x.layout =
            Layout { panel: Some((1, 4)), interleave: Some((2, 3)), ..Layout::ordered(vec![0, 2, 3, 1]) };
        x.halo = vec![(0, 0), (0, 0), (1, 1), (1, 2)];
        x.halo_fill = Scalar::F32(f32::NEG_INFINITY);
        let x = p.add_buffer(x);
        p.add_buffer(Buffer::new("idle", DType::I64, &[], Role::In));
        let mut b = NestBuilder::new(&mut p, "sort/0");
        b.call("sort", &[x], &[x, x], &[-1, 2]);
        b.finish();
        assert_eq!(
            p.to_string(),
            "buffer in %idle: i64\n\nnest @\"sort/0\"(temp %\"a b\": f32[1,8,4,4] layout(0,2,3,1) panel(1,4) interleave(2,3) \
             halo(0:0,0:0,1:1,1:2 = -inf)) {\n  call sort(%\"a b\") -> (%\"a b\", %\"a b\") attrs(-1,2)\n}\n"
        );
    }

    #[test]
    fn parentheses_only_where_needed() {
        let p = Program::default();
        let c = |v| Expr::f32(v);
        let show = |e: Expr| p.show_expr(&e).to_string();
        assert_eq!(show((c(1.0) + c(2.0)) * c(3.0) - c(4.0)), "(1.0 + 2.0) * 3.0 - 4.0");
        assert_eq!(show(c(1.0) - (c(2.0) - c(-3.0))), "1.0 - (2.0 - -3.0)");
        assert_eq!(show(c(1.0) - c(2.0) - c(3.0)), "1.0 - 2.0 - 3.0");
        assert_eq!(show(c(1.0).lt(c(2.0)).equals(Expr::bool(true))), "(1.0 < 2.0) == true");
        let both = c(1.0).lt(c(2.0)).binary(BinOp::And, c(3.0).ge(c(4.0)));
        assert_eq!(
            show(both.select(-c(1.0), c(2.0).cast(DType::F32))),
            "select(1.0 < 2.0 & 3.0 >= 4.0, neg(1.0), f32(2.0))"
        );
    }

    #[test]
    fn literals() {
        let show = |s: Scalar| s.to_string();
        assert_eq!(show(Scalar::F32(1e-7)), "1e-7");
        assert_eq!(show(Scalar::F32(-0.0)), "-0.0");
        assert_eq!(show(Scalar::F32(f32::NAN)), "nan");
        assert_eq!(show(Scalar::F32(f32::from_bits(0xffc0_0001))), "bits_f32(0xffc00001)");
        assert_eq!(show(Scalar::F64(0.5)), "0.5f64");
        assert_eq!(show(Scalar::F64(f64::NEG_INFINITY)), "-inf_f64");
        assert_eq!(show(Scalar::F16(f16::from_f32(-0.1))), "-0.099975586f16");
        assert_eq!(show(Scalar::BF16(bf16::from_f32(1e30))), "1.00025555e30bf16");
        assert_eq!(show(Scalar::BF16(bf16::NAN)), "nan_bf16");
        assert_eq!(show(Scalar::I64(i64::MIN)), "-9223372036854775808i64");
        assert_eq!(show(Scalar::Bool(true)), "true");
    }

    #[test]
    fn affine_expressions() {
        let mut p = Program::default();
        let (i, j) = (p.add_var("i"), p.add_var("j"));
        let show = |a: Affine| p.show_affine(&a).to_string();
        assert_eq!(show(i * 2 + j - 1), "2*i+j-1");
        assert_eq!(show(i * -1 - j * 3 + 4), "-i-3*j+4");
        assert_eq!(show(Affine::constant(-7)), "-7");
    }
}
