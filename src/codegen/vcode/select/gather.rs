//! Loads with an index that is computed in the region: each lane from where its index says, or all lanes from where one index
//! says. The index is known to be inside without a check: it is cut to limits, or too narrow to be outside.

use nestjit_ir::layout::{offset, strides};
use nestjit_ir::{Affine, DType, Index, Load, Program};

use super::locals::Local;
use super::value::Val;
use super::{Result, Selector, Stop, unsupported};
use crate::codegen::vcode::{BinaryOp, Class, Narrowing, Reg, ShiftOp};
use crate::lanes::{self, Refusal};

impl Selector<'_> {
    /// The value of a load with indices that are computed in the region; `None` if there are none.
    pub(super) fn gather(&mut self, l: &Load) -> Result<Option<Val>> {
        // The code around the region adds what it can compute to the address of a buffer, if it knows the buffer.
        let local = self.locals.contains_key(&l.buf);
        let computed = |i: &Index| matches!(i, Index::Value(e) if local || !self.is_constant(e));
        if !l.index.iter().any(computed) {
            return Ok(None);
        }
        let program: &Program = self.region.program;
        let buffer = program.buf(l.buf);
        if !lanes::gathers(program, l) {
            return unsupported(Refusal::ComputedIndex);
        }
        let Some(strides) = strides(buffer) else { return unsupported(Refusal::AddressNotAffine) };
        if self.is_in_registers(l.buf) {
            return Err(Stop::Spill(l.buf));
        }
        // Of a local that each lane has for itself, as many elements as lanes lie in place of each.
        let copies = match self.locals.get(&l.buf) {
            Some(Local::LaneMemory(_)) => self.b.lanes() * self.chunks(),
            _ => 1,
        };
        let element = buffer.dtype.size() * copies;
        let (mut offsets, mut each) = (None, false);
        let mut rest = Vec::with_capacity(l.index.len());
        for (dim, (i, stride)) in l.index.iter().zip(strides).enumerate() {
            match i {
                Index::Affine(a) => {
                    let a = self.in_counters(a);
                    if self.guard(buffer, dim, &a, None)?.is_some() {
                        return unsupported(Refusal::CheckedIndex);
                    }
                    rest.push(a);
                }
                Index::Value(e) => {
                    rest.push(Affine::constant(0));
                    let value = self.expr_of(e, DType::I64)?;
                    each |= value.varying;
                    let index = match value.is_wide() {
                        true => self.narrowed(Narrowing::Int, value.regs),
                        false => value.reg(),
                    };
                    let Some(bytes) = stride.checked_mul(element).and_then(|b| i32::try_from(b).ok()) else {
                        return unsupported(Refusal::GatherTooFar);
                    };
                    let moved = self.times(index, bytes as u32);
                    offsets = Some(match offsets {
                        None => moved,
                        Some(sum) => self.b.binary(BinaryOp::IntAdd, sum, moved),
                    });
                }
            }
        }
        let at = offset(buffer, &rest, &self.extents);
        let (mut from, _) = self.access_at(l.buf, Vec::new(), at.as_ref(), Vec::new())?;
        let Some(offsets) = offsets else { return Ok(None) };
        if each {
            from.lanes = self.lanes();
        }
        let regs = self.gather_regs(&from, offsets, each);
        Ok(Some(Val::new(buffer.dtype, regs, each || from.stride != 0)))
    }

    /// The product of integers of 32 bits and a constant.
    fn times(&mut self, a: Reg, factor: u32) -> Reg {
        match factor {
            1 => a,
            _ if factor.is_power_of_two() => self.b.shift(ShiftOp::Left, a, factor.trailing_zeros() as u8),
            _ => {
                let factor = self.b.constant(Class::I32, factor);
                self.b.binary(BinaryOp::IntMul, a, factor)
            }
        }
    }
}
