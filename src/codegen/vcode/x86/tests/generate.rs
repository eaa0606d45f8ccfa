//! The instructions of random kernels, by the class of their result.

use super::random::{Generator, INT_ARG};
use crate::codegen::runtime_fns;
use crate::codegen::vcode::{
    BinaryOp, Class, Cmp, Combine, DotKind, Inst, Int, Narrowing, Reg, ShiftOp, Shuffle, UnaryOp, Widening,
};

impl Generator {
    /// An instruction with a result of this class; what it needs is appended before.
    pub fn of_class(&mut self, class: Class, dst: Reg, body: &mut Vec<Inst>) -> Inst {
        if class != Class::Mask64 && self.random.chance(25) {
            let buffer = self.buffer(class, false);
            if self.random.chance(70) {
                return Inst::Load { dst, from: self.access(buffer) };
            }
            let otherwise = self.of(class, body);
            let (from, guards) = self.guarded(buffer);
            return Inst::LoadGuarded { dst, from, guards, otherwise };
        }
        if class != Class::Mask64 && self.random.chance(6) {
            return self.gather(class, dst, body);
        }
        if self.random.chance(6) {
            let mask = if class.is_wide() { Class::Mask64 } else { Class::Mask };
            let (mask, a, b) = (self.of(mask, body), self.of(class, body), self.of(class, body));
            return Inst::Select { dst, mask, a, b };
        }
        if !class.is_mask() && self.random.chance(4) {
            let lanes = if class.is_wide() { self.kernel.lanes / 2 } else { self.kernel.lanes };
            let distances: Vec<u8> = [1, 2, 4, 8].into_iter().filter(|d| usize::from(*d) < lanes).collect();
            let op = UnaryOp::Exchange { distance: self.random.pick(&distances) };
            return Inst::Unary { op, dst, a: self.of(class, body) };
        }
        match class {
            Class::F32 | Class::F64 => self.float(class, dst, body),
            Class::I32 | Class::I64 => self.integer(class, dst, body),
            Class::Mask | Class::Mask64 => self.mask(class, dst, body),
        }
    }

    /// A gather: offsets are cut to what there is behind an access.
    fn gather(&mut self, class: Class, dst: Reg, body: &mut Vec<Inst>) -> Inst {
        let buffer = self.buffer(class, false);
        let (mut from, room) = self.access_with_room(buffer);
        let all = if class.is_wide() { self.kernel.lanes / 2 } else { self.kernel.lanes };
        let first = self.random.chance(70).then(|| {
            if from.stride == 0 {
                from.lanes = 1 + self.random.below(all);
            }
            if class.is_wide() { self.random.pick(&[0, all]) } else { 0 }
        });
        let a = self.of(Class::I32, body);
        let [low, least, limit, zero, elements, size] = [(); 6].map(|()| self.reg(Class::I32));
        let most = room.max(0) as u64;
        let offsets = self.reg(Class::I32);
        body.extend([
            Inst::Const { dst: zero, bits: 0 },
            Inst::Const { dst: limit, bits: most },
            // Most numbers are far away.
            Inst::Shift { op: ShiftOp::UnsignedRight, dst: low, a, amount: 23 },
            Inst::Binary { op: BinaryOp::IntMax, dst: least, a: low, b: zero },
            Inst::Binary { op: BinaryOp::IntMin, dst: elements, a: least, b: limit },
            Inst::Const { dst: size, bits: from.ty.bytes() as u64 },
            Inst::Binary { op: BinaryOp::IntMul, dst: offsets, a: elements, b: size },
        ]);
        Inst::Gather { dst, offsets, from, first }
    }

