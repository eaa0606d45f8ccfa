//! Kernels as Cranelift functions with 4 lanes: on every machine that Cranelift compiles for.
//!
//! The function's only argument points to the kernel's arguments. Loops test at the bottom and keep one
//! pointer per distinct address pattern, so that an access is a pointer plus a constant. Instructions must
//! stay in the order of the kernel, which is chosen for register pressure, so kernels are compiled without
//! Cranelift's optimiser: it would order arithmetic by demand. `memory` emits accesses, `control` loops; `order` arranges
//! register tiles, `convert` has what changes the width of lanes, `halves` the half types, and `lanewise` what Cranelift has
//! no instruction for.

mod control;
mod convert;
mod halves;
mod lanewise;
mod memory;
mod order;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{
    self, AbiParam, ConstantData, FuncRef, Function, InstBuilder, MemFlagsData, Type, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use super::{
    Access, ArgId, BinaryOp, Class, Cmp, Combine, DotKind, Inst, Int, Kernel, Reg, Shuffle, Terms, UnaryOp,
};
use crate::codegen::function::Env;
use crate::codegen::hash::FastMap;

/// Lanes of the kernels that this emitter takes.
pub(in crate::codegen) const LANES: usize = 4;
/// Vector registers that Cranelift allocates (on x86; other machines have more).
pub(in crate::codegen) const REGISTERS: usize = 16;

/// `fn(arguments)`.
pub(in crate::codegen) fn signature(call_conv: CallConv) -> ir::Signature {
    let mut signature = ir::Signature::new(call_conv);
    signature.params.push(AbiParam::new(types::I64));
    signature
}

/// Writes a kernel as a Cranelift function.
pub(in crate::codegen) fn emit(
    kernel: &Kernel,
    env: Env<'_>,
    func: &mut Function,
    func_ctx: &mut FunctionBuilderContext,
) {
    func.signature = signature(env.call_conv());
    let mut b = FunctionBuilder::new(func, func_ctx);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    b.seal_block(entry);
    let table = b.block_params(entry)[0];
    let flags = MemFlagsData::trusted().with_readonly().with_can_move();
    let args: Vec<Value> =
        (0..kernel.args.len()).map(|i| b.ins().load(types::I64, flags, table, (i * 8) as i32)).collect();
    let mut e = Emitter {
        slots: slots(kernel, &mut b),
        b,
        kernel,
        env,
        args,
        counters: vec![None; kernel.counters as usize],
        pointers: FastMap::default(),
        functions: FastMap::default(),
        innermost: false,
        broadcasts: FastMap::default(),
    };
    e.block(&kernel.body);
    e.b.ins().return_(&[]);
    e.b.finalize(env.frontend_config());
}

/// What a virtual register is in Cranelift.
#[derive(Clone, Copy)]
enum Slot {
    /// Assigned once, by an instruction that dominates every use.
    Value(Option<Value>),
    /// Assigned more than once, or maybe not at all.
    Variable(Variable),
}

/// Chooses between values and variables.
fn slots(kernel: &Kernel, b: &mut FunctionBuilder<'_>) -> Vec<Slot> {
    let mut assigned = vec![0u32; kernel.regs.len()];
    count_assignments(&kernel.body, &mut assigned);
    kernel
        .regs
        .iter()
        .zip(assigned)
        .map(|(class, n)| match n {
            1 => Slot::Value(None),
            _ => Slot::Variable(b.declare_var(vector_type(*class))),
        })
        .collect()
}

/// Counts a register that is copied to, or assigned from itself, as assigned twice: it is a variable.
fn count_assignments(body: &[Inst], assigned: &mut [u32]) {
    for inst in body {
        if let Inst::IfAny { body, .. } | Inst::Loop { body, .. } = inst {
            count_assignments(body, assigned);
        } else if let Some(dst) = inst.dst() {
            let variable = matches!(inst, Inst::Copy { .. }) || inst.operands().contains(&dst);
            assigned[dst.0 as usize] += if variable { 2 } else { 1 };
        }
    }
}

fn is_float(class: Class) -> bool {
    match class {
        Class::F32 | Class::F64 => true,
        Class::I32 | Class::I64 | Class::Mask | Class::Mask64 => false,
    }
}

fn vector_type(class: Class) -> Type {
    match class {
        Class::F32 => types::F32X4,
        Class::I32 | Class::Mask => types::I32X4,
        Class::F64 => types::F64X2,
        Class::I64 | Class::Mask64 => types::I64X2,
    }
}

/// Addresses that differ only by a constant have one pattern, and share a pointer.
type Pattern = (ArgId, Terms);

struct Emitter<'a, 'f> {
    b: FunctionBuilder<'f>,
    kernel: &'a Kernel,
    env: Env<'a>,
    args: Vec<Value>,
    slots: Vec<Slot>,
    /// The counters of the loops around.
    counters: Vec<Option<Value>>,
    pointers: FastMap<Pattern, Value>,
    functions: FastMap<usize, FuncRef>,
    /// Whether the code being emitted is in a loop without inner loops.
    innermost: bool,
    /// The broadcast loads of that loop that may happen where their value is needed.
    broadcasts: FastMap<Reg, &'a Access>,
}

impl<'a> Emitter<'a, '_> {
    fn get(&mut self, reg: Reg) -> Value {
        match self.slots[reg.0 as usize] {
            Slot::Value(Some(value)) => value,
            Slot::Value(None) => match self.broadcasts.get(&reg) {
                Some(from) => {
                    let value = self.load(from);
                    self.set(reg, value);
                    value
                }
                // Read before it is assigned: undefined, so any value will do.
                None => self.broadcast_const(reg, 0),
            },
            Slot::Variable(var) => self.b.use_var(var),
        }
    }

