//! Statements of a program by themselves: with the buffers and variables that they use, and nothing else, numbered on
//! their own.
//!
//! Most nests of a network occur many times, up to names. What is done to one of them is decided once, on its
//! [`Excerpt`], and [placed](Excerpt::place) in the program for each that has the same [key](Uses::key): with buffers
//! and variables of its own, in the order in which it would have got them.
//!
//! Numbers keep their order, so that whatever is decided in the order of numbers is decided alike. Names in an excerpt are
//! placeholders, which texts and new names may contain and which are filled in where the excerpt is placed: names say
//! nothing about what is to be done.

mod key;
mod uses;

use std::fmt::Write as _;
use std::sync::Arc;

use crate::affine::{Affine, Var};
use crate::check::Site;
use crate::nest::{BufId, Buffer, Call, Expr, Index, Load, Program, Role, Stmt};

use key::Places;
pub use key::{Detail, Key};
pub use uses::Uses;

/// The buffers and variables of some statements as a program of its own, which may be given more of both.
#[derive(Clone, Debug)]
pub struct Excerpt {
    /// The buffers and variables, in the order of their numbers. Names are placeholders.
    pub program: Program,
    uses: Uses,
}

impl Excerpt {
    /// What the name of the nest at hand is called in an excerpt.
    pub const NEST: &'static str = "\u{e000}n0\u{e001}";

    /// The buffers and variables that are used.
    pub fn of(program: &Program, uses: Uses) -> Excerpt {
        let mut part = Program { placeholders: Placeholders(Some(Wanted::default())), ..Program::default() };
        part.buffers.reserve(uses.bufs.len());
        part.vars.reserve(uses.vars.len());
        part.placeholders.reserve(uses.bufs.len(), uses.vars.len());
        for &b in &uses.bufs {
            let of = program.buf(b);
            part.add_buffer(Buffer {
                name: String::new(),
                shape: of.shape.clone(),
                layout: of.layout.clone(),
                halo: of.halo.clone(),
                ..*of
            });
        }
        for _ in &uses.vars {
            part.add_var(String::new());
        }
        Excerpt { program: part, uses }
    }

    /// Gives statements of the program the numbers of the excerpt.
    pub fn number(&self, body: &mut [Stmt]) {
        let Uses { bufs, vars, .. } = &self.uses;
        let (buf_places, var_places) =
            (Places::of(bufs.iter().map(|b| b.0)), Places::of(vars.iter().map(|v| v.0)));
        let search = |b| bufs.binary_search(&b).unwrap_or(usize::MAX) as u32;
        let search_var = |v| vars.binary_search(&v).unwrap_or(usize::MAX) as u32;
        let find = |b: BufId| BufId(buf_places.get(b.0, || search(b)));
        let find_var = |v: Var| Var(var_places.get(v.0, || search_var(v)));
        rename(body, &find, &find_var, &|site| site);
    }

    /// Brings what was added to the excerpt, and what became of its locals, into a program, for statements there that
    /// have the same key and use `there`.
    pub fn place(&self, program: &mut Program, there: &Uses) -> Placement {
        let (mut bufs, mut vars) = (there.bufs.clone(), there.vars.clone());
        debug_assert_eq!((bufs.len(), vars.len()), (self.uses.bufs.len(), self.uses.vars.len()));
        for (own, &b) in self.program.buffers.iter().zip(&there.bufs) {
            let (name, changed) = (&program.buf(b).name, program.buf(b));
            let same = (own.dtype, own.role, own.halo_fill)
                == (changed.dtype, changed.role, changed.halo_fill)
                && (&own.shape, &own.layout, &own.halo) == (&changed.shape, &changed.layout, &changed.halo);
            if !same {
                debug_assert_eq!(own.role, Role::Local, "other nests know the buffer too");
                *program.buf_mut(b) = Buffer { name: name.clone(), ..own.clone() };
            }
        }
        let empty = Wanted::default();
        let wanted = self.program.placeholders.0.as_ref().unwrap_or(&empty);
        for name in &wanted.vars[vars.len()..] {
            let name = fill(name, program, &bufs, &vars, "");
            vars.push(program.add_var(name));
        }
        for (name, own) in wanted.bufs.iter().zip(&self.program.buffers).skip(bufs.len()) {
            let name = fill(name, program, &bufs, &vars, "");
            let name = program.unique_buffer_name(&name);
            bufs.push(program.add_buffer(Buffer { name, ..own.clone() }));
        }
        let mut placement = Placement { bufs, vars, sites: Vec::new() };
        placement.note_sites(&self.uses, there);
        placement
    }
}