    fn float(&mut self, class: Class, dst: Reg, body: &mut Vec<Inst>) -> Inst {
        let wide = class.is_wide();
        match self.random.below(60) {
            0..8 => {
                let (a, b) = (self.of(class, body), self.of(class, body));
                let mut ops = vec![BinaryOp::Max, BinaryOp::Min, BinaryOp::Div];
                if self.kernel.lanes == 16 && !wide {
                    ops.push(BinaryOp::Scale);
                }
                let op = self.random.pick(&ops);
                Inst::Binary { op, dst, a, b }
            }
            8..11 if !wide => {
                let (a, b) = (self.of(class, body), self.of(class, body));
                let op = self.random.pick(&[
                    Shuffle::Interleave { unit: 1, upper: false },
                    Shuffle::Interleave { unit: 1, upper: true },
                    Shuffle::Interleave { unit: 2, upper: false },
                    Shuffle::Interleave { unit: 2, upper: true },
                    Shuffle::Blocks { odd: false },
                    Shuffle::Blocks { odd: true },
                ]);
                Inst::Shuffle { op, dst, a, b }
            }
            11..22 => {
                let (a, b) = (self.of(class, body), self.of(class, body));
                let op = self.random.pick(&[BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul]);
                Inst::Binary { op, dst, a, b }
            }
            22..34 => {
                let (a, b, c) = (self.of(class, body), self.of(class, body), self.of(class, body));
                Inst::Fma { dst, a, b, c }
            }
            34..42 => {
                let a = self.of(class, body);
                let mut ops = vec![
                    UnaryOp::Neg,
                    UnaryOp::Abs,
                    UnaryOp::Sqrt,
                    UnaryOp::Floor,
                    UnaryOp::Ceil,
                    UnaryOp::Round,
                    UnaryOp::Trunc,
                ];
                if !wide {
                    ops.push(UnaryOp::RoundF16);
                }
                Inst::Unary { op: self.random.pick(&ops), dst, a }
            }
            42..45 if !wide => {
                let op = self.random.pick(&[Combine::Add, Combine::Mul, Combine::Max, Combine::Min]);
                let (a, lanes) = (self.of(class, body), self.lanes(class));
                Inst::Reduce { op, dst, a, lanes }
            }
            45 => {
                let names = if wide { ["exp_f64", "pow_f64"] } else { ["exp_f32", "pow_f32"] };
                let operands = 1 + self.random.below(2);
                let function = runtime_fns::find(names[operands - 1]).expect("in the table");
                let args = (0..operands).map(|_| self.of(class, body)).collect();
                Inst::Call { function, dst, args }
            }
            46..53 if wide => {
                let op = self.random.pick(&[Widening::Float, Widening::ToFloat]);
                let from = if op == Widening::Float { Class::F32 } else { Class::I32 };
                Inst::Widen { op, dst, a: self.of(from, body), upper: self.random.chance(50) }
            }
            46..51 => {
                let op = self.random.pick(&[Narrowing::Float, Narrowing::ToFloat]);
                let from = if op == Narrowing::Float { Class::F64 } else { Class::I64 };
                Inst::Narrow { op, dst, a: self.of(from, body), b: self.of(from, body) }
            }
            _ => {
                let from = if wide { Class::I64 } else { Class::I32 };
                let op = self.random.pick(&[UnaryOp::ToFloat, UnaryOp::FromBits]);
                Inst::Unary { op, dst, a: self.of(from, body) }
            }
        }
    }

    /// A register of floating-point numbers that are less than `limit`; NaN is not.
    fn below(&mut self, class: Class, limit: f64, body: &mut Vec<Inst>) -> Reg {
        let mask = if class.is_wide() { Class::Mask64 } else { Class::Mask };
        let a = self.of(class, body);
        let (size, bound, zero) = (self.reg(class), self.reg(class), self.reg(class));
        let (less, chosen) = (self.reg(mask), self.reg(class));
        let bits = if class.is_wide() { limit.to_bits() } else { u64::from((limit as f32).to_bits()) };
        body.extend([
            Inst::Unary { op: UnaryOp::Abs, dst: size, a },
            Inst::Const { dst: bound, bits },
            Inst::Const { dst: zero, bits: 0 },
            Inst::Compare { op: Cmp::Lt, dst: less, a: size, b: bound },
            Inst::Select { dst: chosen, mask: less, a, b: zero },
        ]);
        chosen
    }

