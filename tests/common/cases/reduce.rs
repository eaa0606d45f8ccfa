//! Reductions, and positions of extrema.

use nestjit::DType;
use nestjit::graph::{Op, Reduction};

use super::{Cases, other_numbers, tensor};

const ALL: [Reduction; 10] = [
    Reduction::Sum,
    Reduction::Mean,
    Reduction::Max,
    Reduction::Min,
    Reduction::Prod,
    Reduction::L1,
    Reduction::L2,
    Reduction::SumSquare,
    Reduction::LogSum,
    Reduction::LogSumExp,
];

fn op(op: Reduction, axes: &[usize], keep_dims: bool) -> Op {
    Op::Reduce { op, axes: axes.to_vec(), keep_dims }
}

pub fn add(cases: &mut Cases) {
    let what: &[(&str, &[usize], &[usize], bool)] = &[
        ("last", &[3, 5, 19], &[2], false),
        ("first", &[5, 3, 4], &[0], true),
        ("middle", &[3, 7, 5], &[1], false),
        ("outer", &[3, 4, 5], &[0, 2], true),
        ("all", &[3, 4, 5], &[0, 1, 2], false),
        ("none", &[3, 4], &[], false),
        ("rank_0", &[], &[], false),
        ("nothing", &[3, 0], &[1], false),
        ("of_one", &[3, 1], &[1], true),
    ];
    for reduction in ALL {
        let label = reduction.name().to_lowercase();
        for (name, shape, axes, keep_dims) in what {
            cases.add(format!("{label}/{name}"), |m| {
                // Logarithms of sums make sense for positive sums.
                let x = if reduction == Reduction::LogSum { m.positive_input(shape) } else { m.x(shape) };
                m.op(op(reduction, axes, *keep_dims), &[x])
            });
        }
        cases.op_of(format!("{label}/f64"), op(reduction, &[1], false), DType::F64, &[&[3, 5]]);
        let special = tensor(
            &[5, 3],
            &[
                1.0,
                f32::NAN,
                2.0,
                f32::INFINITY,
                1.0,
                2.0,
                f32::NEG_INFINITY,
                1.0,
                0.0,
                f32::NEG_INFINITY,
                f32::NEG_INFINITY,
                f32::NEG_INFINITY,
                f32::INFINITY,
                f32::NEG_INFINITY,
                1000.0,
            ],
        );
        cases.op_on(format!("{label}/special"), op(reduction, &[1], false), special);
    }
    for reduction in
        [Reduction::Sum, Reduction::Max, Reduction::Min, Reduction::Prod, Reduction::L1, Reduction::SumSquare]
    {
        for dtype in
            [DType::I64, DType::I32, DType::I8, DType::U8, DType::I16, DType::U16, DType::U32, DType::U64]
        {
            let label = reduction.name().to_lowercase();
            cases.op_of(format!("{label}/{dtype}"), op(reduction, &[1], false), dtype, &[&[4, 9]]);
            cases.op_of(format!("{label}/{dtype}_nothing"), op(reduction, &[1], false), dtype, &[&[4, 0]]);
        }
    }
    for reduction in [Reduction::Any, Reduction::All] {
        let label = reduction.name().to_lowercase();
        cases.op_of(format!("{label}/rows"), op(reduction, &[1], false), DType::Bool, &[&[9, 3]]);
        cases.op_of(format!("{label}/nothing"), op(reduction, &[1], true), DType::Bool, &[&[2, 0]]);
    }
    cases.op("reducesum/long", op(Reduction::Sum, &[1], false), &[&[2, 1000]]);
    cases.op("reducemax/long", op(Reduction::Max, &[0], false), &[&[1000]]);
    arg_reduce(cases);
}

fn arg_reduce(cases: &mut Cases) {
    for (max, last) in [(true, false), (true, true), (false, false), (false, true)] {
        let label = format!("arg{}_{}", if max { "max" } else { "min" }, if last { "last" } else { "first" });
        let op = |axis, keep_dims| Op::ArgReduce { max, axis, keep_dims, last };
        cases.op(format!("{label}/rows"), op(1, false), &[&[4, 9]]);
        cases.op(format!("{label}/columns"), op(0, true), &[&[4, 9]]);
        cases.op(format!("{label}/middle"), op(1, false), &[&[3, 5, 4]]);
        cases.op(format!("{label}/vector"), op(0, false), &[&[7]]);
        cases.op(format!("{label}/no_rows"), op(1, false), &[&[0, 4]]);
        let ties = tensor(
            &[3, 5],
            &[1.0f32, 3.0, 3.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -1.0, -2.0, -1.5],
        );
        cases.op_on(format!("{label}/ties"), op(1, false), ties);
        let special = tensor(
            &[4, 3],
            &[
                1.0,
                f32::NAN,
                f32::INFINITY,
                f32::NEG_INFINITY,
                f32::NEG_INFINITY,
                f32::NEG_INFINITY,
                f32::NAN,
                f32::NAN,
                0.0,
                f32::INFINITY,
                f32::NEG_INFINITY,
                f32::INFINITY,
            ],
        );
        cases.op_on(format!("{label}/special"), op(1, false), special);
        for dtype in other_numbers() {
            cases.op_of(format!("{label}/{dtype}"), op(1, false), dtype, &[&[3, 8]]);
        }
    }
}
