//! Prologues: a producer that computes each element by itself is substituted into the loads of its consumers.
//!
//! Before and after:
//!
//! ```text
//! for i < 8 { for j < 4 { %t[i,j] = %x[j,i] } }
//! for a < 8 { for b < 4 { %y[a,b] = exp(%t[a,b]) } }      for a < 8 { for b < 4 { %y[a,b] = exp(%x[b,a]) } }
//! ```
//!
//! Legal if the producer stores every element once, each dimension indexed by a loop of its own. It pays if
//! nothing is computed more often than before: each element is read once, or computing it means moving it (a
//! transposition, slice, broadcast, padding, conversion). Everything else is left to [`super::merge`].

use nestjit_ir::access::accesses;
use nestjit_ir::visit::{self, Extents};
use nestjit_ir::{Affine, BufId, Expr, Index, Load, LoopKind, Program, Stmt, Store, Var};

use super::Refusal;
use super::align::{Head, perfect};
use super::profit;

/// A substituted expression has at most this many operations.
const MAX_EXPRESSION: usize = 64;

/// A nest that is nothing but `for .. { buf[..] = value }`, every element stored once.
#[derive(Clone, Debug)]
pub(super) struct Pointwise {
    pub buf: BufId,
    pub value: Expr,
    /// For each dimension its loop; `None` for the only element of an extent of 1.
    dims: Vec<Option<Var>>,
}

impl Pointwise {
    /// Reads a nest as one, if it has that form.
    pub fn of(program: &Program, body: &[Stmt]) -> Option<Pointwise> {
        let (heads, innermost) = match body {
            [Stmt::For(l)] => perfect(l),
            body => (Vec::new(), body),
        };
        let [Stmt::Store(Store { buf, index, value })] = innermost else { return None };
        if heads.iter().any(|h| h.kind != LoopKind::Serial) {
            return None;
        }
        let shape = &program.buf(*buf).shape;
        let mut free: Vec<Head> = heads;
        let mut dims = Vec::with_capacity(index.len());
        for (index, extent) in index.iter().zip(shape) {
            let affine = index.as_affine()?;
            if let Some(var) = affine.as_var() {
                let at = free.iter().position(|h| h.var == var && h.extent == *extent)?;
                free.remove(at);
                dims.push(Some(var));
            } else if *extent == 1 && affine.as_const() == Some(0) {
                dims.push(None);
            } else {
                return None;
            }
        }
        let mut own = false;
        visit::walk_expr(value, &mut |e| own |= matches!(e, Expr::Load(l) if l.buf == *buf));
        (free.is_empty() && !own).then(|| Pointwise { buf: *buf, value: value.clone(), dims })
    }

    /// Whether the value is an element of another buffer or a literal, moved or converted.
    pub fn moves(&self) -> bool {
        let mut loads = 0;
        let mut plain = true;
        visit::walk_expr(&self.value, &mut |e| match e {
            Expr::Load(_) => loads += 1,
            Expr::Const(_) | Expr::Cast(..) => {}
            Expr::Index(_) | Expr::Unary(..) | Expr::Binary(..) | Expr::Select(..) => plain = false,
        });
        plain && loads <= 1
    }

    /// Substitutes the value into every load of the buffer in `body`, if that pays.
    pub fn inline(&self, program: &Program, body: &[Stmt]) -> Result<Vec<Stmt>, Refusal> {
        let extents = Extents::of(body);
        self.pays(program, body)?;
        let mut result = body.to_vec();
        let mut refusal = None;
        visit::map_loads(&mut result, &mut |l| {
            if l.buf != self.buf || refusal.is_some() {
                return None;
            }
            self.at(program, &extents, l).map_err(|r| refusal = Some(r)).ok()
        });
        match refusal {
            Some(refusal) => Err(refusal),
            None => Ok(result),
        }
    }

    fn pays(&self, program: &Program, body: &[Stmt]) -> Result<(), Refusal> {
        let mut operations = 0;
        visit::walk_expr(&self.value, &mut |_| operations += 1);
        if operations > MAX_EXPRESSION {
            return Err(Refusal::new("recompute", "the expression is too long to be substituted"));
        }
        if self.moves() {
            return self.keeps_vectors(program, body);
        }
        let read: usize = accesses(body)
            .iter()
            .filter(|a| a.buf == self.buf)
            .map(|a| a.loops.iter().map(|l| l.extent).fold(1, usize::saturating_mul))
            .fold(0, usize::saturating_add);
        let len = program.buf(self.buf).len().max(1);
        if read > len {
            return Err(Refusal::new("recompute", format!("recompute {}x", read.div_ceil(len))));
        }
        Ok(())
    }

