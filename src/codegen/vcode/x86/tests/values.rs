//! Every operation and conversion on pairs of special values: NaN, infinities, signed zeros, denormals, limits of integers,
//! and values around them.

mod bits;

use super::{Contents, Input, Random, access, check, pointer, widths, with_dots};
use crate::codegen::runtime_fns;
use crate::codegen::vcode::build::Builder;
use crate::codegen::vcode::select::{self, Machine};
use crate::codegen::vcode::x86::Tier;
use crate::codegen::vcode::{
    BinaryOp, Bound, Class, Cmp, Counter, DotKind, Inst, Kernel, MemType, Narrowing, Reg, ShiftOp, Terms,
    UnaryOp, Widening,
};

const COMPARISONS: [Cmp; 7] = [Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge, Cmp::Unordered];
const CLASSES: [Class; 4] = [Class::F32, Class::F64, Class::I32, Class::I64];

fn floats() -> Vec<f64> {
    let positive = [
        0.0,
        f64::from(f32::from_bits(1)),
        5e-324,
        1e-40,
        1e-310,
        f64::from(f32::MIN_POSITIVE),
        f64::MIN_POSITIVE,
        0.3,
        0.5,
        0.999_999_97,
        1.0,
        1.5,
        2.5,
        3.999,
        // Halves: a denormal, ties, the end.
        8.9e-8,
        2048.0 + 1.0,
        2048.0 + 3.0,
        65_519.99,
        65_520.0,
        8_388_607.5,
        16_777_217.0,
        2_147_483_520.0,
        2_147_483_647.5,
        4.3e9,
        9.007_199_254_740_993e15,
        9.2e18,
        3.4e38,
        1e300,
        f64::MAX,
        f64::INFINITY,
        f64::NAN,
    ];
    positive.into_iter().flat_map(|x| [x, -x]).collect()
}

fn integers() -> Vec<i64> {
    let mut all: Vec<i64> =
        [0, 1, 7, 31, 32, 33, 63, 64, 127, 128, 255, 256, 32_767, 65_535, 65_536, 16_777_217]
            .into_iter()
            .flat_map(|x: i64| [x, -x])
            .collect();
    for limit in [i64::from(i32::MAX), i64::from(u32::MAX), i64::MAX, 1 << 53, (1 << 54) + 3, 1 << 24] {
        all.extend([limit, limit.wrapping_add(1), limit - 1, -limit, (-limit).wrapping_sub(1)]);
    }
    // Between two f32 numbers, and a little off: rounding twice would show.
    all.extend([
        (1 << 40) + (1 << 16),
        (1 << 40) + (1 << 16) + 1,
        -(1 << 40) - (1 << 16) - 1,
        0x7fff_ffbf_ffff_ffff,
    ]);
    all
}

/// The bits of special values of a class.
fn special(class: Class) -> Vec<u64> {
    match class {
        Class::F32 => floats().into_iter().map(|x| u64::from((x as f32).to_bits())).collect(),
        Class::F64 => floats().into_iter().map(f64::to_bits).collect(),
        Class::I32 => integers().into_iter().map(|x| u64::from(x as u32)).collect(),
        Class::I64 => integers().into_iter().map(|x| x as u64).collect(),
        Class::Mask | Class::Mask64 => vec![0, u64::MAX],
    }
}

fn memory(class: Class) -> MemType {
    match class {
        Class::F32 => MemType::F32,
        Class::F64 => MemType::F64,
        Class::I32 => MemType::I32,
        Class::I64 => MemType::I64,
        Class::Mask | Class::Mask64 => MemType::Bool,
    }
}

