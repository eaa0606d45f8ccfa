//! Random kernels: every instruction, nested loops, more values than there are registers.

use nestjit_ir::Affine;

use super::{Contents, Input, Random, TYPES, access, check, pointer, tiers};
use crate::codegen::vcode::x86::Tier;
use crate::codegen::vcode::{
    Access, Arg, ArgId, BinaryOp, Bound, Class, Counter, DotKind, Guard, Inst, Int, Kernel, MemType,
    Narrowing, Reg, Terms,
};

/// Elements of the buffers that kernels read and write at random.
const LEN: i64 = 700;
/// A buffer of each type that is only read, then as many that are also written.
const BUFFERS: u32 = 2 * TYPES.len() as u32;
const BEGIN: ArgId = ArgId(BUFFERS + RESULTS.len() as u32);
const END: ArgId = ArgId(BEGIN.0 + 1);
pub(super) const INT_ARG: ArgId = ArgId(BEGIN.0 + 2);
/// The buffers behind them hold the final values.
const RESULTS: [MemType; 5] = [MemType::F32, MemType::F64, MemType::I32, MemType::I64, MemType::Bool];

pub(super) struct Generator {
    pub random: Random,
    pub kernel: Kernel,
    /// Whether there are dot products of bytes.
    pub dot: bool,
    /// Whether there is [`Inst::AndOr`].
    pub ternary: bool,
    range: (i64, i64),
    /// The counters of the loops around, and the smallest and largest value of each.
    loops: Vec<(Counter, i64, i64)>,
    /// Registers that have a value here.
    known: Vec<Reg>,
    /// How many of them loops may change.
    variables: Vec<Reg>,
}

impl Generator {
    pub fn reg(&mut self, class: Class) -> Reg {
        self.kernel.regs.push(class);
        Reg(self.kernel.regs.len() as u32 - 1)
    }

    /// A register of this class that has a value.
    pub fn of(&mut self, class: Class, body: &mut Vec<Inst>) -> Reg {
        let list: Vec<Reg> = self.known.iter().copied().filter(|r| self.kernel.class(*r) == class).collect();
        if !list.is_empty() && !self.random.chance(5) {
            return self.random.pick(&list);
        }
        let dst = self.reg(class);
        let bits = match class {
            Class::F32 => self.random.element(MemType::F32),
            Class::F64 => self.random.element(MemType::F64),
            Class::I32 => self.random.bits() & u64::from(u32::MAX),
            Class::I64 => self.random.bits(),
            Class::Mask | Class::Mask64 => [0, u64::MAX][self.random.below(2)],
        };
        body.push(Inst::Const { dst, bits });
        self.known.push(dst);
        dst
    }

