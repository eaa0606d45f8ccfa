//! Operations that move elements.

use nestjit::DType;
use nestjit::graph::{Op, PadMode};
use nestjit::ir::CheckKind;

use super::{Cases, tensor};

pub fn add(cases: &mut Cases) {
    reshape(cases);
    transpose(cases);
    slice(cases);
    pad(cases);
    concat_and_split(cases);
    gather(cases);
    check(cases);
    expand(cases);
}

/// Values that are possible, by themselves and as the index of what is fused with them.
fn check(cases: &mut Cases) {
    for kind in CheckKind::ALL {
        let name = format!("check/{kind:?}");
        let op = Op::Check { kind, low: 0, high: 7, input: "positions".into() };
        cases.add(name, |m| {
            let (index, table) = (m.given(tensor(&[4], &[0i64, 6, 3, 5])), m.x(&[7, 19]));
            let checked = m.one(op, &[index]);
            let twice = m.g.add(table, table);
            let rows = m.g.gather(twice, checked, 0);
            vec![checked, m.g.relu(rows)]
        });
    }
}

fn reshape(cases: &mut Cases) {
    let shapes: &[(&str, &[usize], &[usize])] = &[
        ("same", &[3, 4], &[3, 4]),
        ("flatten", &[2, 3, 4], &[2, 12]),
        ("unflatten", &[2, 12], &[2, 3, 4]),
        ("regroup", &[6, 4], &[2, 12]),
        ("squeeze", &[1, 3, 1, 4], &[3, 4]),
        ("unsqueeze", &[3, 4], &[3, 1, 4, 1]),
        ("to_vector", &[2, 3, 4], &[24]),
        ("from_vector", &[24], &[2, 3, 4]),
        ("heads", &[2, 5, 12], &[2, 5, 3, 4]),
        ("incompatible", &[6, 4], &[4, 6]),
        ("half_compatible", &[5, 6, 4], &[5, 8, 3]),
        ("to_rank_0", &[1, 1], &[]),
        ("from_rank_0", &[], &[1]),
        ("empty", &[0, 4], &[2, 0, 3]),
    ];
    for (name, from, to) in shapes {
        cases.op(format!("reshape/{name}"), Op::Reshape { shape: to.to_vec() }, &[from]);
    }
    for dtype in DType::ALL {
        let op = Op::Reshape { shape: vec![4, 3] };
        cases.op_of(format!("reshape/{dtype}"), op, dtype, &[&[2, 6]]);
        let op = Op::Reshape { shape: vec![10, 3] };
        cases.op_of(format!("reshape/incompatible_{dtype}"), op, dtype, &[&[6, 5]]);
    }
}

fn transpose(cases: &mut Cases) {
    let perms: &[(&str, &[usize], &[usize])] = &[
        ("matrix", &[5, 7], &[1, 0]),
        ("wide", &[33, 18], &[1, 0]),
        ("nchw_nhwc", &[2, 3, 4, 5], &[0, 2, 3, 1]),
        ("nhwc_nchw", &[2, 4, 5, 3], &[0, 3, 1, 2]),
        ("heads", &[2, 5, 3, 4], &[0, 2, 1, 3]),
        ("reverse", &[2, 3, 4], &[2, 1, 0]),
        ("rotate", &[2, 3, 4], &[1, 2, 0]),
        ("identity", &[3, 4], &[0, 1]),
        ("rank_0", &[], &[]),
        ("empty", &[0, 3], &[1, 0]),
    ];
    for (name, shape, perm) in perms {
        cases.op(format!("transpose/{name}"), Op::Transpose { perm: perm.to_vec() }, &[shape]);
    }
    for dtype in DType::ALL {
        let op = Op::Transpose { perm: vec![1, 0] };
        cases.op_of(format!("transpose/{dtype}"), op, dtype, &[&[3, 5]]);
    }
}

fn slice(cases: &mut Cases) {
    let slices: &[(&str, &[usize], &[usize], &[usize], &[i64])] = &[
        ("middle", &[7, 9], &[2, 3], &[4, 5], &[1, 1]),
        ("all", &[3, 4], &[0, 0], &[3, 4], &[1, 1]),
        ("step", &[9, 10], &[1, 0], &[3, 4], &[3, 3]),
        ("reverse", &[5, 6], &[4, 5], &[5, 6], &[-1, -1]),
        ("reverse_step", &[9], &[8], &[3], &[-4]),
        ("mixed", &[4, 5, 6], &[3, 1, 0], &[2, 1, 6], &[-2, 7, 1]),
        ("nothing", &[4, 5], &[4, 0], &[0, 5], &[1, 1]),
        ("one_element", &[4, 5], &[2, 3], &[1, 1], &[1, 1]),
        ("rank_0", &[], &[], &[], &[]),
    ];
    for (name, shape, starts, extents, steps) in slices {
        let op = Op::Slice { starts: starts.to_vec(), extents: extents.to_vec(), steps: steps.to_vec() };
        cases.op(format!("slice/{name}"), op, &[shape]);
    }
    for dtype in DType::ALL {
        let op = Op::Slice { starts: vec![5], extents: vec![3], steps: vec![-2] };
        cases.op_of(format!("slice/{dtype}"), op, dtype, &[&[6]]);
    }
}