/// Checks instructions that take registers of `from` (of the first three, the first two have all pairs of values) and
/// write others, the last of which is stored.
fn check_pairs(tier: Tier, from: Class, values: &[u64], more: &[Class], body: &[Inst]) {
    let n = values.len();
    let (wide, result) = (from.is_wide(), *more.last().expect("a result"));
    let lanes = if wide { tier.lanes() / 2 } else { tier.lanes() };
    let result_lanes = if result.is_wide() { tier.lanes() / 2 } else { tier.lanes() };
    let chunks = (n * n).div_ceil(lanes);
    let at: Terms = [(Counter(0), lanes as i64)].into();
    let result_at: Terms = [(Counter(0), result_lanes as i64)].into();
    let mut regs = vec![from; 3];
    regs.extend(more);
    let dst = Reg(regs.len() as u32 - 1);
    let mut all: Vec<Inst> =
        (0..3).map(|i| Inst::Load { dst: Reg(i), from: access(memory(from), i, 0, &at, 1, lanes) }).collect();
    all.extend(body.iter().cloned());
    all.push(Inst::Store { src: dst, to: access(memory(result), 3, 0, &result_at, 1, result_lanes) });
    let (begin, end) = (Bound::Const(0), Bound::Const(chunks as i64));
    let kernel = Kernel {
        lanes: tier.lanes(),
        args: (0..4).map(pointer).collect(),
        regs,
        counters: 1,
        body: vec![Inst::Loop { counter: Counter(0), begin, end, body: all }],
        ..Kernel::default()
    };
    let (mut random, total) = (Random(77), chunks * lanes);
    let operand = |which: &mut dyn FnMut(usize) -> usize| {
        Contents::new(memory(from), (0..total).map(|i| values[which(i) % n]).collect::<Vec<u64>>())
    };
    let buffers = vec![
        operand(&mut |i| i / n),
        operand(&mut |i| i),
        operand(&mut |_| random.below(n)),
        Contents::zeros(memory(result), chunks * result_lanes),
    ];
    check(&kernel, tier, &Input { buffers, int: 0, range: (0, 1) });
}

const A: Reg = Reg(0);
const B: Reg = Reg(1);
const C: Reg = Reg(2);
const DST: Reg = Reg(3);

#[test]
fn operations_on_floating_point_numbers() {
    let unary = [
        UnaryOp::Neg,
        UnaryOp::Abs,
        UnaryOp::Sqrt,
        UnaryOp::Floor,
        UnaryOp::Ceil,
        UnaryOp::Round,
        UnaryOp::Trunc,
    ];
    let binary = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div, BinaryOp::Max, BinaryOp::Min];
    for tier in widths() {
        for class in [Class::F32, Class::F64] {
            let values = special(class);
            for op in unary.into_iter().chain((class == Class::F32).then_some(UnaryOp::RoundF16)) {
                check_pairs(tier, class, &values, &[class], &[Inst::Unary { op, dst: DST, a: A }]);
            }
            for op in binary {
                check_pairs(tier, class, &values, &[class], &[Inst::Binary { op, dst: DST, a: A, b: B }]);
            }
            check_pairs(tier, class, &values, &[class], &[Inst::Fma { dst: DST, a: A, b: B, c: C }]);
            check_pairs(tier, class, &values, &[class], &[Inst::Fma { dst: DST, a: A, b: A, c: B }]);
        }
        let name = "atan2_f64";
        let function = runtime_fns::find(name).expect("in the table");
        let (class, values) = (Class::F64, special(Class::F64));
        check_pairs(tier, class, &values, &[class], &[Inst::Call { function, dst: DST, args: vec![A, B] }]);
        let function = runtime_fns::find("pow_i64").expect("in the table");
        let (class, values) = (Class::I64, [0, 1, 2, 3, 5, u64::MAX, 11]);
        check_pairs(tier, class, &values, &[class], &[Inst::Call { function, dst: DST, args: vec![A, B] }]);
    }
}

