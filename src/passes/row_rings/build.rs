//! The nest of a ring.
//!
//! ```text
//! for p < strips {
//!   temp %strip: rows of the tensor between two stages
//!   the carried rows of the first block
//!   for t < blocks {
//!     for u < steps {
//!       new rows, behind the carried ones
//!       rows of the next stage, which reads the strip
//!     }
//!     the last rows of the strip move to its front
//!   }
//! }
//! ```
//!
//! All indices stay affine. Rows that only some strips have, the others having the border of the tensor there, are
//! computed by all and chosen by a constant that says which rows exist.

use std::sync::Arc;

use nestjit_ir::hash::FastMap;
use nestjit_ir::visit::{Extents, fresh_copy, map_loads, rename_vars, subst_var, walk_stmts_mut};
use nestjit_ir::{
    Affine, BinOp, BufId, Buffer, DType, Expr, For, Index, Load, LoopKind, Role, Scalar, Stmt, Store, Var,
};

use super::plan::{RingPart, RingRows, rows_of};
use super::stage::RingStage;
use super::tail::Parts;
use super::{Link, Ring};
use crate::error::{Error, Result};
use crate::passes::schedule::border::Survey;
use crate::passes::schedule::chain::{looped, rechain};
use crate::passes::schedule::pad;
use crate::tensor::Tensor;
use crate::unit::Unit;

/// Rows that are not worth code of their own.
const FEW: usize = 4;

/// Which rows of `first ..` exist, as a constant of ones and zeros; by first row, number and height.
type Masks = FastMap<(i64, usize, usize), BufId>;

/// Writes the statements of a ring.
pub(super) struct Build<'a> {
    unit: &'a mut Unit,
    ring: Ring,
    masks: Masks,
    /// The sums of the tail, strip by strip.
    sums: Vec<Parts>,
}

/// The local that holds rows of a tensor.
#[derive(Clone)]
struct Strip {
    of: BufId,
    buf: BufId,
    /// The dimensions of the tensor in the order of the strip.
    dims: Vec<usize>,
    row: usize,
    /// The row of the tensor that lies first.
    origin: Affine,
}

impl Strip {
    fn index(&self, index: &[Index]) -> Vec<Index> {
        let at = |d: &usize| match &index[*d] {
            Index::Affine(a) if *d == self.row => Index::Affine(a.add(&self.origin.scale(-1))),
            other => other.clone(),
        };
        self.dims.iter().map(at).collect()
    }

    /// Makes statements use the strip.
    fn redirect(&self, body: &mut [Stmt]) {
        walk_stmts_mut(body, &mut |s| {
            if let Stmt::Store(s) = s
                && s.buf == self.of
            {
                (s.buf, s.index) = (self.buf, self.index(&s.index));
            }
        });
        map_loads(body, &mut |l| {
            let strip =
                || Load { buf: self.buf, index: self.index(&l.index), otherwise: l.otherwise.clone() };
            (l.buf == self.of).then(|| Expr::Load(strip()))
        });
    }
}

/// Whether rows lie within a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    Inside,
    Outside,
    /// In some strips or blocks.
    Some,
}

