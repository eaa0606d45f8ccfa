//! What instructions do with one lane of each operand: 64 bits, of which narrower classes have the low ones.

use nestjit_ir::{DType, f16};

use crate::codegen::runtime_fns::{Signature, TABLE};
use crate::codegen::vcode::{BinaryOp, Class, Cmp, Combine, Narrowing, ShiftOp, UnaryOp, Widening};

/// Applies a function of the runtime table.
pub(super) fn call(function: usize, args: &[u64]) -> u64 {
    /// Calls it with the signature that it has.
    macro_rules! call_as {
        ($t:ty, $from:expr) => {{
            let address = TABLE[function].address.0;
            let x = |i: usize| -> $t { $from(args[i]) };
            // SAFETY: the table says that the function has this signature.
            unsafe {
                if args.len() == 1 {
                    std::mem::transmute::<*const u8, extern "C" fn($t) -> $t>(address)(x(0))
                } else {
                    std::mem::transmute::<*const u8, extern "C" fn($t, $t) -> $t>(address)(x(0), x(1))
                }
            }
        }};
    }
    let (Signature::Unary(dtype) | Signature::Binary(dtype)) = TABLE[function].signature else {
        panic!("not for lanes")
    };
    match dtype {
        DType::F32 => u64::from(call_as!(f32, |bits| f32::from_bits(bits as u32)).to_bits()),
        DType::F64 => call_as!(f64, f64::from_bits).to_bits(),
        DType::I64 => call_as!(i64, |bits| bits as i64) as u64,
        DType::F16 | DType::BF16 | DType::Bool => panic!("no function is generated for {dtype}"),
        DType::I32 | DType::I16 | DType::I8 => panic!("no function is generated for {dtype}"),
        DType::U64 | DType::U32 | DType::U16 | DType::U8 => panic!("no function is generated for {dtype}"),
    }
}

pub(super) fn unary(op: UnaryOp, x: u64, class: Class) -> u64 {
    if op == UnaryOp::Not {
        return !x;
    }
    if class.is_wide() {
        let f = f64::from_bits(x);
        return match op {
            UnaryOp::Neg => x ^ (1 << 63),
            UnaryOp::Abs => x & !(1 << 63),
            UnaryOp::Sqrt => f.sqrt().to_bits(),
            UnaryOp::Floor => f.floor().to_bits(),
            UnaryOp::Ceil => f.ceil().to_bits(),
            UnaryOp::Round => f.round_ties_even().to_bits(),
            UnaryOp::Trunc => f.trunc().to_bits(),
            UnaryOp::ToFloat => (x as i64 as f64).to_bits(),
            UnaryOp::ToInt => f as i64 as u64,
            UnaryOp::Bits | UnaryOp::FromBits => x,
            UnaryOp::Bytes { .. } => panic!("not there"),
            UnaryOp::RoundF16 | UnaryOp::RoundToInt => panic!("on f32"),
            UnaryOp::Not | UnaryOp::Exchange { .. } => unreachable!("above"),
        };
    }
    let bits = x as u32;
    let f = f32::from_bits(bits);
    u64::from(match op {
        UnaryOp::Neg => bits ^ (1 << 31),
        UnaryOp::Abs => bits & !(1 << 31),
        UnaryOp::Sqrt => f.sqrt().to_bits(),
        UnaryOp::Floor => f.floor().to_bits(),
        UnaryOp::Ceil => f.ceil().to_bits(),
        UnaryOp::Round => f.round_ties_even().to_bits(),
        UnaryOp::Trunc => f.trunc().to_bits(),
        UnaryOp::RoundF16 => f16::from_f32(f).to_f32().to_bits(),
        UnaryOp::ToFloat => (bits as i32 as f32).to_bits(),
        UnaryOp::ToInt => f as i32 as u32,
        UnaryOp::RoundToInt if f.is_nan() => i32::MIN as u32,
        UnaryOp::RoundToInt => f.round_ties_even() as i32 as u32,
        UnaryOp::Bits | UnaryOp::FromBits => bits,
        UnaryOp::Bytes { odd, signed } => {
            let number = |half: u32| {
                let byte = (bits >> (16 * half + if odd { 8 } else { 0 })) as u8;
                u32::from(if signed { byte as i8 as u16 } else { u16::from(byte) }) << (16 * half)
            };
            number(0) | number(1)
        }
        UnaryOp::Not | UnaryOp::Exchange { .. } => unreachable!("above"),
    })
}