#[test]
fn scaling_by_powers_of_two() {
    for tier in widths().into_iter().filter(|t| t.machine().scale) {
        let scale = [Inst::Binary { op: BinaryOp::Scale, dst: DST, a: A, b: B }];
        for power in -250..=250i32 {
            if power % 50 != 0 && power.abs() > 30 {
                continue;
            }
            let power = f64::from(power);
            // Only one of the two is a power.
            let mut body = vec![Inst::Const { dst: DST, bits: power.to_bits() }];
            body.push(Inst::Binary { op: BinaryOp::Scale, dst: Reg(4), a: A, b: DST });
            check_pairs(tier, Class::F64, &special(Class::F64), &[Class::F64; 2], &body);
        }
        check_pairs(tier, Class::F32, &special(Class::F32), &[Class::F32], &scale);
    }
}

#[test]
fn operations_on_integers() {
    let both = [
        BinaryOp::IntAdd,
        BinaryOp::IntSub,
        BinaryOp::IntMul,
        BinaryOp::ShiftLeft,
        BinaryOp::ShiftRight,
        BinaryOp::And,
        BinaryOp::Or,
        BinaryOp::Xor,
    ];
    let narrow = [BinaryOp::IntMax, BinaryOp::IntMin, BinaryOp::ShiftRightSigned];
    for tier in widths() {
        for class in [Class::I32, Class::I64] {
            let values = special(class);
            for op in both.into_iter().chain(narrow.into_iter().filter(|_| class == Class::I32)) {
                check_pairs(tier, class, &values, &[class], &[Inst::Binary { op, dst: DST, a: A, b: B }]);
                // The result in place of an operand.
                let copies = [Inst::Copy { dst: DST, a: A }, Inst::Binary { op, dst: DST, a: B, b: DST }];
                check_pairs(tier, class, &values, &[class], &copies);
            }
            let width = if class.is_wide() { 64 } else { 32 };
            let shifts = if class.is_wide() {
                &[ShiftOp::Left, ShiftOp::UnsignedRight][..]
            } else {
                &[ShiftOp::Left, ShiftOp::UnsignedRight, ShiftOp::SignedRight]
            };
            for (op, amount) in
                shifts.iter().flat_map(|op| [0, 1, 7, 31, width - 1].map(|amount| (*op, amount)))
            {
                check_pairs(tier, class, &values, &[class], &[Inst::Shift { op, dst: DST, a: A, amount }]);
            }
        }
    }
}

#[test]
fn comparisons_selections_and_masks() {
    for tier in widths() {
        for class in CLASSES {
            let (wide, values) = (class.is_wide(), special(class));
            let mask = if wide { Class::Mask64 } else { Class::Mask };
            for op in COMPARISONS {
                let body = [
                    Inst::Compare { op, dst: DST, a: A, b: B },
                    Inst::Select { dst: Reg(4), mask: DST, a: C, b: A },
                ];
                check_pairs(tier, class, &values, &[mask, class], &body);
            }
            for op in [BinaryOp::And, BinaryOp::Or, BinaryOp::Xor] {
                let body = [
                    Inst::Compare { op: Cmp::Lt, dst: Reg(3), a: A, b: B },
                    Inst::Compare { op: Cmp::Lt, dst: Reg(4), a: C, b: B },
                    Inst::Binary { op, dst: Reg(5), a: Reg(3), b: Reg(4) },
                    Inst::Unary { op: UnaryOp::Not, dst: Reg(6), a: Reg(3) },
                    Inst::Select { dst: Reg(7), mask: Reg(4), a: Reg(5), b: Reg(6) },
                    Inst::Select { dst: Reg(8), mask: Reg(7), a: A, b: C },
                ];
                check_pairs(tier, class, &values, &[mask, mask, mask, mask, mask, class], &body);
            }
        }
    }
}

#[test]
fn exchanges_of_lanes() {
    for tier in widths() {
        for class in CLASSES {
            let lanes = if class.is_wide() { tier.lanes() / 2 } else { tier.lanes() };
            for distance in [1, 2, 4, 8].into_iter().filter(|d| usize::from(*d) < lanes) {
                let op = UnaryOp::Exchange { distance };
                let body = [Inst::Unary { op, dst: DST, a: B }];
                check_pairs(tier, class, &special(class), &[class], &body);
            }
        }
    }
}

