//! `int4` and `uint4`: elements are numbers of `i8` and `u8`, two of them in a byte of a file.

use nestjit::graph::Op;
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use nestjit::{Compiler, ErrorKind, Tensor};

use super::common::onnx::*;
use super::{assert_gives, floats, noise, single};

/// A tensor of four-bit numbers: as raw bytes, or in 32 bits for each two.
fn nibbles(name: &str, dtype: DataType, dims: &[i64], values: &[i32], raw: bool) -> TensorProto {
    let byte = |pair: &[i32]| (pair[0] & 15 | pair.get(1).map_or(0, |v| v << 4) & 0xf0) as u8;
    let bytes: Vec<u8> = values.chunks(2).map(byte).collect();
    match raw {
        true => TensorProto { raw_data: Some(bytes.into()), ..empty(name, dtype, dims) },
        false => TensorProto {
            int32_data: bytes.iter().map(|b| i32::from(*b)).collect(),
            ..empty(name, dtype, dims)
        },
    }
}

/// Nodes one after the other, the last of which makes `y`.
fn chain(
    inputs: &[(&str, DataType, &[usize])],
    nodes: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
) -> ModelProto {
    let mut model = single(23, nodes[0].clone(), inputs, Vec::new());
    let graph = model.graph.as_mut().unwrap();
    *graph = GraphProto { node: nodes, initializer, output: vec![named("y")], ..graph.clone() };
    model
}

fn to(number: DataType, x: &str, y: &str) -> NodeProto {
    with(node("Cast", &[x], &[y]), int("to", i64::from(number as i32)))
}

#[test]
fn numbers_move_and_become_others() {
    let values = [-8, 7, 0, -1, 3, -5, 6, 1, -2];
    for raw in [true, false] {
        let w = nibbles("w", DataType::Int4, &[3, 3], &values, raw);
        let nodes = vec![
            with(node("Transpose", &["w"], &["t"]), ints("perm", &[1, 0])),
            with(node("Gather", &["t", "i"], &["g"]), int("axis", 0)),
            node("Reshape", &["g", "shape"], &["r"]),
            to(DataType::Float, "r", "f"),
            node("Add", &["f", "x"], &["y"]),
        ];
        let model = chain(
            &[("x", DataType::Float, &[6])],
            nodes,
            vec![w, i64s("i", &[2], &[2, 0]), i64s("shape", &[1], &[6])],
        );
        let expected = Tensor::new(&[6], &[0f32, -5.0, -2.0, -8.0, -1.0, 6.0]).unwrap();
        let x = Tensor::new(&[6], &[0f32; 6]).unwrap();
        assert_gives(model, &[x], &[expected], 0.0);
    }
    // Eight bits count again where they are asked for.
    let w = nibbles("w", DataType::Uint4, &[3], &[15, 0, 9], true);
    let nodes = vec![to(DataType::Uint8, "w", "b"), node("Add", &["b", "x"], &["y"])];
    let expected = Tensor::new(&[3], &[25u8, 10, 19]).unwrap();
    let x = Tensor::new(&[3], &[10u8; 3]).unwrap();
    assert_gives(chain(&[("x", DataType::Uint8, &[3])], nodes, vec![w]), &[x], &[expected], 0.0);
}

#[test]
fn casts_keep_four_bits() {
    let x: Vec<f32> = vec![-9.0, -8.9, -1.0, 0.5, 7.0, 8.0, 15.9, 16.0, 17.0];
    let x = Tensor::new(&[9], &x).unwrap();
    let signed = Tensor::new(&[9], &[7i8, -8, -1, 0, 7, -8, -1, 0, 1]).unwrap();
    let unsigned = Tensor::new(&[9], &[7u8, 8, 15, 0, 7, 8, 15, 0, 1]).unwrap();
    for (dtype, expected) in [(DataType::Int4, signed), (DataType::Uint4, unsigned)] {
        let model = chain(&[("x", DataType::Float, &[9])], vec![to(dtype, "x", "y")], vec![]);
        assert_gives(model, std::slice::from_ref(&x), std::slice::from_ref(&expected), 0.0);
        let like = nibbles("like", dtype, &[1], &[0], true);
        let nodes = vec![node("CastLike", &["x", "like"], &["y"])];
        assert_gives(
            chain(&[("x", DataType::Float, &[9])], nodes, vec![like]),
            std::slice::from_ref(&x),
            &[expected],
            0.0,
        );
    }
    // So do those of an input.
    let x = Tensor::new(&[3], &[9i8, -3, 127]).unwrap();
    let expected = Tensor::new(&[3], &[-7f32, -3.0, -1.0]).unwrap();
    let model = chain(&[("x", DataType::Int4, &[3])], vec![to(DataType::Float, "x", "y")], vec![]);
    assert_gives(model, &[x], &[expected], 0.0);
}

