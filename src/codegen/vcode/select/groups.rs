//! Groups of bytes or of `bf16`: a short loop that stores one after the other, where lanes are as far apart as a group is
//! long, stores whole groups. So operands come into the layout that dot products read (`dot`).

use nestjit_ir::visit::walk_expr;
use nestjit_ir::{Affine, DType, Expr, For, Stmt, Store, Var};

use super::dot::BYTES;
use super::{Result, Selector, unsupported};
use crate::codegen::vcode::{Access, BinaryOp, Class, MemType, Reg, ShiftOp, UnaryOp};
use crate::lanes::Refusal;

impl Selector<'_> {
    /// Emits a loop that stores the elements of a group; false if it is another loop.
    pub(super) fn group_loop(&mut self, l: &For) -> Result<bool> {
        let [Stmt::Store(s)] = l.body.as_slice() else { return Ok(false) };
        let dtype = self.region.program.buf(s.buf).dtype;
        let whole_group = BYTES / dtype.size();
        let grouped = matches!(dtype, DType::I8 | DType::U8 | DType::BF16);
        if self.group.is_none()
            || cfg!(target_endian = "big")
            || !grouped
            || l.extent < 2
            || l.extent > whole_group
        {
            return Ok(false);
        }
        // What is stored first could be read by what is stored next.
        let mut reads = false;
        walk_expr(&s.value, &mut |e| reads |= matches!(e, Expr::Load(l) if l.buf == s.buf));
        if reads {
            return Ok(false);
        }
        // Nothing is emitted before it is known that all registers can be.
        let mut targets = Vec::new();
        for chunk in 0..self.chunks() {
            self.set_chunk(chunk);
            let Some(found) = self.neighbours_at(s.buf, &s.index, None, Some(l.var))? else {
                return Ok(false);
            };
            let apart = found.access.stride == BYTES as i64 && found.guards.is_empty();
            let whole = l.extent == whole_group || self.in_whole_group(s.buf, &s.index, Some(l.var))?;
            if !apart || !whole {
                return Ok(false);
            }
            targets.push(found.access);
        }
        for (chunk, access) in targets.into_iter().enumerate() {
            self.set_chunk(chunk);
            let group = match self.loaded_group(s, l)? {
                Some(group) => group,
                None => self.joined(s, (l.var, l.extent))?,
            };
            self.b.store(group, Access { ty: MemType::I32, ..access });
        }
        Ok(true)
    }

    /// The elements of a whole group that are only copied, and are neighbours where they come from.
    fn loaded_group(&mut self, s: &Store, l: &For) -> Result<Option<Reg>> {
        let Expr::Load(load) = &s.value else { return Ok(None) };
        let same = self.region.program.buf(load.buf).dtype == self.region.program.buf(s.buf).dtype;
        let whole = BYTES / self.region.program.buf(s.buf).dtype.size();
        if !same || l.extent < whole || load.otherwise.is_some() || self.is_in_registers(load.buf) {
            return Ok(None);
        }
        let found = self.neighbours_at(load.buf, &load.index, None, Some(l.var))?;
        Ok(found.map(|b| self.b.load(Access { ty: MemType::I32, ..b.access })))
    }

    /// The values of the iterations of a loop, one element each; the rest of the group is 0.
    fn joined(&mut self, s: &Store, (var, extent): (Var, usize)) -> Result<Reg> {
        let dtype = self.region.program.buf(s.buf).dtype;
        let bits = 8 * dtype.size();
        let mut group = None;
        for i in 0..extent {
            self.bound.set(var, Affine::constant(i as i64));
            let value = self.expr_of(&s.value, dtype);
            self.bound.remove(var);
            let mut element = value?.reg();
            let shift = (bits * i) as u8;
            if dtype == DType::BF16 {
                // The upper half of an `f32`.
                element = self.b.unary(UnaryOp::Bits, element);
                if i == 0 {
                    element = self.b.shift(ShiftOp::UnsignedRight, element, 16);
                }
            } else if self.b.class(element) != Class::I32 {
                return unsupported(Refusal::ByteType);
            } else {
                // Higher bits are shifted out of the last one.
                if bits * (i + 1) < 8 * BYTES {
                    let low = self.b.constant(Class::I32, (1u64 << bits) - 1);
                    element = self.b.binary(BinaryOp::And, element, low);
                }
                if i > 0 {
                    element = self.b.shift(ShiftOp::Left, element, shift);
                }
            }
            group = Some(match group {
                Some(others) => self.b.binary(BinaryOp::Or, others, element),
                None => element,
            });
        }
        match group {
            Some(group) => Ok(group),
            None => unsupported(Refusal::NoIteration),
        }
    }
}
