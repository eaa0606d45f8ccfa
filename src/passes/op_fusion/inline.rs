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
//! transposition, slice, broadcast, padding, conversion), or multiplying it by a factor that many rows of a
//! contraction share (squeeze-and-excite). Everything else is left to [`super::merge`]. What is read several times is
//! not converted to smaller elements there: those are to lie in memory. And what is quantised becomes numbers where it
//! is read, so that only the smaller elements lie in memory.
//!
//! A producer that flattens (`%t[28*i+j] = %x[i,j]`) goes into a reduction along the flattened dimension: the
//! reduction loop `k < 784` becomes `i < 28` around `j < 28`. It also goes into another nest that only moves elements.

use nestjit_ir::access::accesses;
use nestjit_ir::access::bounds::{too_far, too_large};
use nestjit_ir::visit::{self, Extents};
use nestjit_ir::{Affine, BinOp, BufId, DType, Expr, Index, Load, LoopKind, Program, Stmt, Store, Var};

use super::align::{Head, perfect, wrap};
use super::profit;
use crate::remark::Apart;

/// A substituted expression has at most this many operations.
const MAX_EXPRESSION: usize = 64;

/// A factor may go into a contraction if at least this many of the contraction's rows share it. What at least as many of
/// them read is converted before.
const MIN_SHARED: usize = 8;

