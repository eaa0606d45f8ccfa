//! Elementwise operations of several operands, with broadcasting, and conversions.

use nestjit::graph::{Binary, Op};
use nestjit::{DType, Tensor, bf16, f16};

use super::{Cases, tensor};

const ARITHMETIC: [Binary; 9] = [
    Binary::Add,
    Binary::Sub,
    Binary::Mul,
    Binary::Div,
    Binary::Rem,
    Binary::Mod,
    Binary::Pow,
    Binary::Max,
    Binary::Min,
];
const COMPARISONS: [Binary; 6] = [Binary::Eq, Binary::Ne, Binary::Lt, Binary::Le, Binary::Gt, Binary::Ge];
const BITWISE: [Binary; 3] = [Binary::And, Binary::Or, Binary::Xor];
const INTEGERS: [DType; 8] =
    [DType::I64, DType::I32, DType::I8, DType::U8, DType::I16, DType::U16, DType::U32, DType::U64];

/// Every pair of a few special values.
fn special_pairs() -> (Tensor, Tensor) {
    let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1.0, -1.0, 2.5, -3.0, 1e-3, 7.0];
    let n = values.len();
    let a: Vec<f32> = (0..n * n).map(|i| values[i / n]).collect();
    let b: Vec<f32> = (0..n * n).map(|i| values[i % n]).collect();
    (tensor(&[n, n], &a), tensor(&[n, n], &b))
}

pub fn add(cases: &mut Cases) {
    binary(cases);
    broadcasting(cases);
    select(cases);
    casts(cases);
    for (name, axis, shape) in [
        ("last", 1, &[3usize, 5][..]),
        ("channels", 1, &[2, 3, 4, 5]),
        ("first", 0, &[4, 3]),
        ("one", 0, &[7]),
    ] {
        let bias = [shape[axis]];
        cases.op(format!("bias_add/{name}"), Op::BiasAdd { axis }, &[shape, &bias]);
    }
    cases.op_of("bias_add/i32", Op::BiasAdd { axis: 1 }, DType::I32, &[&[3, 5], &[5]]);
}

fn binary(cases: &mut Cases) {
    for op in ARITHMETIC.into_iter().chain(COMPARISONS).chain([Binary::Atan2, Binary::PRelu]) {
        let name = op.name().to_lowercase();
        cases.op(format!("binary/{name}"), Op::Binary(op), &[&[3, 17], &[3, 17]]);
        cases.op_of(format!("binary/{name}_f64"), Op::Binary(op), DType::F64, &[&[3, 5], &[5]]);
        cases.add(format!("binary/{name}_special"), |m| {
            let (a, b) = special_pairs();
            let (a, b) = (m.given(a), m.given(b));
            m.op(Op::Binary(op), &[a, b])
        });
        if op == Binary::Atan2 {
            continue;
        }
        for dtype in INTEGERS {
            let name = format!("binary/{name}_{dtype}");
            cases.op_of(name, Op::Binary(op), dtype, &[&[4, 19], &[4, 19]]);
        }
    }
    for op in BITWISE {
        let name = op.name().to_lowercase();
        for dtype in INTEGERS.into_iter().chain([DType::Bool]) {
            cases.op_of(format!("binary/{name}_{dtype}"), Op::Binary(op), dtype, &[&[33], &[33]]);
        }
    }
    for op in [Binary::Shl, Binary::Shr] {
        let name = op.name().to_lowercase();
        for dtype in INTEGERS {
            cases.op_of(format!("binary/{name}_{dtype}"), Op::Binary(op), dtype, &[&[33], &[33]]);
        }
    }
    for op in [Binary::Eq, Binary::Ne] {
        let name = format!("binary/{}_bool", op.name().to_lowercase());
        cases.op_of(name, Op::Binary(op), DType::Bool, &[&[9], &[9]]);
    }
    cases.add("binary/i64_extremes", |m| {
        let a = m.given(tensor(&[6], &[i64::MIN, i64::MAX, i64::MIN, i64::MAX, 5, -7]));
        let b = m.given(tensor(&[6], &[-1, 1, i64::MIN, i64::MAX, 0, 0]));
        [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Rem, Binary::Mod]
            .into_iter()
            .map(|op| m.one(Op::Binary(op), &[a, b]))
            .collect()
    });
}

