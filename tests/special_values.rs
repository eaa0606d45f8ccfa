//! NaN, infinities, signed zeros and denormal numbers, through ONNX operators: evaluator and compiled code, alone and
//! fused with what stands before and after, at every vector width that the CPU has.

mod common;

use common::onnx::*;
use nestjit::graph::{Precision, evaluate};
use nestjit::machine::{Isa, MachineModel};
use nestjit::onnx::proto::tensor_proto::DataType::{self, Float, Int32, Int64};
use nestjit::onnx::proto::{ModelProto, NodeProto};
use nestjit::{Compiler, Model, Tensor};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

/// Each pair of two is tried. The count is odd, so that vectors have a rest.
const VALUES: [f32; 19] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    -8.0,
    3.0,
    INF,
    -INF,
    NAN,
    1e-42,
    -1e-42,
    f32::MAX,
    f32::MIN,
    1e-38,
];

/// How a result must agree with what is expected.
#[derive(Clone, Copy, PartialEq)]
enum Agreement {
    /// In every bit, but for those of NaN.
    Bits,
    /// Zeros may have either sign: the reference's depends on the order of operands, and so does a vector's.
    Zeros,
    /// To rounding.
    Near,
}
use Agreement::{Bits, Near, Zeros};

fn agrees(actual: f32, expected: f32, how: Agreement) -> bool {
    match how {
        _ if expected.is_nan() => actual.is_nan(),
        Bits => actual.to_bits() == expected.to_bits(),
        Zeros => actual == expected,
        Near => actual == expected || (actual - expected).abs() <= 3e-6 * expected.abs().max(1e-30),
    }
}

/// The first output of a model by every way to compute it, with the name of the way.
fn everywhere(model: ModelProto, inputs: &[Tensor]) -> Vec<(String, Tensor)> {
    let model: Model = import(model).unwrap().into();
    let mut results =
        vec![("evaluator".to_owned(), evaluate(&model.graph, inputs, Precision::F32).unwrap().remove(0))];
    for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512] {
        if MachineModel::host(Some(isa)).is_err() {
            continue;
        }
        for fused in [true, false] {
            let compiler = Compiler::new().threads(1).isa(isa);
            let compiler = if fused { compiler } else { compiler.disable_pass("OpFusion") };
            let output = compiler.compile(&model).unwrap().run(inputs).unwrap().remove(0);
            results.push((format!("{} fused {fused}", isa.name()), output));
        }
    }
    results
}

/// A model that applies a node to `a` and `b` (or to `a`), in two ways: alone, and between products with an input of
/// ones, which change nothing.
fn models(node: &NodeProto, dtype: DataType, n: usize) -> [ModelProto; 2] {
    let n = n.to_string();
    let inputs = || ["a", "b", "one"].map(|name| declared(name, dtype, &[&n])).to_vec();
    let two = node.input.len() > 1;
    let rename = |mut node: NodeProto, names: [&str; 2], output: &str| {
        node.input[0] = names[0].into();
        if two {
            node.input[1] = names[1].into();
        }
        node.output = vec![output.into()];
        node
    };
    let alone = graph_of(inputs(), vec![rename(node.clone(), ["a", "b"], "y")], &["y"]);
    let between = vec![
        times_one("a", "p"),
        times_one("b", "q"),
        rename(node.clone(), ["p", "q"], "r"),
        times_one("r", "y"),
    ];
    [model_of(alone), model_of(graph_of(inputs(), between, &["y"]))]
}

fn times_one(from: &str, to: &str) -> NodeProto {
    node("Mul", &[from, "one"], &[to])
}

fn pairs() -> (Vec<f32>, Vec<f32>) {
    VALUES.iter().flat_map(|a| VALUES.iter().map(move |b| (*a, *b))).unzip()
}

/// The failures of a node that should compute `expected` of each pair.
fn check(node: &NodeProto, how: Agreement, expected: impl Fn(f32, f32) -> f32) -> Vec<String> {
    let (a, b) = pairs();
    let n = a.len();
    let inputs = [a.clone(), b.clone(), vec![1.0; n]].map(|v| Tensor::new(&[n], &v).unwrap());
    let mut wrong = Vec::new();
    for (which, model) in models(node, Float, n).into_iter().enumerate() {
        for (way, output) in everywhere(model, &inputs) {
            let y = output.values::<f32>().unwrap();
            let bad = (0..n).find(|i| !agrees(y[*i], expected(a[*i], b[*i]), how));
            wrong.extend(bad.map(|i| {
                let (op, attributes) =
                    (node.op_type(), node.attribute.iter().map(|a| a.i()).collect::<Vec<_>>());
                let (x, e) = ((a[i], b[i]), expected(a[i], b[i]));
                format!("{op} {attributes:?} of {x:?}, {way}, model {which}: {} instead of {e}", y[i])
            }));
        }
    }
    wrong
}

