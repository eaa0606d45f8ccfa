//! Scalar arithmetic: what each operation of the IR is in Cranelift instructions.
//!
//! Integer division never traps, shifts are defined for every amount, casts saturate: exactly what the
//! interpreter defines. Transcendental functions are calls into `runtime_fns`.

use std::cmp::Ordering;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use nestjit_ir::{BinOp, DType, Kind, ReduceOp, UnOp};

use super::Emitter;
use super::half::Half;
use crate::codegen::runtime_fns;
use crate::error::{Error, Result};

/// The Cranelift type that holds a value.
pub(in crate::codegen) fn clif_type(dtype: DType) -> Type {
    match dtype {
        DType::F32 => types::F32,
        DType::F64 => types::F64,
        DType::I64 | DType::U64 => types::I64,
        DType::I32 | DType::U32 => types::I32,
        // Halves are held as their bits.
        DType::I16 | DType::U16 | DType::F16 | DType::BF16 => types::I16,
        DType::I8 | DType::U8 | DType::Bool => types::I8,
    }
}

fn is_signed(dtype: DType) -> bool {
    dtype.kind() == Kind::Signed
}

fn undefined(name: &str, dtype: DType) -> Error {
    Error::internal(format!("'{name}' is not defined on {dtype}"))
}

impl Emitter<'_, '_> {
    /// Calls a function of the runtime table that returns one value.
    fn call_runtime(&mut self, function: usize, args: &[Value]) -> Value {
        let function = self.function(function);
        let call = self.b.ins().call(function, args);
        self.b.inst_results(call)[0]
    }

    /// The reference to a function of the runtime table.
    pub(super) fn function(&mut self, function: usize) -> cranelift_codegen::ir::FuncRef {
        if let Some(f) = self.functions.get(&function) {
            return *f;
        }
        let f = self.env.import_runtime(self.b.func, function);
        self.functions.insert(function, f);
        f
    }

