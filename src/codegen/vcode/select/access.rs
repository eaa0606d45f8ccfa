//! Addresses: from indices to a kernel argument, loop counters and a constant; guards of padded loads.

use std::borrow::Cow;

use nestjit_ir::layout::offset;
use nestjit_ir::visit::walk_expr;
use nestjit_ir::{Affine, BufId, DType, Expr, Index};

use super::locals::Local;
use super::{LANE, Result, Selector, unsupported};
use crate::codegen::address::{allowed, inside};
use crate::codegen::vcode::{Access, Address, Arg, Computed, Counter, Guard, Int};

const ELEMENT: i64 = 4;

/// An affine expression, taken apart.
struct Parts {
    outer: Affine,
    counters: Vec<(Counter, i64)>,
    lane: i64,
    constant: i64,
}

/// Where an index lies.
pub(super) enum Position {
    /// Always within the buffer.
    Inside,
    /// Never within the buffer.
    Outside,
    Unknown,
}

impl Selector<'_> {
    /// The indices of an access in terms of counters, [`LANE`] and the variables around the region.
    pub(super) fn resolve(&self, buf: BufId, index: &[Index]) -> Result<Vec<Affine>> {
        if index.len() != self.region.program.buf(buf).shape.len() {
            return unsupported("a wrong rank");
        }
        index
            .iter()
            .map(|i| match i {
                Index::Affine(a) => Ok(self.in_counters(a)),
                Index::Value(_) => unsupported("an index that is not affine"),
            })
            .collect()
    }

    /// Takes the indices that the code around the region can compute out of an access: 0 takes their place.
    fn computed_outside<'i>(&self, buf: BufId, index: &'i [Index]) -> Result<(Computed, Cow<'i, [Index]>)> {
        let mut computed = Vec::new();
        let mut rest = Cow::Borrowed(index);
        for (dim, i) in index.iter().enumerate() {
            let Index::Value(e) = i else { continue };
            if !self.is_constant(e) || self.region.program.buf(buf).shape.contains(&0) {
                return unsupported("an index that is not affine");
            }
            computed.push((dim, (**e).clone()));
            rest.to_mut()[dim] = Index::Affine(Affine::constant(0));
        }
        Ok((computed, rest))
    }

    /// Whether an expression is the same throughout the region, and known before.
    fn is_constant(&self, e: &Expr) -> bool {
        let outside = |a: &Affine| a.vars().all(|v| !self.inside.vars.contains(&v));
        let mut constant = true;
        walk_expr(e, &mut |e| {
            constant &= match e {
                Expr::Index(a) => outside(a),
                Expr::Load(l) => {
                    !self.inside.written.contains(&l.buf)
                        && !self.region.private.contains(&l.buf)
                        && l.index.iter().all(|i| match i {
                            Index::Affine(a) => outside(a),
                            Index::Value(_) => true,
                        })
                }
                _ => true,
            };
        });
        constant
    }

    pub(super) fn in_counters(&self, a: &Affine) -> Affine {
        let mut sum = Affine::constant(a.offset());
        for &(v, c) in a.terms() {
            match self.bound.get(&v) {
                Some(bound) => sum.add_scaled(bound, c),
                None => sum.add_term(v, c),
            }
        }
        sum
    }

    fn parts(&self, a: &Affine) -> Parts {
        let mut parts =
            Parts { outer: Affine::constant(0), counters: Vec::new(), lane: 0, constant: a.offset() };
        for &(v, c) in a.terms() {
            if v == LANE {
                parts.lane = c;
            } else if let Some(counter) = self.counters.get(&v) {
                parts.counters.push((*counter, c));
            } else {
                parts.outer.add_term(v, c);
            }
        }
        parts.counters.sort_unstable();
        parts
    }

    /// An integer, and how much it grows per lane.
    pub(super) fn int(&mut self, a: &Affine) -> (Int, i64) {
        let parts = self.parts(a);
        let arg = (!parts.outer.terms().is_empty()).then(|| self.b.arg(Arg::Int(parts.outer)));
        (Int { arg, terms: parts.counters, offset: parts.constant }, parts.lane)
    }

    /// Where an index lies that yields `otherwise` outside its buffer.
    pub(super) fn position(&mut self, buf: BufId, index: &[Index], otherwise: &Expr) -> Result<Position> {
        let buffer = self.region.program.buf(buf);
        let index = self.resolve(buf, index)?;
        let mut position = Position::Inside;
        for (dim, i) in index.iter().enumerate() {
            let (lo, hi) = allowed(buffer, dim, Some(otherwise));
            if inside(i, (lo, hi), &self.extents) {
                continue;
            }
            position = match self.extents.range(i) {
                Some((least, most)) if most < lo || hi < least => return Ok(Position::Outside),
                _ => Position::Unknown,
            };
        }
        Ok(position)
    }

    /// An access to memory and the guards it needs.
    pub(super) fn access(
        &mut self,
        buf: BufId,
        index: &[Index],
        otherwise: Option<&Expr>,
    ) -> Result<(Access, Vec<Guard>)> {
        let buffer = self.region.program.buf(buf);
        if buffer.dtype != DType::F32 {
            return unsupported("an access to a buffer that is not f32");
        }
        let (computed, index) = self.computed_outside(buf, index)?;
        if !computed.is_empty() && otherwise.is_some() {
            return unsupported("an index that is not affine, with padding");
        }
        let index = self.resolve(buf, &index)?;
        let mut guards = Vec::new();
        for (dim, i) in index.iter().enumerate() {
            let (lo, hi) = allowed(buffer, dim, otherwise);
            if !inside(i, (lo, hi), &self.extents) {
                let (value, step) = self.int(i);
                guards.push(Guard { value, step, lo, hi });
            }
        }
        let Some(at) = offset(buffer, &index, &self.extents) else {
            return unsupported("an address that is not affine");
        };
        let mut parts = self.parts(&at.scale(ELEMENT));
        let (base, start) = match self.locals.get(&buf) {
            Some(Local::Memory(start)) if parts.outer.terms().is_empty() => {
                (self.b.arg(Arg::Scratch), *start as i64)
            }
            Some(Local::LaneMemory(start)) if parts.outer.terms().is_empty() => {
                if parts.lane != 0 || !guards.is_empty() {
                    return unsupported("a local buffer that each lane indexes in its own way");
                }
                let (start, vl) = (*start as i64, self.b.lanes() as i64);
                parts = self.parts(&at.scale(ELEMENT * vl * self.chunks() as i64));
                parts.lane = ELEMENT;
                (self.b.arg(Arg::Scratch), start + ELEMENT * vl * self.chunk as i64)
            }
            Some(_) => return unsupported("a local buffer indexed from outside"),
            None if !computed.is_empty() => (self.b.arg(Arg::Element(buf, computed, parts.outer)), 0),
            None => (self.b.arg(Arg::Pointer(buf, parts.outer)), 0),
        };
        let address = Address { base, terms: parts.counters, offset: parts.constant + start };
        // One element for all lanes is the same access whatever the lanes, unless guards tell them apart.
        let differ = parts.lane != 0 || guards.iter().any(|g| g.step != 0);
        let lanes = if differ { self.lanes() } else { 1 };
        Ok((Access { address, stride: parts.lane, lanes, buf }, guards))
    }

    /// An access that must be known to be inside its buffer.
    pub(super) fn inside(&mut self, buf: BufId, index: &[Index]) -> Result<Access> {
        let (access, guards) = self.access(buf, index, None)?;
        if guards.is_empty() { Ok(access) } else { unsupported("an index that needs a check") }
    }
}
