//! `com.microsoft.MatMulNBits`, as ONNX Runtime's quantiser makes it of a product with constant weights.

use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::{AttributeProto, ModelProto, NodeProto, TensorProto};
use nestjit::{Compiler, ErrorKind, Tensor, f16};

use super::common::onnx::*;
use super::{assert_gives, floats, noise, single};

/// How zero points are given.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Zero {
    None,
    Packed,
    Float,
}

/// A product; shapes are ragged on purpose.
#[derive(Clone, Copy, Debug)]
struct Case {
    m: usize,
    k: usize,
    n: usize,
    block: usize,
    bits: usize,
    zero: Zero,
    /// The type of everything but the integers.
    half: bool,
    bias: bool,
    /// Parameters as lists.
    flat: bool,
}

const CASE: Case =
    Case { m: 2, k: 70, n: 37, block: 32, bits: 4, zero: Zero::Packed, half: false, bias: true, flat: false };

fn u8s(name: &str, dims: &[i64], bytes: Vec<u8>) -> TensorProto {
    TensorProto { raw_data: Some(bytes.into()), ..empty(name, DataType::Uint8, dims) }
}

/// Numbers of few bits in bytes, the first in the lowest bits; each row begins with a byte of its own.
fn packed(rows: usize, columns: usize, bits: usize, number: impl Fn(usize, usize) -> usize) -> Vec<u8> {
    let per_byte = 8 / bits;
    let byte = |row: usize, at: usize| {
        let part = |i: usize| (at * per_byte + i, i * bits);
        let parts = (0..per_byte).map(part).filter(|(column, _)| *column < columns);
        parts.fold(0, |byte, (column, shift)| byte | number(row, column) << shift) as u8
    };
    (0..rows)
        .flat_map(|row| (0..columns.div_ceil(per_byte)).map(move |at| (row, at)))
        .map(|(r, a)| byte(r, a))
        .collect()
}

impl Case {
    fn blocks(&self) -> usize {
        self.k.div_ceil(self.block)
    }

    fn number(&self, row: usize, column: usize) -> usize {
        (row * 31 + column * 17 + row * column % 7) % (1 << self.bits)
    }

    fn scale(&self, row: usize, block: usize) -> f64 {
        // A number of few bits, so that halves have it.
        (1 + (row * 5 + block * 3) % 11) as f64 / 64.0
    }

    fn zero(&self, row: usize, block: usize) -> f64 {
        match self.zero {
            Zero::None => (1 << (self.bits - 1)) as f64,
            Zero::Packed => ((row * 7 + block * 5) % (1 << self.bits)) as f64,
            Zero::Float => ((row * 7 + block * 5) % 9) as f64 / 2.0,
        }
    }

    fn float_type(&self) -> DataType {
        if self.half { DataType::Float16 } else { DataType::Float }
    }

    fn floats(&self, name: &str, dims: &[i64], values: &[f64]) -> TensorProto {
        let raw: Vec<u8> = match self.half {
            true => values.iter().flat_map(|v| f16::from_f64(*v).to_bits().to_le_bytes()).collect(),
            false => values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
        };
        TensorProto { raw_data: Some(raw.into()), ..empty(name, self.float_type(), dims) }
    }

    fn by_block(&self, of: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        (0..self.n).flat_map(|row| (0..self.blocks()).map(move |b| (row, b))).map(|(r, b)| of(r, b)).collect()
    }

    fn initializers(&self) -> Vec<TensorProto> {
        let (n, blocks) = (self.n as i64, self.blocks() as i64);
        let dims =
            |rows: i64, columns: i64| if self.flat { vec![rows * columns] } else { vec![rows, columns] };
        let bytes = self.block * self.bits / 8;
        let q = packed(self.n, self.blocks() * self.block, self.bits, |row, column| self.number(row, column));
        let mut all = vec![
            u8s("B", &[n, blocks, bytes as i64], q),
            self.floats("scales", &dims(n, blocks), &self.by_block(|r, b| self.scale(r, b))),
        ];
        match self.zero {
            Zero::None => {}
            Zero::Packed => {
                let zeros = packed(self.n, self.blocks(), self.bits, |r, b| self.zero(r, b) as usize);
                all.push(u8s("zeros", &dims(n, zeros.len() as i64 / n), zeros));
            }
            Zero::Float => {
                all.push(self.floats("zeros", &dims(n, blocks), &self.by_block(|r, b| self.zero(r, b))));
            }
        }
        if self.bias {
            let bias: Vec<f64> = (0..self.n).map(|n| n as f64 / 8.0 - 1.0).collect();
            all.push(self.floats("bias", &[n], &bias));
        }
        all
    }

