//! Half types: every operator's result is rounded once, however it is fused, and in every encoding a tensor is what it says.

use nestjit::ir::Role;
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::{NodeProto, TensorProto};
use nestjit::{Compiler, DType, Element, ErrorKind, Tensor, bf16, f16};

use super::common::onnx::*;
use super::{assert_gives, single};

fn halves(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(shape, &values.iter().map(|v| f16::from_f32(*v)).collect::<Vec<_>>()).unwrap()
}

fn bytes<T: Element>(values: &[T]) -> Vec<u8> {
    Tensor::new(&[values.len()], values).unwrap().bytes().unwrap().to_vec()
}

/// The result of nodes on one input `x` and `y`, if any way to compute it yields the same bits.
fn exactly(nodes: Vec<NodeProto>, x: &Tensor, initializer: Vec<TensorProto>) -> Tensor {
    let data_type = if x.dtype() == DType::F16 { DataType::Float16 } else { DataType::Bfloat16 };
    let dims: Vec<String> = x.shape().iter().map(usize::to_string).collect();
    let input = declared("x", data_type, &dims.iter().map(String::as_str).collect::<Vec<_>>());
    let mut graph = graph_of(vec![input], nodes, &["y"]);
    graph.initializer = initializer;
    let graph = import(in_opset(model_of(graph), 20)).unwrap();
    let results = [true, false].map(|fused| {
        let compiler = Compiler::new().threads(1);
        let compiler = if fused { compiler } else { compiler.disable_pass("OpFusion") };
        let executable = compiler.compile(&graph.clone().into()).unwrap();
        executable.run(std::slice::from_ref(x)).unwrap().remove(0)
    });
    let [fused, unfused] = results;
    assert_eq!(fused.bytes().unwrap(), unfused.bytes().unwrap());
    fused
}

#[test]
fn every_result_of_a_chain_is_rounded() {
    let x: Vec<f32> = (0..37).map(|i| (i as f32 - 11.0) * 1.37).collect();
    let chain = || {
        vec![
            node("Add", &["x", "a"], &["s"]),
            node("Mul", &["s", "s"], &["p"]),
            node("Div", &["p", "a"], &["q"]),
            node("Sub", &["q", "x"], &["y"]),
        ]
    };
    macro_rules! check {
        ($t:ty, $data_type:expr) => {
            let half = <$t>::from_f32;
            let x: Vec<$t> = x.iter().map(|v| half(*v)).collect();
            let a = half(0.3);
            let constant = TensorProto {
                name: Some("a".into()),
                data_type: Some($data_type as i32),
                raw_data: Some(bytes(&[a]).into()),
                ..TensorProto::default()
            };
            let expected: Vec<$t> = x
                .iter()
                .map(|x| {
                    let s = half(x.to_f32() + a.to_f32());
                    let q = half(half(s.to_f32() * s.to_f32()).to_f32() / a.to_f32());
                    half(q.to_f32() - x.to_f32())
                })
                .collect();
            let y = exactly(chain(), &Tensor::new(&[37], &x).unwrap(), vec![constant]);
            assert_eq!(y.values::<$t>().unwrap(), expected);
        };
    }
    check!(f16, DataType::Float16);
    check!(bf16, DataType::Bfloat16);
}

#[test]
fn sums_are_kept_in_f32() {
    // In halves the sum would stop at 2048, and that of squares at infinity.
    let x = halves(&[1, 4096], &[1.0; 4096]);
    let sum = vec![node("ReduceSum", &["x"], &["s"]), node("Sqrt", &["s"], &["y"])];
    assert_eq!(exactly(sum, &x, vec![]).values::<f16>().unwrap(), [f16::from_f32(64.0)]);
    let large = halves(&[1, 4], &[60000.0; 4]);
    let norm = vec![node("ReduceL2", &["x"], &["s"]), node("Neg", &["s"], &["y"])];
    assert_eq!(exactly(norm, &large, vec![]).values::<f16>().unwrap(), [f16::NEG_INFINITY]);
    let mean = vec![node("ReduceMean", &["x"], &["s"]), node("Neg", &["s"], &["y"])];
    assert_eq!(exactly(mean, &large, vec![]).values::<f16>().unwrap(), [f16::from_f32(-60000.0)]);
    // So are operators of several steps.
    let mean = vec![node("Mean", &["x", "x", "x"], &["s"]), node("Neg", &["s"], &["y"])];
    assert!(exactly(mean, &large, vec![]).values::<f16>().unwrap().iter().all(|v| v.to_f32() == -60000.0));
}