    fn integer(&mut self, class: Class, dst: Reg, body: &mut Vec<Inst>) -> Inst {
        let wide = class.is_wide();
        match self.random.below(40) {
            0..4 => {
                let float = if wide { Class::F64 } else { Class::F32 };
                // The bits of NaN are not defined.
                let a = self.below(float, f64::INFINITY, body);
                Inst::Unary { op: UnaryOp::Bits, dst, a }
            }
            4..7 => {
                let (float, limit) = if wide { (Class::F64, 9.2e18) } else { (Class::F32, 2.1e9) };
                let a = self.below(float, limit, body);
                let op = if !wide && self.random.chance(50) { UnaryOp::RoundToInt } else { UnaryOp::ToInt };
                Inst::Unary { op, dst, a }
            }
            7..12 if wide => {
                let op = self.random.pick(&[Widening::Signed, Widening::Unsigned]);
                Inst::Widen { op, dst, a: self.of(Class::I32, body), upper: self.random.chance(50) }
            }
            7..9 => {
                let (a, b) = (self.below(Class::F64, 2.1e9, body), self.below(Class::F64, 2.1e9, body));
                Inst::Narrow { op: Narrowing::ToInt, dst, a, b }
            }
            9..12 => {
                let (a, b) = (self.of(Class::I64, body), self.of(Class::I64, body));
                Inst::Narrow { op: Narrowing::Int, dst, a, b }
            }
            12..16 if !wide => {
                let (terms, ..) = self.terms();
                let arg = self.random.chance(40).then_some(INT_ARG);
                let step = self.random.pick(&[0, 1, -2]);
                Inst::Iota { dst, value: Int { arg, terms, offset: 3 }, step }
            }
            16..18 if !wide => {
                let op = UnaryOp::Bytes { odd: self.random.chance(50), signed: self.random.chance(50) };
                Inst::Unary { op, dst, a: self.of(class, body) }
            }
            18..19 if !wide && self.dot => {
                let (a, b, c) = (self.of(class, body), self.of(class, body), self.of(class, body));
                Inst::Dot { kind: DotKind::Bytes, dst, a, b, c }
            }
            18..20 if !wide && self.ternary => {
                let (a, b, c) = (self.of(class, body), self.of(class, body), self.of(class, body));
                Inst::AndOr { dst, a, b, c }
            }
            20..22 if !wide => Inst::Lookup { dst, index: self.of(class, body), table: self.table() },
            20..24 => {
                let mut ops = vec![ShiftOp::Left, ShiftOp::UnsignedRight];
                if !wide {
                    ops.push(ShiftOp::SignedRight);
                }
                let (op, a) = (self.random.pick(&ops), self.of(class, body));
                let amount = self.random.below(if wide { 64 } else { 32 }) as u8;
                Inst::Shift { op, dst, a, amount }
            }
            _ => {
                let (a, b) = (self.of(class, body), self.of(class, body));
                let mut ops = vec![
                    BinaryOp::IntAdd,
                    BinaryOp::IntSub,
                    BinaryOp::IntMul,
                    BinaryOp::ShiftLeft,
                    BinaryOp::ShiftRight,
                    BinaryOp::And,
                    BinaryOp::Or,
                    BinaryOp::Xor,
                ];
                if !wide {
                    ops.extend([
                        BinaryOp::IntMax,
                        BinaryOp::IntMin,
                        BinaryOp::ShiftRightSigned,
                        BinaryOp::PairDot,
                    ]);
                }
                Inst::Binary { op: self.random.pick(&ops), dst, a, b }
            }
        }
    }

    fn mask(&mut self, class: Class, dst: Reg, body: &mut Vec<Inst>) -> Inst {
        let wide = class.is_wide();
        match self.random.below(20) {
            0..10 => {
                let classes = if wide { [Class::F64, Class::I64] } else { [Class::F32, Class::I32] };
                let of = self.random.pick(&classes);
                let (a, b) = (self.of(of, body), self.of(of, body));
                let op =
                    self.random.pick(&[Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge, Cmp::Unordered]);
                Inst::Compare { op, dst, a, b }
            }
            10..15 => {
                let (a, b) = (self.of(class, body), self.of(class, body));
                let op = self.random.pick(&[BinaryOp::And, BinaryOp::Or, BinaryOp::Xor]);
                Inst::Binary { op, dst, a, b }
            }
            15..17 => Inst::Unary { op: UnaryOp::Not, dst, a: self.of(class, body) },
            _ if wide => {
                let a = self.of(Class::Mask, body);
                Inst::Widen { op: Widening::Mask, dst, a, upper: self.random.chance(50) }
            }
            _ => {
                let (a, b) = (self.of(Class::Mask64, body), self.of(Class::Mask64, body));
                Inst::Narrow { op: Narrowing::Mask, dst, a, b }
            }
        }
    }
}