#[track_caller]
fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn functions_of_one_operand() {
    let one = |op: &str| node(op, &["a"], &["y"]);
    let keeps_nan = |f: fn(f32) -> f32| move |x: f32, _: f32| if x.is_nan() { NAN } else { f(x) };
    assert_none(
        [
            check(&one("Relu"), Zeros, keeps_nan(|x| x.max(0.0))),
            check(&one("Abs"), Bits, |x, _| x.abs()),
            check(&one("Neg"), Bits, |x, _| -x),
            check(&one("Floor"), Bits, |x, _| x.floor()),
            check(&one("Ceil"), Bits, |x, _| x.ceil()),
            check(&one("Round"), Bits, |x, _| x.round_ties_even()),
            check(&one("Sign"), Zeros, keeps_nan(|x| if x == 0.0 { 0.0 } else { x.signum() })),
            check(&one("Sqrt"), Bits, |x, _| x.sqrt()),
            check(&one("Reciprocal"), Bits, |x, _| 1.0 / x),
            check(&one("Exp"), Near, |x, _| x.exp()),
            check(&one("Log"), Near, |x, _| x.ln()),
            check(&one("Tanh"), Near, |x, _| x.tanh()),
            check(&one("Sigmoid"), Near, |x, _| (1.0 / (1.0 + f64::from(-x).exp())) as f32),
            check(
                &one("Softplus"),
                Near,
                keeps_nan(|x| (f64::from(-x.abs()).exp().ln_1p() + f64::from(x.max(0.0))) as f32),
            ),
            check(&one("Identity"), Bits, |x, _| x),
            check(
                &with(one("LeakyRelu"), float("alpha", 0.5)),
                Zeros,
                |x, _| if x < 0.0 { 0.5 * x } else { x },
            ),
            check(&with(one("Elu"), float("alpha", 1.0)), Near, |x, _| if x < 0.0 { x.exp_m1() } else { x }),
        ]
        .concat(),
    );
}

#[test]
fn functions_of_two_operands() {
    let two = |op: &str| node(op, &["a", "b"], &["y"]);
    let nan = |a: f32, b: f32| a.is_nan() || b.is_nan();
    assert_none(
        [
            check(&two("Max"), Zeros, move |a, b| if nan(a, b) { NAN } else { a.max(b) }),
            check(&two("Min"), Zeros, move |a, b| if nan(a, b) { NAN } else { a.min(b) }),
            check(&two("Add"), Bits, |a, b| a + b),
            check(&two("Sub"), Bits, |a, b| a - b),
            check(&two("Mul"), Bits, |a, b| a * b),
            check(&two("Div"), Bits, |a, b| a / b),
            check(&two("Pow"), Near, |a, b| f64::from(a).powf(f64::from(b)) as f32),
            check(&with(two("Mod"), int("fmod", 1)), Bits, |a, b| a % b),
            check(&two("PRelu"), Zeros, |a, b| if a < 0.0 { a * b } else { a }),
        ]
        .concat(),
    );
}

#[test]
fn clipping_keeps_nan() {
    let clip = |low: f32, high: f32| {
        let limits = vec![f32s("low", &[], &[low]), f32s("high", &[], &[high])];
        let before = node("Exp", &["x"], &["t"]);
        let alone = model(&["19"], vec![node("Clip", &["x", "low", "high"], &["y"])], limits.clone());
        let fused =
            vec![before, node("Clip", &["x", "low", "high"], &["u"]), node("Mul", &["t", "u"], &["v"])];
        let fused = [fused, vec![node("Div", &["v", "t"], &["y"])]].concat();
        (alone, model(&["19"], fused, limits))
    };
    for (low, high) in [(-1.0, 1.0), (0.0, 6.0), (-INF, INF), (2.0, -2.0), (0.0, INF), (1e-42, 1.0)] {
        let x = Tensor::new(&[19], &VALUES).unwrap();
        for (way, output) in everywhere(clip(low, high).0, std::slice::from_ref(&x)) {
            for (x, y) in VALUES.iter().zip(output.values::<f32>().unwrap()) {
                let expected = if x.is_nan() { NAN } else { x.max(low).min(high) };
                assert!(agrees(*y, expected, Zeros), "{way}: {x} between {low} and {high}: {y}");
            }
        }
        for (way, output) in everywhere(clip(low, high).1, &[x]) {
            assert!(output.values::<f32>().unwrap()[13].is_nan(), "{way}");
        }
    }
}