#[test]
fn casts_round_once_and_saturate() {
    let cast = |to: DataType| with(node("Cast", &["x"], &["y"]), int("to", to as i64));
    let half_of = |values: &[u16]| values.iter().map(|b| f16::from_bits(*b)).collect::<Vec<_>>();
    let doubles =
        [1.0 + 1.0 / 2048.0 + 1e-12, 1.0 + 1.0 / 2048.0, 65519.999, 65520.0, -1e300, 2.9e-8, 6.2e-8];
    let expected = half_of(&[0x3c01, 0x3c00, 0x7bff, 0x7c00, 0xfc00, 0x0000, 0x0001]);
    assert_gives(
        single(13, cast(DataType::Float16), &[("x", DataType::Double, &[7])], vec![]),
        &[Tensor::new(&[7], &doubles).unwrap()],
        &[Tensor::new(&[7], &expected).unwrap()],
        0.0,
    );
    let integers = [(1i64 << 62) + (1 << 54) + 1, (1 << 62) + (1 << 54), i64::MIN, 257, -1];
    let expected: Vec<bf16> = [0x5e81u16, 0x5e80, 0xdf00, 0x4380, 0xbf80].map(bf16::from_bits).to_vec();
    assert_gives(
        single(13, cast(DataType::Bfloat16), &[("x", DataType::Int64, &[5])], vec![]),
        &[Tensor::new(&[5], &integers).unwrap()],
        &[Tensor::new(&[5], &expected).unwrap()],
        0.0,
    );
    let x = halves(&[5], &[300.7, -1.5, f32::NAN, f32::INFINITY, 0.99]);
    assert_gives(
        single(13, cast(DataType::Uint8), &[("x", DataType::Float16, &[5])], vec![]),
        &[x],
        &[Tensor::new(&[5], &[255u8, 0, 0, 255, 0]).unwrap()],
        0.0,
    );
}

#[test]
fn halves_are_stored_as_bits_raw_or_in_32_bits_each() {
    let values = [1.5f32, -0.25, 65504.0];
    for raw in [true, false] {
        let mut w = TensorProto {
            name: Some("w".into()),
            dims: vec![3],
            data_type: Some(DataType::Float16 as i32),
            ..TensorProto::default()
        };
        let halves_of = values.map(f16::from_f32);
        match raw {
            true => w.raw_data = Some(bytes(&halves_of).into()),
            false => w.int32_data = halves_of.iter().map(|v| i32::from(v.to_bits())).collect(),
        }
        let model = single(13, node("Add", &["x", "w"], &["y"]), &[("x", DataType::Float16, &[3])], vec![w]);
        assert_gives(model, &[halves(&[3], &[0.0; 3])], &[halves(&[3], &values)], 0.0);
    }
    let outside = TensorProto {
        name: Some("w".into()),
        dims: vec![1],
        data_type: Some(DataType::Bfloat16 as i32),
        int32_data: vec![0x10000],
        ..TensorProto::default()
    };
    let model =
        single(13, node("Add", &["x", "w"], &["y"]), &[("x", DataType::Bfloat16, &[1])], vec![outside]);
    let (kind, message) = refusal(model);
    assert!(kind == ErrorKind::Invalid && message.contains("an element is outside the range"), "{message}");
}

