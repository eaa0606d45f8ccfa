//! What kernels mean: lane by lane, one instruction after the other. Lanes are 64 bits, of which narrower classes have
//! the low ones; masks are all ones or none.

use nestjit_ir::f16;

use super::operations::{binary, call, combine, compare, dot, dot_bf16, narrow, shift, unary, widen};
use super::{Contents, Input, elements};
use crate::codegen::vcode::{
    Access, Arg, ArgId, Bound, Class, Combine, DotKind, Guard, Inst, Int, Kernel, MemType, Reg, UnaryOp,
};

const TRUE: u64 = u64::MAX;

pub(super) struct Machine<'k> {
    kernel: &'k Kernel,
    input: &'k Input,
    pub buffers: Vec<Contents>,
    scratch: Vec<u8>,
    regs: Vec<Vec<u64>>,
    counters: Vec<i64>,
}

impl<'k> Machine<'k> {
    pub fn new(kernel: &'k Kernel, input: &'k Input) -> Machine<'k> {
        let lanes = |class: &Class| if class.is_wide() { kernel.lanes / 2 } else { kernel.lanes };
        Machine {
            kernel,
            input,
            buffers: input.buffers.clone(),
            scratch: vec![0; kernel.scratch_bytes],
            regs: kernel.regs.iter().map(|class| vec![0; lanes(class)]).collect(),
            counters: vec![0; kernel.counters as usize],
        }
    }

    pub fn run(&mut self) {
        self.block(&self.kernel.body);
    }

    fn arg(&self, arg: ArgId) -> i64 {
        self.input.int_arg(&self.kernel.args[arg.0 as usize])
    }

    fn int(&self, int: &Int) -> i64 {
        let terms: i64 = int.terms.iter().map(|t| t.1 * self.counters[t.0.0 as usize]).sum();
        int.arg.map_or(0, |a| self.arg(a)) + terms + int.offset
    }

    fn reg(&self, reg: Reg) -> &[u64] {
        &self.regs[reg.0 as usize]
    }

    fn lanes(&self, class: Class) -> usize {
        if class.is_wide() { self.kernel.lanes / 2 } else { self.kernel.lanes }
    }

    fn element(&mut self, access: &Access, lane: usize) -> &mut [u8] {
        let a = &access.address;
        let terms: i64 = a.terms.iter().map(|t| t.1 * self.counters[t.0.0 as usize]).sum();
        let at = usize::try_from(terms + a.offset + access.stride * lane as i64).expect("inside");
        let bytes = access.ty.bytes() as usize;
        match self.kernel.args[a.base.0 as usize] {
            Arg::Pointer(buf, _) => &mut self.buffers[buf.0 as usize].bytes[at..at + bytes],
            _ => &mut self.scratch[at..at + bytes],
        }
    }

    fn load_lane(&mut self, access: &Access, lane: usize) -> u64 {
        let bits = elements(access.ty, self.element(access, lane))[0];
        match access.ty {
            MemType::I8 => u64::from(bits as u8 as i8 as u32),
            MemType::I16 => u64::from(bits as u16 as i16 as u32),
            MemType::Bool => truth(bits != 0),
            MemType::F16 => u64::from(f16::from_bits(bits as u16).to_f32().to_bits()),
            MemType::BF16 => bits << 16,
            MemType::F32 | MemType::F64 | MemType::I32 | MemType::I64 | MemType::U8 | MemType::U16 => bits,
            MemType::SaturatedU8 => unreachable!("a load of what is saturated when it is stored"),
        }
    }

    fn load(&mut self, access: &Access) -> Vec<u64> {
        (0..self.lanes(access.ty.class()))
            .map(|l| match access.stride {
                0 => self.load_lane(access, 0),
                _ if l < access.lanes => self.load_lane(access, l),
                _ => 0,
            })
            .collect()
    }

    fn store(&mut self, value: &[u64], to: &Access) {
        let lanes = if to.stride == 0 { 1 } else { to.lanes };
        for (lane, bits) in value.iter().enumerate().take(lanes) {
            let bits = match to.ty {
                MemType::Bool => bits & 1,
                MemType::F16 => u64::from(f16::from_f32(f32::from_bits(*bits as u32)).to_bits()),
                MemType::BF16 => bits >> 16,
                MemType::F32 | MemType::F64 | MemType::I32 | MemType::I64 => *bits,
                MemType::I8 | MemType::U8 | MemType::I16 | MemType::U16 => *bits,
                MemType::SaturatedU8 => (*bits & u64::from(u32::MAX)).min(255),
            };
            let bytes = to.ty.bytes() as usize;
            self.element(to, lane).copy_from_slice(&bits.to_le_bytes()[..bytes]);
        }
    }

    fn holds(&self, guards: &[Guard], lane: usize) -> bool {
        guards.iter().all(|g| (g.lo..=g.hi).contains(&(self.int(&g.value) + g.step * lane as i64)))
    }

    fn block(&mut self, body: &[Inst]) {
        for inst in body {
            match inst {
                Inst::Store { src, to } => {
                    let value = self.reg(*src).to_vec();
                    self.store(&value, to);
                }
                Inst::Prefetch { .. } => {}
                Inst::Tile(_) => unreachable!("tiles have tests of their own"),
                Inst::IfAny { mask, body } => {
                    if self.reg(*mask).iter().any(|l| *l != 0) {
                        self.block(body);
                    }
                }
                Inst::Loop { counter, begin, end, body } => {
                    let bound = |b: &Bound| match b {
                        Bound::Const(c) => *c,
                        Bound::Arg(a) => self.arg(*a),
                    };
                    for i in bound(begin)..bound(end) {
                        self.counters[counter.0 as usize] = i;
                        self.block(body);
                    }
                }
                inst => {
                    let value = self.value(inst);
                    let dst = inst.dst().expect("a result");
                    assert_eq!(value.len(), self.reg(dst).len(), "{inst:?}");
                    self.regs[dst.0 as usize] = value;
                }
            }
        }
    }

    fn value(&mut self, inst: &Inst) -> Vec<u64> {
        let class = |r: Reg| self.kernel.class(r);
        let regs = |r: &Reg| self.reg(*r);
        let map1 = |a: &Reg, f: &dyn Fn(u64) -> u64| regs(a).iter().map(|x| f(*x)).collect();
        let map2 = |a: &Reg, b: &Reg, f: &dyn Fn(u64, u64) -> u64| -> Vec<u64> {
            zip(regs(a), regs(b)).map(|(x, y)| f(x, y)).collect()
        };
        match inst {
            Inst::Const { dst, bits } => {
                let bits = match class(*dst) {
                    Class::F32 | Class::I32 => bits & u64::from(u32::MAX),
                    Class::F64 | Class::I64 => *bits,
                    Class::Mask | Class::Mask64 => truth(*bits != 0),
                };
                vec![bits; self.lanes(class(*dst))]
            }
            Inst::Load { from, .. } => self.load(from),
            Inst::LoadGuarded { from, guards, otherwise, .. } => {
                let mut value = self.reg(*otherwise).to_vec();
                if guards.iter().all(|g| g.step == 0) {
                    return if self.holds(guards, 0) { self.load(from) } else { value };
                }
                let existing = if from.stride == 0 { value.len() } else { from.lanes };
                for (lane, value) in value.iter_mut().enumerate().take(existing) {
                    if self.holds(guards, lane) {
                        *value = self.load_lane(from, if from.stride == 0 { 0 } else { lane });
                    }
                }
                value
            }
            Inst::Lookup { index, table, .. } => {
                let counts: Vec<u64> = regs(index).iter().map(|x| x & 0xff).collect();
                let at = |count: u64| Access { stride: count as i64, ..table.clone() };
                counts.into_iter().map(|count| self.load_lane(&at(count), 1)).collect()
            }
            Inst::Gather { offsets, from, first, .. } => {
                let offsets = regs(offsets).to_vec();
                let moved = |lane: usize| {
                    let mut access = from.clone();
                    access.address.offset += offsets[lane] as i64;
                    access
                };
                let Some(first) = *first else { return self.load(&moved(0)) };
                (0..self.lanes(from.ty.class()))
                    .map(|l| if l < from.lanes { self.load_lane(&moved(first + l), l) } else { 0 })
                    .collect()
            }
            Inst::Copy { a, .. } => regs(a).to_vec(),
            Inst::Unary { op: UnaryOp::Exchange { distance }, a, .. } => {
                (0..regs(a).len()).map(|l| regs(a)[l ^ usize::from(*distance)]).collect()
            }
            Inst::Unary { op, a, .. } => map1(a, &|x| unary(*op, x, class(*a))),
            Inst::Binary { op, a, b, .. } => map2(a, b, &|x, y| binary(*op, x, y, class(*a))),
            Inst::Shift { op, a, amount, .. } => map1(a, &|x| shift(*op, x, *amount, class(*a))),
            Inst::Shuffle { op, a, b, .. } => (0..regs(a).len())
                .map(|lane| {
                    let (second, from) = op.source(regs(a).len(), lane);
                    regs(if second { b } else { a })[from]
                })
                .collect(),
            Inst::Fma { a, b, c, .. } => {
                let wide = class(*a).is_wide();
                let fma = |((x, y), z): ((u64, u64), &u64)| {
                    if wide {
                        f64::from_bits(x).mul_add(f64::from_bits(y), f64::from_bits(*z)).to_bits()
                    } else {
                        let f = |x: u64| f32::from_bits(x as u32);
                        u64::from(f(x).mul_add(f(y), f(*z)).to_bits())
                    }
                };
                zip(regs(a), regs(b)).zip(regs(c)).map(fma).collect()
            }
            Inst::AndOr { a, b, c, .. } => {
                zip(regs(a), regs(b)).zip(regs(c)).map(|((x, y), z)| x & y | z).collect()
            }
            Inst::Dot { kind, a, b, c, .. } => {
                let dot = match kind {
                    DotKind::Bytes => dot,
                    DotKind::Bf16 => dot_bf16,
                };
                zip(regs(a), regs(b)).zip(regs(c)).map(|((x, y), z)| dot(x, y, *z)).collect()
            }
            Inst::Widen { op, a, upper, .. } => {
                let half = regs(a).len() / 2;
                let first = if *upper { half } else { 0 };
                regs(a)[first..first + half].iter().map(|x| widen(*op, *x)).collect()
            }
            Inst::Narrow { op, a, b, .. } => regs(a).iter().chain(regs(b)).map(|x| narrow(*op, *x)).collect(),
            Inst::Compare { op, a, b, .. } => map2(a, b, &|x, y| truth(compare(*op, x, y, class(*a)))),
            Inst::Select { mask, a, b, .. } => {
                (0..regs(a).len()).map(|l| if regs(mask)[l] != 0 { regs(a)[l] } else { regs(b)[l] }).collect()
            }
            Inst::Reduce { op, a, lanes: n, .. } => {
                let mut values: Vec<f32> = regs(a)[..*n].iter().map(|b| f32::from_bits(*b as u32)).collect();
                let identity = match op {
                    Combine::Add => -0.0,
                    Combine::Mul => 1.0,
                    Combine::Max => f32::NEG_INFINITY,
                    Combine::Min => f32::INFINITY,
                };
                values.resize(self.kernel.lanes, identity);
                while values.len() > 1 {
                    let half = values.len() / 2;
                    values = (0..half).map(|i| combine(*op, values[i], values[i + half])).collect();
                }
                vec![u64::from(values[0].to_bits()); self.kernel.lanes]
            }
            Inst::Iota { value, step, .. } => {
                let first = self.int(value);
                (0..self.kernel.lanes as i64).map(|l| u64::from((first + l * step) as u32)).collect()
            }
            Inst::Call { function, args, .. } => (0..regs(&args[0]).len())
                .map(|l| call(*function, &args.iter().map(|a| regs(a)[l]).collect::<Vec<u64>>()))
                .collect(),
            Inst::Store { .. }
            | Inst::Tile(_)
            | Inst::Prefetch { .. }
            | Inst::IfAny { .. }
            | Inst::Loop { .. } => {
                unreachable!("no value")
            }
        }
    }
}

fn zip<'a>(a: &'a [u64], b: &'a [u64]) -> impl Iterator<Item = (u64, u64)> + 'a {
    a.iter().copied().zip(b.iter().copied())
}

fn truth(value: bool) -> u64 {
    if value { TRUE } else { 0 }
}