#[test]
fn quantisation_ends_at_the_limits_of_four_bits() {
    let x = Tensor::new(&[6], &[-30f32, -7.0, 0.0, 1.0, 5.0, 40.0]).unwrap();
    let scale = f32s("scale", &[], &[2.0]);
    let signed = Tensor::new(&[6], &[-8i8, -3, 1, 1, 3, 7]).unwrap();
    let zero = nibbles("zero", DataType::Int4, &[], &[1], true);
    let nodes = vec![node("QuantizeLinear", &["x", "scale", "zero"], &["y"])];
    let model = chain(&[("x", DataType::Float, &[6])], nodes, vec![scale.clone(), zero]);
    assert_gives(model, std::slice::from_ref(&x), std::slice::from_ref(&signed), 0.0);
    let fill = with(
        node("ConstantOfShape", &["shape"], &["zero"]),
        tensor("value", nibbles("v", DataType::Int4, &[1], &[1], true)),
    );
    let nodes = vec![fill, node("QuantizeLinear", &["x", "scale", "zero"], &["y"])];
    let shape = i64s("shape", &[0], &[]);
    let model = chain(&[("x", DataType::Float, &[6])], nodes, vec![scale.clone(), shape]);
    assert_gives(model, std::slice::from_ref(&x), &[signed], 0.0);
    let unsigned = Tensor::new(&[6], &[0u8, 0, 0, 0, 2, 15]).unwrap();
    let quantize = node("QuantizeLinear", &["x", "scale"], &["y"]);
    let nodes = vec![with(quantize, int("output_dtype", DataType::Uint4 as i64))];
    let model = chain(&[("x", DataType::Float, &[6])], nodes, vec![scale]);
    assert_gives(model, &[x], &[unsigned], 0.0);
}

/// How the weights of a product are quantised.
#[derive(Clone, Copy, Debug)]
struct Case {
    dtype: DataType,
    k: usize,
    n: usize,
    /// How many elements along K share a scale; all of a column if there is none, all of the matrix if it is 0.
    block: Option<usize>,
    zero: bool,
    /// Whether the weights are `[N, K]`, and transposed by an operator or by `Gemm`.
    transposed: bool,
    gemm: bool,
}

impl Case {
    fn number(&self, k: usize, n: usize) -> i32 {
        let number = ((k * 7 + n * 13 + k * n % 5) % 16) as i32;
        if self.dtype == DataType::Int4 { number - 8 } else { number }
    }

    /// The parameters of the block that an element is in.
    fn parameters(&self, k: usize, n: usize) -> (f64, i32) {
        let (b, n) = match self.block {
            None => (0, n),
            Some(0) => (0, 0),
            Some(block) => (k / block, n),
        };
        let zero = if self.zero { ((b * 3 + n * 5) % 8) as i32 } else { 0 };
        ((1 + (b * 5 + n * 3) % 7) as f64 / 32.0, zero)
    }