    fn set(&mut self, reg: Reg, value: Value) {
        match &mut self.slots[reg.0 as usize] {
            Slot::Value(slot) => *slot = Some(value),
            Slot::Variable(var) => self.b.def_var(*var, value),
        }
    }

    fn vector_const(&mut self, like: Reg, lanes: [u32; LANES]) -> Value {
        let bytes: Vec<u8> = lanes.iter().flat_map(|l| l.to_le_bytes()).collect();
        self.constant_bytes(like, bytes)
    }

    fn broadcast_const(&mut self, like: Reg, bits: u64) -> Value {
        if self.kernel.class(like).is_wide() {
            return self
                .constant_bytes(like, [bits; LANES / 2].iter().flat_map(|l| l.to_le_bytes()).collect());
        }
        self.vector_const(like, [bits as u32; LANES])
    }

    fn constant_bytes(&mut self, like: Reg, bytes: Vec<u8>) -> Value {
        let constant = self.b.func.dfg.constants.insert(ConstantData::from(bytes));
        self.b.ins().vconst(vector_type(self.kernel.class(like)), constant)
    }

    /// The same lanes as floating-point numbers.
    fn as_float(&mut self, v: Value) -> Value {
        let ty = if self.is_wide(v) { types::F64X2 } else { types::F32X4 };
        self.b.ins().bitcast(ty, MemFlagsData::new(), v)
    }

    /// The same lanes as integers.
    fn as_int(&mut self, v: Value) -> Value {
        let ty = if self.is_wide(v) { types::I64X2 } else { types::I32X4 };
        self.b.ins().bitcast(ty, MemFlagsData::new(), v)
    }

    fn type_of(&self, v: Value) -> Type {
        self.b.func.dfg.value_type(v)
    }

    fn is_wide(&self, v: Value) -> bool {
        self.type_of(v).lane_bits() == 64
    }

    fn block(&mut self, body: &'a [Inst]) {
        for inst in body {
            self.inst(inst);
        }
    }

