//! Random kernels: every instruction, nested loops, more values than there are registers.

use nestjit_ir::{Affine, BufId};

use super::{Input, Random, check, tiers};
use crate::codegen::runtime_fns;
use crate::codegen::vcode::{
    Access, Address, Arg, ArgId, BinaryOp, Bound, Class, Cmp, Combine, Counter, Guard, Inst, Int, Kernel,
    Reg, ShiftOp, Shuffle, Terms, UnaryOp,
};

/// Elements of the buffers that kernels read and write at random; one more holds the final values.
const LEN: i64 = 700;
const BUFFERS: u32 = 4;
const INT_ARG: ArgId = ArgId(BUFFERS + 2);

struct Generator {
    random: Random,
    kernel: Kernel,
    range: (i64, i64),
    /// The counters of the loops around, and the smallest and largest value of each.
    loops: Vec<(Counter, i64, i64)>,
    /// Registers that have a value here.
    known: Vec<Reg>,
    /// How many of them loops may change.
    variables: Vec<Reg>,
}

impl Generator {
    fn reg(&mut self, class: Class) -> Reg {
        self.kernel.regs.push(class);
        Reg(self.kernel.regs.len() as u32 - 1)
    }

    fn of(&mut self, class: Class, body: &mut Vec<Inst>) -> Reg {
        let list: Vec<Reg> = self.known.iter().copied().filter(|r| self.kernel.class(*r) == class).collect();
        if !list.is_empty() && !self.random.chance(5) {
            return self.random.pick(&list);
        }
        let dst = self.reg(class);
        let bits = match class {
            Class::F32 => self.random.float().to_bits(),
            Class::I32 => self.random.next() as u32,
            Class::Mask => [0, u32::MAX][self.random.below(2)],
        };
        body.push(Inst::Const { dst, bits });
        self.known.push(dst);
        dst
    }

    /// A sum of multiples of the counters, and its smallest and largest value.
    fn terms(&mut self) -> (Terms, i64, i64) {
        let (mut terms, mut lo, mut hi) = (Vec::new(), 0, 0);
        for (counter, first, last) in self.loops.clone() {
            let c = self.random.below(28) as i64 - 6;
            if c != 0 && self.random.chance(60) {
                terms.push((counter, c));
                lo += (c * first).min(c * last);
                hi += (c * first).max(c * last);
            }
        }
        (terms.into(), lo, hi)
    }

    fn lanes(&mut self) -> usize {
        let all = self.kernel.lanes;
        if self.random.chance(50) { all } else { 1 + self.random.below(all) }
    }

    /// An access inside a buffer.
    fn access(&mut self, buf: u32) -> Access {
        let (terms, lo, hi) = self.terms();
        let step = self.random.pick(&[1, 1, 1, 1, 0, 2, 3, -1, 21]);
        let lanes = if step == 0 { 1 } else { self.lanes() };
        let reach = step * (lanes as i64 - 1);
        let (lo, hi) = (lo + reach.min(0), hi + reach.max(0));
        let room = LEN - 1 - (hi - lo);
        assert!(room >= 0, "too far");
        let at = match self.random.below(3) {
            0 => 0,
            1 => room,
            _ => self.random.below(room as usize + 1) as i64,
        };
        let terms = terms.iter().map(|(c, k)| (*c, 4 * k)).collect();
        let address = Address { base: ArgId(buf), terms, offset: 4 * (at - lo) };
        Access { address, stride: 4 * step, ty: MemType::F32, lanes, buf: BufId(buf) }
    }

