//! What kernels mean: lane by lane, one instruction after the other.

use super::Input;
use crate::codegen::runtime_fns::TABLE;
use crate::codegen::vcode::{
    Access, Arg, ArgId, BinaryOp, Bound, Class, Cmp, Combine, Guard, Inst, Int, Kernel, Reg, ShiftOp, UnaryOp,
};

const TRUE: u32 = u32::MAX;

pub(super) struct Machine<'k> {
    kernel: &'k Kernel,
    input: &'k Input,
    pub buffers: Vec<Vec<f32>>,
    scratch: Vec<f32>,
    regs: Vec<Vec<u32>>,
    counters: Vec<i64>,
}

impl<'k> Machine<'k> {
    pub fn new(kernel: &'k Kernel, input: &'k Input) -> Machine<'k> {
        Machine {
            kernel,
            input,
            buffers: input.buffers.clone(),
            scratch: vec![0.0; kernel.scratch_bytes / 4],
            regs: kernel.regs.iter().map(|_| vec![0; kernel.lanes]).collect(),
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

    fn element(&mut self, access: &Access, lane: usize) -> &mut f32 {
        let a = &access.address;
        let terms: i64 = a.terms.iter().map(|t| t.1 * self.counters[t.0.0 as usize]).sum();
        let at = usize::try_from((terms + a.offset + access.stride * lane as i64) / 4).expect("inside");
        match self.kernel.args[a.base.0 as usize] {
            Arg::Pointer(buf, _) => &mut self.buffers[buf.0 as usize][at],
            _ => &mut self.scratch[at],
        }
    }

    fn load(&mut self, access: &Access) -> Vec<u32> {
        (0..self.kernel.lanes)
            .map(|l| match access.stride {
                0 => self.element(access, 0).to_bits(),
                _ if l < access.lanes => self.element(access, l).to_bits(),
                _ => 0,
            })
            .collect()
    }

    fn holds(&self, guards: &[Guard], lane: usize) -> bool {
        guards.iter().all(|g| (g.lo..=g.hi).contains(&(self.int(&g.value) + g.step * lane as i64)))
    }

    fn block(&mut self, body: &[Inst]) {
        for inst in body {
            match inst {
                Inst::Store { src, to } => {
                    let value = self.regs[src.0 as usize].clone();
                    for (lane, bits) in
                        value.iter().enumerate().take(if to.stride == 0 { 1 } else { to.lanes })
                    {
                        *self.element(to, lane) = f32::from_bits(*bits);
                    }
                }
                Inst::Prefetch { .. } => {}
                Inst::IfAny { mask, body } => {
                    if self.regs[mask.0 as usize].iter().any(|l| *l != 0) {
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
                    self.regs[dst.0 as usize] = value;
                }
            }
        }
    }

    fn value(&mut self, inst: &Inst) -> Vec<u32> {
        let lanes = self.kernel.lanes;
        let class = |r: Reg| self.kernel.class(r);
        let regs = &self.regs;
        let map1 = |a: Reg, f: &dyn Fn(u32) -> u32| -> Vec<u32> {
            regs[a.0 as usize].iter().map(|x| f(*x)).collect()
        };
        let map2 = |a: Reg, b: Reg, f: &dyn Fn(u32, u32) -> u32| -> Vec<u32> {
            regs[a.0 as usize].iter().zip(&regs[b.0 as usize]).map(|(x, y)| f(*x, *y)).collect()
        };
        match inst {
            Inst::Const { dst, bits } => {
                let mask = class(*dst) == Class::Mask;
                vec![if mask && *bits != 0 { TRUE } else { *bits }; lanes]
            }
            Inst::Load { from, .. } => self.load(from),
            Inst::LoadGuarded { from, guards, otherwise, .. } => {
                let mut value = self.regs[otherwise.0 as usize].clone();
                if guards.iter().all(|g| g.step == 0) {
                    return if self.holds(guards, 0) { self.load(from) } else { value };
                }
                let existing = if from.stride == 0 { lanes } else { from.lanes };
                for (lane, value) in value.iter_mut().enumerate().take(existing) {
                    if self.holds(guards, lane) {
                        *value = self.element(from, lane).to_bits();
                    }
                }
                value
            }
            Inst::Copy { a, .. } => self.regs[a.0 as usize].clone(),
            Inst::Unary { op, a, .. } => map1(*a, &|x| unary(*op, x)),
            Inst::Binary { op, a, b, .. } => map2(*a, *b, &|x, y| binary(*op, x, y)),
            Inst::Shift { op, a, amount, .. } => map1(*a, &|x| match op {
                ShiftOp::Left => x << amount,
                ShiftOp::SignedRight => ((x as i32) >> amount) as u32,
            }),
            Inst::Shuffle { op, a, b, .. } => (0..lanes)
                .map(|l| {
                    let (second, from) = op.source(lanes, l);
                    regs[if second { b } else { a }.0 as usize][from]
                })
                .collect(),
            Inst::Fma { a, b, c, .. } => (0..lanes)
                .map(|l| {
                    let x = |r: &Reg| f32::from_bits(regs[r.0 as usize][l]);
                    x(a).mul_add(x(b), x(c)).to_bits()
                })
                .collect(),
            Inst::Compare { op, a, b, .. } => {
                let float = class(*a) == Class::F32;
                map2(*a, *b, &|x, y| if compare(*op, x, y, float) { TRUE } else { 0 })
            }
            Inst::Select { mask, a, b, .. } => (0..lanes)
                .map(|l| {
                    let from = if regs[mask.0 as usize][l] != 0 { a } else { b };
                    regs[from.0 as usize][l]
                })
                .collect(),
            Inst::Reduce { op, a, lanes: n, .. } => {
                let mut values: Vec<f32> =
                    self.regs[a.0 as usize][..*n].iter().map(|b| f32::from_bits(*b)).collect();
                let identity = match op {
                    Combine::Add => -0.0,
                    Combine::Mul => 1.0,
                    Combine::Max => f32::NEG_INFINITY,
                    Combine::Min => f32::INFINITY,
                };
                values.resize(lanes, identity);
                while values.len() > 1 {
                    let half = values.len() / 2;
                    values = (0..half).map(|i| combine(*op, values[i], values[i + half])).collect();
                }
                vec![values[0].to_bits(); lanes]
            }
            Inst::Iota { value, step, .. } => {
                let first = self.int(value);
                (0..lanes as i64).map(|l| (first + l * step) as u32).collect()
            }
            Inst::Call { function, args, .. } => (0..lanes)
                .map(|l| {
                    let x = |i: usize| f32::from_bits(self.regs[args[i].0 as usize][l]);
                    let address = TABLE[*function].address.0;
                    // SAFETY: the generator takes functions with one `f32` operand, or two.
                    let value = unsafe {
                        if args.len() == 1 {
                            std::mem::transmute::<*const u8, extern "C" fn(f32) -> f32>(address)(x(0))
                        } else {
                            std::mem::transmute::<*const u8, extern "C" fn(f32, f32) -> f32>(address)(
                                x(0),
                                x(1),
                            )
                        }
                    };
                    value.to_bits()
                })
                .collect(),
            Inst::Store { .. } | Inst::Prefetch { .. } | Inst::IfAny { .. } | Inst::Loop { .. } => {
                unreachable!("no value")
            }
        }
    }
}

fn unary(op: UnaryOp, x: u32) -> u32 {
    let f = f32::from_bits(x);
    match op {
        UnaryOp::Neg => x ^ (1 << 31),
        UnaryOp::Abs => x & !(1 << 31),
        UnaryOp::Sqrt => f.sqrt().to_bits(),
        UnaryOp::Floor => f.floor().to_bits(),
        UnaryOp::Ceil => f.ceil().to_bits(),
        UnaryOp::Round => f.round_ties_even().to_bits(),
        UnaryOp::Trunc => f.trunc().to_bits(),
        UnaryOp::ToFloat => (x as i32 as f32).to_bits(),
        UnaryOp::Bits | UnaryOp::FromBits => x,
        UnaryOp::Not => !x,
    }
}

fn binary(op: BinaryOp, x: u32, y: u32) -> u32 {
    let (a, b) = (f32::from_bits(x), f32::from_bits(y));
    match op {
        BinaryOp::Add => (a + b).to_bits(),
        BinaryOp::Sub => (a - b).to_bits(),
        BinaryOp::Mul => (a * b).to_bits(),
        BinaryOp::Div => (a / b).to_bits(),
        BinaryOp::Max => {
            if a > b {
                x
            } else {
                y
            }
        }
        BinaryOp::Min => {
            if a < b {
                x
            } else {
                y
            }
        }
        BinaryOp::Scale => scale(a, b).to_bits(),
        BinaryOp::IntAdd => x.wrapping_add(y),
        BinaryOp::IntSub => x.wrapping_sub(y),
        BinaryOp::And => x & y,
        BinaryOp::Or => x | y,
        BinaryOp::Xor => x ^ y,
    }
}

/// As the instruction does it for any operands.
fn scale(a: f32, b: f32) -> f32 {
    let quiet = a.is_nan() && a.to_bits() & 1 << 22 != 0;
    match b {
        f32::INFINITY if quiet => b,
        f32::NEG_INFINITY if quiet => 0.0,
        _ if b.is_finite() && (a == 0.0 || a.is_infinite()) => a,
        _ => (f64::from(a) * f64::from(b).floor().exp2()) as f32,
    }
}

fn compare(op: Cmp, x: u32, y: u32, float: bool) -> bool {
    if !float {
        let (a, b) = (x as i32, y as i32);
        return match op {
            Cmp::Eq => a == b,
            Cmp::Ne | Cmp::Unordered => a != b,
            Cmp::Lt => a < b,
            Cmp::Le => a <= b,
            Cmp::Gt => a > b,
            Cmp::Ge => a >= b,
        };
    }
    let (a, b) = (f32::from_bits(x), f32::from_bits(y));
    match op {
        Cmp::Eq => a == b,
        Cmp::Ne => a != b,
        Cmp::Lt => a < b,
        Cmp::Le => a <= b,
        Cmp::Gt => a > b,
        Cmp::Ge => a >= b,
        Cmp::Unordered => a.is_nan() || b.is_nan(),
    }
}

fn combine(op: Combine, a: f32, b: f32) -> f32 {
    match op {
        Combine::Add => a + b,
        Combine::Mul => a * b,
        Combine::Max | Combine::Min if a.is_nan() || b.is_nan() => f32::NAN,
        Combine::Max => {
            if a > b {
                a
            } else {
                b
            }
        }
        Combine::Min => {
            if a < b {
                a
            } else {
                b
            }
        }
    }
}