    fn node(&self) -> NodeProto {
        let zero = if self.zero == Zero::None { "" } else { "zeros" };
        let bias = if self.bias { "bias" } else { "" };
        let node = node("MatMulNBits", &["x", "B", "scales", zero, "", bias], &["y"]);
        let attributes = [("K", self.k), ("N", self.n), ("block_size", self.block), ("bits", self.bits)];
        let node = attributes.iter().fold(node, |n, (name, value)| with(n, int(name, *value as i64)));
        NodeProto { name: Some("dense".into()), domain: Some("com.microsoft".into()), ..node }
    }

    fn model(&self) -> ModelProto {
        let x: &[(&str, DataType, &[usize])] = &[("x", self.float_type(), &[self.m, self.k])];
        in_microsoft(single(21, self.node(), x, self.initializers()))
    }

    fn check(&self) {
        let x = noise(&[self.m, self.k], 3);
        let x = if self.half {
            let halves: Vec<f16> = x.values::<f32>().unwrap().iter().map(|v| f16::from_f32(*v)).collect();
            Tensor::new(&[self.m, self.k], &halves).unwrap()
        } else {
            x
        };
        let given = floats(&x);
        let weight = |k: usize, n: usize| {
            let b = k / self.block;
            (self.number(n, k) as f64 - self.zero(n, b)) * self.scale(n, b)
        };
        let element = |m: usize, n: usize| {
            let sum: f64 = (0..self.k).map(|k| given[m * self.k + k] * weight(k, n)).sum();
            sum + if self.bias { n as f64 / 8.0 - 1.0 } else { 0.0 }
        };
        let values: Vec<f64> =
            (0..self.m).flat_map(|m| (0..self.n).map(move |n| (m, n))).map(|(m, n)| element(m, n)).collect();
        let shape = [self.m, self.n];
        let (expected, tolerance) = if self.half {
            let halves: Vec<f16> = values.iter().map(|v| f16::from_f64(*v)).collect();
            (Tensor::new(&shape, &halves).unwrap(), 2e-3)
        } else {
            let singles: Vec<f32> = values.iter().map(|v| *v as f32).collect();
            (Tensor::new(&shape, &singles).unwrap(), 1e-4)
        };
        println!("{self:?}");
        assert_gives(self.model(), &[x], &[expected], tolerance);
    }
}

/// The model with ONNX Runtime's own operators.
fn in_microsoft(mut model: ModelProto) -> ModelProto {
    model.opset_import.push(opset("com.microsoft", 1));
    model
}

#[test]
fn few_bits_in_blocks() {
    for bits in [2, 4, 8] {
        for zero in [Zero::None, Zero::Packed, Zero::Float] {
            Case { bits, zero, ..CASE }.check();
            Case { bits, zero, half: true, m: 5, block: 16, ..CASE }.check();
        }
    }
    for (m, k, n, block) in
        [(1, 33, 65, 16), (7, 128, 16, 64), (1, 16, 1, 16), (33, 5, 48, 16), (3, 200, 31, 128)]
    {
        Case { m, k, n, block, ..CASE }.check();
        Case { m, k, n, block, zero: Zero::None, bias: false, ..CASE }.check();
    }
    Case { flat: true, ..CASE }.check();
    Case { flat: true, zero: Zero::Float, ..CASE }.check();
}

/// What follows the product is computed where its sums are.
#[test]
fn biases_and_activations_are_epilogues() {
    for (m, k) in [(1, 96), (33, 96), (33, 70)] {
        let case = Case { m, k, ..CASE };
        let mut product = case.node();
        product.output[0] = "z".into();
        let mut model = case.model();
        model.graph.as_mut().unwrap().node = vec![product, node("Relu", &["z"], &["y"])];
        let compiled = Compiler::new().threads(1).compile(&import(model).unwrap().into()).unwrap();
        assert_eq!(compiled.program().nests.len(), 1, "{}", compiled.program());
    }
}

/// An infinite activation makes an infinity of each element, or no number where it is multiplied with zero.
#[test]
fn infinities_are_multiplied() {
    let case = Case { m: 1, k: 16, n: 33, block: 16, zero: Zero::None, bias: false, ..CASE };
    let x: Vec<f32> = (0..16).map(|k| if k == 3 { f32::INFINITY } else { 0.0 }).collect();
    let expected: Vec<f32> = (0..33).map(|n| (case.number(n, 3) as f32 - 8.0) * f32::INFINITY).collect();
    let (x, expected) = (Tensor::new(&[1, 16], &x).unwrap(), Tensor::new(&[1, 33], &expected).unwrap());
    assert_gives(case.model(), &[x], &[expected], 0.0);
}