/// Where the buffers and variables of an excerpt are in a program.
#[derive(Clone, Debug)]
pub struct Placement {
    bufs: Vec<BufId>,
    vars: Vec<Var>,
    /// Sites of the excerpt and what they are here, if these are others.
    sites: Vec<(Arc<Site>, Arc<Site>)>,
}

impl Placement {
    /// What a buffer of the excerpt is here.
    pub fn buf(&self, buf: BufId) -> BufId {
        self.bufs[buf.0 as usize]
    }

    /// What a variable of the excerpt is here.
    pub fn var(&self, var: Var) -> Var {
        self.vars[var.0 as usize]
    }

    /// Gives statements of the excerpt the numbers that they have here.
    pub fn statements(&self, body: &mut [Stmt]) {
        rename(body, &|b| self.buf(b), &|v| self.var(v), &|site| self.site(site));
    }

    /// What statements of the excerpt use that use this there.
    pub fn uses(&self, uses: &Uses) -> Uses {
        Uses {
            bufs: uses.bufs.iter().map(|b| self.buf(*b)).collect(),
            vars: uses.vars.iter().map(|v| self.var(*v)).collect(),
            sites: uses.sites.iter().map(|s| self.site(Arc::clone(s))).collect(),
        }
    }

    fn note_sites(&mut self, own: &Uses, there: &Uses) {
        if own.sites != there.sites {
            self.sites = own.sites.iter().cloned().zip(there.sites.iter().cloned()).collect();
        }
    }

    fn site(&self, site: Arc<Site>) -> Arc<Site> {
        match self.sites.iter().find(|s| s.0 == site) {
            Some((_, here)) => Arc::clone(here),
            None => site,
        }
    }

    /// A text about the excerpt with the names that things have here; `nest` is that of the nest.
    pub fn text(&self, program: &Program, text: &str, nest: &str) -> String {
        fill(text, program, &self.bufs, &self.vars, nest)
    }
}

/// The marks around a placeholder, which are not characters of any language.
const MARKS: (char, char) = ('\u{e000}', '\u{e001}');