#[test]
fn conversions() {
    // What does not fit becomes any integer.
    let within = |values: &[f64], limit: f64| -> Vec<f64> {
        values.iter().copied().filter(|x| *x > -limit - 1.0 && *x < limit).collect()
    };
    let bits32 = |values: Vec<f64>| -> Vec<u64> {
        values.into_iter().map(|x| u64::from((x as f32).to_bits())).collect()
    };
    let bits64 = |values: Vec<f64>| -> Vec<u64> { values.into_iter().map(f64::to_bits).collect() };
    let small = within(&floats(), 2_147_483_520.1);
    let large = within(&floats(), 9.2e18 + 1e15);
    for tier in widths() {
        let unary = |op| vec![Inst::Unary { op, dst: DST, a: B }];
        for (from, to, op) in [
            (Class::I32, Class::F32, UnaryOp::ToFloat),
            (Class::I64, Class::F64, UnaryOp::ToFloat),
            (Class::I32, Class::F32, UnaryOp::FromBits),
            (Class::I64, Class::F64, UnaryOp::FromBits),
            (Class::F32, Class::I32, UnaryOp::Bits),
            (Class::F64, Class::I64, UnaryOp::Bits),
        ] {
            check_pairs(tier, from, &special(from), &[to], &unary(op));
        }
        check_pairs(tier, Class::F32, &bits32(small.clone()), &[Class::I32], &unary(UnaryOp::ToInt));
        let low = [f32::NAN, f32::NEG_INFINITY, -2e9, -3e9, -0.5, 0.5, 1.5, 2.5].map(f64::from).to_vec();
        let low = bits32(small.iter().copied().chain(low).collect());
        check_pairs(tier, Class::F32, &low, &[Class::I32], &unary(UnaryOp::RoundToInt));
        check_pairs(tier, Class::F64, &bits64(large.clone()), &[Class::I64], &unary(UnaryOp::ToInt));
        for upper in [false, true] {
            for (from, op) in [
                (Class::F32, Widening::Float),
                (Class::I32, Widening::Signed),
                (Class::I32, Widening::Unsigned),
                (Class::I32, Widening::ToFloat),
            ] {
                let body = [Inst::Widen { op, dst: DST, a: B, upper }];
                check_pairs(tier, from, &special(from), &[op.class()], &body);
            }
        }
        for (from, op, values) in [
            (Class::F64, Narrowing::Float, special(Class::F64)),
            (Class::I64, Narrowing::Int, special(Class::I64)),
            (Class::F64, Narrowing::ToInt, bits64(small.clone())),
            (Class::I64, Narrowing::ToFloat, special(Class::I64)),
        ] {
            check_pairs(tier, from, &values, &[op.class()], &[Inst::Narrow { op, dst: DST, a: A, b: B }]);
        }
        let (lower, upper) = (false, true);
        let masks = [
            Inst::Compare { op: Cmp::Lt, dst: Reg(3), a: A, b: B },
            Inst::Widen { op: Widening::Mask, dst: Reg(4), a: Reg(3), upper: lower },
            Inst::Widen { op: Widening::Mask, dst: Reg(5), a: Reg(3), upper },
            Inst::Narrow { op: Narrowing::Mask, dst: Reg(6), a: Reg(5), b: Reg(4) },
        ];
        let classes = [Class::Mask, Class::Mask64, Class::Mask64, Class::Mask];
        check_pairs(tier, Class::I32, &special(Class::I32), &classes, &masks);
    }
}