    /// A contraction's vectors must still run along contiguous elements of what it reads.
    fn keeps_vectors(&self, program: &Program, body: &[Stmt]) -> Result<(), Refusal> {
        let mut moved = Vec::new();
        visit::walk_expr(&self.value, &mut |e| {
            if let Expr::Load(l) = e {
                moved.push(l);
            }
        });
        let ([load], Some(Some(last))) = (moved.as_slice(), self.dims.last()) else { return Ok(()) };
        let contiguous =
            load.index.last().and_then(Index::as_affine).is_some_and(|a| a.coeff(*last).abs() == 1);
        if contiguous {
            return Ok(());
        }
        for c in profit::contractions(body) {
            let along = c.column.0.iter().filter(|l| l.buf == self.buf).any(|l| {
                let last = l.index.last().and_then(Index::as_affine);
                last.is_some_and(|a| c.column.1.iter().any(|v| a.uses(*v)))
            });
            if along {
                return Err(Refusal::new(
                    "stride",
                    format!(
                        "the vectors of the contraction would gather from %{}",
                        program.buf(load.buf).name
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The value that a load yields.
    fn at(&self, program: &Program, extents: &Extents, load: &Load) -> Result<Expr, Refusal> {
        let mut map: Vec<(Var, Affine)> = Vec::new();
        let mut outside = Vec::new();
        for (d, (index, size)) in load.index.iter().zip(&program.buf(self.buf).shape).enumerate() {
            let Index::Affine(a) = index else {
                return Err(Refusal::new("gather", "the consumer computes the index at run time"));
            };
            let inside = extents
                .range(a)
                .is_none_or(|(lo, hi)| lo >= 0 && usize::try_from(hi).is_ok_and(|hi| hi < *size));
            if !inside {
                outside.push(d);
            }
            if let Some(var) = self.dims[d] {
                map.push((var, a.clone()));
            }
        }
        let mut value = self.value.clone();
        if !outside.is_empty() {
            self.compose_padding(program, &outside, load, &mut value)?;
        }
        // All at once: the consumer's indices may use variables of the same numbers as none of ours, but a
        // substituted index must not be substituted again.
        visit::walk_expr_affine_mut(&mut value, &mut |a| {
            *a = a.terms().iter().fold(Affine::constant(a.offset()), |sum, &(v, c)| {
                match map.iter().find(|m| m.0 == v) {
                    Some((_, with)) => sum + with.scale(c),
                    None => sum + Affine::term(v, c),
                }
            });
        });
        Ok(value)
    }

    /// Outside of the buffer, the consumer's `otherwise` holds. The load that takes its place must be outside
    /// of its buffer wherever the consumer was outside of ours, and yield the same there.
    fn compose_padding(
        &self,
        program: &Program,
        outside: &[usize],
        load: &Load,
        value: &mut Expr,
    ) -> Result<(), Refusal> {
        let refuse = || Refusal::new("padding", "the consumer pads what the producer computes");
        let (Expr::Load(inner), Some(otherwise)) = (value, &load.otherwise) else { return Err(refuse()) };
        if otherwise.as_const().is_none() || inner.otherwise.as_ref().is_some_and(|o| o != otherwise) {
            return Err(refuse());
        }
        let shape = &program.buf(self.buf).shape;
        let source = &program.buf(inner.buf).shape;
        for &d in outside {
            let Some(var) = self.dims[d] else { return Err(refuse()) };
            let covered = inner.index.iter().zip(source).any(|(i, size)| {
                let Some(a) = i.as_affine() else { return false };
                let shifted = a.terms() == [(var, 1)];
                shifted && a.offset() <= 0 && shape[d] as i64 + a.offset() >= *size as i64
            });
            if !covered {
                return Err(refuse());
            }
        }
        inner.otherwise = Some(otherwise.clone());
        Ok(())
    }
}