    pub(super) fn unary(&mut self, op: UnOp, dtype: DType, a: Value) -> Result<Value> {
        let bad = || undefined(op.name(), dtype);
        if Half::of(dtype).is_some() {
            return self.half_unary(op, dtype, a);
        }
        if dtype.is_float() {
            let zero = self.zero(dtype);
            let b = &mut self.b;
            return Ok(match op {
                UnOp::Neg => b.ins().fneg(a),
                UnOp::Abs => b.ins().fabs(a),
                UnOp::Floor => b.ins().floor(a),
                UnOp::Ceil => b.ins().ceil(a),
                UnOp::Round => b.ins().nearest(a),
                UnOp::Trunc => b.ins().trunc(a),
                UnOp::Sqrt => b.ins().sqrt(a),
                UnOp::Sign => {
                    let one = self.literal(nestjit_ir::Scalar::from_i64(dtype, 1));
                    let unit = self.b.ins().fcopysign(one, a);
                    let keep = self.b.ins().fcmp(FloatCC::UnorderedOrEqual, a, zero);
                    self.b.ins().select(keep, a, unit)
                }
                UnOp::IsNan => b.ins().fcmp(FloatCC::Unordered, a, a),
                UnOp::IsInf => {
                    let infinity = self.literal(nestjit_ir::Scalar::from_f64(dtype, f64::INFINITY));
                    let magnitude = self.b.ins().fabs(a);
                    self.b.ins().fcmp(FloatCC::Equal, magnitude, infinity)
                }
                _ => {
                    let f = runtime_fns::unary(op, dtype).ok_or_else(bad)?;
                    self.call_runtime(f, &[a])
                }
            });
        }
        match op {
            UnOp::Not if dtype == DType::Bool => Ok(self.b.ins().bxor_imm_u(a, 1)),
            _ if !dtype.is_int() => Err(bad()),
            UnOp::Neg => Ok(self.b.ins().ineg(a)),
            UnOp::BitNot => Ok(self.b.ins().bnot(a)),
            UnOp::Abs if is_signed(dtype) => {
                let minus = self.b.ins().ineg(a);
                let negative = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, a, 0);
                Ok(self.b.ins().select(negative, minus, a))
            }
            UnOp::Abs => Ok(a),
            UnOp::Sign => {
                let positive = self.b.ins().icmp_imm_s(IntCC::NotEqual, a, 0);
                let one = self.cast(DType::Bool, dtype, positive);
                if !is_signed(dtype) {
                    return Ok(one);
                }
                let negative = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, a, 0);
                let minus = self.b.ins().ineg(one);
                Ok(self.b.ins().select(negative, minus, one))
            }
            _ => Err(bad()),
        }
    }

    /// An operation on a half type, in the type that the interpreter does it in.
    fn half_unary(&mut self, op: UnOp, dtype: DType, a: Value) -> Result<Value> {
        match op {
            UnOp::Neg => return Ok(self.b.ins().bxor_imm_u(a, 0x8000)),
            UnOp::Abs => return Ok(self.b.ins().band_imm_u(a, 0x7fff)),
            _ => {}
        }
        let is_call = runtime_fns::unary(op, DType::F32).is_some();
        let wide = if is_call { DType::F64 } else { DType::F32 };
        let x = self.cast(dtype, wide, a);
        let y = self.unary(op, wide, x)?;
        Ok(self.cast(op.result(wide), op.result(dtype), y))
    }

    fn half_binary(&mut self, op: BinOp, dtype: DType, a: Value, b: Value) -> Result<Value> {
        let wide = match op {
            BinOp::Pow | BinOp::Atan2 => DType::F64,
            _ => DType::F32,
        };
        let (x, y) = (self.cast(dtype, wide, a), self.cast(dtype, wide, b));
        let z = self.binary(op, wide, x, y)?;
        Ok(self.cast(op.result(wide), op.result(dtype), z))
    }

    pub(super) fn binary(&mut self, op: BinOp, dtype: DType, a: Value, b: Value) -> Result<Value> {
        if Half::of(dtype).is_some() {
            return self.half_binary(op, dtype, a, b);
        }
        if op.is_comparison() {
            return Ok(self.compare(op, dtype, a, b));
        }
        match dtype.kind() {
            Kind::Float => self.float_binary(op, dtype, a, b),
            Kind::Bool => match op {
                BinOp::And | BinOp::Min => Ok(self.b.ins().band(a, b)),
                BinOp::Or | BinOp::Max => Ok(self.b.ins().bor(a, b)),
                BinOp::Xor => Ok(self.b.ins().bxor(a, b)),
                _ => Err(undefined(op.name(), dtype)),
            },
            Kind::Signed | Kind::Unsigned => self.int_binary(op, dtype, a, b),
        }
    }

    /// `a * b + c`; rounded once for `f32` and `f64` where kernels round once.
    pub(super) fn multiply_add(&mut self, dtype: DType, a: Value, b: Value, c: Value) -> Result<Value> {
        if self.fma && matches!(dtype, DType::F32 | DType::F64) {
            return Ok(self.b.ins().fma(a, b, c));
        }
        let product = self.binary(BinOp::Mul, dtype, a, b)?;
        self.binary(BinOp::Add, dtype, product, c)
    }

    pub(super) fn reduce(&mut self, op: ReduceOp, dtype: DType, a: Value, b: Value) -> Value {
        if Half::of(dtype).is_some() {
            let (x, y) = (self.cast(dtype, DType::F32, a), self.cast(dtype, DType::F32, b));
            let z = self.reduce(op, DType::F32, x, y);
            return self.cast(DType::F32, dtype, z);
        }
        match (op, dtype) {
            (ReduceOp::Add | ReduceOp::Max, DType::Bool) => self.b.ins().bor(a, b),
            (ReduceOp::Mul | ReduceOp::Min, DType::Bool) => self.b.ins().band(a, b),
            (ReduceOp::Add, d) if d.is_float() => self.b.ins().fadd(a, b),
            (ReduceOp::Mul, d) if d.is_float() => self.b.ins().fmul(a, b),
            // Cranelift's rules are the IR's: NaN wins, -0 < +0.
            (ReduceOp::Max, d) if d.is_float() => self.b.ins().fmax(a, b),
            (ReduceOp::Min, d) if d.is_float() => self.b.ins().fmin(a, b),
            (ReduceOp::Add, _) => self.b.ins().iadd(a, b),
            (ReduceOp::Mul, _) => self.b.ins().imul(a, b),
            (ReduceOp::Max | ReduceOp::Min, d) => {
                let order = if op == ReduceOp::Max { BinOp::Gt } else { BinOp::Lt };
                let first = self.compare(order, d, a, b);
                self.b.ins().select(first, a, b)
            }
        }
    }

    fn compare(&mut self, op: BinOp, dtype: DType, a: Value, b: Value) -> Value {
        if dtype.is_float() {
            let cc = match op {
                BinOp::Eq => FloatCC::Equal,
                BinOp::Ne => FloatCC::NotEqual,
                BinOp::Lt => FloatCC::LessThan,
                BinOp::Le => FloatCC::LessThanOrEqual,
                BinOp::Gt => FloatCC::GreaterThan,
                _ => FloatCC::GreaterThanOrEqual,
            };
            return self.b.ins().fcmp(cc, a, b);
        }
        let cc = match op {
            BinOp::Eq => IntCC::Equal,
            BinOp::Ne => IntCC::NotEqual,
            BinOp::Lt => IntCC::SignedLessThan,
            BinOp::Le => IntCC::SignedLessThanOrEqual,
            BinOp::Gt => IntCC::SignedGreaterThan,
            _ => IntCC::SignedGreaterThanOrEqual,
        };
        let cc = if is_signed(dtype) { cc } else { cc.unsigned() };
        self.b.ins().icmp(cc, a, b)
    }

    fn float_binary(&mut self, op: BinOp, dtype: DType, a: Value, b: Value) -> Result<Value> {
        Ok(match op {
            BinOp::Add => self.b.ins().fadd(a, b),
            BinOp::Sub => self.b.ins().fsub(a, b),
            BinOp::Mul => self.b.ins().fmul(a, b),
            BinOp::Div => self.b.ins().fdiv(a, b),
            BinOp::Max => self.b.ins().fmax(a, b),
            BinOp::Min => self.b.ins().fmin(a, b),
            _ => {
                let f = runtime_fns::binary(op, dtype).ok_or_else(|| undefined(op.name(), dtype))?;
                self.call_runtime(f, &[a, b])
            }
        })
    }

    fn int_binary(&mut self, op: BinOp, dtype: DType, a: Value, b: Value) -> Result<Value> {
        Ok(match op {
            BinOp::Add => self.b.ins().iadd(a, b),
            BinOp::Sub => self.b.ins().isub(a, b),
            BinOp::Mul => self.b.ins().imul(a, b),
            BinOp::And => self.b.ins().band(a, b),
            BinOp::Or => self.b.ins().bor(a, b),
            BinOp::Xor => self.b.ins().bxor(a, b),
            BinOp::Max => self.reduce(ReduceOp::Max, dtype, a, b),
            BinOp::Min => self.reduce(ReduceOp::Min, dtype, a, b),
            BinOp::Shl | BinOp::Shr => self.shift(op, dtype, a, b),
            BinOp::Div | BinOp::Rem | BinOp::Mod if dtype == DType::U64 => self.divide_unsigned(op, a, b),
            BinOp::Div | BinOp::Rem | BinOp::Mod => {
                let wide = (self.cast(dtype, DType::I64, a), self.cast(dtype, DType::I64, b));
                let result = self.divide(op, wide.0, wide.1);
                self.cast(DType::I64, dtype, result)
            }
            BinOp::Pow => {
                let widest = if dtype == DType::U64 { DType::U64 } else { DType::I64 };
                let f = runtime_fns::binary(op, widest).ok_or_else(|| undefined(op.name(), dtype))?;
                let wide = [self.cast(dtype, widest, a), self.cast(dtype, widest, b)];
                let result = self.call_runtime(f, &wide);
                self.cast(widest, dtype, result)
            }
            _ => return Err(undefined(op.name(), dtype)),
        })
    }

    /// Division on `i64`. The divisor that the instruction sees is never 0 or -1, so it cannot trap.
    fn divide(&mut self, op: BinOp, a: Value, b: Value) -> Value {
        let b_plus_1 = self.b.ins().iadd_imm_s(b, 1);
        let special = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, b_plus_1, 1);
        let one = self.b.ins().iconst(types::I64, 1);
        let zero = self.b.ins().iconst(types::I64, 0);
        let divisor = self.b.ins().select(special, one, b);
        let is_zero = self.b.ins().icmp_imm_s(IntCC::Equal, b, 0);
        if op == BinOp::Div {
            // a / -1 is -a (wrapping), a / 0 is 0: with `special`, a * b.
            let quotient = self.b.ins().sdiv(a, divisor);
            let product = self.b.ins().imul(a, b);
            return self.b.ins().select(special, product, quotient);
        }
        let rest = self.b.ins().srem(a, divisor);
        let rest = self.b.ins().select(is_zero, zero, rest);
        if op == BinOp::Rem {
            return rest;
        }
        let signs = self.b.ins().bxor(rest, b);
        let differ = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, signs, 0);
        let some = self.b.ins().icmp_imm_s(IntCC::NotEqual, rest, 0);
        let correct = self.b.ins().band(differ, some);
        let moved = self.b.ins().iadd(rest, b);
        self.b.ins().select(correct, moved, rest)
    }

    /// Division on `u64`; by 0 it is 0. The divisor that the instruction sees is never 0, so it cannot trap.
    fn divide_unsigned(&mut self, op: BinOp, a: Value, b: Value) -> Value {
        let is_zero = self.b.ins().icmp_imm_s(IntCC::Equal, b, 0);
        let one = self.b.ins().iconst(types::I64, 1);
        let zero = self.b.ins().iconst(types::I64, 0);
        let divisor = self.b.ins().select(is_zero, one, b);
        let result = match op {
            BinOp::Div => self.b.ins().udiv(a, divisor),
            _ => self.b.ins().urem(a, divisor),
        };
        self.b.ins().select(is_zero, zero, result)
    }

    fn shift(&mut self, op: BinOp, dtype: DType, a: Value, b: Value) -> Value {
        let bits = dtype.size() as i64 * 8;
        let in_range = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, b, bits);
        let zero = self.zero(dtype);
        let (shifted, beyond) = match (op, is_signed(dtype)) {
            (BinOp::Shl, _) => (self.b.ins().ishl(a, b), zero),
            (_, true) => (self.b.ins().sshr(a, b), self.b.ins().sshr_imm_u(a, bits - 1)),
            (_, false) => (self.b.ins().ushr(a, b), zero),
        };
        self.b.ins().select(in_range, shifted, beyond)
    }

    /// Converts as the IR's casts do.
    pub(super) fn cast(&mut self, from: DType, to: DType, a: Value) -> Value {
        if from == to {
            return a;
        }
        if let Some(half) = Half::of(from) {
            let single = self.half_to_f32(half, a);
            return self.cast(DType::F32, to, single);
        }
        if let Some(half) = Half::of(to) {
            return match from.kind() {
                Kind::Float if from == DType::F32 => self.f32_to_half(half, a),
                Kind::Float => self.f64_to_half(half, a),
                Kind::Signed | Kind::Unsigned | Kind::Bool => self.int_to_half(half, from, a),
            };
        }
        let ty = clif_type(to);
        match (from.kind(), to.kind()) {
            (Kind::Float, Kind::Bool) => {
                let zero = self.zero(from);
                self.b.ins().fcmp(FloatCC::NotEqual, a, zero)
            }
            (Kind::Signed | Kind::Unsigned | Kind::Bool, Kind::Bool) => {
                self.b.ins().icmp_imm_s(IntCC::NotEqual, a, 0)
            }
            (Kind::Float, Kind::Float) if to.size() > from.size() => self.b.ins().fpromote(ty, a),
            (Kind::Float, Kind::Float) => self.b.ins().fdemote(ty, a),
            (Kind::Float, Kind::Signed) if to.size() >= 4 => self.b.ins().fcvt_to_sint_sat(ty, a),
            (Kind::Float, Kind::Unsigned) if to.size() >= 4 => self.b.ins().fcvt_to_uint_sat(ty, a),
            (Kind::Float, Kind::Signed | Kind::Unsigned) => {
                let bits = 8 * to.size() as u32;
                let (lo, hi) = match is_signed(to) {
                    true => (-1i64 << (bits - 1), (1i64 << (bits - 1)) - 1),
                    false => (0, (1i64 << bits) - 1),
                };
                let wide = self.b.ins().fcvt_to_sint_sat(types::I32, a);
                // A constant is given as its bits, zero-extended.
                let (lo, hi) = (
                    self.b.ins().iconst(types::I32, i64::from(lo as u32)),
                    self.b.ins().iconst(types::I32, hi),
                );
                let wide = self.reduce(ReduceOp::Max, DType::I32, wide, lo);
                let wide = self.reduce(ReduceOp::Min, DType::I32, wide, hi);
                self.b.ins().ireduce(ty, wide)
            }
            (Kind::Unsigned, Kind::Float) if from.size() == 8 => self.b.ins().fcvt_from_uint(ty, a),
            (Kind::Signed | Kind::Unsigned | Kind::Bool, Kind::Float) => {
                // To a signed type that holds all values.
                let wide = match from.size() {
                    0..4 => self.cast(from, DType::I32, a),
                    _ if is_signed(from) => a,
                    _ => self.cast(from, DType::I64, a),
                };
                self.b.ins().fcvt_from_sint(ty, wide)
            }
            (from_kind, Kind::Signed | Kind::Unsigned) => match to.size().cmp(&from.size()) {
                Ordering::Less => self.b.ins().ireduce(ty, a),
                Ordering::Equal => a,
                Ordering::Greater if from_kind == Kind::Signed => self.b.ins().sextend(ty, a),
                Ordering::Greater => self.b.ins().uextend(ty, a),
            },
        }
    }
}