    /// An access that guards keep inside a buffer.
    fn guarded(&mut self, buf: u32) -> (Access, Vec<Guard>) {
        let (terms, ..) = self.terms();
        let step = self.random.pick(&[1, 1, 1, 0, 2, -1]);
        // Lanes that do not exist are not defined.
        let lanes = if step == 0 { 1 } else { self.kernel.lanes };
        let near = self.random.pick(&[0, LEN - 1]);
        let offset = near + self.random.below(80) as i64 - 40;
        let bytes = terms.iter().map(|(c, k)| (*c, 4 * k)).collect();
        let address = Address { base: ArgId(buf), terms: bytes, offset: 4 * offset };
        let mut guards = vec![Guard { value: Int { arg: None, terms, offset }, step, lo: 0, hi: LEN - 1 }];
        if self.random.chance(30) {
            let (terms, ..) = self.terms();
            let lo = self.random.below(20) as i64 - 10;
            let hi = lo + self.random.below(40) as i64 - 1;
            let step = if step == 0 { 0 } else { self.random.pick(&[0, 0, 1, 3]) };
            guards.push(Guard { value: Int { arg: Some(INT_ARG), terms, offset: 1 }, step, lo, hi });
        }
        (Access { address, stride: 4 * step, ty: MemType::F32, lanes, buf: BufId(buf) }, guards)
    }

