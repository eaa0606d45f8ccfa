//! Groups of bytes: a short loop that stores one byte after the other, where lanes are as far apart as a group has bytes,
//! stores whole groups. So operands come into the layout that dot products read (`dot`).

use nestjit_ir::visit::walk_expr;
use nestjit_ir::{Affine, DType, Expr, For, Stmt, Store, Var};

use super::dot::BYTES;
use super::{Result, Selector, unsupported};
use crate::codegen::vcode::{Access, BinaryOp, Class, MemType, Reg, ShiftOp};

impl Selector<'_> {
    /// Emits a loop that stores the bytes of a group; false if it is another loop.
    pub(super) fn group_loop(&mut self, l: &For) -> Result<bool> {
        let [Stmt::Store(s)] = l.body.as_slice() else { return Ok(false) };
        let is_byte = matches!(self.region.program.buf(s.buf).dtype, DType::I8 | DType::U8);
        if self.group.is_none() || cfg!(target_endian = "big") || !is_byte || !(2..=BYTES).contains(&l.extent)
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
            let Some(bytes) = self.bytes_at(s.buf, &s.index, None, Some(l.var))? else { return Ok(false) };
            let apart = bytes.access.stride == BYTES as i64 && bytes.guards.is_empty();
            let whole = l.extent == BYTES || self.in_whole_group(s.buf, &s.index, Some(l.var))?;
            if !apart || !whole {
                return Ok(false);
            }
            targets.push(bytes.access);
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

    /// The bytes of a whole group that are only copied, and are neighbours where they come from.
    fn loaded_group(&mut self, s: &Store, l: &For) -> Result<Option<Reg>> {
        let Expr::Load(load) = &s.value else { return Ok(None) };
        let same = self.region.program.buf(load.buf).dtype == self.region.program.buf(s.buf).dtype;
        if !same || l.extent < BYTES || load.otherwise.is_some() || self.is_in_registers(load.buf) {
            return Ok(None);
        }
        let bytes = self.bytes_at(load.buf, &load.index, None, Some(l.var))?;
        Ok(bytes.map(|b| self.b.load(Access { ty: MemType::I32, ..b.access })))
    }

    /// The values of the iterations of a loop, one byte each; the rest of the group is 0.
    fn joined(&mut self, s: &Store, (var, extent): (Var, usize)) -> Result<Reg> {
        let mut group = None;
        for i in 0..extent {
            self.bound.set(var, Affine::constant(i as i64));
            let value = self.expr(&s.value);
            self.bound.remove(var);
            let value = value?.reg();
            if self.b.class(value) != Class::I32 {
                return unsupported("a byte of another type");
            }
            let byte = match i + 1 == BYTES {
                // Higher bits are shifted out.
                true => value,
                false => {
                    let low = self.b.constant(Class::I32, 0xffu64);
                    self.b.binary(BinaryOp::And, value, low)
                }
            };
            let byte = if i > 0 { self.b.shift(ShiftOp::Left, byte, 8 * i as u8) } else { byte };
            group = Some(match group {
                Some(others) => self.b.binary(BinaryOp::Or, others, byte),
                None => byte,
            });
        }
        match group {
            Some(group) => Ok(group),
            None => unsupported("a loop without iterations"),
        }
    }
}