/// Comparisons and tests, as truth values and as a choice.
#[test]
fn nan_equals_nothing() {
    let (a, b) = pairs();
    let n = a.len();
    let dims = n.to_string();
    let compare = |op: &str, inverted: bool| {
        let mut nodes = vec![node(op, &["a", "b"], &["c"])];
        if inverted {
            nodes.push(node("Not", &["c"], &["d"]));
        }
        nodes.push(node("Where", &[if inverted { "d" } else { "c" }, "a", "b"], &["y"]));
        model_of(graph_of(["a", "b"].map(|i| declared(i, Float, &[&dims])).to_vec(), nodes, &["y"]))
    };
    let inputs = [a.clone(), b.clone()].map(|v| Tensor::new(&[n], &v).unwrap());
    type Comparison = fn(&f32, &f32) -> bool;
    let cases: [(&str, Comparison); 5] = [
        ("Less", |a, b| a < b),
        ("LessOrEqual", |a, b| a <= b),
        ("Greater", |a, b| a > b),
        ("GreaterOrEqual", |a, b| a >= b),
        ("Equal", |a, b| a == b),
    ];
    for (op, holds) in cases {
        for inverted in [false, true] {
            for (way, output) in everywhere(compare(op, inverted), &inputs) {
                for (i, y) in output.values::<f32>().unwrap().iter().enumerate() {
                    let expected = if holds(&a[i], &b[i]) != inverted { a[i] } else { b[i] };
                    assert!(agrees(*y, expected, Bits), "{op} {inverted} {way}: {} and {}: {y}", a[i], b[i]);
                }
            }
        }
    }
    for (op, holds) in [("IsNaN", f32::is_nan as fn(f32) -> bool), ("IsInf", f32::is_infinite)] {
        let nodes = vec![node(op, &["x"], &["c"]), with(node("Cast", &["c"], &["y"]), int("to", 1))];
        for (way, output) in
            everywhere(model(&["19"], nodes, vec![]), &[Tensor::new(&[19], &VALUES).unwrap()])
        {
            for (x, y) in VALUES.iter().zip(output.values::<f32>().unwrap()) {
                assert_eq!(*y == 1.0, holds(*x), "{op} {way}: {x}");
            }
        }
    }
}

/// Rows with one NaN, with infinities of both signs, of nothing but -inf, of zeros of both signs, and of denormals.
fn rows(width: usize) -> Vec<Vec<f32>> {
    let row = |special: &[(usize, f32)]| {
        let mut row: Vec<f32> = (0..width).map(|i| (i % 5) as f32 - 2.0).collect();
        special.iter().for_each(|(at, v)| row[*at] = *v);
        row
    };
    vec![
        row(&[(width - 1, NAN)]),
        row(&[(0, NAN), (3, INF)]),
        row(&[(2, INF), (width - 2, -INF)]),
        row(&[(1, -INF)]),
        vec![-INF; width],
        (0..width).map(|i| if i % 2 == 0 { 0.0 } else { -0.0 }).collect(),
        (0..width).map(|i| i as f32 * -1e-42).collect(),
    ]
}