fn pad(cases: &mut Cases) {
    let modes = [
        ("constant", PadMode::Constant(-1.5)),
        ("reflect", PadMode::Reflect),
        ("edge", PadMode::Edge),
        ("wrap", PadMode::Wrap),
    ];
    let pads: &[(&str, &[usize], &[i64], &[i64])] = &[
        ("both", &[5], &[2], &[3]),
        ("before", &[4, 5], &[1, 2], &[0, 0]),
        ("after", &[4, 5], &[0, 0], &[2, 1]),
        ("image", &[1, 2, 4, 5], &[0, 0, 1, 2], &[0, 0, 3, 1]),
        ("none", &[3, 4], &[0, 0], &[0, 0]),
        ("crop", &[6, 5], &[-1, 0], &[-2, -1]),
        ("crop_to_nothing", &[6, 5], &[-6, 0], &[0, 0]),
        ("rank_0", &[], &[], &[]),
    ];
    for (mode_name, mode) in modes {
        for (name, shape, begin, end) in pads {
            let op = Op::Pad { begin: begin.to_vec(), end: end.to_vec(), mode };
            cases.op(format!("pad/{mode_name}_{name}"), op, &[shape]);
        }
        if mode != PadMode::Wrap {
            let op = Op::Pad { begin: vec![-2, 2], end: vec![3, -1], mode };
            cases.op(format!("pad/{mode_name}_crop_and_pad"), op, &[&[6, 5]]);
        }
        let op = Op::Pad { begin: vec![1, 1], end: vec![1, 1], mode };
        cases.op_of(format!("pad/{mode_name}_integers"), op, DType::I64, &[&[3, 3]]);
    }
    for dtype in DType::ALL {
        let op = Op::Pad { begin: vec![2], end: vec![1], mode: PadMode::Constant(1.0) };
        cases.op_of(format!("pad/constant_{dtype}"), op, dtype, &[&[5]]);
    }
    let op = Op::Pad { begin: vec![2, 1], end: vec![1, 0], mode: PadMode::Constant(0.5) };
    cases.op("pad/constant_around_nothing", op, &[&[0, 3]]);
    let op = Op::Pad { begin: vec![1], end: vec![1], mode: PadMode::Constant(f64::NEG_INFINITY) };
    cases.op("pad/minus_infinity", op, &[&[4]]);
    cases.add("pad/one_element_constant", |m| {
        let c = m.constant(&[1], &[3.0f32]);
        m.op(Op::Pad { begin: vec![1], end: vec![2], mode: PadMode::Constant(0.0) }, &[c])
    });
}