#[test]
fn large_weights_stay_halves_and_are_converted_where_they_are_used() {
    let (rows, columns) = (1024usize, 640usize);
    let weights: Vec<f16> =
        (0..rows * columns).map(|i| f16::from_f32((i % 23) as f32 / 16.0 - 0.7)).collect();
    let w = TensorProto {
        name: Some("w".into()),
        dims: vec![rows as i64, columns as i64],
        data_type: Some(DataType::Float16 as i32),
        raw_data: Some(bytes(&weights).into()),
        ..TensorProto::default()
    };
    let nodes = vec![
        with(node("Cast", &["w"], &["wide"]), int("to", DataType::Float as i64)),
        node("MatMul", &["x", "wide"], &["y"]),
    ];
    let mut graph = graph_of(vec![declared("x", DataType::Float, &["1", "1024"])], nodes, &["y"]);
    graph.initializer = vec![w];
    let graph = import(in_opset(model_of(graph), 20)).unwrap();
    let executable = Compiler::new().threads(1).compile(&graph.into()).unwrap();
    let program = executable.program();
    let constants = program.buffers.iter().filter(|b| b.role == Role::Const);
    let constants: Vec<_> = constants.map(|b| (b.dtype, b.len())).collect();
    assert_eq!(constants, [(DType::F16, rows * columns)], "{program}");
    let x: Vec<f32> = (0..rows).map(|i| (i % 7) as f32 - 3.0).collect();
    let y = executable.run(&[Tensor::new(&[1, rows], &x).unwrap()]).unwrap();
    let expected: Vec<f64> = (0..columns)
        .map(|m| (0..rows).map(|k| f64::from(x[k]) * weights[k * columns + m].to_f64()).sum())
        .collect();
    for (y, expected) in y[0].values::<f32>().unwrap().iter().zip(expected) {
        assert!((f64::from(*y) - expected).abs() < 1e-2, "{y} {expected}");
    }
}

#[test]
fn operands_of_products_that_come_with_the_run_are_converted_once() {
    let (n, k, m) = (9usize, 33, 20);
    let of = |n: usize, f: fn(usize) -> f32| (0..n).map(|i| f16::from_f32(f(i))).collect::<Vec<_>>();
    let (a, b) = (of(n * k, |i| (i % 13) as f32 / 8.0 - 0.7), of(k * m, |i| (i % 11) as f32 / 4.0 - 1.2));
    let expected: Vec<f16> = (0..n * m)
        .map(|at| {
            let products = (0..k).map(|i| a[at / m * k + i].to_f64() * b[i * m + at % m].to_f64());
            f16::from_f64(products.sum())
        })
        .collect();
    let inputs = [("a", DataType::Float16, &[n, k][..]), ("b", DataType::Float16, &[k, m])];
    let model = single(13, node("MatMul", &["a", "b"], &["y"]), &inputs, vec![]);
    let inputs = [Tensor::new(&[n, k], &a).unwrap(), Tensor::new(&[k, m], &b).unwrap()];
    assert_gives(model.clone(), &inputs, &[Tensor::new(&[n, m], &expected).unwrap()], 0.0);
    let graph = import(model).unwrap();
    let executable = Compiler::new().threads(1).disable_pass("OpFusion").compile(&graph.into()).unwrap();
    let temps = executable.program().buffers.iter().filter(|b| b.role == Role::Temp);
    assert_eq!(temps.filter(|b| b.dtype == DType::F32).count(), 2, "{}", executable.program());
}

#[test]
fn the_quotient_of_a_quantisation_has_the_type_of_the_scale_or_the_one_asked_for() {
    let (x, scale) = (f16::from_f32(50.62), f16::from_f32(0.48));
    let scales = |data_type: DataType, raw: Vec<u8>| TensorProto {
        name: Some("s".into()),
        data_type: Some(data_type as i32),
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    };
    let halves = || scales(DataType::Float16, bytes(&[scale]));
    let floats = || scales(DataType::Float, bytes(&[scale.to_f32()]));
    let quantise = |precision: Option<DataType>| {
        let node = node("QuantizeLinear", &["x", "s"], &["y"]);
        match precision {
            Some(precision) => with(node, int("precision", precision as i64)),
            None => node,
        }
    };
    let (half, wide) = (DataType::Float16, DataType::Float);
    // The quotient is 105.473, as a half 105.5.
    for (opset, of_x, scale, precision, expected) in [
        (19, half, halves(), None, 106u8),
        (21, half, halves(), None, 106),
        (23, half, halves(), None, 106),
        (23, half, halves(), Some(wide), 105),
        (23, half, floats(), None, 105),
        (23, wide, floats(), Some(half), 106),
        (19, wide, floats(), None, 105),
    ] {
        let input = if of_x == half { Tensor::new(&[1], &[x]) } else { Tensor::new(&[1], &[x.to_f32()]) };
        let model = single(opset, quantise(precision), &[("x", of_x, &[1])], vec![scale]);
        assert_gives(model, &[input.unwrap()], &[Tensor::new(&[1], &[expected]).unwrap()], 0.0);
    }
}