#[test]
fn reductions_see_nan() {
    for width in [4usize, 23, 64] {
        let rows = rows(width);
        let data = rows.concat();
        let dims = [rows.len().to_string(), width.to_string()];
        let x = Tensor::new(&[rows.len(), width], &data).unwrap();
        let reduce = |op: &str, last: bool| {
            let n = with(node(op, &["x"], &["y"]), ints("axes", &[if last { 1 } else { 0 }]));
            in_opset(model(&[&dims[0], &dims[1]], vec![n], vec![]), 11)
        };
        type Fold = fn(f32, f32) -> f32;
        let folds: [(&str, Fold); 3] = [
            ("ReduceMax", |a, b| if a.is_nan() || b.is_nan() { NAN } else { a.max(b) }),
            ("ReduceMin", |a, b| if a.is_nan() || b.is_nan() { NAN } else { a.min(b) }),
            ("ReduceSum", |a, b| a + b),
        ];
        for (op, fold) in folds {
            let start = if op == "ReduceSum" { 0.0 } else { NAN };
            let of = |values: &mut dyn Iterator<Item = f32>| match start {
                0.0 => values.fold(0.0, fold),
                _ => values.reduce(fold).unwrap(),
            };
            let along_rows: Vec<f32> = rows.iter().map(|r| of(&mut r.iter().copied())).collect();
            let along_columns: Vec<f32> = (0..width).map(|c| of(&mut rows.iter().map(|r| r[c]))).collect();
            for (last, expected) in [(true, along_rows), (false, along_columns)] {
                for (way, output) in everywhere(reduce(op, last), std::slice::from_ref(&x)) {
                    for (i, (y, e)) in output.values::<f32>().unwrap().iter().zip(&expected).enumerate() {
                        assert!(agrees(*y, *e, Zeros), "{op} {width} {way}, {i}: {y} instead of {e}");
                    }
                }
            }
        }
        // The first NaN is the largest and the smallest.
        for (op, better) in [("ArgMax", f32::gt as fn(&f32, &f32) -> bool), ("ArgMin", f32::lt)] {
            let best = |row: &Vec<f32>| {
                let nan = row.iter().position(|v| v.is_nan());
                nan.unwrap_or_else(|| {
                    (0..width).reduce(|a, b| if better(&row[b], &row[a]) { b } else { a }).unwrap()
                })
            };
            let n = with(with(node(op, &["x"], &["y"]), int("axis", 1)), int("keepdims", 0));
            for (way, output) in
                everywhere(model(&[&dims[0], &dims[1]], vec![n], vec![]), std::slice::from_ref(&x))
            {
                let expected: Vec<i64> = rows.iter().map(|row| best(row) as i64).collect();
                assert_eq!(output.values::<i64>().unwrap(), expected, "{op} {width} {way}");
            }
        }
        let softmax = with(node("Softmax", &["x"], &["y"]), int("axis", -1));
        for (way, output) in everywhere(model(&[&dims[0], &dims[1]], vec![softmax], vec![]), &[x]) {
            for (row, y) in rows.iter().zip(output.values::<f32>().unwrap().chunks(width)) {
                let max = row.iter().copied().fold(-INF, f32::max);
                let lost = row.iter().any(|v| v.is_nan()) || max.is_infinite();
                assert_eq!(y.iter().all(|v| v.is_nan()), lost, "{way}: {row:?}: {y:?}");
                let sum: f32 = y.iter().sum();
                assert!(lost || (sum - 1.0).abs() < 1e-5, "{way}: {row:?}: {y:?}");
                let gone = row.iter().zip(y).all(|(x, y)| *x != -INF || *y == 0.0);
                assert!(lost || gone, "{way}: {row:?}: {y:?}");
            }
        }
    }
}

#[test]
fn pools_see_nan() {
    let mut image: Vec<f32> = (0..64).map(|i| (i % 7) as f32 - 3.0).collect();
    (image[10], image[30], image[63], image[40]) = (NAN, INF, -INF, -0.0);
    let pool =
        with(with(node("MaxPool", &["x"], &["y"]), ints("kernel_shape", &[3, 3])), ints("pads", &[1; 4]));
    let x = Tensor::new(&[1, 1, 8, 8], &image).unwrap();
    for (way, output) in everywhere(model(&["1", "1", "8", "8"], vec![pool], vec![]), &[x]) {
        for (at, y) in output.values::<f32>().unwrap().iter().enumerate() {
            let (row, column) = (at as i64 / 8, at as i64 % 8);
            let window = (row - 1..row + 2).flat_map(|r| (column - 1..column + 2).map(move |c| (r, c)));
            let inside = window.filter(|(r, c)| (0..8).contains(r) && (0..8).contains(c));
            let expected = inside
                .map(|(r, c)| image[(r * 8 + c) as usize])
                .reduce(|a, b| if a.is_nan() || b.is_nan() { NAN } else { a.max(b) });
            assert!(agrees(*y, expected.unwrap(), Zeros), "{way}, {at}: {y} instead of {expected:?}");
        }
    }
}