/// The placeholder of the thing of a kind that has this number. (There are as many as things, so that formatting counts.)
fn placeholder(kind: char, number: usize) -> String {
    let mut text = String::with_capacity(16);
    text.push(MARKS.0);
    text.push(kind);
    let mut digits = [0; 20];
    let (mut first, mut rest) = (digits.len(), number);
    loop {
        first -= 1;
        digits[first] = (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text.extend(digits[first..].iter().map(|digit| char::from(b'0' + digit)));
    text.push(MARKS.1);
    text
}

/// A text with its placeholders filled in.
fn fill(text: &str, program: &Program, bufs: &[BufId], vars: &[Var], nest: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(MARKS.0) {
        let (before, mark) = rest.split_at(at);
        out.push_str(before);
        let inner = &mark[MARKS.0.len_utf8()..];
        let known = inner.find(MARKS.1).and_then(|end| {
            let number: usize = inner.get(1..end)?.parse().ok()?;
            let buffer = || bufs.get(number).map(|b| program.buf(*b).name.as_str());
            let (name, quoted) = match inner.as_bytes().first()? {
                b'b' => (buffer()?, false),
                b'q' => (buffer()?, true),
                b'v' => (program.var_name(*vars.get(number)?), false),
                b'n' => (nest, false),
                _ => return None,
            };
            // Writing to a `String` cannot fail.
            let _ = if quoted { write!(out, "{}", crate::print::Name(name)) } else { write!(out, "{name}") };
            Some(&inner[end + MARKS.1.len_utf8()..])
        });
        rest = known.unwrap_or_else(|| {
            out.push(MARKS.0);
            inner
        });
    }
    out.push_str(rest);
    out
}

/// The names that were wanted for the buffers and variables of an excerpt; `None` in a program whose names are names. It is
/// no part of what a program is: any two are equal.
#[derive(Clone, Default, Debug)]
pub(crate) struct Placeholders(Option<Wanted>);

#[derive(Clone, Default, Debug)]
struct Wanted {
    bufs: Vec<String>,
    vars: Vec<String>,
}

impl PartialEq for Placeholders {
    fn eq(&self, _: &Placeholders) -> bool {
        true
    }
}

impl Placeholders {
    /// Whether names are placeholders, so that every one is free.
    pub fn are_used(&self) -> bool {
        self.0.is_some()
    }

    /// Makes room for so many buffers and variables.
    fn reserve(&mut self, bufs: usize, vars: usize) {
        if let Some(wanted) = &mut self.0 {
            wanted.bufs.reserve(bufs);
            wanted.vars.reserve(vars);
        }
    }

    /// The placeholder in a text of the IR, where names are quoted if need be, for that which is the name of a buffer.
    pub fn shown(&self, name: &str) -> Option<String> {
        let number = self.0.as_ref().and_then(|_| name.strip_prefix(MARKS.0)?.strip_prefix('b'))?;
        Some(format!("{}q{number}", MARKS.0))
    }

    /// The name of the next buffer, for which this one is wanted.
    pub fn buffer(&mut self, wanted: String) -> String {
        Placeholders::next('b', self.0.as_mut().map(|w| &mut w.bufs), wanted)
    }

    /// The name of the next variable, for which this one is wanted.
    pub fn var(&mut self, wanted: String) -> String {
        Placeholders::next('v', self.0.as_mut().map(|w| &mut w.vars), wanted)
    }

    fn next(kind: char, list: Option<&mut Vec<String>>, wanted: String) -> String {
        let Some(list) = list else { return wanted };
        list.push(wanted);
        placeholder(kind, list.len() - 1)
    }
}

type Find<'a, T> = &'a dyn Fn(T) -> T;

/// Renames all buffers, variables and sites; new numbers of variables are in the order of the old ones.
fn rename(body: &mut [Stmt], buf: Find<'_, BufId>, var: Find<'_, Var>, site: Find<'_, Arc<Site>>) {
    Renamer { buf, var, site }.block(body);
}

struct Renamer<'a> {
    buf: Find<'a, BufId>,
    var: Find<'a, Var>,
    site: Find<'a, Arc<Site>>,
}

impl Renamer<'_> {
    fn block(&self, body: &mut [Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::For(l) => {
                    l.var = (self.var)(l.var);
                    self.block(&mut l.body);
                }
                Stmt::Store(s) => {
                    s.buf = (self.buf)(s.buf);
                    self.index(&mut s.index);
                    self.expr(&mut s.value);
                }
                Stmt::Reduce(r) => {
                    r.buf = (self.buf)(r.buf);
                    self.index(&mut r.index);
                    self.expr(&mut r.value);
                }
                Stmt::Temp(b) => *b = (self.buf)(*b),
                Stmt::Call(Call { inputs, outputs, .. }) => {
                    inputs.iter_mut().chain(outputs).for_each(|b| *b = (self.buf)(*b));
                }
            }
        }
    }

    fn index(&self, index: &mut [Index]) {
        for i in index {
            match i {
                Index::Affine(a) => self.affine(a),
                Index::Value(e) => self.expr(e),
            }
        }
    }

    fn affine(&self, a: &mut Affine) {
        a.rename_in_order(self.var);
    }

    fn load(&self, l: &mut Load) {
        l.buf = (self.buf)(l.buf);
        self.index(&mut l.index);
        if let Some(otherwise) = &mut l.otherwise {
            self.expr(otherwise);
        }
    }

    fn expr(&self, expr: &mut Expr) {
        match expr {
            Expr::Const(_) => {}
            Expr::Load(l) => self.load(l),
            Expr::Index(a) => self.affine(a),
            Expr::Unary(_, a) | Expr::Cast(_, a) => self.expr(a),
            Expr::Binary(_, a, b) => {
                self.expr(a);
                self.expr(b);
            }
            Expr::Select(c, a, b) => {
                self.expr(c);
                self.expr(a);
                self.expr(b);
            }
            Expr::Check(c) => {
                c.site = (self.site)(Arc::clone(&c.site));
                self.expr(&mut c.value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