/// Bytes at their limits, and any.
fn bytes() -> Vec<u64> {
    let mut random = Random(5);
    let limits = [
        0,
        0x8080_8080,
        0x7f7f_7f7f,
        0xffff_ffff,
        0x00ff_00ff,
        0xff00_ff00,
        0x8000_8000,
        0x8000_0000,
        0x7fff_7fff,
    ];
    limits.into_iter().chain((0..20).map(|_| random.bits() & 0xffff_ffff)).collect()
}

#[test]
fn dot_products_of_bytes() {
    let (class, values) = (Class::I32, bytes());
    for tier in with_dots(DotKind::Bytes) {
        let dot = |dst, a, b, c| Inst::Dot { kind: DotKind::Bytes, dst, a, b, c };
        let check = |body: &[Inst]| check_pairs(tier, class, &values, &[class], body);
        check(&[dot(DST, A, B, C)]);
        check(&[Inst::Copy { dst: DST, a: C }, dot(DST, A, B, DST), dot(DST, B, A, DST)]);
        // The result in place of factors.
        check(&[Inst::Copy { dst: DST, a: A }, dot(DST, DST, B, C)]);
        check(&[Inst::Copy { dst: DST, a: A }, dot(DST, B, DST, C)]);
        check(&[Inst::Copy { dst: DST, a: A }, dot(DST, B, DST, DST)]);
        check(&[Inst::Copy { dst: DST, a: A }, dot(DST, DST, B, DST)]);
        check(&[dot(DST, A, A, A)]);
    }
}

/// Pairs of `bf16` that are small whole numbers, and whole numbers that are `f32`.
fn pairs_of_halves() -> Vec<u64> {
    let half = |v: i32| u64::from((v as f32).to_bits() >> 16);
    let mut random = Random(77);
    (0..40)
        .map(|_| {
            let mut number = || (random.bits() % 41) as i32 - 20;
            half(number()) | half(number()) << 16
        })
        .collect()
}

#[test]
fn dot_products_of_halves() {
    let (int, float) = (Class::I32, Class::F32);
    for tier in with_dots(DotKind::Bf16) {
        let dot = |dst, a, b, c| Inst::Dot { kind: DotKind::Bf16, dst, a, b, c };
        let zero = Inst::Const { dst: DST, bits: 0 };
        let check = |values: &[u64], body: &[Inst]| check_pairs(tier, int, values, &[float], body);
        check(&pairs_of_halves(), &[zero.clone(), dot(DST, A, B, DST), dot(DST, B, C, DST)]);
        check(&pairs_of_halves(), &[zero.clone(), dot(DST, A, A, DST)]);
        // Denormal numbers count as 0, and so does what would become one.
        let denormals = [0x0001_007f, 0x3f80_0040, 0x0080_3f80, 0x8080_3f80, 0x3f80_3f80, 0x1f80_0000];
        check(&denormals, &[zero, dot(DST, A, B, DST)]);
    }
}

#[test]
fn dot_products_of_pairs_and_bytes_taken_apart() {
    let (class, values) = (Class::I32, bytes());
    for tier in widths() {
        for (odd, signed) in [(false, false), (false, true), (true, false), (true, true)] {
            let op = UnaryOp::Bytes { odd, signed };
            check_pairs(tier, class, &values, &[class], &[Inst::Unary { op, dst: DST, a: B }]);
            let copied = [Inst::Copy { dst: DST, a: B }, Inst::Unary { op, dst: DST, a: DST }];
            check_pairs(tier, class, &values, &[class], &copied);
        }
        let pairs = [Inst::Binary { op: BinaryOp::PairDot, dst: DST, a: A, b: B }];
        check_pairs(tier, class, &values, &[class], &pairs);
    }
}