/// Integers wrap round; conversions of numbers that do not fit end at the nearest that does, and NaN at 0.
#[test]
fn integers_at_their_ends() {
    let ends = [i32::MIN, i32::MAX, -1, 0, 1, 2, -7];
    let (a, b): (Vec<i32>, Vec<i32>) = ends.iter().flat_map(|a| ends.iter().map(move |b| (*a, *b))).unzip();
    let n = a.len();
    type Narrow = fn(i32, i32) -> i32;
    type Wide = fn(i64, i64) -> i64;
    let cases: [(&str, Narrow, Wide); 6] = [
        ("Add", i32::wrapping_add, i64::wrapping_add),
        ("Sub", i32::wrapping_sub, i64::wrapping_sub),
        ("Mul", i32::wrapping_mul, i64::wrapping_mul),
        ("Max", Ord::max, Ord::max),
        ("Neg", |a, _| a.wrapping_neg(), |a, _| a.wrapping_neg()),
        ("Abs", |a, _| a.wrapping_abs(), |a, _| a.wrapping_abs()),
    ];
    for (op, narrow, wide) in cases {
        let operands: &[&str] = if matches!(op, "Neg" | "Abs") { &["a"] } else { &["a", "b"] };
        let n32 = [&a, &b, &vec![1; n]].map(|v| Tensor::new(&[n], v).unwrap());
        for model in models(&node(op, operands, &["y"]), Int32, n) {
            for (way, output) in everywhere(model, &n32) {
                let expected: Vec<i32> = a.iter().zip(&b).map(|(a, b)| narrow(*a, *b)).collect();
                assert_eq!(output.values::<i32>().unwrap(), expected, "{op} {way}");
            }
        }
        let long = |v: &[i32]| -> Vec<i64> {
            let widen = |v: &i32| match *v {
                i32::MIN => i64::MIN,
                i32::MAX => i64::MAX,
                v => i64::from(v),
            };
            v.iter().map(widen).collect()
        };
        let (a, b) = (long(&a), long(&b));
        let n64 = [&a, &b, &vec![1; n]].map(|v| Tensor::new(&[n], v).unwrap());
        for model in models(&node(op, operands, &["y"]), Int64, n) {
            for (way, output) in everywhere(model, &n64) {
                let expected: Vec<i64> = a.iter().zip(&b).map(|(a, b)| wide(*a, *b)).collect();
                assert_eq!(output.values::<i64>().unwrap(), expected, "{op} {way}");
            }
        }
    }
}

#[test]
fn conversions_of_what_does_not_fit() {
    let cast = |to: DataType| {
        let n = with(node("Cast", &["x"], &["y"]), int("to", to as i64));
        model(&["19"], vec![n], vec![])
    };
    let x = || [Tensor::new(&[19], &VALUES).unwrap()];
    for (way, output) in everywhere(cast(Int32), &x()) {
        let expected: Vec<i32> = VALUES.iter().map(|v| *v as i32).collect();
        assert_eq!(output.values::<i32>().unwrap(), expected, "{way}");
    }
    for (way, output) in everywhere(cast(Int64), &x()) {
        let expected: Vec<i64> = VALUES.iter().map(|v| *v as i64).collect();
        assert_eq!(output.values::<i64>().unwrap(), expected, "{way}");
    }
    for (way, output) in everywhere(cast(DataType::Bool), &x()) {
        let expected: Vec<bool> = VALUES.iter().map(|v| *v != 0.0).collect();
        assert_eq!(output.values::<bool>().unwrap(), expected, "{way}: NaN and denormals are true");
    }
    for to in [DataType::Uint8, DataType::Int8] {
        let all = everywhere(cast(to), &x());
        let (_, first) = &all[0];
        assert!(all.iter().all(|(_, output)| output == first), "{all:?}");
    }
}

/// Modulo has the sign of the divisor, with `fmod` that of the dividend.
#[test]
fn the_sign_of_a_remainder() {
    let a: Vec<i64> = vec![7, -7, 7, -7, 6, -6, 0, 0];
    let b: Vec<i64> = vec![3, 3, -3, -3, 3, -3, 3, -3];
    let cases: [(i64, [i64; 8]); 2] = [(0, [1, 2, -2, -1, 0, 0, 0, 0]), (1, [1, -1, 1, -1, 0, 0, 0, 0])];
    for (fmod, expected) in cases {
        let n = with(node("Mod", &["a", "b"], &["y"]), int("fmod", fmod));
        let inputs = [a.clone(), b.clone(), vec![1; 8]].map(|v| Tensor::new(&[8], &v).unwrap());
        for m in models(&n, Int64, 8) {
            for (way, output) in everywhere(m, &inputs) {
                assert_eq!(output.values::<i64>().unwrap(), expected, "{way}, fmod {fmod}");
            }
        }
    }
}
