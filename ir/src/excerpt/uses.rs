//! What statements use: by itself, and together with others.

use std::sync::Arc;

use super::Placement;
use crate::affine::Var;
use crate::check::Site;
use crate::nest::{BufId, Expr, Index, Stmt};

/// What statements use: buffers, variables and sites of checks, in ascending order (sites in order of appearance).
#[derive(Clone, Debug, Default)]
pub struct Uses {
    pub(super) bufs: Vec<BufId>,
    pub(super) vars: Vec<Var>,
    pub(super) sites: Vec<Arc<Site>>,
}

impl Uses {
    /// What these statements use.
    pub fn of(bodies: &[&[Stmt]]) -> Uses {
        let mut uses = Uses::default();
        bodies.iter().for_each(|body| uses.block(body));
        uses.bufs.sort_unstable();
        uses.bufs.dedup();
        uses.vars.sort_unstable();
        uses.vars.dedup();
        uses
    }

    /// The buffers, ascending.
    pub fn bufs(&self) -> &[BufId] {
        &self.bufs
    }

    /// The number of a buffer in an excerpt; `None` if no statement uses it.
    pub fn buf(&self, buf: BufId) -> Option<BufId> {
        self.bufs.binary_search(&buf).ok().map(|at| BufId(at as u32))
    }

    /// The number of a variable in an excerpt; `None` if no statement uses it.
    pub fn var(&self, var: Var) -> Option<Var> {
        self.vars.binary_search(&var).ok().map(|at| Var(at as u32))
    }

    /// What these and other statements use together. Adds to `pattern` the words that, with what each of them is by itself,
    /// say what both are together: which of the things one of them uses the other uses too, in the order of all.
    pub fn joined(&self, other: &Uses, pattern: &mut Vec<u64>) -> Uses {
        let mut both = Uses {
            bufs: merged(&self.bufs, &other.bufs, pattern),
            vars: merged(&self.vars, &other.vars, pattern),
            sites: self.sites.clone(),
        };
        for site in &other.sites {
            let at = both.sites.iter().position(|s| s == site).unwrap_or_else(|| {
                both.sites.push(Arc::clone(site));
                both.sites.len() - 1
            });
            pattern.push(at as u64);
        }
        both
    }

    /// Where things are that statements with the same key use, given what these and what those use.
    pub fn placement(&self, there: &Uses) -> Placement {
        let mut placement =
            Placement { bufs: there.bufs.clone(), vars: there.vars.clone(), sites: Vec::new() };
        placement.note_sites(self, there);
        placement
    }

    fn note_buf(&mut self, buf: BufId) {
        // Most accesses are to what was accessed before.
        if !self.bufs.iter().rev().take(4).any(|b| *b == buf) {
            self.bufs.push(buf);
        }
    }

    fn note_var(&mut self, var: Var) {
        if !self.vars.iter().rev().take(4).any(|v| *v == var) {
            self.vars.push(var);
        }
    }

    fn block(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::For(l) => {
                    self.note_var(l.var);
                    self.block(&l.body);
                }
                Stmt::Store(s) => {
                    self.note_buf(s.buf);
                    self.index(&s.index);
                    self.expr(&s.value);
                }
                Stmt::Reduce(r) => {
                    self.note_buf(r.buf);
                    self.index(&r.index);
                    self.expr(&r.value);
                }
                Stmt::Temp(b) => self.note_buf(*b),
                Stmt::Call(c) => c.inputs.iter().chain(&c.outputs).for_each(|b| self.note_buf(*b)),
            }
        }
    }

    fn index(&mut self, index: &[Index]) {
        for i in index {
            match i {
                Index::Affine(a) => a.vars().for_each(|v| self.note_var(v)),
                Index::Value(e) => self.expr(e),
            }
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Const(_) => {}
            Expr::Load(l) => {
                self.note_buf(l.buf);
                self.index(&l.index);
                if let Some(otherwise) = &l.otherwise {
                    self.expr(otherwise);
                }
            }
            Expr::Index(a) => a.vars().for_each(|v| self.note_var(v)),
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
                if !self.sites.contains(&c.site) {
                    self.sites.push(Arc::clone(&c.site));
                }
                self.expr(&c.value);
            }
        }
    }
}

/// Two ascending lists as one. Adds to `pattern` which of them each of its members is from, two bits each: the first, the
/// second, or both.
fn merged<T: Ord + Copy>(first: &[T], second: &[T], pattern: &mut Vec<u64>) -> Vec<T> {
    const MEMBERS: usize = u64::BITS as usize / 2;
    let mut both = Vec::with_capacity(first.len() + second.len());
    let (mut a, mut b) = (first, second);
    let (mut word, start) = (0, pattern.len());
    // The number of members comes first.
    pattern.push(0);
    loop {
        let (next, from) = match (a, b) {
            ([], []) => break,
            ([x, rest @ ..], [y, others @ ..]) if x == y => {
                (a, b) = (rest, others);
                (*x, 3)
            }
            ([x, rest @ ..], [y, ..]) if x < y => {
                a = rest;
                (*x, 1)
            }
            ([x, rest @ ..], []) => {
                a = rest;
                (*x, 1)
            }
            (_, [y, rest @ ..]) => {
                b = rest;
                (*y, 2)
            }
        };
        both.push(next);
        word = word << 2 | from;
        if both.len().is_multiple_of(MEMBERS) {
            pattern.push(word);
            word = 0;
        }
    }
    pattern[start] = both.len() as u64;
    pattern.push(word);
    both
}
