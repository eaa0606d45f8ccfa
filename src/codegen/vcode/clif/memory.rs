//! Loads and stores: whole registers, a few lanes, strided, guarded; of elements of every size.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{BlockArg, Endianness, InstBuilder, MemFlagsData, Type, Value, types};

use super::{Emitter, vector_type};
use crate::codegen::vcode::{Access, Guard, MemType};

/// Every address that is accessed is valid.
const TRUSTED: MemFlagsData = MemFlagsData::trusted();

const UNWRITTEN: MemFlagsData = MemFlagsData::trusted().with_readonly().with_can_move();

impl Emitter<'_, '_> {
    /// The pointer and the constant displacement of an access.
    fn place(&mut self, access: &Access) -> (Value, i64) {
        let address = &access.address;
        let pointer = self.pointer(&(address.base, address.terms.clone()));
        let reach = address.offset + access.stride * register(access) as i64;
        if i32::try_from(address.offset).is_ok() && i32::try_from(reach).is_ok() {
            (pointer, address.offset)
        } else {
            (self.b.ins().iadd_imm_s(pointer, address.offset), 0)
        }
    }

    pub(super) fn vector_bitcast(&mut self, ty: Type, v: Value) -> Value {
        self.b.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), v)
    }

    /// Loads one element as a lane; of truth values, as 0 or 1, of half types, their bits.
    fn load_element(&mut self, ty: MemType, flags: MemFlagsData, pointer: Value, at: i64) -> Value {
        let at = at as i32;
        match ty {
            MemType::F32 => self.b.ins().load(types::F32, flags, pointer, at),
            MemType::F64 => self.b.ins().load(types::F64, flags, pointer, at),
            MemType::I32 => self.b.ins().load(types::I32, flags, pointer, at),
            MemType::I64 => self.b.ins().load(types::I64, flags, pointer, at),
            MemType::I8 => self.b.ins().sload8(types::I32, flags, pointer, at),
            MemType::U8 | MemType::SaturatedU8 | MemType::Bool => {
                self.b.ins().uload8(types::I32, flags, pointer, at)
            }
            MemType::I16 => self.b.ins().sload16(types::I32, flags, pointer, at),
            MemType::U16 | MemType::F16 | MemType::BF16 => {
                self.b.ins().uload16(types::I32, flags, pointer, at)
            }
        }
    }

    /// A register of elements as they were loaded: truth values become masks, halves `f32`.
    fn as_register(&mut self, ty: MemType, v: Value) -> Value {
        match ty {
            MemType::Bool => self.b.ins().ineg(v),
            MemType::F16 => self.f32_of_f16_bits(v),
            MemType::BF16 => {
                let bits = self.b.ins().ishl_imm_u(v, 16);
                self.as_float(bits)
            }
            MemType::F32
            | MemType::F64
            | MemType::I32
            | MemType::I64
            | MemType::I8
            | MemType::U8
            | MemType::SaturatedU8
            | MemType::I16
            | MemType::U16 => v,
        }
    }

    pub(super) fn load(&mut self, from: &Access) -> Value {
        let place = self.place(from);
        self.load_at(from, place)
    }

    /// What is never written may be an operand of the instruction that needs it.
    fn flags(&self, from: &Access) -> MemFlagsData {
        if self.kernel.written.contains(&from.buf) { TRUSTED } else { UNWRITTEN }
    }

    /// Loads what an access would be if its first element were at this place.
    fn load_at(&mut self, from: &Access, (pointer, at): (Value, i64)) -> Value {
        let flags = self.flags(from);
        let vector = loaded_type(from.ty);
        let element = |e: &mut Self, lane: usize| {
            e.load_element(from.ty, flags, pointer, at + from.stride * lane as i64)
        };
        let v = match (from.stride, from.is_contiguous(), from.lanes) {
            (0, _, _) => {
                let v = element(self, 0);
                self.b.ins().splat(vector, v)
            }
            (_, true, lanes) if lanes == register(from) => match from.ty.bytes() {
                1 | 2 => self.load_narrow(from.ty, flags, pointer, at),
                _ => self.b.ins().load(vector, flags, pointer, at as i32),
            },
            (_, true, 2 | 3) if from.ty.bytes() == 4 => {
                let low = self.b.ins().load(types::I64, flags, pointer, at as i32);
                let low = self.b.ins().scalar_to_vector(types::I64X2, low);
                let low = self.vector_bitcast(vector, low);
                if from.lanes == 2 {
                    return low;
                }
                let third = element(self, 2);
                self.b.ins().insertlane(low, third, 2)
            }
            (_, _, lanes) => {
                let lanes: Vec<Value> = (0..lanes).map(|lane| element(self, lane)).collect();
                self.of_lanes(vector, &lanes)
            }
        };
        self.as_register(from.ty, v)
    }

    /// The bytes of a table that the low 8 bits of each lane count.
    pub(super) fn lookup(&mut self, table: &Access, index: Value) -> Value {
        let (pointer, at) = self.place(table);
        let ty = self.type_of(index);
        self.each_lane(ty, &[index], |e, lane| {
            let byte = e.b.ins().band_imm_u(lane[0], 0xff);
            let byte = e.b.ins().uextend(types::I64, byte);
            let element = e.b.ins().iadd(pointer, byte);
            e.load_element(MemType::U8, UNWRITTEN, element, at)
        })
    }

    /// The elements of an access that are so many bytes further on as lanes of `offsets` say: those from `first` on, or the first
    /// of them for all.
    pub(super) fn gather(&mut self, from: &Access, offsets: Value, first: Option<usize>) -> Value {
        let (pointer, at) = self.place(from);
        let moved = |e: &mut Self, lane: usize| {
            let offset = e.b.ins().extractlane(offsets, lane as u8);
            let offset = e.b.ins().uextend(types::I64, offset);
            e.b.ins().iadd(pointer, offset)
        };
        let Some(first) = first else {
            let pointer = moved(self, 0);
            return self.load_at(from, (pointer, at));
        };
        let (flags, vector) = (self.flags(from), loaded_type(from.ty));
        let mut lanes = Vec::with_capacity(from.lanes);
        for lane in 0..from.lanes {
            let pointer = moved(self, first + lane);
            lanes.push(self.load_element(from.ty, flags, pointer, at + from.stride * lane as i64));
        }
        let v = self.of_lanes(vector, &lanes);
        self.as_register(from.ty, v)
    }

    /// Four neighbours of one or two bytes each.
    fn load_narrow(&mut self, ty: MemType, flags: MemFlagsData, pointer: Value, at: i64) -> Value {
        let signed = matches!(ty, MemType::I8 | MemType::I16);
        let mut v = if ty.bytes() == 1 {
            let bytes = self.b.ins().load(types::I32, flags, pointer, at as i32);
            let bytes = self.b.ins().scalar_to_vector(types::I32X4, bytes);
            let bytes = self.vector_bitcast(types::I8X16, bytes);
            if signed { self.b.ins().swiden_low(bytes) } else { self.b.ins().uwiden_low(bytes) }
        } else {
            let halves = self.b.ins().load(types::I64, flags, pointer, at as i32);
            let halves = self.b.ins().scalar_to_vector(types::I64X2, halves);
            self.vector_bitcast(types::I16X8, halves)
        };
        v = if signed { self.b.ins().swiden_low(v) } else { self.b.ins().uwiden_low(v) };
        v
    }

    pub(super) fn store(&mut self, value: Value, to: &Access) {
        let (pointer, at) = self.place(to);
        let value = match to.ty {
            MemType::Bool => {
                let one = self.b.ins().iconst(types::I32, 1);
                let one = self.b.ins().splat(types::I32X4, one);
                self.b.ins().band(value, one)
            }
            MemType::F16 => self.f16_bits(value),
            MemType::BF16 => {
                let bits = self.as_int(value);
                self.b.ins().ushr_imm_u(bits, 16)
            }
            MemType::SaturatedU8 => {
                let most = self.b.ins().iconst(types::I32, 255);
                let most = self.b.ins().splat(types::I32X4, most);
                self.b.ins().umin(value, most)
            }
            MemType::F32
            | MemType::F64
            | MemType::I32
            | MemType::I64
            | MemType::I8
            | MemType::U8
            | MemType::I16
            | MemType::U16 => value,
        };
        let element = |e: &mut Self, lane: usize| {
            let v = e.b.ins().extractlane(value, lane as u8);
            let at = (at + to.stride * lane as i64) as i32;
            match to.ty.bytes() {
                1 => e.b.ins().istore8(TRUSTED, v, pointer, at),
                2 => e.b.ins().istore16(TRUSTED, v, pointer, at),
                _ => e.b.ins().store(TRUSTED, v, pointer, at),
            };
        };
        match (to.stride, to.is_contiguous(), to.lanes) {
            (0, _, _) => element(self, 0),
            (_, true, lanes) if lanes == register(to) => match to.ty.bytes() {
                1 | 2 => self.store_narrow(value, to.ty, pointer, at),
                _ => drop(self.b.ins().store(TRUSTED, value, pointer, at as i32)),
            },
            (_, true, 2 | 3) if to.ty.bytes() == 4 => {
                let low = self.vector_bitcast(types::I64X2, value);
                let low = self.b.ins().extractlane(low, 0);
                self.b.ins().store(TRUSTED, low, pointer, at as i32);
                if to.lanes == 3 {
                    element(self, 2);
                }
            }
            (_, _, lanes) => (0..lanes).for_each(|lane| element(self, lane)),
        }
    }

    /// The low bytes of four lanes, to four neighbours.
    fn store_narrow(&mut self, value: Value, ty: MemType, pointer: Value, at: i64) {
        let size = ty.bytes() as u8;
        let used = (0..4).flat_map(|lane| (0..size).map(move |byte| 4 * lane + byte));
        let order: Vec<u8> = used.chain(std::iter::repeat(0)).take(16).collect();
        let order = self.b.func.dfg.immediates.push(order.into());
        let bytes = self.vector_bitcast(types::I8X16, value);
        let bytes = self.b.ins().shuffle(bytes, bytes, order);
        let (vector, at) = (if size == 1 { types::I32X4 } else { types::I64X2 }, at as i32);
        let packed = self.vector_bitcast(vector, bytes);
        let packed = self.b.ins().extractlane(packed, 0);
        self.b.ins().store(TRUSTED, packed, pointer, at);
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
        let result = self.b.append_block_param(join, vector_type(from.ty.class()));
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
        let result = self.b.append_block_param(join, vector_type(from.ty.class()));
        self.b.ins().brif(ok, yes, &[], join, &[BlockArg::Value(value)]);
        self.b.switch_to_block(yes);
        self.b.seal_block(yes);
        let (pointer, at) = self.place(from);
        let element = self.load_element(from.ty, TRUSTED, pointer, at + from.stride * lane as i64);
        let element = match from.ty {
            MemType::Bool => self.b.ins().ineg(element),
            MemType::F16 | MemType::BF16 => {
                let bits = self.b.ins().scalar_to_vector(types::I32X4, element);
                let register = self.as_register(from.ty, bits);
                self.b.ins().extractlane(register, 0)
            }
            MemType::F32 | MemType::F64 | MemType::I32 | MemType::I64 => element,
            MemType::I8 | MemType::U8 | MemType::SaturatedU8 | MemType::I16 | MemType::U16 => element,
        };
        let with = self.b.ins().insertlane(value, element, lane as u8);
        self.b.ins().jump(join, &[BlockArg::Value(with)]);
        self.b.switch_to_block(join);
        self.b.seal_block(join);
        result
    }
}

/// What elements are in a register before [`Emitter::as_register`].
fn loaded_type(ty: MemType) -> Type {
    match ty {
        MemType::F16 | MemType::BF16 => types::I32X4,
        MemType::F32 | MemType::F64 | MemType::I32 | MemType::I64 | MemType::Bool => vector_type(ty.class()),
        MemType::I8 | MemType::U8 | MemType::I16 | MemType::U16 => vector_type(ty.class()),
        MemType::SaturatedU8 => vector_type(ty.class()),
    }
}

/// Lanes of a register of what is accessed.
fn register(access: &Access) -> usize {
    vector_type(access.ty.class()).lane_count() as usize
}