fn concat_and_split(cases: &mut Cases) {
    let joined: &[(&str, usize, &[&[usize]])] = &[
        ("rows", 0, &[&[2, 3], &[4, 3], &[1, 3]]),
        ("columns", 1, &[&[2, 3], &[2, 5]]),
        ("channels", 1, &[&[1, 3, 4, 4], &[1, 5, 4, 4]]),
        ("last", 3, &[&[1, 4, 4, 3], &[1, 4, 4, 5]]),
        ("one", 0, &[&[3, 2]]),
        ("with_empty", 0, &[&[2, 3], &[0, 3], &[1, 3]]),
        ("only_empty", 0, &[&[0, 3], &[0, 3]]),
        ("vectors", 0, &[&[5], &[1], &[7]]),
    ];
    for (name, axis, shapes) in joined {
        cases.op(format!("concat/{name}"), Op::Concat { axis: *axis }, shapes);
    }
    cases.add("concat/same_operand_twice", |m| {
        let x = m.x(&[2, 3]);
        m.op(Op::Concat { axis: 1 }, &[x, x])
    });
    cases.add("concat/constants", |m| {
        let (x, w, one) = (m.x(&[2, 3]), m.weight(&[2, 2]), m.constant(&[2, 1], &[1.0f32, 2.0]));
        m.op(Op::Concat { axis: 1 }, &[x, w, one])
    });
    let parts: &[(&str, &[usize], usize, &[usize])] = &[
        ("rows", &[6, 4], 0, &[1, 3, 2]),
        ("columns", &[3, 9], 1, &[3, 3, 3]),
        ("last", &[2, 3, 8], 2, &[5, 3]),
        ("one", &[4, 2], 0, &[4]),
        ("with_empty", &[5], 0, &[2, 0, 3]),
        ("only_empty", &[0, 2], 0, &[0, 0]),
    ];
    for (name, shape, axis, sizes) in parts {
        cases.op(format!("split/{name}"), Op::Split { axis: *axis, sizes: sizes.to_vec() }, &[shape]);
    }
    cases.add("split/one_part_used", |m| {
        let x = m.x(&[3, 7]);
        let parts = m.op(Op::Split { axis: 1, sizes: vec![2, 4, 1] }, &[x]);
        vec![parts[1]]
    });
    for dtype in DType::ALL {
        cases.op_of(format!("concat/{dtype}"), Op::Concat { axis: 0 }, dtype, &[&[3, 2], &[1, 2]]);
        cases.op_of(format!("split/{dtype}"), Op::Split { axis: 0, sizes: vec![1, 3] }, dtype, &[&[4, 2]]);
    }
}

fn gather(cases: &mut Cases) {
    let what: &[(&str, &[usize], usize, &[usize], &[i64])] = &[
        ("rows", &[7, 5], 0, &[3], &[6, 0, 2]),
        ("columns", &[4, 6], 1, &[4], &[5, 5, 0, 1]),
        ("negative", &[7, 5], 0, &[3], &[-1, -7, 3]),
        ("middle", &[2, 5, 3], 1, &[2, 2], &[4, -5, 0, 1]),
        ("scalar", &[7, 5], 0, &[], &[3]),
        ("negative_scalar", &[4, 3], 1, &[], &[-2]),
        ("nothing", &[7, 5], 0, &[0], &[]),
        ("vector", &[9], 0, &[2, 3], &[0, 8, -9, -1, 4, 4]),
    ];
    for (name, shape, axis, indices_shape, indices) in what {
        let op = Op::Gather { axis: *axis };
        cases.add(format!("gather/{name}"), |m| {
            let (x, i) = (m.x(shape), m.given(tensor(indices_shape, indices)));
            m.op(op.clone(), &[x, i])
        });
        let narrow: Vec<i32> = indices.iter().map(|i| *i as i32).collect();
        cases.add(format!("gather/{name}_i32"), |m| {
            let (x, i) = (m.weight(shape), m.given(tensor(indices_shape, &narrow)));
            m.op(op.clone(), &[x, i])
        });
        cases.add(format!("gather/{name}_constant"), |m| {
            let (x, i) = (m.x(shape), m.constant(indices_shape, indices));
            m.op(op, &[x, i])
        });
    }
    for dtype in DType::ALL {
        cases.add(format!("gather/{dtype}"), |m| {
            let (x, i) = (m.input(dtype, &[5, 3]), m.given(tensor(&[2], &[4i64, 1])));
            m.op(Op::Gather { axis: 0 }, &[x, i])
        });
    }
    cases.add("gather/embedding", |m| {
        let (table, ids) =
            (m.weight(&[20, 16]), m.given(tensor(&[2, 5], &[3i64, 0, 19, 7, 7, 1, 2, -1, 5, 11])));
        m.op(Op::Gather { axis: 0 }, &[table, ids])
    });
}

fn expand(cases: &mut Cases) {
    let shapes: &[(&str, &[usize], &[usize])] = &[
        ("rows", &[1, 5], &[4, 5]),
        ("columns", &[4, 1], &[4, 5]),
        ("new_dims", &[3], &[2, 4, 3]),
        ("scalar", &[], &[2, 3]),
        ("same", &[2, 3], &[2, 3]),
        ("to_nothing", &[1, 3], &[0, 3]),
    ];
    for (name, from, to) in shapes {
        cases.op(format!("expand/{name}"), Op::Expand { shape: to.to_vec() }, &[from]);
    }
    cases.add("expand/literal", |m| {
        let c = m.constant(&[1], &[2.5f32]);
        m.op(Op::Expand { shape: vec![3, 4] }, &[c])
    });
    for dtype in DType::ALL {
        cases.op_of(format!("expand/{dtype}"), Op::Expand { shape: vec![3, 2] }, dtype, &[&[3, 1]]);
    }
}