/// Weights without elements stand for those that a model leaves out.
#[test]
fn weights_that_are_left_out_are_zeros() {
    let mut initializers = CASE.initializers();
    initializers[0] = u8s("B", &[37, 0, 16], Vec::new());
    initializers[1] = f32s("scales", &[0], &[]);
    let model = in_microsoft(single(21, CASE.node(), &[("x", DataType::Float, &[2, 70])], initializers));
    let row: Vec<f32> = (0..37).map(|n| n as f32 / 8.0 - 1.0).collect();
    let expected = Tensor::new(&[2, 37], &[row.clone(), row].concat()).unwrap();
    assert_gives(model, &[noise(&[2, 70], 1)], &[expected], 0.0);
}

#[test]
fn what_is_wrong_is_refused() {
    let changed = |name: &str, attribute: AttributeProto| {
        let mut node = CASE.node();
        node.attribute.retain(|a| a.name() != name);
        node.attribute.push(attribute);
        let x: &[(&str, DataType, &[usize])] = &[("x", DataType::Float, &[2, 70])];
        refusal(in_microsoft(single(21, node, x, CASE.initializers())))
    };
    let place = |text: &str| format!("node 'dense' (com.microsoft.MatMulNBits, opset 1): {text}");
    let unsupported = |text: &str| (ErrorKind::Unsupported, place(text));
    let invalid = |text: &str| (ErrorKind::Invalid, place(text));
    let shape = |text: &str| (ErrorKind::Shape, place(text));
    assert_eq!(changed("bits", int("bits", 3)), unsupported("bits is 3, but only 2, 4 and 8 are supported"));
    let message = "block_size is 24, but it must be a power of 2 and at least 16";
    assert_eq!(changed("block_size", int("block_size", 24)), invalid(message));
    let message = "block_size is 8, but it must be a power of 2 and at least 16";
    assert_eq!(changed("block_size", int("block_size", 8)), invalid(message));
    let message = "block_size is -16, but it must be a power of 2 and at least 16";
    assert_eq!(changed("block_size", int("block_size", -16)), invalid(message));
    assert_eq!(changed("K", int("K", 0)), invalid("K must be positive, but is 0"));
    assert_eq!(changed("K", int("K", 71)), shape("'x' has the shape [2, 70], but [.., 71] is needed"));
    assert_eq!(changed("N", int("N", -1)), invalid("N must be positive, but is -1"));
    let message = "'B' has the shape [37, 3, 16], but [38, 3, 16] is needed";
    assert_eq!(changed("N", int("N", 38)), shape(message));
    let message = "'B' has the shape [37, 3, 16], but [37, 3, 32] is needed";
    assert_eq!(changed("bits", int("bits", 8)), shape(message));
    let message = "'B' has the shape [37, 3, 16], but [37, 2, 32] is needed";
    assert_eq!(changed("block_size", int("block_size", 64)), shape(message));
    let large = i64::MAX / 2 + 1;
    let message = format!("'B' has the shape [37, 3, 16], but [37, 1, {}] is needed", large / 2);
    assert_eq!(changed("block_size", int("block_size", large)), shape(&message));
    let message = "accuracy_level is 5, but must be 0 to 4";
    assert_eq!(changed("accuracy_level", int("accuracy_level", 5)), invalid(message));
    let message = "weights in the layout of another runtime (weight_prepacked) are not supported";
    assert_eq!(changed("weight_prepacked", int("weight_prepacked", 1)), unsupported(message));

    let with_input = |at: usize, tensor: TensorProto| {
        let mut node = CASE.node();
        node.input[at] = tensor.name().to_owned();
        let mut initializers = CASE.initializers();
        initializers.retain(|t| t.name() != tensor.name());
        initializers.push(tensor);
        let x: &[(&str, DataType, &[usize])] = &[("x", DataType::Float, &[2, 70])];
        refusal(in_microsoft(single(21, node, x, initializers)))
    };
    let scales = with_input(2, f32s("scales", &[37, 2], &[1.0; 74]));
    assert_eq!(scales, shape("'scales' has the shape [37, 2], but [37, 3] is needed"));
    let zeros = with_input(3, u8s("zeros", &[37, 3], vec![0; 111]));
    assert_eq!(zeros, shape("'zeros' has the shape [37, 3], but [37, 2] is needed"));
    let zeros = with_input(3, i64s("zeros", &[37, 3], &[0; 111]));
    assert_eq!(zeros, shape("'zeros' is i64, but u8 or f32 is needed"));
    let bias = with_input(5, f32s("bias", &[1], &[0.0]));
    assert_eq!(bias, shape("'bias' has the shape [1], but [37] is needed"));
    let groups = TensorProto { int32_data: vec![0; 70], ..empty("groups", DataType::Int32, &[70]) };
    let message = "groups of rows (g_idx) that are not the blocks in order are not supported";
    assert_eq!(with_input(4, groups), unsupported(message));
}