    fn inst(&mut self, body: &mut Vec<Inst>) {
        let float = |g: &mut Self, body: &mut Vec<Inst>| g.of(Class::F32, body);
        let kind = self.random.below(100);
        let class = match kind {
            0..60 => Class::F32,
            60..80 => Class::I32,
            _ => Class::Mask,
        };
        let dst = self.reg(class);
        let inst = match kind {
            0..14 => {
                let buf = self.random.below(BUFFERS as usize) as u32;
                Inst::Load { dst, from: self.access(buf) }
            }
            14..20 => {
                let otherwise = float(self, body);
                let buf = self.random.below(BUFFERS as usize) as u32;
                let (from, guards) = self.guarded(buf);
                Inst::LoadGuarded { dst, from, guards, otherwise }
            }
            20..26 => {
                let (a, b) = (float(self, body), float(self, body));
                let mut ops = vec![BinaryOp::Max, BinaryOp::Min, BinaryOp::Div];
                if self.kernel.lanes == 16 {
                    ops.push(BinaryOp::Scale);
                }
                let op = self.random.pick(&ops);
                Inst::Binary { op, dst, a, b }
            }
            26..29 => {
                let (a, b) = (float(self, body), float(self, body));
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
            29..36 => {
                let (a, b) = (float(self, body), float(self, body));
                let op = self.random.pick(&[BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul]);
                Inst::Binary { op, dst, a, b }
            }
            36..46 => {
                let (a, b, c) = (float(self, body), float(self, body), float(self, body));
                Inst::Fma { dst, a, b, c }
            }
            46..51 => {
                let a = float(self, body);
                let op = self.random.pick(&[
                    UnaryOp::Neg,
                    UnaryOp::Abs,
                    UnaryOp::Sqrt,
                    UnaryOp::Floor,
                    UnaryOp::Ceil,
                    UnaryOp::Round,
                    UnaryOp::Trunc,
                ]);
                Inst::Unary { op, dst, a }
            }
            51..54 => {
                let (mask, a, b) = (self.of(Class::Mask, body), float(self, body), float(self, body));
                Inst::Select { dst, mask, a, b }
            }
            54..56 => {
                let op = self.random.pick(&[Combine::Add, Combine::Mul, Combine::Max, Combine::Min]);
                let (a, lanes) = (float(self, body), self.lanes());
                Inst::Reduce { op, dst, a, lanes }
            }
            56 => {
                let name = self.random.pick(&["exp_f32", "pow_f32"]);
                let function = runtime_fns::find(name).expect("in the table");
                let args = (0..if name == "pow_f32" { 2 } else { 1 }).map(|_| float(self, body)).collect();
                Inst::Call { function, dst, args }
            }
            57 => Inst::Unary { op: UnaryOp::ToFloat, dst, a: self.of(Class::I32, body) },
            58..60 => Inst::Unary { op: UnaryOp::FromBits, dst, a: self.of(Class::I32, body) },
            60..63 => {
                // The bits of NaN are not defined.
                let a = float(self, body);
                let (nan, number) = (self.reg(Class::Mask), self.reg(Class::F32));
                let zero = self.reg(Class::F32);
                body.push(Inst::Const { dst: zero, bits: 0 });
                body.push(Inst::Compare { op: Cmp::Unordered, dst: nan, a, b: a });
                body.push(Inst::Select { dst: number, mask: nan, a: zero, b: a });
                Inst::Unary { op: UnaryOp::Bits, dst, a: number }
            }
            63..68 => {
                let (terms, ..) = self.terms();
                let arg = self.random.chance(40).then_some(INT_ARG);
                let step = self.random.pick(&[0, 1, -2]);
                Inst::Iota { dst, value: Int { arg, terms, offset: 3 }, step }
            }
            68..76 => {
                let (a, b) = (self.of(Class::I32, body), self.of(Class::I32, body));
                let op = self.random.pick(&[
                    BinaryOp::IntAdd,
                    BinaryOp::IntSub,
                    BinaryOp::And,
                    BinaryOp::Or,
                    BinaryOp::Xor,
                ]);
                Inst::Binary { op, dst, a, b }
            }
            76..78 => {
                let (op, a) =
                    (self.random.pick(&[ShiftOp::Left, ShiftOp::SignedRight]), self.of(Class::I32, body));
                Inst::Shift { op, dst, a, amount: self.random.below(32) as u8 }
            }
            78..80 => {
                let (mask, a) = (self.of(Class::Mask, body), self.of(Class::I32, body));
                let b = self.of(Class::I32, body);
                Inst::Select { dst, mask, a, b }
            }
            80..90 => {
                let class = self.random.pick(&[Class::F32, Class::F32, Class::I32]);
                let (a, b) = (self.of(class, body), self.of(class, body));
                let op =
                    self.random.pick(&[Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge, Cmp::Unordered]);
                Inst::Compare { op, dst, a, b }
            }
            90..95 => {
                let (a, b) = (self.of(Class::Mask, body), self.of(Class::Mask, body));
                let op = self.random.pick(&[BinaryOp::And, BinaryOp::Or, BinaryOp::Xor]);
                Inst::Binary { op, dst, a, b }
            }
            95..97 => Inst::Unary { op: UnaryOp::Not, dst, a: self.of(Class::Mask, body) },
            _ => {
                let (mask, a) = (self.of(Class::Mask, body), self.of(Class::Mask, body));
                let b = self.of(Class::Mask, body);
                Inst::Select { dst, mask, a, b }
            }
        };
        body.push(inst);
        let changed: Vec<Reg> =
            self.variables.iter().copied().filter(|v| self.kernel.class(*v) == class).collect();
        if !changed.is_empty() && self.random.chance(25) {
            body.push(Inst::Copy { dst: self.random.pick(&changed), a: dst });
        }
        if self.random.chance(90) {
            self.known.push(dst);
        }
        if !changed.is_empty() && class == Class::F32 && self.random.chance(25) {
            let c = self.random.pick(&changed);
            let (a, b) = (self.of(class, body), self.of(class, body));
            body.push(Inst::Fma { dst: c, a, b, c });
        }
    }

    fn block(&mut self, size: usize, outermost: bool) -> Vec<Inst> {
        let (known, variables) = (self.known.len(), self.variables.len());
        let mut body = Vec::new();
        for _ in 0..self.random.below(4) {
            let class = self.random.pick(&[Class::F32, Class::F32, Class::I32, Class::Mask]);
            let (a, dst) = (self.of(class, &mut body), self.reg(class));
            body.push(Inst::Copy { dst, a });
            self.known.push(dst);
            self.variables.push(dst);
        }
        for _ in 0..size {
            match self.random.below(40) {
                0 if self.loops.len() < 3 => {
                    let ranged = self.random.chance(25) && self.loops.is_empty();
                    let counter = Counter(self.kernel.counters);
                    self.kernel.counters += 1;
                    let (begin, end, first, last) = if ranged {
                        let (first, last) = self.range;
                        (Bound::Arg(ArgId(BUFFERS)), Bound::Arg(ArgId(BUFFERS + 1)), first, last - 1)
                    } else {
                        let first = self.random.below(3) as i64;
                        let end = first + 1 + self.random.below(3) as i64;
                        (Bound::Const(first), Bound::Const(end), first, end - 1)
                    };
                    self.loops.push((counter, first, last));
                    let inner = self.block(size / 2 + 3, false);
                    self.loops.pop();
                    body.push(Inst::Loop { counter, begin, end, body: inner });
                }
                1 => {
                    let mask = self.of(Class::Mask, &mut body);
                    let inner = self.block(size / 4 + 1, false);
                    body.push(Inst::IfAny { mask, body: inner });
                }
                2..6 => {
                    let src = self.of(Class::F32, &mut body);
                    let buf = 2 + self.random.below(BUFFERS as usize - 2) as u32;
                    let to = self.access(buf);
                    body.push(Inst::Store { src, to });
                }
                _ => self.inst(&mut body),
            }
        }
        // What the block computed is not known after it: it may not have been executed.
        if !outermost {
            self.known.truncate(known);
            self.variables.truncate(variables);
        }
        body
    }

    /// Stores everything that is known at the end.
    fn results(&mut self, body: &mut Vec<Inst>) -> usize {
        let lanes = self.kernel.lanes;
        for (i, reg) in self.known.clone().into_iter().enumerate() {
            let src = self.reg(Class::F32);
            match self.kernel.class(reg) {
                Class::F32 => body.push(Inst::Copy { dst: src, a: reg }),
                Class::I32 => body.push(Inst::Unary { op: UnaryOp::FromBits, dst: src, a: reg }),
                Class::Mask => {
                    let (one, zero) = (self.reg(Class::F32), self.reg(Class::F32));
                    body.push(Inst::Const { dst: one, bits: 1f32.to_bits() });
                    body.push(Inst::Const { dst: zero, bits: 0 });
                    body.push(Inst::Select { dst: src, mask: reg, a: one, b: zero });
                }
            }
            let offset = (4 * i * lanes) as i64;
            let address = Address { base: ArgId(BUFFERS + 3), terms: [].into(), offset };
            body.push(Inst::Store {
                src,
                to: Access { address, stride: 4, ty: MemType::F32, lanes, buf: BufId(BUFFERS) },
            });
        }
        self.known.len() * lanes
    }
}

fn generate(seed: u64, lanes: usize, size: usize) -> (Kernel, Input) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let range = random.pick(&[(0, 3), (1, 2), (2, 5), (3, 3)]);
    let int = random.below(9) as i64 - 4;
    let pointer = |b: u32| Arg::Pointer(BufId(b), Affine::constant(0));
    let mut args: Vec<Arg> = (0..BUFFERS).map(pointer).collect();
    args.extend([Arg::Begin, Arg::End, Arg::Int(Affine::constant(0)), pointer(BUFFERS)]);
    let written = (2..=BUFFERS).map(BufId).collect();
    let kernel = Kernel { lanes, args, written, ..Kernel::default() };
    let mut g =
        Generator { random, kernel, range, loops: Vec::new(), known: Vec::new(), variables: Vec::new() };
    let mut body = g.block(size, true);
    let results = g.results(&mut body);
    g.kernel.body = body;
    let mut buffers: Vec<Vec<f32>> =
        (0..BUFFERS).map(|_| (0..LEN).map(|_| g.random.float()).collect()).collect();
    buffers.push(vec![0.0; results]);
    (g.kernel, Input { buffers, int, range })
}

#[test]
fn random_kernels_compute_what_they_say() {
    for tier in tiers() {
        for seed in 1..250 {
            let (kernel, input) = generate(seed, tier.lanes(), 8 + (seed as usize * 7) % 90);
            check(&kernel, tier, &input);
        }
    }
}