impl<'a> Build<'a> {
    pub fn new(unit: &'a mut Unit, ring: Ring) -> Build<'a> {
        Build { unit, ring, masks: Masks::default(), sums: Vec::new() }
    }

    /// The statements: copies of operands that the program cannot pad otherwise, then the parts.
    ///
    /// # Errors
    /// If there is no memory for a constant.
    pub fn run(mut self, parts: &[RingPart]) -> Result<Vec<Stmt>> {
        let mut stmts = self.pad_operands(parts);
        let (mut tail, sums) = std::mem::take(&mut self.ring.tail);
        let program = &mut self.unit.program;
        if parts.iter().any(RingPart::is_loop) {
            let strips = parts.iter().map(|p| p.strips).sum();
            self.sums = sums.into_iter().map(|sum| Parts::new(program, sum, strips)).collect();
            self.sums.iter().for_each(|parts| parts.redirect(program, &mut tail));
        }
        let mut strips = 0;
        for part in parts {
            let body = self.part(*part, strips)?;
            strips += part.strips;
            match &self.ring.batch {
                Some((var, extent)) => {
                    // Each part binds a variable of its own.
                    let (var, name) = (*var, self.unit.program.var_name(*var).to_owned());
                    let item = self.unit.program.add_var(name);
                    let mut body = vec![looped(var, *extent, LoopKind::Serial, body)];
                    rename_vars(&mut body, &mut |v| if v == var { item } else { v });
                    stmts.append(&mut body);
                }
                None => stmts.extend(body),
            }
        }
        stmts.extend(tail);
        Ok(stmts)
    }

    /// The first row of each tensor's strip in a block: functions of strip and block.
    fn origins(&self, base: &Affine, rows: &[RingRows]) -> Vec<Affine> {
        let mut base = base.clone();
        let mut origins: Vec<Affine> = Vec::new();
        for (link, rows) in self.ring.links.iter().zip(rows).rev() {
            let origin = base.scale(link.window.stride as i64).plus(link.window.low);
            base = origin.plus(rows.carry as i64);
            origins.push(origin);
        }
        origins.reverse();
        origins
    }

    /// The statements of a part; there are `before` strips before its first one.
    fn part(&mut self, part: RingPart, before: usize) -> Result<Vec<Stmt>> {
        let rows = rows_of(&self.ring.links, part).ok_or_else(|| Error::internal("a ring without a plan"))?;
        let [p, t, u] = ["strip", "block", "step"].map(|name| self.unit.program.add_var(name));
        let mut extents = Extents::default();
        let mut base = Affine::constant(part.first as i64);
        let block_rows = part.steps * part.rows;
        let loops =
            [(p, part.strips, part.strip_rows()), (t, part.blocks, block_rows), (u, part.steps, part.rows)];
        for (var, extent, rows) in loops.into_iter().filter(|l| l.1 > 1) {
            base = base.add(&Affine::term(var, rows as i64));
            extents.set(var, extent);
        }
        let number = Affine::constant(before as i64);
        let number = if part.strips > 1 { number.add(&Affine::var(p)) } else { number };
        let origins = self.origins(&base, &rows);
        let mut strips: Vec<Strip> =
            (0..rows.len()).map(|j| self.strip(j, rows[j].window, &origins[j])).collect();
        // The first strip holds all steps of a block.
        strips[0].origin = origins[0].subst(u, &Affine::constant(0));

        let mut step: Vec<Stmt> = strips[1..].iter().map(|s| Stmt::Temp(s.buf)).collect();
        for (j, rows) in rows.iter().enumerate() {
            let from = origins[j].plus(rows.carry as i64);
            step.extend(self.rows(j, &from, rows.new, &strips, &extents)?);
        }
        step.extend(self.rows(strips.len(), &base, part.rows, &strips, &extents)?);
        let (program, batch) = (&mut self.unit.program, self.ring.batch.map(|b| b.0));
        let first = strips[0].clone();
        let mut strip = vec![Stmt::Temp(first.buf)];
        for sum in &self.sums {
            strip.extend(sum.start(program, batch, &number));
            step.extend(sum.add(program, batch, &number, (&base, part.rows)));
        }
        let mut block =
            if part.steps > 1 { vec![looped(u, part.steps, LoopKind::Serial, step)] } else { step };
        if rows[0].carry > 0 {
            let start = Strip { origin: first.origin.subst(t, &Affine::constant(0)), ..first.clone() };
            let origin = start.origin.clone();
            strip.extend(self.rows(0, &origin, rows[0].carry, &[start], &extents)?);
        }
        if part.blocks > 1 {
            block.extend(self.carry(&first, rows[0].carry, rows[0].step));
            strip.push(looped(t, part.blocks, LoopKind::Serial, block));
        } else {
            strip.extend(block);
        }
        Ok(if part.is_loop() { vec![looped(p, part.strips, LoopKind::Serial, strip)] } else { strip })
    }

    /// A local for the rows of the tensor of a link.
    fn strip(&mut self, at: usize, rows: usize, origin: &Affine) -> Strip {
        let Link { buf, dim, .. } = self.ring.links[at];
        let program = &mut self.unit.program;
        let buffer = program.buf(buf);
        let item = usize::from(self.ring.batch.is_some());
        // The order in memory; a dimension of the batch is fixed by the loop around.
        let dims: Vec<usize> = buffer.layout.order.iter().copied().filter(|d| *d >= item).collect();
        let shape: Vec<usize> =
            dims.iter().map(|d| if *d == dim { rows } else { buffer.shape[*d] }).collect();
        let name = program.unique_buffer_name(&format!("{}.rows", buffer.name));
        let local = program.add_buffer(Buffer::new(name, DType::F32, &shape, Role::Local));
        Strip { of: buf, buf: local, dims, row: dim, origin: origin.clone() }
    }

    /// Statements that compute `count` rows of a stage from row `first` on.
    fn rows(
        &mut self,
        stage: usize,
        first: &Affine,
        count: usize,
        strips: &[Strip],
        extents: &Extents,
    ) -> Result<Vec<Stmt>> {
        let height = self.ring.stages[stage].rows();
        let (lo, hi) = extents.range(first).unwrap_or((0, height as i64));
        let class = |i: usize| {
            let (lo, hi, height) = (lo + i as i64, hi + i as i64, height as i64);
            match () {
                () if lo >= 0 && hi < height => Class::Inside,
                () if hi < 0 || lo >= height => Class::Outside,
                () => Class::Some,
            }
        };
        // Few rows are better computed together.
        let few = count <= FEW && (0..count).any(|i| class(i) == Class::Some);
        let class = |i: usize| match class(i) {
            Class::Inside if few => Class::Some,
            other => other,
        };
        let mut stmts = Vec::new();
        let mut at = 0;
        while at < count {
            let end = (at..count).find(|i| class(*i) != class(at)).unwrap_or(count);
            let from = first.plus(at as i64);
            match (class(at), strips.get(stage)) {
                (Class::Inside, _) | (_, None) => {
                    stmts.extend(self.copy_of(stage, &from, end - at, strips, None));
                }
                (Class::Outside, Some(strip)) => stmts.push(self.fill(stage, strip, &from, end - at)),
                (Class::Some, Some(_)) => {
                    let mask = self.mask(stage, lo, (hi - lo) as usize + count, height)?;
                    let fill = self.ring.links[stage].window.fill.unwrap_or(Scalar::F32(0.0));
                    stmts.extend(self.copy_of(stage, &from, end - at, strips, Some((mask, lo, fill))));
                }
            }
            at = end;
        }
        Ok(stmts)
    }

    /// A stage's loops over some rows; `mask` says which of them exist.
    fn copy_of(
        &mut self,
        stage: usize,
        from: &Affine,
        count: usize,
        strips: &[Strip],
        mask: Option<(BufId, i64, Scalar)>,
    ) -> Vec<Stmt> {
        let RingStage { chain, body, row, .. } = &self.ring.stages[stage];
        let row = *row;
        let resize = |l: &For| For { extent: if l.var == row { count } else { l.extent }, ..l.clone() };
        let mut stmts = rechain(chain.iter().map(resize).collect(), body.clone());
        let program = &mut self.unit.program;
        let i = program.add_var("row");
        rename_vars(&mut stmts, &mut |v| if v == row { i } else { v });
        subst_var(&mut stmts, i, &from.add(&Affine::var(i)));
        if let (Some((mask, first, fill)), Some(strip)) = (mask, strips.get(stage)) {
            walk_stmts_mut(&mut stmts, &mut |s| {
                if let Stmt::Store(s) = s
                    && s.buf == strip.of
                {
                    let at = from.add(&Affine::var(i)).plus(-first);
                    let exists = Expr::load(mask, [at]).binary(BinOp::Gt, Expr::f32(0.0));
                    let value = std::mem::replace(&mut s.value, Expr::Const(fill));
                    s.value = exists.select(value, Expr::Const(fill));
                }
            });
        }
        // What a stage writes and what it reads.
        for strip in strips.iter().take(stage + 1).skip(stage.saturating_sub(1)) {
            strip.redirect(&mut stmts);
        }
        fresh_copy(program, &stmts)
    }

    /// Rows that no strip has.
    fn fill(&mut self, stage: usize, strip: &Strip, from: &Affine, count: usize) -> Stmt {
        let fill = self.ring.links[stage].window.fill.unwrap_or(Scalar::F32(0.0));
        let at = from.add(&strip.origin.scale(-1));
        self.over_rows(strip, count, |index| {
            let to = shifted(strip, index, &at);
            Stmt::Store(Store { buf: strip.buf, index: to, value: Expr::Const(fill) })
        })
    }

    /// Moves the last rows of the strip to its front.
    fn carry(&mut self, strip: &Strip, count: usize, step: usize) -> Option<Stmt> {
        (count > 0).then(|| {
            self.over_rows(strip, count, |index| {
                let from = shifted(strip, index, &Affine::constant(step as i64));
                let to = shifted(strip, index, &Affine::default());
                let value = Expr::Load(Load { buf: strip.buf, index: from, otherwise: None });
                Stmt::Store(Store { buf: strip.buf, index: to, value })
            })
        })
    }

    /// Loops over `count` rows of a strip.
    fn over_rows(&mut self, strip: &Strip, count: usize, stmt: impl FnOnce(&[Var]) -> Stmt) -> Stmt {
        let program = &mut self.unit.program;
        let shape = program.buf(strip.buf).shape.clone();
        let vars: Vec<Var> = strip.dims.iter().map(|d| program.add_var(format!("r{d}"))).collect();
        let mut body = stmt(&vars);
        for ((&var, &size), dim) in vars.iter().zip(&shape).zip(&strip.dims).rev() {
            let extent = if *dim == strip.row { count } else { size };
            body = looped(var, extent, LoopKind::Serial, vec![body]);
        }
        body
    }

    /// The constant that says which of the rows from `first` on exist.
    fn mask(&mut self, stage: usize, first: i64, count: usize, height: usize) -> Result<BufId> {
        if let Some(mask) = self.masks.get(&(first, count, height)) {
            return Ok(*mask);
        }
        let values: Vec<f32> =
            (0..count as i64).map(|i| f32::from((0..height as i64).contains(&(first + i)))).collect();
        let tensor = Tensor::new(&[count], &values)?;
        let program = &mut self.unit.program;
        let name = format!("{}.exists", program.buf(self.ring.links[stage].buf).name);
        let name = program.unique_buffer_name(&name);
        let mask = program.add_buffer(Buffer::new(name, DType::F32, &[count], Role::Const));
        self.unit.consts.insert(mask, Arc::new(tensor));
        self.masks.insert((first, count, height), mask);
        Ok(mask)
    }

    /// The first stage is computed for rows beyond the first and the last, too: what it reads there must exist.
    /// PeelBorders gives a temporary a border; of anything else a padded copy is made, by the statements returned.
    fn pad_operands(&mut self, parts: &[RingPart]) -> Vec<Stmt> {
        let (mut lo, mut hi) = (0, self.ring.stages[0].rows() as i64 - 1);
        for part in parts {
            let Some(rows) = rows_of(&self.ring.links, *part) else { continue };
            let end = part.first + part.strips * part.strip_rows();
            for base in [part.first, end - part.rows] {
                let origin = self.origins(&Affine::constant(base as i64), &rows)[0].offset();
                (lo, hi) = (lo.min(origin), hi.max(origin + (rows[0].carry + rows[0].new) as i64 - 1));
            }
        }
        let survey = Survey::new(&self.unit.program);
        let program = &mut self.unit.program;
        let stage = &mut self.ring.stages[0];
        let mut extents = stage.extents();
        extents.set(stage.row, (hi - lo) as usize + 1);
        if let Some((var, extent)) = self.ring.batch {
            extents.set(var, extent);
        }
        subst_var(&mut stage.body, stage.row, &Affine::var(stage.row).plus(lo));
        let mut made = Vec::new();
        map_loads(&mut stage.body, &mut |l| {
            let shape = &program.buf(l.buf).shape;
            let outside = l.index.iter().zip(shape).any(|(i, size)| {
                let range = i.as_affine().and_then(|a| extents.range(a));
                range.is_some_and(|(lo, hi)| lo < 0 || hi >= *size as i64)
            });
            if !outside {
                return None;
            }
            let mut load = l.clone();
            let otherwise = load.otherwise.get_or_insert_with(|| Box::new(Expr::f32(0.0)));
            let grows = otherwise.as_const().is_some_and(|fill| survey.can_grow(program, l.buf, fill));
            if !grows && let Some(padded) = pad::whole(program, (&extents, &extents), &load, &mut made) {
                load = padded.read(&load);
            }
            Some(Expr::Load(load))
        });
        subst_var(&mut stage.body, stage.row, &Affine::var(stage.row).plus(-lo));
        made.into_iter().flat_map(|p| p.stmts).collect()
    }
}

/// The index of a strip with an offset in the dimension of the rows.
fn shifted(strip: &Strip, index: &[Var], by: &Affine) -> Vec<Index> {
    let at = |(d, v): (&usize, &Var)| {
        let a = Affine::var(*v);
        Index::Affine(if *d == strip.row { a.add(by) } else { a })
    };
    strip.dims.iter().zip(index).map(at).collect()
}