/// A quantised table of rows, in bytes with two numbers each or of a type of four bits.
#[test]
fn rows_of_quantised_tables() {
    let (rows, width, block) = (5usize, 40usize, 16usize);
    let number = |row: usize, column: usize| (row * 11 + column * 5) % 16;
    let scale = |row: usize, b: usize| (1 + row + 2 * b) as f32 / 8.0;
    let blocks = width.div_ceil(block);
    let scales: Vec<f32> =
        (0..rows).flat_map(|row| (0..blocks).map(move |b| (row, b))).map(|(row, b)| scale(row, b)).collect();
    let indices = i64s("indices", &[2, 2], &[4, 0, -2, 1]);
    for (dtype, zeros) in
        [(DataType::Uint8, true), (DataType::Uint8, false), (DataType::Uint4, true), (DataType::Int4, false)]
    {
        let zero = |row: usize, b: usize| match (dtype, zeros) {
            (_, true) => (row + 3 * b) % 16,
            (DataType::Uint8, false) => 8,
            (_, false) => 0,
        };
        let signed = |q: usize| if dtype == DataType::Int4 && q > 7 { q as f32 - 16.0 } else { q as f32 };
        let columns = if dtype == DataType::Uint8 { width / 2 } else { width };
        let raw = |name: &str, columns: usize, bytes: Vec<u8>| TensorProto {
            raw_data: Some(bytes.into()),
            ..empty(name, dtype, &[rows as i64, columns as i64])
        };
        let mut all = vec![
            raw("data", columns, packed(rows, width, 4, number)),
            indices.clone(),
            f32s("scales", &[rows as i64, blocks as i64], &scales),
        ];
        let mut inputs = vec!["data", "indices", "scales"];
        if zeros {
            // Rows of bytes begin with a byte of their own; numbers of four bits follow each other.
            let bytes = match dtype {
                DataType::Uint8 => packed(rows, blocks, 4, zero),
                _ => packed(1, rows * blocks, 4, |_, i| zero(i / blocks, i % blocks)),
            };
            let columns = if dtype == DataType::Uint8 { blocks.div_ceil(2) } else { blocks };
            all.push(raw("zeros", columns, bytes));
            inputs.push("zeros");
        }
        let gather = NodeProto {
            domain: Some("com.microsoft".into()),
            ..node("GatherBlockQuantized", &inputs, &["g"])
        };
        let nodes = vec![with(gather, int("block_size", block as i64)), node("Add", &["g", "x"], &["y"])];
        let mut model = in_microsoft(single(21, nodes[0].clone(), &[("x", DataType::Float, &[1])], all));
        let graph = model.graph.as_mut().unwrap();
        (graph.node, graph.output) = (nodes, vec![named("y")]);
        let element = |row: usize, column: usize| {
            let b = column / block;
            (signed(number(row, column)) - zero(row, b) as f32) * scale(row, b)
        };
        let expected: Vec<f32> = [4, 0, 3, 1]
            .iter()
            .flat_map(|row| (0..width).map(move |c| (*row, c)))
            .map(|(r, c)| element(r, c))
            .collect();
        let expected = Tensor::new(&[2, 2, width], &expected).unwrap();
        println!("{dtype:?} {zeros}");
        assert_gives(model.clone(), &[Tensor::new(&[1], &[0f32]).unwrap()], &[expected], 0.0);

        let refused = |attributes: &[(&'static str, i64)]| {
            let mut model = model.clone();
            let node = &mut model.graph.as_mut().unwrap().node[0];
            node.name = Some("rows".into());
            node.attribute.extend(attributes.iter().map(|(name, value)| int(name, *value)));
            refusal(model)
        };
        let place = |text: &str| format!("node 'rows' (com.microsoft.GatherBlockQuantized, opset 1): {text}");
        let both = refused(&[("gather_axis", 1), ("quantize_axis", -1)]);
        let message = place("gather_axis and quantize_axis are both 1, which is not supported");
        assert_eq!(both, (ErrorKind::Unsupported, message));
        let other = refused(&[("quantize_axis", 0), ("gather_axis", 1)]);
        let message = match dtype {
            DataType::Uint8 => (ErrorKind::Invalid, place("gather_axis is 1, but it must be 0 for u8")),
            _ => (ErrorKind::Shape, place("'scales' has the shape [5, 3], but [1, 40] is needed")),
        };
        assert_eq!(other, message);
    }
}
