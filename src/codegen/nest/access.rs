//! Addresses of elements, and the checks of indices that are not known to be inside.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AliasRegionData, BlockArg, InstBuilder, MemFlagsData, Value, types};
use nestjit_ir::layout::{Geometry, offset};
use nestjit_ir::{Affine, BufId, Buffer, DType, Index, Load};

use super::arith::clif_type;
use super::{Check, Emitter, FAILED_VALUE_BYTES, Local};
use crate::codegen::address::{allowed, inside};
use crate::error::{Error, ErrorKind, Result};

/// The address of an element.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub base: Value,
    pub displacement: i32,
    pub flags: MemFlagsData,
}

/// An index: affine with all known variables replaced, or a value.
enum Resolved {
    Affine(Affine),
    /// A value, and the least and the largest that it can be.
    Value(Value, (i64, i64)),
}

impl Emitter<'_, '_> {
    /// The start of a buffer's storage.
    pub(super) fn storage(&mut self, buf: BufId) -> Result<Value> {
        if let Some(p) = self.pointers.get(&buf) {
            return Ok(*p);
        }
        match self.locals.get(&buf).copied() {
            Some(Local::Scratch(offset)) => Ok(self.b.ins().iadd_imm_s(self.scratch, offset as i64)),
            _ => Err(self.undeclared(buf)),
        }
    }

    pub(super) fn undeclared(&self, buf: BufId) -> Error {
        let name = self.program.buffers.get(buf.0 as usize).map_or("?", |b| b.name.as_str());
        Error::internal(format!("%{name} is used but not declared"))
    }

    /// Different buffers never overlap.
    fn flags(&mut self, buf: BufId) -> MemFlagsData {
        let region = *self.regions.entry(buf).or_insert_with(|| {
            let data = AliasRegionData { user_id: buf.0, description: "buffer".into() };
            self.b.func.dfg.alias_regions.insert(data)
        });
        MemFlagsData::trusted().with_alias_region(Some(region))
    }

    /// The value of an affine expression of the loop variables.
    pub(super) fn affine(&mut self, affine: &Affine) -> Result<Value> {
        let affine = self.known(affine);
        if affine.is_overflow() {
            return Err(Error::new(ErrorKind::Limit, "an index leaves 64 bits"));
        }
        let mut sum = None;
        for &(v, c) in affine.terms() {
            let Some(&var) = self.vars.get(&v) else {
                return Err(Error::internal(format!("loop variable {} is not bound", v.0)));
            };
            let term = if c == 1 { var } else { self.b.ins().imul_imm_s(var, c) };
            sum = Some(match sum {
                None => term,
                Some(sum) => self.b.ins().iadd(sum, term),
            });
        }
        Ok(match sum {
            None => self.b.ins().iconst(types::I64, affine.offset()),
            Some(sum) if affine.offset() == 0 => sum,
            Some(sum) => self.b.ins().iadd_imm_s(sum, affine.offset()),
        })
    }

    /// The expression with the variables of unrolled loops replaced.
    fn known(&self, affine: &Affine) -> Affine {
        let mut affine = affine.clone();
        for v in affine.clone().vars() {
            if let Some(&value) = self.consts.get(&v) {
                affine = affine.subst(v, &Affine::constant(value));
            }
        }
        affine
    }

    fn resolve(&mut self, index: &[Index], buffer: &Buffer) -> Result<Vec<Resolved>> {
        if index.len() != buffer.shape.len() {
            return Err(Error::internal(format!("%{} is accessed with a wrong rank", buffer.name)));
        }
        index
            .iter()
            .map(|i| match i {
                Index::Affine(a) => Ok(Resolved::Affine(self.known(a))),
                Index::Value(e) => {
                    let limits = e.limits(self.program);
                    Ok(Resolved::Value(self.expr_of(e, DType::I64)?, limits))
                }
            })
            .collect()
    }

    /// The address of an element that must exist: an index that is not known to be inside is checked, and
    /// ends the function if it is not.
    pub(super) fn place(&mut self, buf: BufId, index: &[Index]) -> Result<Place> {
        let buffer = self.program.buf(buf);
        let index = self.resolve(index, buffer)?;
        for (dim, i) in index.iter().enumerate() {
            if let Some((ok, value)) = self.is_inside(i, allowed(buffer, dim, None))? {
                self.require(ok, value, Check::Access { buf, dim });
            }
        }
        self.address(buf, &index)
    }

    /// Whether an index is inside, and its value; `None` if it is known to be.
    fn is_inside(&mut self, index: &Resolved, (lo, hi): (i64, i64)) -> Result<Option<(Value, Value)>> {
        let value = match index {
            Resolved::Affine(a) if inside(a, (lo, hi), &self.extents) => return Ok(None),
            Resolved::Affine(a) => self.affine(a)?,
            Resolved::Value(_, (least, most)) if lo <= *least && *most <= hi => return Ok(None),
            Resolved::Value(v, _) => *v,
        };
        Ok(Some((self.is_within(value, (lo, hi)), value)))
    }