    fn inst(&mut self, inst: &'a Inst) {
        let (dst, value) = match inst {
            Inst::Store { src, to } => {
                let value = self.get(*src);
                return self.store(value, to);
            }
            // Cranelift has no such instruction.
            Inst::Prefetch { .. } => return,
            Inst::Tile(_) | Inst::AndOr { .. } | Inst::Dot { kind: DotKind::Bf16, .. } => {
                unreachable!("nothing for 4 lanes")
            }
            Inst::IfAny { mask, body } => return self.if_any(*mask, body),
            Inst::Loop { counter, begin, end, body } => return self.for_loop(*counter, *begin, *end, body),
            Inst::Const { dst, bits } => (dst, self.broadcast_const(*dst, *bits)),
            Inst::Load { dst, from } if from.stride == 0 && self.is_constant(from) => {
                self.broadcasts.insert(*dst, from);
                return;
            }
            Inst::Load { dst, from } => (dst, self.load(from)),
            Inst::LoadGuarded { dst, from, guards, otherwise } => {
                let otherwise = self.get(*otherwise);
                (dst, self.load_guarded(from, guards, otherwise))
            }
            Inst::Copy { dst, a } => (dst, self.get(*a)),
            Inst::Unary { op, dst, a } => (dst, self.unary(*op, *a)),
            Inst::Binary { op, dst, a, b } => {
                let (a, b) = (self.get(*a), self.get(*b));
                (dst, self.binary(*op, a, b))
            }
            Inst::Shift { op, dst, a, amount } => (dst, self.shift_by(*op, *a, *amount)),
            Inst::Shuffle { op, dst, a, b } => {
                let (a, b) = (self.get(*a), self.get(*b));
                (dst, self.shuffle(*op, a, b))
            }
            Inst::Fma { dst, a, b, c } => {
                let (a, b) = if self.broadcasts.contains_key(b) { (b, a) } else { (a, b) };
                let (a, b, c) = (self.multiplicand(*a), self.get(*b), self.get(*c));
                (dst, self.b.ins().fma(a, b, c))
            }
            Inst::Dot { kind: DotKind::Bytes, dst, a, b, c } => {
                let (a, b, c) = (self.get(*a), self.get(*b), self.get(*c));
                (dst, self.dot(a, b, c))
            }
            Inst::Lookup { dst, index, table } => {
                let index = self.get(*index);
                (dst, self.lookup(table, index))
            }
            Inst::Gather { dst, offsets, from, first } => {
                let offsets = self.get(*offsets);
                (dst, self.gather(from, offsets, *first))
            }
            Inst::Widen { op, dst, a, upper } => {
                let a = self.get(*a);
                (dst, self.widen(*op, a, *upper))
            }
            Inst::Narrow { op, dst, a, b } => {
                let (a, b) = (self.get(*a), self.get(*b));
                (dst, self.narrow(*op, a, b))
            }
            Inst::Compare { op, dst, a, b } => (dst, self.compare(*op, *a, *b)),
            Inst::Select { dst, mask, a, b } => {
                let float = is_float(self.kernel.class(*a));
                let (mut mask, a, b) = (self.get(*mask), self.get(*a), self.get(*b));
                if float {
                    mask = self.as_float(mask);
                }
                (dst, self.b.ins().bitselect(mask, a, b))
            }
            Inst::Reduce { op, dst, a, lanes } => {
                let a = self.get(*a);
                (dst, self.reduce(*op, a, *lanes))
            }
            Inst::Iota { dst, value, step } => {
                let first = self.int(value);
                let first = self.b.ins().ireduce(types::I32, first);
                let first = self.b.ins().splat(types::I32X4, first);
                let steps = [0, 1, 2, 3].map(|l| (l * *step) as u32);
                let steps = self.vector_const(*dst, steps);
                (dst, self.b.ins().iadd(first, steps))
            }
            Inst::Call { function, dst, args } => (dst, self.call(*function, args)),
        };
        self.set(*dst, value);
    }

    /// Whether a load in an innermost loop reads what the kernel does not write.
    fn is_constant(&self, from: &Access) -> bool {
        self.innermost && !self.kernel.written.contains(&from.buf)
    }

    /// The first operand of a fused multiply-add, which x86 code overwrites: Cranelift emits no form that
    /// overwrites the addend. To load a broadcast operand again is cheaper than to copy it.
    fn multiplicand(&mut self, a: Reg) -> Value {
        match self.broadcasts.get(&a) {
            Some(from) if self.env.is_x86() => self.load(from),
            _ => self.get(a),
        }
    }