/// A nest that is nothing but `for .. { buf[..] = value }`, every element stored once.
#[derive(Clone, Debug)]
pub(super) struct Pointwise {
    pub buf: BufId,
    pub value: Expr,
    /// For each dimension its loops, the fastest last; none for the only element of an extent of 1.
    dims: Vec<Vec<Head>>,
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
        let mut free: Vec<Head> = heads.clone();
        let mut dims = Vec::with_capacity(index.len());
        for (index, extent) in index.iter().zip(shape) {
            let loops = digits(index.as_affine()?, *extent, &heads)?;
            for l in &loops {
                let at = free.iter().position(|h| h.var == l.var)?;
                free.remove(at);
            }
            dims.push(loops);
        }
        let mut own = false;
        visit::walk_expr(value, &mut |e| own |= matches!(e, Expr::Load(l) if l.buf == *buf));
        (free.is_empty() && !own).then(|| Pointwise { buf: *buf, value: value.clone(), dims })
    }

    /// Whether some dimension is indexed by several loops.
    pub fn flattens(&self) -> bool {
        self.dims.iter().any(|d| d.len() > 1)
    }

    /// Whether the value is an element of another buffer or a literal, moved or converted.
    pub fn moves(&self) -> bool {
        moves(&self.value)
    }

    /// Whether the value is an element of a buffer of smaller elements, converted, shifted and scaled by literals.
    pub fn unpacks(&self, program: &Program) -> bool {
        let (mut loads, mut plain) = (Vec::new(), true);
        visit::walk_expr(&self.value, &mut |e| match e {
            Expr::Load(l) => loads.push(l),
            Expr::Const(_) | Expr::Cast(..) | Expr::Binary(BinOp::Add | BinOp::Sub | BinOp::Mul, ..) => {}
            Expr::Index(_) | Expr::Unary(..) | Expr::Binary(..) | Expr::Select(..) | Expr::Check(_) => {
                plain = false;
            }
        });
        let size = |buf| program.buf(buf).dtype.size();
        plain && matches!(loads.as_slice(), [l] if size(l.buf) < size(self.buf))
    }

    /// Whether the value is converted to an element that takes less memory, or rounded to what such an element holds.
    pub fn narrows(&self, program: &Program) -> bool {
        let size = |buf| program.buf(buf).dtype.size();
        let mut narrows = false;
        visit::walk_expr(&self.value, &mut |e| match e {
            Expr::Load(l) => narrows |= size(l.buf) > size(self.buf),
            Expr::Cast(to, _) => {
                narrows |= matches!(to, DType::F16 | DType::BF16) && *to != program.buf(self.buf).dtype
            }
            _ => {}
        });
        narrows
    }

    /// Whether the value is an element of a half type, which contractions in `body` read several times: with a conversion
    /// each time, instead of one for all.
    fn widens_factors(&self, program: &Program, body: &[Stmt]) -> bool {
        let mut half = false;
        visit::walk_expr(&self.value, &mut |e| {
            half |=
                matches!(e, Expr::Load(l) if matches!(program.buf(l.buf).dtype, DType::F16 | DType::BF16));
        });
        let size = program.buf(self.buf).dtype.size();
        let factor =
            |c: &profit::Contraction<'_>| c.row.0.iter().chain(&c.column.0).any(|l| l.buf == self.buf);
        half && size > DType::F16.size()
            && self.reads(body) >= program.buf(self.buf).len().saturating_mul(MIN_SHARED)
            && profit::contractions(program, body).iter().any(factor)
    }

    /// How often elements are read in `body`.
    fn reads(&self, body: &[Stmt]) -> usize {
        accesses(body)
            .iter()
            .filter(|a| a.buf == self.buf)
            .map(|a| a.loops.iter().map(|l| l.extent).fold(1, usize::saturating_mul))
            .fold(0, usize::saturating_add)
    }

    /// Substitutes the value into every load of the buffer in `body`, if that pays.
    pub fn inline(&self, program: &Program, body: &[Stmt]) -> Result<Vec<Stmt>, Apart> {
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
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        for (loops, var) in self.split(body)? {
            split_loop(&mut result, var, loops);
        }
        Ok(result)
    }

    /// The loops of `body` that must be cut into loops over a flattened dimension's parts. They are to be
    /// reductions, or those of a nest that only moves elements, and each part can be bound once only.
    fn split(&self, body: &[Stmt]) -> Result<Vec<(&[Head], Var)>, Apart> {
        let refuse = || Apart::Flattened;
        let moved = only_moves(body);
        let mut result: Vec<(&[Head], Var)> = Vec::new();
        for (d, loops) in self.dims.iter().enumerate().filter(|(_, loops)| loops.len() > 1) {
            let mut own: Option<Var> = None;
            for access in accesses(body).iter().filter(|a| a.buf == self.buf) {
                let index = access.index.and_then(|i| i[d].as_affine());
                let var = index.and_then(Affine::as_var).ok_or_else(refuse)?;
                let extent: usize = loops.iter().map(|h| h.extent).product();
                let reduces = access.loops.iter().any(|l| {
                    let only = |s: &Stmt| matches!(s, Stmt::Reduce(_) | Stmt::For(_));
                    l.var == var && l.extent == extent && (moved || l.body.iter().all(only))
                });
                if !reduces || *own.get_or_insert(var) != var {
                    return Err(refuse());
                }
            }
            if result.iter().any(|(_, var)| Some(*var) == own) {
                return Err(refuse());
            }
            result.extend(own.map(|var| (loops.as_slice(), var)));
        }
        Ok(result)
    }

    fn pays(&self, program: &Program, body: &[Stmt]) -> Result<(), Apart> {
        let mut operations = 0;
        visit::walk_expr(&self.value, &mut |_| operations += 1);
        if operations > MAX_EXPRESSION {
            return Err(Apart::LongExpression);
        }
        let (read, len) = (self.reads(body), program.buf(self.buf).len().max(1));
        if self.widens_factors(program, body) {
            return Err(Apart::Converted { times: read.div_ceil(len) });
        }
        if self.moves() && !(read > len && self.narrows(program)) {
            return self.keeps_vectors(program, body);
        }
        if self.scales_operand(program, body) {
            return Ok(());
        }
        if read > len {
            return Err(Apart::Recomputed { times: read.div_ceil(len) });
        }
        Ok(())
    }

    /// Whether every reader is a contraction, and the value an element times a factor that is the same for many
    /// rows of it: the factor then costs a multiplication per many multiply-adds, wherever the schedule puts it.
    fn scales_operand(&self, program: &Program, body: &[Stmt]) -> bool {
        let Expr::Binary(BinOp::Mul, a, b) = &self.value else { return false };
        let (Expr::Load(a), Expr::Load(b)) = (a.as_ref(), b.as_ref()) else { return false };
        if a.otherwise.is_some() || b.otherwise.is_some() || self.flattens() {
            return false;
        }
        let extents = Extents::of(body);
        let mut reads = accesses(body).iter().filter(|a| a.buf == self.buf).count();
        for c in profit::contractions(program, body) {
            for (loads, own) in [&c.column, &c.row] {
                let [load] = loads.as_slice() else { continue };
                if load.buf != self.buf || load.otherwise.is_some() {
                    continue;
                }
                let Ok(Expr::Binary(_, a, b)) = self.at(program, &extents, load) else { return false };
                let shared = |factor: &Expr| -> usize {
                    let vars = visit::expr_vars(factor);
                    own.iter().filter(|v| !vars.contains(v)).filter_map(|v| extents.get(*v)).product()
                };
                if shared(&a).max(shared(&b)) < MIN_SHARED {
                    return false;
                }
                reads -= 1;
            }
        }
        reads == 0
    }

    /// A contraction's vectors must still run along contiguous elements of what it reads.
    fn keeps_vectors(&self, program: &Program, body: &[Stmt]) -> Result<(), Apart> {
        let mut moved = Vec::new();
        visit::walk_expr(&self.value, &mut |e| {
            if let Expr::Load(l) = e {
                moved.push(l);
            }
        });
        let ([load], Some(last)) = (moved.as_slice(), self.dims.last().and_then(|d| d.last())) else {
            return Ok(());
        };
        let contiguous =
            load.index.last().and_then(Index::as_affine).is_some_and(|a| a.coeff(last.var).abs() == 1);
        if contiguous {
            return Ok(());
        }
        for c in profit::contractions(program, body) {
            let along = c.column.0.iter().filter(|l| l.buf == self.buf).any(|l| {
                let last = l.index.last().and_then(Index::as_affine);
                last.is_some_and(|a| c.column.1.iter().any(|v| a.uses(*v)))
            });
            if along {
                return Err(Apart::Gathers { buf: load.buf });
            }
        }
        Ok(())
    }

    /// The value that a load yields.
    fn at(&self, program: &Program, extents: &Extents, load: &Load) -> Result<Expr, Apart> {
        let mut map: Vec<(Var, Affine)> = Vec::new();
        let mut outside = Vec::new();
        for (d, (index, size)) in load.index.iter().zip(&program.buf(self.buf).shape).enumerate() {
            let Index::Affine(a) = index else {
                return Err(Apart::ComputedIndex);
            };
            let inside = extents
                .range(a)
                .is_none_or(|(lo, hi)| lo >= 0 && usize::try_from(hi).is_ok_and(|hi| hi < *size));
            if !inside {
                outside.push(d);
            }
            if let [only] = self.dims[d].as_slice() {
                map.push((only.var, a.clone()));
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
        let mut far = false;
        visit::walk_expr(&value, &mut |e| match e {
            Expr::Load(l) => {
                let index = l.index.iter().enumerate().filter_map(|(d, i)| Some((d, i.as_affine()?)));
                far |= index.into_iter().any(|(d, a)| too_far(program.buf(l.buf), d, a, extents).is_some());
            }
            Expr::Index(a) => far |= too_large(a, extents),
            _ => {}
        });
        if far {
            return Err(Apart::IndexTooFar);
        }
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
    ) -> Result<(), Apart> {
        let refuse = || Apart::Padded;
        let (Expr::Load(inner), Some(otherwise)) = (value, &load.otherwise) else { return Err(refuse()) };
        if otherwise.as_const().is_none() || inner.otherwise.as_ref().is_some_and(|o| o != otherwise) {
            return Err(refuse());
        }
        let shape = &program.buf(self.buf).shape;
        let source = &program.buf(inner.buf).shape;
        for &d in outside {
            let [Head { var, .. }] = self.dims[d].as_slice() else { return Err(refuse()) };
            let covered = inner.index.iter().zip(source).any(|(i, size)| {
                let Some(a) = i.as_affine() else { return false };
                let shifted = a.terms() == [(*var, 1)];
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

/// Whether a nest is nothing but loops around a store of what is moved: a copy into a part of a buffer, too.
pub(super) fn only_moves(body: &[Stmt]) -> bool {
    let [Stmt::For(l)] = body else { return false };
    matches!(perfect(l).1, [Stmt::Store(store)] if moves(&store.value))
}

/// Whether a value is an element of a buffer or a literal, moved or converted.
fn moves(value: &Expr) -> bool {
    let (mut loads, mut plain) = (0, true);
    visit::walk_expr(value, &mut |e| match e {
        Expr::Load(_) => loads += 1,
        Expr::Const(_) | Expr::Cast(..) => {}
        Expr::Index(_) | Expr::Unary(..) | Expr::Binary(..) | Expr::Select(..) | Expr::Check(_) => {
            plain = false;
        }
    });
    plain && loads <= 1
}

/// The loops of an index that walks a dimension completely, the fastest last: `28*i + j` with `j < 28`.
fn digits(index: &Affine, extent: usize, heads: &[Head]) -> Option<Vec<Head>> {
    let mut terms = index.terms().to_vec();
    terms.sort_by_key(|t| t.1);
    let mut loops = Vec::with_capacity(terms.len());
    let mut stride = 1usize;
    for (var, step) in terms {
        let head = heads.iter().find(|h| h.var == var)?;
        if usize::try_from(step) != Ok(stride) {
            return None;
        }
        stride = stride.checked_mul(head.extent)?;
        loops.push(*head);
    }
    loops.reverse();
    (index.offset() == 0 && stride == extent).then_some(loops)
}

/// Cuts the loop over `var` into `parts`, the fastest last.
fn split_loop(body: &mut [Stmt], var: Var, parts: &[Head]) {
    visit::walk_stmts_mut(body, &mut |s| {
        let Stmt::For(l) = s else { return };
        if l.var != var {
            return;
        }
        let mut inner = std::mem::take(&mut l.body);
        let (mut whole, mut stride) = (Affine::constant(0), 1i64);
        for part in parts.iter().rev() {
            whole = whole + Affine::term(part.var, stride);
            stride *= part.extent as i64;
        }
        visit::subst_var(&mut inner, var, &whole);
        if let Some(split) = wrap(parts, inner).pop() {
            *s = split;
        }
    });
}