    /// Whether a value is one of `lo..=hi`.
    pub(super) fn is_within(&mut self, value: Value, (lo, hi): (i64, i64)) -> Value {
        if lo > hi {
            return self.b.ins().iconst(types::I8, 0);
        }
        let from_lo = if lo == 0 { value } else { self.b.ins().iadd_imm_s(value, lo.wrapping_neg()) };
        self.b.ins().icmp_imm_s(IntCC::UnsignedLessThanOrEqual, from_lo, hi.wrapping_sub(lo))
    }

    /// Ends the function with the check's status unless `ok`; the value that failed is then the first thing in the
    /// scratch memory.
    pub(super) fn require(&mut self, ok: Value, value: Value, check: Check) {
        self.scratch_max = self.scratch_max.max(FAILED_VALUE_BYTES);
        let number = self.checks.iter().position(|c| *c == check).unwrap_or_else(|| {
            self.checks.push(check);
            self.checks.len() - 1
        });
        let (go_on, fail) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(fail);
        self.b.ins().brif(ok, go_on, &[], fail, &[]);
        self.b.switch_to_block(fail);
        self.b.ins().store(MemFlagsData::trusted(), value, self.scratch, 0);
        let status = self.b.ins().iconst(types::I32, number as i64 + 1);
        self.b.ins().return_(&[status]);
        self.b.switch_to_block(go_on);
    }

    /// The address of an element; the indices are inside.
    fn address(&mut self, buf: BufId, index: &[Resolved]) -> Result<Place> {
        let buffer = self.program.buf(buf);
        let size = buffer.dtype.size() as i64;
        let base = self.storage(buf)?;
        let flags = self.flags(buf);
        let affine: Option<Vec<Affine>> = index
            .iter()
            .map(|i| match i {
                Resolved::Affine(a) => Some(a.clone()),
                Resolved::Value(..) => None,
            })
            .collect();
        let bytes = affine.and_then(|a| offset(buffer, &a, &self.extents)).map(|offset| offset.scale(size));
        if let Some(bytes) = bytes.filter(|bytes| !bytes.is_overflow()) {
            let displacement = i32::try_from(bytes.offset()).unwrap_or(0);
            let rest = bytes.plus(-i64::from(displacement));
            let base = match rest.as_const() {
                Some(0) => base,
                _ => {
                    let rest = self.affine(&rest)?;
                    self.b.ins().iadd(base, rest)
                }
            };
            return Ok(Place { base, displacement, flags });
        }
        let geometry = Geometry::of(buffer);
        let mut sum = base;
        for (dim, i) in index.iter().enumerate() {
            let value = match i {
                Resolved::Affine(a) => self.affine(a)?,
                Resolved::Value(v, _) => *v,
            };
            let value = match geometry.before[dim] {
                0 => value,
                halo => self.b.ins().iadd_imm_s(value, halo as i64),
            };
            let stride = geometry.strides[dim] as i64 * size;
            let bytes = match geometry.cut(dim) {
                Some(cut) => {
                    let outer = self.b.ins().udiv_imm_u(value, cut.block as i64);
                    let inner = self.b.ins().urem_imm_u(value, cut.block as i64);
                    let outer = self.b.ins().imul_imm_s(outer, cut.stride as i64 * size);
                    let inner = self.b.ins().imul_imm_s(inner, stride);
                    self.b.ins().iadd(outer, inner)
                }
                None => self.b.ins().imul_imm_s(value, stride),
            };
            sum = self.b.ins().iadd(sum, bytes);
        }
        Ok(Place { base: sum, displacement: 0, flags })
    }

    /// Loads an element.
    pub(super) fn read(&mut self, dtype: DType, place: Place) -> Value {
        self.b.ins().load(clif_type(dtype), place.flags, place.base, place.displacement)
    }

    /// The value of a load expression.
    pub(super) fn load(&mut self, load: &Load) -> Result<Value> {
        if let Some(Local::Register(var)) = self.locals.get(&load.buf).copied() {
            return Ok(self.b.use_var(var));
        }
        let Some(buffer) = self.program.buffers.get(load.buf.0 as usize) else {
            return Err(self.undeclared(load.buf));
        };
        let Some(otherwise) = &load.otherwise else {
            let place = self.place(load.buf, &load.index)?;
            return Ok(self.read(buffer.dtype, place));
        };
        let index = self.resolve(&load.index, buffer)?;
        let mut all_inside = None;
        for (dim, i) in index.iter().enumerate() {
            let ok = self.is_inside(i, allowed(buffer, dim, Some(otherwise)))?.map(|(ok, _)| ok);
            all_inside = match (all_inside, ok) {
                (Some(a), Some(b)) => Some(self.b.ins().band(a, b)),
                (a, b) => a.or(b),
            };
        }
        let Some(all_inside) = all_inside else {
            let place = self.address(load.buf, &index)?;
            return Ok(self.read(buffer.dtype, place));
        };
        let (yes, no, join) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let result = self.b.append_block_param(join, clif_type(buffer.dtype));
        self.b.ins().brif(all_inside, yes, &[], no, &[]);
        self.b.switch_to_block(yes);
        let place = self.address(load.buf, &index)?;
        let value = self.read(buffer.dtype, place);
        self.b.ins().jump(join, &[BlockArg::Value(value)]);
        self.b.switch_to_block(no);
        let value = self.expr_of(otherwise, buffer.dtype)?;
        self.b.ins().jump(join, &[BlockArg::Value(value)]);
        self.b.switch_to_block(join);
        Ok(result)
    }
}