    fn check(&self, packed: bool) {
        let Case { dtype, k, n, block, transposed, gemm, .. } = *self;
        let of = |k: usize, n: usize, transposed: bool| -> (Vec<i64>, Vec<(usize, usize)>) {
            let all = |a: usize, b: usize| (0..a).flat_map(move |i| (0..b).map(move |j| (i, j)));
            match transposed {
                true => (vec![n as i64, k as i64], all(n, k).map(|(n, k)| (k, n)).collect()),
                false => (vec![k as i64, n as i64], all(k, n).collect()),
            }
        };
        let (dims, places) = of(k, n, transposed);
        let values: Vec<i32> = places.iter().map(|(k, n)| self.number(*k, *n)).collect();
        let w = nibbles("w", dtype, &dims, &values, true);
        let (dims, places) = match block {
            None => (vec![n as i64], (0..n).map(|n| (0, n)).collect()),
            Some(0) => (vec![], vec![(0, 0)]),
            Some(block) => {
                let (dims, places) = of(k.div_ceil(block), n, transposed);
                (dims, places.iter().map(|(b, n)| (b * block, *n)).collect())
            }
        };
        let scales: Vec<f32> = places.iter().map(|(k, n)| self.parameters(*k, *n).0 as f32).collect();
        let zeros: Vec<i32> = places.iter().map(|(k, n)| self.parameters(*k, *n).1).collect();
        let mut all = vec![w, f32s("scale", &dims, &scales)];
        let mut inputs = vec!["w", "scale"];
        if self.zero {
            all.push(nibbles("zero", dtype, &dims, &zeros, true));
            inputs.push("zero");
        }
        let along = if transposed { 1 } else { 0 };
        let axis = if block.is_none() { 1 - along } else { along };
        let mut dequantize = with(node("DequantizeLinear", &inputs, &["f"]), int("axis", axis));
        if let Some(block) = block.filter(|block| *block > 0) {
            dequantize = with(dequantize, int("block_size", block as i64));
        }
        let mut nodes = vec![dequantize];
        let product = if gemm {
            let product = with(node("Gemm", &["x", "f", "c"], &["y"]), int("transB", i64::from(transposed)));
            all.push(f32s("c", &[n as i64], &vec![0.5; n]));
            product
        } else {
            if transposed {
                nodes.push(with(node("Transpose", &["f"], &["t"]), ints("perm", &[1, 0])));
            }
            node("MatMul", &["x", if transposed { "t" } else { "f" }], &["y"])
        };
        nodes.push(product);
        let model = chain(&[("x", DataType::Float, &[3, k])], nodes, all);
        let x = noise(&[3, k], 1);
        let given = floats(&x);
        let element = |m: usize, n: usize| -> f32 {
            let term = |at: usize| {
                let (scale, zero) = self.parameters(at, n);
                given[m * k + at] * f64::from(self.number(at, n) - zero) * scale
            };
            ((0..k).map(term).sum::<f64>() + if gemm { 0.5 } else { 0.0 }) as f32
        };
        let expected: Vec<f32> = (0..3 * n).map(|i| element(i / n, i % n)).collect();
        let expected = Tensor::new(&[3, n], &expected).unwrap();
        println!("{self:?}");
        let graph = import(model.clone()).unwrap();
        assert!(graph.nodes.iter().any(|node| matches!(node.op, Op::MatMul | Op::Gemm { .. })));
        let program = Compiler::new().compile(&graph.into()).unwrap().program().to_string();
        assert_eq!(program.contains(">> 4u8"), packed, "{program}");
        assert_gives(model, &[x], &[expected], 1e-4);
    }
}

/// A product with such weights takes them out of their bytes, in whatever form they are quantised.
#[test]
fn weights_of_products_stay_packed() {
    let case = Case {
        dtype: DataType::Int4,
        k: 64,
        n: 19,
        block: Some(32),
        zero: false,
        transposed: false,
        gemm: false,
    };
    for dtype in [DataType::Int4, DataType::Uint4] {
        for zero in [false, true] {
            for transposed in [false, true] {
                for gemm in [false, true] {
                    Case { dtype, zero, transposed, gemm, ..case }.check(true);
                }
            }
            Case { dtype, zero, block: None, k: 37, ..case }.check(true);
            Case { dtype, zero, block: Some(0), k: 21, n: 33, transposed: true, ..case }.check(true);
            Case { dtype, zero, k: 70, block: Some(16), ..case }.check(true);
            // Large enough for the parameters not to be written out.
            Case { dtype, zero, k: 320, n: 300, block: Some(64), ..case }.check(true);
        }
    }
    Case { block: Some(4), ..case }.check(false);
}

#[test]
fn what_is_wrong_is_refused() {
    let short = TensorProto { raw_data: Some(vec![0; 2].into()), ..empty("w", DataType::Int4, &[5]) };
    let model = chain(&[], vec![to(DataType::Float, "w", "y")], vec![short]);
    let message = "initializer 'w': 5 elements of int4 take 3 bytes, but 2 are given";
    assert_eq!(refusal(model), (ErrorKind::Invalid, message.to_owned()));

    let w = || nibbles("w", DataType::Int4, &[2], &[1, 2], true);
    let model = chain(&[], vec![node("Add", &["w", "w"], &["y"])], vec![w()]);
    let message = "node 'y' (Add, opset 23): 'w' is int4, which the operator does not take";
    assert_eq!(refusal(model), (ErrorKind::Unsupported, message.to_owned()));

    let zero = TensorProto { raw_data: Some(vec![0].into()), ..empty("zero", DataType::Int8, &[]) };
    let nodes = vec![node("DequantizeLinear", &["w", "scale", "zero"], &["y"])];
    let model = chain(&[], nodes, vec![w(), f32s("scale", &[], &[1.0]), zero]);
    let message = "node 'y' (DequantizeLinear, opset 23): 'zero' is i8, but int4 is needed";
    assert_eq!(refusal(model), (ErrorKind::Shape, message.to_owned()));
}