pub(super) fn binary(op: BinaryOp, x: u64, y: u64, class: Class) -> u64 {
    if class.is_wide() {
        let (a, b) = (f64::from_bits(x), f64::from_bits(y));
        return match op {
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
            // The power of two is a number, so this rounds once.
            BinaryOp::Scale => (a * b.exp2()).to_bits(),
            BinaryOp::IntAdd => x.wrapping_add(y),
            BinaryOp::IntSub => x.wrapping_sub(y),
            BinaryOp::IntMul => x.wrapping_mul(y),
            BinaryOp::ShiftLeft => {
                if y < 64 {
                    x << y
                } else {
                    0
                }
            }
            BinaryOp::ShiftRight => {
                if y < 64 {
                    x >> y
                } else {
                    0
                }
            }
            BinaryOp::IntMax | BinaryOp::IntMin | BinaryOp::ShiftRightSigned | BinaryOp::PairDot => {
                panic!("not there")
            }
            BinaryOp::And => x & y,
            BinaryOp::Or => x | y,
            BinaryOp::Xor => x ^ y,
        };
    }
    match op {
        BinaryOp::And => return x & y,
        BinaryOp::Or => return x | y,
        BinaryOp::Xor => return x ^ y,
        _ => {}
    }
    let (x, y) = (x as u32, y as u32);
    let (a, b) = (f32::from_bits(x), f32::from_bits(y));
    let (i, j) = (x as i32, y as i32);
    u64::from(match op {
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
        BinaryOp::IntMul => x.wrapping_mul(y),
        BinaryOp::PairDot => {
            let product = |half: u32| i32::from((x >> half) as i16) * i32::from((y >> half) as i16);
            product(0).wrapping_add(product(16)) as u32
        }
        BinaryOp::IntMax => i.max(j) as u32,
        BinaryOp::IntMin => i.min(j) as u32,
        BinaryOp::ShiftLeft => {
            if y < 32 {
                x << y
            } else {
                0
            }
        }
        BinaryOp::ShiftRight => {
            if y < 32 {
                x >> y
            } else {
                0
            }
        }
        BinaryOp::ShiftRightSigned => (i >> y.min(31)) as u32,
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => unreachable!("above"),
    })
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

pub(super) fn dot(x: u64, y: u64, z: u64) -> u64 {
    let products = (0..4).map(|i| {
        let (a, b) = ((x >> (8 * i)) as u8, (y >> (8 * i)) as u8 as i8);
        i32::from(a) * i32::from(b)
    });
    u64::from((z as i32).wrapping_add(products.sum()) as u32)
}

pub(super) fn dot_bf16(x: u64, y: u64, z: u64) -> u64 {
    let flushed = |v: f32| if v.is_subnormal() { 0f32.copysign(v) } else { v };
    let half = |bits: u64, upper: bool| {
        let bits = bits as u32;
        flushed(f32::from_bits(if upper { bits & 0xffff_0000 } else { bits << 16 }))
    };
    let sum = [true, false].into_iter().fold(flushed(f32::from_bits(z as u32)), |sum, upper| {
        flushed(half(x, upper).mul_add(half(y, upper), sum))
    });
    u64::from(sum.to_bits())
}

pub(super) fn widen(op: Widening, x: u64) -> u64 {
    let bits = x as u32;
    match op {
        Widening::Float => f64::from(f32::from_bits(bits)).to_bits(),
        Widening::Signed => i64::from(bits as i32) as u64,
        Widening::Unsigned => u64::from(bits),
        Widening::ToFloat => f64::from(bits as i32).to_bits(),
        Widening::Mask => x,
    }
}

pub(super) fn narrow(op: Narrowing, x: u64) -> u64 {
    match op {
        Narrowing::Float => u64::from((f64::from_bits(x) as f32).to_bits()),
        Narrowing::Int => u64::from(x as u32),
        Narrowing::ToInt => u64::from(f64::from_bits(x) as i32 as u32),
        Narrowing::ToFloat => u64::from((x as i64 as f32).to_bits()),
        Narrowing::Mask => x,
    }
}

pub(super) fn compare(op: Cmp, x: u64, y: u64, class: Class) -> bool {
    /// Integers have no NaN.
    macro_rules! compared {
        ($a:expr, $b:expr, $unordered:expr) => {{
            let (a, b) = ($a, $b);
            match op {
                Cmp::Eq => a == b,
                Cmp::Ne => a != b,
                Cmp::Lt => a < b,
                Cmp::Le => a <= b,
                Cmp::Gt => a > b,
                Cmp::Ge => a >= b,
                Cmp::Unordered => $unordered,
            }
        }};
    }
    let (a, b) = (f32::from_bits(x as u32), f32::from_bits(y as u32));
    let (c, d) = (f64::from_bits(x), f64::from_bits(y));
    match class {
        Class::F32 => compared!(a, b, a.is_nan() || b.is_nan()),
        Class::F64 => compared!(c, d, c.is_nan() || d.is_nan()),
        Class::I32 => compared!(x as i32, y as i32, x != y),
        Class::I64 => compared!(x as i64, y as i64, x != y),
        Class::Mask | Class::Mask64 => panic!("masks are not compared"),
    }
}

pub(super) fn combine(op: Combine, a: f32, b: f32) -> f32 {
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

pub(super) fn shift(op: ShiftOp, x: u64, amount: u8, class: Class) -> u64 {
    match op {
        ShiftOp::Left if class.is_wide() => x << amount,
        ShiftOp::UnsignedRight if class.is_wide() => x >> amount,
        ShiftOp::SignedRight if class.is_wide() => panic!("not there"),
        ShiftOp::Left => u64::from((x as u32) << amount),
        ShiftOp::UnsignedRight => u64::from(x as u32 >> amount),
        ShiftOp::SignedRight => u64::from((x as i32 >> amount) as u32),
    }
}