fn broadcasting(cases: &mut Cases) {
    let shapes: &[(&str, &[usize], &[usize])] = &[
        ("row", &[4, 5], &[5]),
        ("column", &[4, 5], &[4, 1]),
        ("outer", &[4, 1], &[1, 5]),
        ("scalar", &[4, 5], &[]),
        ("left_scalar", &[], &[3]),
        ("rank_0", &[], &[]),
        ("one", &[2, 3, 4], &[1, 1, 1]),
        ("channel", &[2, 3, 4, 5], &[3, 1, 1]),
        ("last", &[2, 4, 5, 3], &[3]),
        ("middle", &[2, 1, 4], &[3, 1]),
        ("empty", &[0, 3], &[1, 3]),
        ("one_to_empty", &[1, 3], &[0, 1]),
    ];
    for (name, a, b) in shapes {
        cases.op(format!("broadcast/{name}"), Op::Binary(Binary::Sub), &[a, b]);
    }
    cases.add("broadcast/constants", |m| {
        let x = m.x(&[3, 4]);
        let row = m.weight(&[4]);
        let one = m.constant(&[1, 1], &[0.75f32]);
        let y = m.one(Op::Binary(Binary::Mul), &[x, row]);
        let y = m.one(Op::Binary(Binary::Add), &[one, y]);
        vec![y]
    });
    cases.add("broadcast/one_element_constants_only", |m| {
        let a = m.constant(&[1, 1], &[0.75f32]);
        let b = m.constant(&[1], &[0.5f32]);
        vec![m.one(Op::Binary(Binary::Div), &[a, b])]
    });
    cases.add("broadcast/same_operand_twice", |m| {
        let x = m.x(&[5, 3]);
        vec![m.one(Op::Binary(Binary::Mul), &[x, x])]
    });
}

fn select(cases: &mut Cases) {
    let shapes: &[(&str, &[usize], &[usize], &[usize])] = &[
        ("same", &[3, 5], &[3, 5], &[3, 5]),
        ("row", &[5], &[3, 5], &[3, 1]),
        ("scalars", &[3, 5], &[], &[1]),
        ("condition_scalar", &[], &[4], &[4]),
        ("outer", &[2, 1, 1], &[3, 1], &[4]),
    ];
    for (name, c, a, b) in shapes {
        cases.add(format!("where/{name}"), |m| {
            let c = m.input(DType::Bool, c);
            let (a, b) = (m.x(a), m.x(b));
            m.op(Op::Where, &[c, a, b])
        });
    }
    for dtype in DType::ALL {
        cases.add(format!("where/{dtype}"), |m| {
            let c = m.input(DType::Bool, &[13]);
            let (a, b) = (m.input(dtype, &[13]), m.input(dtype, &[1]));
            m.op(Op::Where, &[c, a, b])
        });
    }
    cases.add("where/nan_not_chosen", |m| {
        let c = m.given(tensor(&[3], &[true, false, true]));
        let a = m.given(tensor(&[3], &[1.0f32, f32::NAN, f32::INFINITY]));
        let b = m.given(tensor(&[3], &[f32::NAN, 2.0f32, f32::NAN]));
        m.op(Op::Where, &[c, a, b])
    });
}

/// From every type to every type.
fn casts(cases: &mut Cases) {
    let floats =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 0.5, -0.5, 1.9, -1.9, 3e9, -3e9, 300.0, 1e20];
    let integers = [0i64, 1, -1, 127, 128, -128, -129, 255, 256, 1 << 31, -(1 << 31), i64::MAX, i64::MIN];
    for from in DType::ALL {
        cases.add(format!("cast/from_{from}"), |m| {
            let x = match from {
                DType::F64 => tensor(&[13], &floats),
                DType::F32 => tensor(&[13], &floats.map(|v| v as f32)),
                DType::F16 => tensor(&[13], &floats.map(f16::from_f64)),
                DType::BF16 => tensor(&[13], &floats.map(bf16::from_f64)),
                DType::I64 => tensor(&[13], &integers),
                DType::I32 => tensor(&[13], &integers.map(|v| v as i32)),
                DType::I8 => tensor(&[13], &integers.map(|v| v as i8)),
                DType::U8 => tensor(&[13], &integers.map(|v| v as u8)),
                DType::I16 => tensor(&[13], &integers.map(|v| v as i16)),
                DType::U16 => tensor(&[13], &integers.map(|v| v as u16)),
                DType::U32 => tensor(&[13], &integers.map(|v| v as u32)),
                DType::U64 => tensor(&[13], &integers.map(|v| v as u64)),
                DType::Bool => tensor(&[13], &integers.map(|v| v & 1 == 1)),
            };
            let x = m.given(x);
            DType::ALL.into_iter().map(|to| m.one(Op::Cast { to }, &[x])).collect()
        });
    }
}