    /// A sum of multiples of the counters, and its smallest and largest value.
    pub fn terms(&mut self) -> (Terms, i64, i64) {
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

    /// Some of the lanes of a class, mostly all.
    pub fn lanes(&mut self, class: Class) -> usize {
        let all = if class.is_wide() { self.kernel.lanes / 2 } else { self.kernel.lanes };
        if self.random.chance(50) { all } else { 1 + self.random.below(all) }
    }

    /// The type of an element that is loaded into this class, and a buffer of it, which can be written or not.
    pub fn buffer(&mut self, class: Class, written: bool) -> (MemType, u32) {
        let types: Vec<usize> = (0..TYPES.len()).filter(|i| TYPES[*i].class() == class).collect();
        let ty = self.random.pick(&types);
        let second = written || self.random.chance(50);
        (TYPES[ty], if second { ty + TYPES.len() } else { ty } as u32)
    }

    /// An access inside a buffer.
    pub fn access(&mut self, buffer: (MemType, u32)) -> Access {
        self.access_with_room(buffer).0
    }

    /// The same, and how many elements there are behind all that it accesses.
    pub fn access_with_room(&mut self, (ty, buf): (MemType, u32)) -> (Access, i64) {
        let (terms, lo, hi) = self.terms();
        let step = self.random.pick(&[1, 1, 1, 1, 0, 2, 3, -1, 21]);
        let lanes = if step == 0 { 1 } else { self.lanes(ty.class()) };
        let reach = step * (lanes as i64 - 1);
        let (lo, hi) = (lo + reach.min(0), hi + reach.max(0));
        let room = LEN - 1 - (hi - lo);
        assert!(room >= 0, "too far");
        let at = match self.random.below(3) {
            0 => 0,
            1 => room,
            _ => self.random.below(room as usize + 1) as i64,
        };
        (access(ty, buf, at - lo, &terms, step, lanes), room - at)
    }

    /// 256 bytes of a buffer that is not written.
    pub fn table(&mut self) -> Access {
        let buf = TYPES.iter().position(|ty| *ty == MemType::U8).expect("a buffer of bytes");
        let first = self.random.below(LEN as usize - 255);
        access(MemType::U8, buf as u32, first as i64, &[].into(), 0, 1)
    }

    /// An access that guards keep inside a buffer.
    pub fn guarded(&mut self, (ty, buf): (MemType, u32)) -> (Access, Vec<Guard>) {
        let (terms, ..) = self.terms();
        let step = self.random.pick(&[1, 1, 1, 0, 2, -1]);
        // Lanes that do not exist are not defined.
        let all = if ty.class().is_wide() { self.kernel.lanes / 2 } else { self.kernel.lanes };
        let lanes = if step == 0 { 1 } else { all };
        let near = self.random.pick(&[0, LEN - 1]);
        let offset = near + self.random.below(80) as i64 - 40;
        let from = access(ty, buf, offset, &terms, step, lanes);
        let mut guards = vec![Guard { value: Int { arg: None, terms, offset }, step, lo: 0, hi: LEN - 1 }];
        if self.random.chance(30) {
            let (terms, ..) = self.terms();
            let lo = self.random.below(20) as i64 - 10;
            let hi = lo + self.random.below(40) as i64 - 1;
            let step = self.random.pick(&[0, 0, 1, 3]);
            guards.push(Guard { value: Int { arg: Some(INT_ARG), terms, offset: 1 }, step, lo, hi });
        }
        (from, guards)
    }

    fn inst(&mut self, body: &mut Vec<Inst>) {
        let class = self.class();
        let dst = self.reg(class);
        let inst = self.of_class(class, dst, body);
        body.push(inst);
        let changed: Vec<Reg> =
            self.variables.iter().copied().filter(|v| self.kernel.class(*v) == class).collect();
        if !changed.is_empty() && self.random.chance(25) {
            body.push(Inst::Copy { dst: self.random.pick(&changed), a: dst });
        }
        if self.random.chance(90) {
            self.known.push(dst);
        }
        if !changed.is_empty() && self.random.chance(25) {
            let c = self.random.pick(&changed);
            let (a, b) = (self.of(class, body), self.of(class, body));
            match class {
                Class::F32 | Class::F64 => body.push(Inst::Fma { dst: c, a, b, c }),
                Class::I32 if self.dot => body.push(Inst::Dot { kind: DotKind::Bytes, dst: c, a, b, c }),
                Class::I32 => body.push(Inst::Binary { op: BinaryOp::IntAdd, dst: c, a: c, b }),
                Class::I64 | Class::Mask | Class::Mask64 => {}
            }
        }
    }

    fn class(&mut self) -> Class {
        match self.random.below(100) {
            0..40 => Class::F32,
            40..60 => Class::I32,
            60..70 => Class::F64,
            70..80 => Class::I64,
            80..93 => Class::Mask,
            _ => Class::Mask64,
        }
    }

    fn block(&mut self, size: usize, outermost: bool) -> Vec<Inst> {
        let (known, variables) = (self.known.len(), self.variables.len());
        let mut body = Vec::new();
        for _ in 0..self.random.below(4) {
            let class = self.class();
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
                        (Bound::Arg(BEGIN), Bound::Arg(END), first, last - 1)
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
                    let class = self.class();
                    if class != Class::Mask64 {
                        let src = self.of(class, &mut body);
                        let buffer = self.buffer(class, true);
                        let to = self.access(buffer);
                        body.push(Inst::Store { src, to });
                    }
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
    fn results(&mut self, body: &mut Vec<Inst>) -> Vec<Contents> {
        let mut lengths = [0; RESULTS.len()];
        for reg in self.known.clone() {
            let mut src = reg;
            if self.kernel.class(reg) == Class::Mask64 {
                src = self.reg(Class::Mask);
                body.push(Inst::Narrow { op: Narrowing::Mask, dst: src, a: reg, b: reg });
            }
            let class = self.kernel.class(src);
            let lanes = if class.is_wide() { self.kernel.lanes / 2 } else { self.kernel.lanes };
            let buf = RESULTS.iter().position(|ty| ty.class() == class).expect("a buffer for each class");
            let to = access(RESULTS[buf], BUFFERS + buf as u32, lengths[buf], &[].into(), 1, lanes);
            body.push(Inst::Store { src, to });
            lengths[buf] += lanes as i64;
        }
        RESULTS.iter().zip(lengths).map(|(ty, len)| Contents::zeros(*ty, len as usize)).collect()
    }
}

fn generate(seed: u64, tier: Tier, size: usize) -> (Kernel, Input) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let range = random.pick(&[(0, 3), (1, 2), (2, 5), (3, 3)]);
    let int = random.below(9) as i64 - 4;
    let mut args: Vec<Arg> = (0..BEGIN.0).map(pointer).collect();
    args.extend([Arg::Begin(0), Arg::End(0), Arg::Int(Affine::constant(0))]);
    let written = (TYPES.len() as u32..BEGIN.0).map(nestjit_ir::BufId).collect();
    let kernel = Kernel { lanes: tier.lanes(), args, written, ..Kernel::default() };
    let mut g = Generator {
        random,
        kernel,
        dot: tier.machine().dot,
        ternary: tier.machine().ternary,
        range,
        loops: Vec::new(),
        known: Vec::new(),
        variables: Vec::new(),
    };
    let mut body = g.block(size, true);
    let results = g.results(&mut body);
    g.kernel.body = body;
    let mut buffers: Vec<Contents> = (0..BUFFERS as usize)
        .map(|b| TYPES[b % TYPES.len()])
        .map(|ty| Contents::new(ty, (0..LEN).map(|_| g.random.element(ty)).collect::<Vec<u64>>()))
        .collect();
    buffers.extend(results);
    (g.kernel, Input { buffers, int, range })
}

#[test]
fn random_kernels_compute_what_they_say() {
    for tier in tiers() {
        for seed in 1..250 {
            let (kernel, input) = generate(seed, tier, 8 + (seed as usize * 7) % 90);
            check(&kernel, tier, &input);
        }
    }
}
