//! Loads and stores: whole registers, a few lanes, strided, guarded.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, Endianness, InstBuilder, MemFlagsData, Type, Value, types};

use super::{Emitter, LANES};
use crate::codegen::vcode::{Access, Guard};

/// Every address that is accessed is valid.
const TRUSTED: MemFlagsData = MemFlagsData::trusted();

const UNWRITTEN: MemFlagsData = MemFlagsData::trusted().with_readonly().with_can_move();

/// Bytes of an element.
const ELEMENT: i64 = 4;

impl Emitter<'_, '_> {
    /// The pointer and the constant displacement of an access.
    fn place(&mut self, access: &Access) -> (Value, i64) {
        let address = &access.address;
        let pointer = self.pointer(&(address.base, address.terms.clone()));
        let reach = address.offset + access.stride * LANES as i64;
        if i32::try_from(address.offset).is_ok() && i32::try_from(reach).is_ok() {
            (pointer, address.offset)
        } else {
            (self.b.ins().iadd_imm_s(pointer, address.offset), 0)
        }
    }

    fn vector_bitcast(&mut self, ty: Type, v: Value) -> Value {
        self.b.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), v)
    }

    pub(super) fn load(&mut self, from: &Access) -> Value {
        // What is never written may be an operand of the instruction that needs it.
        let flags = if self.kernel.written.contains(&from.buf) { TRUSTED } else { UNWRITTEN };
        let (pointer, at) = self.place(from);
        let element = |e: &mut Self, lane: usize| {
            e.b.ins().load(types::F32, flags, pointer, (at + from.stride * lane as i64) as i32)
        };
        match (from.stride, from.lanes) {
            (0, _) => {
                let v = element(self, 0);
                self.b.ins().splat(types::F32X4, v)
            }
            (ELEMENT, LANES) => self.b.ins().load(types::F32X4, flags, pointer, at as i32),
            (ELEMENT, 2 | 3) => {
                let low = self.b.ins().load(types::I64, flags, pointer, at as i32);
                let low = self.b.ins().scalar_to_vector(types::I64X2, low);
                let low = self.vector_bitcast(types::F32X4, low);
                if from.lanes == 2 {
                    return low;
                }
                let third = element(self, 2);
                self.b.ins().insertlane(low, third, 2)
            }
            (_, lanes) => {
                let first = element(self, 0);
                let mut v = self.b.ins().scalar_to_vector(types::F32X4, first);
                for lane in 1..lanes {
                    let next = element(self, lane);
                    v = self.b.ins().insertlane(v, next, lane as u8);
                }
                v
            }
        }
    }

    pub(super) fn store(&mut self, value: Value, to: &Access) {
        let (pointer, at) = self.place(to);
        let element = |e: &mut Self, lane: usize| {
            let v = e.b.ins().extractlane(value, lane as u8);
            e.b.ins().store(TRUSTED, v, pointer, (at + to.stride * lane as i64) as i32);
        };
        match (to.stride, to.lanes) {
            (0, _) => element(self, 0),
            (ELEMENT, LANES) => {
                self.b.ins().store(TRUSTED, value, pointer, at as i32);
            }
            (ELEMENT, 2 | 3) => {
                let low = self.vector_bitcast(types::I64X2, value);
                let low = self.b.ins().extractlane(low, 0);
                self.b.ins().store(TRUSTED, low, pointer, at as i32);
                if to.lanes == 3 {
                    element(self, 2);
                }
            }
            (_, lanes) => (0..lanes).for_each(|lane| element(self, lane)),
        }
    }

    /// Whether the guards hold for a lane; `None` if there are none.
    fn holds(&mut self, guards: &[Guard], lane: usize) -> Option<Value> {
        let mut all = None;
        for guard in guards {
            let value = self.int(&guard.value);
            let from_lo = guard.step * lane as i64 - guard.lo;
            let value = if from_lo == 0 { value } else { self.b.ins().iadd_imm_s(value, from_lo) };
            let ok = if guard.lo <= guard.hi {
                self.b.ins().icmp_imm_s(IntCC::UnsignedLessThanOrEqual, value, guard.hi - guard.lo)
            } else {
                self.b.ins().iconst(types::I8, 0)
            };
            all = Some(match all {
                None => ok,
                Some(all) => self.b.ins().band(all, ok),
            });
        }
        all
    }

    /// Loads the whole register if all lanes exist; otherwise, if lanes differ, one lane at a time.
    pub(super) fn load_guarded(&mut self, from: &Access, guards: &[Guard], otherwise: Value) -> Value {
        let per_lane = guards.iter().any(|g| g.step != 0);
        // Indices are monotonic in the lane: if the first and the last are inside, all are.
        let mut all = self.holds(guards, 0);
        if per_lane && let Some(last) = self.holds(guards, from.lanes.saturating_sub(1)) {
            all = all.map(|first| self.b.ins().band(first, last));
        }
        let Some(all) = all else { return self.load(from) };
        let (whole, part, join) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let result = self.b.append_block_param(join, types::F32X4);
        self.b.ins().brif(all, whole, &[], part, &[]);
        for block in [whole, part] {
            self.b.seal_block(block);
        }
        self.b.switch_to_block(whole);
        let value = self.load(from);
        self.b.ins().jump(join, &[BlockArg::Value(value)]);
        self.b.switch_to_block(part);
        let mut value = otherwise;
        if per_lane {
            for lane in 0..from.lanes {
                value = self.load_lane(from, guards, lane, value);
            }
        }
        self.b.ins().jump(join, &[BlockArg::Value(value)]);
        self.b.switch_to_block(join);
        self.b.seal_block(join);
        result
    }

    /// `value` with one lane loaded, if it exists.
    fn load_lane(&mut self, from: &Access, guards: &[Guard], lane: usize, value: Value) -> Value {
        let Some(ok) = self.holds(guards, lane) else { return value };
        let (yes, join) = (self.b.create_block(), self.b.create_block());
        let result = self.b.append_block_param(join, types::F32X4);
        self.b.ins().brif(ok, yes, &[], join, &[BlockArg::Value(value)]);
        self.b.switch_to_block(yes);
        self.b.seal_block(yes);
        let (pointer, at) = self.place(from);
        let element =
            self.b.ins().load(types::F32, TRUSTED, pointer, (at + from.stride * lane as i64) as i32);
        let with = self.b.ins().insertlane(value, element, lane as u8);
        self.b.ins().jump(join, &[BlockArg::Value(with)]);
        self.b.switch_to_block(join);
        self.b.seal_block(join);
        result
    }
}