/// Four sums of products, of two operands each with two others.
fn four_dots(machine: Machine) -> Kernel {
    let mut b = Builder::new(machine);
    let args = [0, 1, 2].map(|buf| b.arg(pointer(buf)));
    let lanes = machine.lanes;
    let at = |buf: u32, i: usize| {
        access(MemType::I32, args[buf as usize].0, (i * lanes) as i64, &[].into(), 1, lanes)
    };
    let load = |b: &mut Builder, buf: u32| [0, 1].map(|i| b.load(at(buf, i)));
    let (x, y) = (load(&mut b, 0), load(&mut b, 1));
    for (stored, (x, y)) in x.into_iter().flat_map(|x| y.map(|y| (x, y))).enumerate() {
        let sum = b.variable(Class::I32);
        let start = b.dot(DotKind::Bytes, x, y, y);
        b.assign(sum, start);
        b.dot_accumulate(DotKind::Bytes, sum, x, y);
        b.store(sum, at(2, stored));
    }
    b.finish(0, machine.registers)
}

#[test]
fn without_dot_products_bytes_are_taken_apart_once() {
    for tier in widths() {
        let lowered = four_dots(tier.machine());
        let apart = |i: &&Inst| matches!(i, Inst::Unary { op: UnaryOp::Bytes { .. }, .. });
        assert_eq!(lowered.body.iter().filter(apart).count(), 8, "{lowered}");
        let mut values = bytes().into_iter().cycle();
        let mut operand = |n| Contents::new(MemType::I32, values.by_ref().take(n).collect::<Vec<u64>>());
        let n = tier.lanes();
        let buffers = vec![operand(2 * n), operand(2 * n), Contents::zeros(MemType::I32, 4 * n)];
        let input = Input { buffers, int: 0, range: (0, 1) };
        check(&lowered, tier, &input);
        let direct = four_dots(select::Machine { dot: true, ..tier.machine() });
        let results = [&lowered, &direct].map(|kernel| {
            let mut machine = super::Machine::new(kernel, &input);
            machine.run();
            machine.buffers.swap_remove(2).bytes
        });
        assert_eq!(results[0], results[1]);
    }
}

#[test]
fn the_sum_of_a_dot_product_stays_and_a_factor_comes_from_memory() {
    for tier in with_dots(DotKind::Bytes) {
        let at: Terms = [(Counter(0), tier.lanes() as i64)].into();
        let byte: Terms = [(Counter(0), 1)].into();
        let load = |dst, from| Inst::Load { dst, from };
        let dot = Inst::Dot { kind: DotKind::Bytes, dst: A, a: B, b: C, c: A };
        let body = vec![
            load(B, access(MemType::I32, 0, 0, &byte, 0, 1)),
            load(C, access(MemType::I32, 1, 0, &at, 1, tier.lanes())),
            dot,
        ];
        let (begin, end) = (Bound::Const(0), Bound::Const(9));
        let kernel = Kernel {
            lanes: tier.lanes(),
            args: (0..3).map(pointer).collect(),
            regs: vec![Class::I32; 3],
            counters: 1,
            body: vec![
                Inst::Const { dst: A, bits: 1 },
                Inst::Loop { counter: Counter(0), begin, end, body },
                Inst::Store { src: A, to: access(MemType::I32, 2, 0, &[].into(), 1, tier.lanes()) },
            ],
            ..Kernel::default()
        };
        let (_, text) = super::super::emit(&kernel, tier, true).expect("emitted");
        let body = text.split("L0:").nth(1).expect("a loop");
        let inner: Vec<&str> = body.lines().filter(|l| l.contains("mm")).take(2).collect();
        assert!(inner[0].contains("broadcast"), "{text}");
        assert!(inner[1].contains("vpdpbusd") && inner[1].contains('['), "{text}");
        let mut random = Random(9);
        let mut values = |n| Contents::new(MemType::I32, (0..n).map(|_| random.bits()).collect::<Vec<u64>>());
        let buffers = vec![values(9), values(9 * tier.lanes()), Contents::zeros(MemType::I32, tier.lanes())];
        check(&kernel, tier, &Input { buffers, int: 0, range: (0, 1) });
    }
}