    fn unary(&mut self, op: UnaryOp, a: Reg) -> Value {
        let a = self.get(a);
        match op {
            UnaryOp::Neg => self.b.ins().fneg(a),
            UnaryOp::Abs => self.b.ins().fabs(a),
            UnaryOp::Sqrt => self.b.ins().sqrt(a),
            UnaryOp::Floor => self.b.ins().floor(a),
            UnaryOp::Ceil => self.b.ins().ceil(a),
            UnaryOp::Round => self.b.ins().nearest(a),
            UnaryOp::Trunc => self.b.ins().trunc(a),
            UnaryOp::RoundF16 => {
                let half = self.f16_bits(a);
                self.f32_of_f16_bits(half)
            }
            UnaryOp::ToFloat if self.is_wide(a) => {
                self.each_lane(types::F64X2, &[a], |e, x| e.b.ins().fcvt_from_sint(types::F64, x[0]))
            }
            UnaryOp::ToFloat => self.b.ins().fcvt_from_sint(types::F32X4, a),
            UnaryOp::ToInt if self.is_wide(a) => {
                self.each_lane(types::I64X2, &[a], |e, x| e.b.ins().fcvt_to_sint_sat(types::I64, x[0]))
            }
            UnaryOp::RoundToInt => {
                let nearest = self.b.ins().nearest(a);
                let number = self.b.ins().fcvt_to_sint_sat(types::I32X4, nearest);
                // NaN has become 0.
                let nan = self.b.ins().fcmp(FloatCC::Unordered, a, a);
                let nan = self.vector_bitcast(types::I32X4, nan);
                let least = self.b.ins().ishl_imm_u(nan, 31);
                self.b.ins().bor(number, least)
            }
            UnaryOp::ToInt => self.b.ins().fcvt_to_sint_sat(types::I32X4, a),
            UnaryOp::Bits => self.as_int(a),
            UnaryOp::FromBits => self.as_float(a),
            UnaryOp::Not => self.b.ins().bnot(a),
            UnaryOp::Exchange { distance } => self.exchange(a, usize::from(distance)),
            UnaryOp::Bytes { odd, signed } => self.bytes(a, odd, signed),
        }
    }

    fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        match op {
            BinaryOp::Add => self.b.ins().fadd(a, b),
            BinaryOp::Sub => self.b.ins().fsub(a, b),
            BinaryOp::Mul => self.b.ins().fmul(a, b),
            BinaryOp::Div => self.b.ins().fdiv(a, b),
            // The two shapes that x86's maxps and minps are recognised by.
            BinaryOp::Max => {
                let less = self.b.ins().fcmp(FloatCC::LessThan, b, a);
                let less = self.as_float(less);
                self.b.ins().bitselect(less, a, b)
            }
            BinaryOp::Min => {
                let less = self.b.ins().fcmp(FloatCC::LessThan, a, b);
                let less = self.as_float(less);
                self.b.ins().bitselect(less, a, b)
            }
            BinaryOp::Scale => self.scale(a, b),
            BinaryOp::IntAdd => self.b.ins().iadd(a, b),
            BinaryOp::IntSub => self.b.ins().isub(a, b),
            BinaryOp::IntMul => self.b.ins().imul(a, b),
            BinaryOp::PairDot => self.pair_dot(a, b),
            BinaryOp::IntMax => self.b.ins().smax(a, b),
            BinaryOp::IntMin => self.b.ins().smin(a, b),
            BinaryOp::ShiftLeft | BinaryOp::ShiftRight | BinaryOp::ShiftRightSigned => self.shift(op, a, b),
            BinaryOp::And => self.b.ins().band(a, b),
            BinaryOp::Or => self.b.ins().bor(a, b),
            BinaryOp::Xor => self.b.ins().bxor(a, b),
        }
    }

    /// `a * 2^n`, in two steps, so that both powers of two exist.
    fn scale(&mut self, a: Value, n: Value) -> Value {
        let n = self.b.ins().fcvt_to_sint_sat(types::I32X4, n);
        let (one, mantissa_bits) = (self.b.ins().iconst(types::I32, 1), self.b.ins().iconst(types::I32, 23));
        let half = self.b.ins().sshr(n, one);
        let rest = self.b.ins().isub(n, half);
        let bias = self.b.ins().iconst(types::I32, 127);
        let bias = self.b.ins().splat(types::I32X4, bias);
        [half, rest].into_iter().fold(a, |product, exponent| {
            let exponent = self.b.ins().iadd(exponent, bias);
            let power = self.b.ins().ishl(exponent, mantissa_bits);
            let power = self.as_float(power);
            self.b.ins().fmul(product, power)
        })
    }

    fn shuffle(&mut self, op: Shuffle, a: Value, b: Value) -> Value {
        let lanes = [0, 1, 2, 3].map(|lane| {
            let (second, from) = op.source(LANES, lane);
            LANES * usize::from(second) + from
        });
        self.pick(types::F32X4, a, b, lanes)
    }

    /// A vector of these of the 8 parts of 32 bits that two have.
    fn pick(&mut self, ty: Type, a: Value, b: Value, parts: [usize; LANES]) -> Value {
        let bytes: Vec<u8> =
            parts.iter().flat_map(|part| (4 * part..4 * part + 4).map(|at| at as u8)).collect();
        let order = self.b.func.dfg.immediates.push(ConstantData::from(bytes));
        let [a, b] = [a, b].map(|v| self.vector_bitcast(types::I8X16, v));
        let shuffled = self.b.ins().shuffle(a, b, order);
        self.vector_bitcast(ty, shuffled)
    }

    fn compare(&mut self, op: Cmp, a: Reg, b: Reg) -> Value {
        let float = is_float(self.kernel.class(a));
        let (a, b) = (self.get(a), self.get(b));
        if float {
            let cc = match op {
                Cmp::Eq => FloatCC::Equal,
                Cmp::Ne => FloatCC::NotEqual,
                Cmp::Lt => FloatCC::LessThan,
                Cmp::Le => FloatCC::LessThanOrEqual,
                Cmp::Gt => FloatCC::GreaterThan,
                Cmp::Ge => FloatCC::GreaterThanOrEqual,
                Cmp::Unordered => FloatCC::Unordered,
            };
            return self.b.ins().fcmp(cc, a, b);
        }
        let cc = match op {
            Cmp::Eq => IntCC::Equal,
            Cmp::Ne | Cmp::Unordered => IntCC::NotEqual,
            Cmp::Lt => IntCC::SignedLessThan,
            Cmp::Le => IntCC::SignedLessThanOrEqual,
            Cmp::Gt => IntCC::SignedGreaterThan,
            Cmp::Ge => IntCC::SignedGreaterThanOrEqual,
        };
        self.b.ins().icmp(cc, a, b)
    }

    /// Combines lanes in pairs, `(0 op 2) op (1 op 3)`, in scalar registers.
    fn reduce(&mut self, op: Combine, a: Value, lanes: usize) -> Value {
        let mut parts: Vec<Value> = (0..lanes).map(|l| self.b.ins().extractlane(a, l as u8)).collect();
        while parts.len() > 1 {
            let half = parts.len().div_ceil(2);
            for i in 0..parts.len() - half {
                let (x, y) = (parts[i], parts[i + half]);
                parts[i] = match op {
                    Combine::Add => self.b.ins().fadd(x, y),
                    Combine::Mul => self.b.ins().fmul(x, y),
                    Combine::Max => self.b.ins().fmax(x, y),
                    Combine::Min => self.b.ins().fmin(x, y),
                };
            }
            parts.truncate(half);
        }
        self.b.ins().splat(types::F32X4, parts[0])
    }

    fn call(&mut self, function: usize, args: &[Reg]) -> Value {
        let callee = match self.functions.get(&function) {
            Some(f) => *f,
            None => {
                let f = self.env.import_runtime(self.b.func, function);
                self.functions.insert(function, f);
                f
            }
        };
        let args: Vec<Value> = args.iter().map(|a| self.get(*a)).collect();
        let ty = self.type_of(args[0]);
        self.each_lane(ty, &args, |e, lanes| {
            let call = e.b.ins().call(callee, lanes);
            e.b.inst_results(call)[0]
        })
    }

    fn int(&mut self, value: &Int) -> Value {
        let mut sum = value.arg.map(|a| self.args[a.0 as usize]);
        for &(counter, c) in &*value.terms {
            let Some(at) = self.counters[counter.0 as usize] else { continue };
            let term = if c == 1 { at } else { self.b.ins().imul_imm_s(at, c) };
            sum = Some(match sum {
                None => term,
                Some(sum) => self.b.ins().iadd(sum, term),
            });
        }
        match sum {
            None => self.b.ins().iconst(types::I64, value.offset),
            Some(sum) if value.offset == 0 => sum,
            Some(sum) => self.b.ins().iadd_imm_s(sum, value.offset),
        }
    }
}
