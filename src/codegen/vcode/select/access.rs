//! Addresses: from indices to a kernel argument, loop counters and a constant; guards of padded loads.

use std::borrow::Cow;
use std::rc::Rc;

use nestjit_ir::layout::offset;
use nestjit_ir::visit::walk_expr;
use nestjit_ir::{Affine, BufId, Buffer, Expr, Index, Var};
use smallvec::SmallVec;

use super::bindings::Pending;
use super::facts::{Element, Form};
use super::locals::Local;
use super::value::mem_type;
use super::{LANE, Result, Selector, unsupported};
use crate::codegen::address::{allowed, inside};
use crate::codegen::vcode::{Access, Address, Arg, ArgId, Computed, Counter, Guard, Int, Terms};
use crate::lanes::Refusal;

/// An affine expression, taken apart.
pub(super) struct Parts {
    /// The variables of loops around the region.
    pub outer: Affine,
    /// Sorted by counter.
    pub counters: SmallVec<[(Counter, i64); 4]>,
    pub lane: i64,
    pub constant: i64,
}

/// The offset of an access, taken apart as long as the variables around it change by constants only.
pub(super) struct Placed {
    /// Of the access. While it is kept, no other one is at its address.
    #[expect(dead_code, reason = "it is kept")]
    form: Rc<Form>,
    pending: Pending,
    pub parts: Parts,
    /// The argument and the terms of its address, if it has been asked for.
    address: Option<(ArgId, Terms)>,
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
            return unsupported(Refusal::Rank);
        }
        index
            .iter()
            .map(|i| match i {
                Index::Affine(a) => Ok(self.in_counters(a)),
                Index::Value(_) => unsupported(Refusal::ComputedIndex),
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
                return unsupported(Refusal::ComputedIndex);
            }
            computed.push((dim, (**e).clone()));
            rest.to_mut()[dim] = Index::Affine(Affine::constant(0));
        }
        Ok((computed, rest))
    }

    /// Whether an expression is the same throughout the region, and known before.
    pub(super) fn is_constant(&self, e: &Expr) -> bool {
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
            match self.bound.get(v) {
                Some(bound) => sum.add_scaled(bound, c),
                None => sum.add_term(v, c),
            }
        }
        sum
    }

    /// `a * factor`, taken apart; its variables are those of loops, of counters, or [`LANE`].
    pub(super) fn parts(&self, a: &Affine, factor: i64) -> Result<Parts> {
        let mut parts = Parts { outer: Affine::default(), counters: SmallVec::new(), lane: 0, constant: 0 };
        match self.add_parts(&mut parts, a, factor) {
            Some(()) if !parts.outer.is_overflow() => Ok(parts),
            _ => unsupported(Refusal::IndexTooLarge),
        }
    }

    /// The offset `at` of a form times `factor`, taken apart: where this is kept, and its constant.
    pub(super) fn placed(&mut self, form: &Rc<Form>, at: &Affine, factor: i64) -> Result<(usize, i64)> {
        let key = (Rc::as_ptr(form), factor);
        let known = self.places.get(&key).copied();
        if let Some(at) = known
            && let Some(constant) = self.bound.constant(&self.placed[at].pending)
        {
            return Ok((at, constant));
        }
        let parts = self.parts(at, factor)?;
        let Some(pending) = self.bound.pending(at, factor) else {
            return unsupported(Refusal::IndexTooLarge);
        };
        let constant = parts.constant;
        let placed = Placed { form: Rc::clone(form), pending, parts, address: None };
        let at = known.unwrap_or(self.placed.len());
        match self.placed.get_mut(at) {
            Some(old) => *old = placed,
            None => {
                self.placed.push(placed);
                self.places.insert(key, at);
            }
        }
        Ok((at, constant))
    }

    fn add_parts(&self, parts: &mut Parts, a: &Affine, factor: i64) -> Option<()> {
        if a.is_overflow() {
            return None;
        }
        parts.constant = a.offset().checked_mul(factor)?;
        for &(v, c) in a.terms() {
            let c = c.checked_mul(factor)?;
            match self.bound.get(v) {
                Some(value) => {
                    parts.constant = parts.constant.checked_add(value.offset().checked_mul(c)?)?;
                    for &(v, d) in value.terms() {
                        self.add_part(parts, v, c.checked_mul(d)?)?;
                    }
                }
                None => self.add_part(parts, v, c)?,
            }
        }
        if parts.counters.iter().any(|t| t.1 == 0) {
            parts.counters.retain(|t| t.1 != 0);
        }
        Some(())
    }

    #[inline]
    fn add_part(&self, parts: &mut Parts, v: Var, c: i64) -> Option<()> {
        if v == LANE {
            parts.lane = parts.lane.checked_add(c)?;
        } else if let Some(counter) = self.counter_of(v) {
            match parts.counters.binary_search_by_key(&counter, |t| t.0) {
                Ok(at) => parts.counters[at].1 = parts.counters[at].1.checked_add(c)?,
                Err(at) => parts.counters.insert(at, (counter, c)),
            }
        } else {
            parts.outer.add_term(v, c);
        }
        Some(())
    }

    /// An integer, and how much it grows per lane.
    pub(super) fn int(&mut self, a: &Affine) -> Result<(Int, i64)> {
        let parts = self.parts(a, 1)?;
        let arg = (!parts.outer.terms().is_empty()).then(|| self.b.arg(Arg::Int(parts.outer)));
        Ok((Int { arg, terms: self.b.terms(&parts.counters), offset: parts.constant }, parts.lane))
    }

    /// The offset of an access in elements; `None` if it is not affine. Its variables are those that [`Selector::parts`]
    /// takes.
    pub(super) fn offset<'e>(&self, e: &'e Element<'_>) -> Result<Option<Cow<'e, Affine>>> {
        if let Some(at) = &e.form.offset {
            return Ok(Some(Cow::Borrowed(at)));
        }
        let index = self.resolve(e.buf, e.index)?;
        Ok(offset(self.region.program.buf(e.buf), &index, &self.extents).map(Cow::Owned))
    }

    /// Where an index lies that yields `otherwise` outside its buffer.
    pub(super) fn position(&mut self, e: &Element<'_>, otherwise: &Expr) -> Result<Position> {
        let buffer = self.region.program.buf(e.buf);
        let mut position = Position::Inside;
        if !e.form.affine {
            self.resolve(e.buf, e.index)?;
        }
        for &dim in &e.form.unsure {
            let Some(i) = e.index[dim].as_affine().map(|i| self.in_counters(i)) else { continue };
            let (lo, hi) = allowed(buffer, dim, Some(otherwise));
            if inside(&i, (lo, hi), &self.extents) {
                continue;
            }
            position = match self.extents.range(&i) {
                Some((least, most)) if most < lo || hi < least => return Ok(Position::Outside),
                _ => Position::Unknown,
            };
        }
        Ok(position)
    }

    /// The guard that an index needs, if it needs one.
    pub(super) fn guard(
        &mut self,
        buffer: &Buffer,
        dim: usize,
        i: &Affine,
        otherwise: Option<&Expr>,
    ) -> Result<Option<Guard>> {
        let (lo, hi) = allowed(buffer, dim, otherwise);
        if inside(i, (lo, hi), &self.extents) {
            return Ok(None);
        }
        let (value, step) = self.int(i)?;
        let guard = Guard { value, step, lo, hi };
        if guard.fits() { Ok(Some(guard)) } else { unsupported(Refusal::GuardTooFar) }
    }

    /// An access to memory, of all lanes of a value, and the guards it needs.
    pub(super) fn access(
        &mut self,
        e: &Element<'_>,
        otherwise: Option<&Expr>,
    ) -> Result<(Access, Vec<Guard>)> {
        let (buf, index) = (e.buf, e.index);
        let buffer = self.region.program.buf(buf);
        let mut guards = Vec::new();
        if e.form.affine {
            for &dim in &e.form.unsure {
                let Some(i) = index[dim].as_affine().map(|i| self.in_counters(i)) else { continue };
                guards.extend(self.guard(buffer, dim, &i, otherwise)?);
            }
            if let Some(at) = &e.form.offset
                && !self.locals.contains_key(&buf)
            {
                return self.access_placed(e, at, guards);
            }
            let at = self.offset(e)?;
            return self.access_at(buf, Vec::new(), at.as_deref(), guards);
        }
        let (computed, index) = self.computed_outside(buf, index)?;
        if otherwise.is_some() {
            return unsupported(Refusal::PaddedComputedIndex);
        }
        let index = self.resolve(buf, &index)?;
        for (dim, i) in index.iter().enumerate() {
            guards.extend(self.guard(buffer, dim, i, None)?);
        }
        let at = offset(buffer, &index, &self.extents);
        // Where index 0 lies behind a halo is a part of the element's address already.
        let origin = vec![Affine::constant(0); index.len()];
        let origin = offset(buffer, &origin, &self.extents).and_then(|o| o.as_const());
        let at = at.zip(origin).map(|(at, origin)| at.plus(-origin));
        self.access_at(buf, computed, at.as_ref(), guards)
    }

    /// The access to an element of a buffer that is no local one, at the offset of its form.
    fn access_placed(
        &mut self,
        e: &Element<'_>,
        at: &Affine,
        guards: Vec<Guard>,
    ) -> Result<(Access, Vec<Guard>)> {
        let ty = mem_type(self.region.program.buf(e.buf).dtype);
        let (at, offset) = self.placed(&e.form, at, ty.bytes())?;
        let (base, terms) = match &self.placed[at].address {
            Some((base, terms)) => (*base, terms.clone()),
            None => {
                let parts = &self.placed[at].parts;
                let base = self.b.arg(Arg::Pointer(e.buf, parts.outer.clone()));
                let terms = self.b.terms(&parts.counters);
                self.placed[at].address = Some((base, terms.clone()));
                (base, terms)
            }
        };
        let stride = self.placed[at].parts.lane;
        let lanes = self.lanes_of(stride, &guards);
        let address = Address { base, terms, offset };
        Ok((Access { address, stride, ty, lanes, buf: e.buf }, guards))
    }

    /// The lanes of an access. One element for all lanes is the same access whatever the lanes, unless guards tell them
    /// apart.
    fn lanes_of(&self, stride: i64, guards: &[Guard]) -> usize {
        let differ = stride != 0 || guards.iter().any(|g| g.step != 0);
        if differ { self.lanes() } else { 1 }
    }

    /// The access to the element at an offset, apart from the indices that are computed outside.
    pub(super) fn access_at(
        &mut self,
        buf: BufId,
        computed: Computed,
        at: Option<&Affine>,
        guards: Vec<Guard>,
    ) -> Result<(Access, Vec<Guard>)> {
        let Some(at) = at else {
            return unsupported(Refusal::AddressNotAffine);
        };
        let ty = mem_type(self.region.program.buf(buf).dtype);
        let element = ty.bytes();
        let mut parts = self.parts(at, element)?;
        let (base, start) = match self.locals.get(&buf) {
            // Only what the code around a kernel can find has an address with a checked index.
            Some(_) if !computed.is_empty() => {
                return unsupported(Refusal::LocalComputedIndex);
            }
            Some(Local::Memory(start)) if parts.outer.terms().is_empty() => {
                (self.b.arg(Arg::Scratch), *start as i64)
            }
            Some(Local::LaneMemory(start)) if parts.outer.terms().is_empty() => {
                if parts.lane != 0 || !guards.is_empty() {
                    return unsupported(Refusal::LocalByLane);
                }
                let (start, vl) = (*start as i64, self.b.lanes() as i64);
                parts = self.parts(at, element * vl * self.chunks() as i64)?;
                parts.lane = element;
                (self.b.arg(Arg::Scratch), start + element * vl * self.chunk as i64)
            }
            Some(_) => return unsupported(Refusal::LocalFromOutside),
            None if !computed.is_empty() => (self.b.arg(Arg::Element(buf, computed, parts.outer)), 0),
            None => (self.b.arg(Arg::Pointer(buf, parts.outer)), 0),
        };
        let terms = self.b.terms(&parts.counters);
        let address = Address { base, terms, offset: parts.constant + start };
        let lanes = self.lanes_of(parts.lane, &guards);
        Ok((Access { address, stride: parts.lane, ty, lanes, buf }, guards))
    }

    /// An access that must be known to be inside its buffer.
    pub(super) fn inside(&mut self, e: &Element<'_>) -> Result<Access> {
        let (access, guards) = self.access(e, None)?;
        if guards.is_empty() { Ok(access) } else { unsupported(Refusal::CheckedIndex) }
    }
}
