//! `com.microsoft.DynamicQuantizeLSTM`, as ONNX Runtime's quantiser makes it of an LSTM.

use nestjit::machine::Isa;
use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::{GraphProto, ModelProto, NodeProto, TensorProto};
use nestjit::{Compiler, ErrorKind, Model, Tensor};

use super::common::onnx::{
    declared, empty, f32s, graph_of, import, int, model_of, node, opset, refusal, string, with,
};
use super::{assert_gives, floats, noise};

const STEPS: usize = 4;
const BATCH: usize = 2;
const WIDTH: usize = 3;
const HIDDEN: usize = 2;
const COLUMNS: usize = 4 * HIDDEN;

/// Bytes of a weight, as the model has them: signed, or the same plus 128.
fn byte(seed: usize, i: usize) -> i32 {
    ((i * 37 + seed * 11) % 201) as i32 - 100
}

#[derive(Clone, Copy)]
struct Case {
    direction: &'static str,
    signed: bool,
    per_column: bool,
    /// Whether there are lengths and states.
    lengths: bool,
    states: bool,
}

impl Case {
    fn directions(&self) -> usize {
        if self.direction == "bidirectional" { 2 } else { 1 }
    }

    fn scale(&self, d: usize, column: usize) -> f64 {
        let part = if self.per_column { column } else { 0 };
        f64::from((0.004 + 0.001 * d as f64 + 0.0005 * part as f64) as f32)
    }

    fn zero(&self, d: usize) -> i32 {
        3 * d as i32 - 2
    }

    fn weight(&self, seed: usize, d: usize, rows: usize, row: usize, column: usize) -> f64 {
        let q = byte(seed, (d * rows + row) * COLUMNS + column);
        f64::from(q - self.zero(d)) * self.scale(d, column)
    }

    fn bytes(&self, name: &str, dims: &[i64], values: impl Iterator<Item = i32>) -> TensorProto {
        let (dtype, offset) = if self.signed { (DataType::Int8, 0) } else { (DataType::Uint8, 128) };
        TensorProto { int32_data: values.map(|v| v + offset).collect(), ..empty(name, dtype, dims) }
    }

    fn initializers(&self) -> Vec<TensorProto> {
        let d = self.directions();
        let per = if self.per_column { vec![d as i64, COLUMNS as i64] } else { vec![d as i64] };
        let parts = if self.per_column { COLUMNS } else { 1 };
        let count = d * parts;
        let scales: Vec<f32> = (0..count).map(|i| self.scale(i / parts, i % parts) as f32).collect();
        let mut list = Vec::new();
        for (name, seed, rows) in [("w", 1, WIDTH), ("r", 2, HIDDEN)] {
            let dims = [d as i64, rows as i64, COLUMNS as i64];
            list.push(self.bytes(name, &dims, (0..d * rows * COLUMNS).map(|i| byte(seed, i))));
            list.push(f32s(&format!("{name}s"), &per, &scales));
            let zeros = (0..count).map(|i| self.zero(i / parts));
            list.push(self.bytes(&format!("{name}z"), &per, zeros));
        }
        let bias: Vec<f32> = (0..d * 2 * COLUMNS).map(|i| (i % 7) as f32 * 0.1 - 0.3).collect();
        list.push(f32s("b", &[d as i64, 2 * COLUMNS as i64], &bias));
        list
    }

    fn node(&self) -> NodeProto {
        let given = |name, there: bool| if there { name } else { "" };
        let inputs = [
            "x",
            "w",
            "r",
            "b",
            given("n", self.lengths),
            given("h", self.states),
            given("c", self.states),
            "",
            "ws",
            "wz",
            "rs",
            "rz",
        ];
        let node =
            with(node("DynamicQuantizeLSTM", &inputs, &["y", "yh", "yc"]), int("hidden_size", HIDDEN as i64));
        NodeProto { domain: Some("com.microsoft".into()), ..with(node, string("direction", self.direction)) }
    }

    fn model(&self) -> ModelProto {
        let d = self.directions().to_string();
        let (batch, hidden) = (BATCH.to_string(), HIDDEN.to_string());
        let state = [d.as_str(), &batch, &hidden];
        let x = [STEPS.to_string(), batch.clone(), WIDTH.to_string()];
        let mut inputs = vec![declared("x", DataType::Float, &x.each_ref().map(String::as_str))];
        if self.lengths {
            inputs.push(declared("n", DataType::Int32, &[&batch]));
        }
        if self.states {
            inputs.push(declared("h", DataType::Float, &state));
            inputs.push(declared("c", DataType::Float, &state));
        }
        let graph = graph_of(inputs, vec![self.node()], &["y", "yh", "yc"]);
        let model = model_of(GraphProto { initializer: self.initializers(), ..graph });
        ModelProto { opset_import: vec![opset("", 17), opset("com.microsoft", 1)], ..model }
    }

    /// Inputs in order, and what an LSTM of the dequantised weights makes of the sequence and the states in 8 bits.
    fn check(&self) {
        let d = self.directions();
        let x = noise(&[STEPS, BATCH, WIDTH], 5);
        let mut inputs = vec![x.clone()];
        let lengths = if self.lengths { [3usize, 1] } else { [STEPS; BATCH] };
        if self.lengths {
            inputs.push(Tensor::new(&[BATCH], &lengths.map(|n| n as i32)).unwrap());
        }
        let mut h = vec![0.0; d * BATCH * HIDDEN];
        let mut c = h.clone();
        if self.states {
            let states = [noise(&[d, BATCH, HIDDEN], 6), noise(&[d, BATCH, HIDDEN], 7)];
            (h, c) = (floats(&states[0]), floats(&states[1]));
            inputs.extend(states);
        }
        // What lies behind the longest sequence does not count.
        let longest = lengths.into_iter().max().unwrap_or(0);
        let x = in_bytes(&floats(&x)[..longest * BATCH * WIDTH]);
        let mut y = vec![0.0; STEPS * d * BATCH * HIDDEN];
        for dir in 0..d {
            let reverse = self.direction == "reverse" || dir == 1;
            let mut shown = h[dir * BATCH * HIDDEN..][..BATCH * HIDDEN].to_vec();
            for i in 0..STEPS {
                let t = if reverse { STEPS - 1 - i } else { i };
                // All sequences of a direction are quantised together.
                let seen = in_bytes(&shown);
                for (b, length) in lengths.into_iter().enumerate() {
                    let at = |j: usize| (dir * BATCH + b) * HIDDEN + j;
                    if t >= length {
                        // What has ended is zeros; what is yet to begin is not.
                        shown[b * HIDDEN..][..HIDDEN].fill(0.0);
                        if reverse {
                            shown[b * HIDDEN..][..HIDDEN].copy_from_slice(&h[at(0)..][..HIDDEN]);
                        }
                        continue;
                    }
                    let bias = |k: usize| f64::from((k % 7) as f32 * 0.1 - 0.3);
                    let gates: Vec<f64> = (0..COLUMNS)
                        .map(|g| {
                            let input = (0..WIDTH)
                                .map(|k| x[(t * BATCH + b) * WIDTH + k] * self.weight(1, dir, WIDTH, k, g));
                            let kept =
                                (0..HIDDEN).map(|k| seen[b * HIDDEN + k] * self.weight(2, dir, HIDDEN, k, g));
                            let first = dir * 2 * COLUMNS + g;
                            input.chain(kept).sum::<f64>() + bias(first) + bias(first + COLUMNS)
                        })
                        .collect();
                    for j in 0..HIDDEN {
                        let gate = |k: usize| gates[k * HIDDEN + j];
                        let sigmoid = |v: f64| 1.0 / (1.0 + f64::exp(-v));
                        c[at(j)] = sigmoid(gate(2)) * c[at(j)] + sigmoid(gate(0)) * gate(3).tanh();
                        h[at(j)] = sigmoid(gate(1)) * c[at(j)].tanh();
                        y[((t * d + dir) * BATCH + b) * HIDDEN + j] = h[at(j)];
                        shown[b * HIDDEN + j] = h[at(j)];
                    }
                }
            }
        }
        let tensor = |shape: &[usize], values: &[f64]| {
            Tensor::new(shape, &values.iter().map(|v| *v as f32).collect::<Vec<_>>()).unwrap()
        };
        let state = [d, BATCH, HIDDEN];
        let expected = [tensor(&[STEPS, d, BATCH, HIDDEN], &y), tensor(&state, &h), tensor(&state, &c)];
        assert_gives(self.model(), &inputs, &expected, 2e-5);
    }
}

/// The numbers that bytes over the whole range stand for.
fn in_bytes(x: &[f64]) -> Vec<f64> {
    let max = x.iter().fold(0.0f64, |a, b| a.max(*b));
    let min = x.iter().fold(0.0f64, |a, b| a.min(*b));
    let scale = if max == min { 1.0 } else { f64::from(((max - min) / 255.0) as f32) };
    let zero = (-min / scale).round_ties_even();
    x.iter().map(|v| (((v / scale).round_ties_even() + zero).clamp(0.0, 255.0) - zero) * scale).collect()
}

#[test]
fn every_direction_type_and_granularity() {
    for direction in ["forward", "reverse", "bidirectional"] {
        for (lengths, states) in [(false, false), (true, false), (false, true)] {
            Case { direction, signed: true, per_column: true, lengths, states }.check();
        }
    }
    for (signed, per_column) in [(true, false), (false, false), (false, true)] {
        Case { direction: "bidirectional", signed, per_column, lengths: false, states: false }.check();
    }
}

/// Products with the sequence and with the state are both packed for dot products.
#[test]
fn integers_are_multiplied() {
    let case = Case { direction: "forward", signed: false, per_column: true, lengths: false, states: true };
    let model = Model::from(import(case.model()).unwrap());
    let isa = Isa::host().min(Isa::Avx2);
    let program = Compiler::new().isa(isa).keep_programs(true).compile(&model).unwrap();
    let packed =
        program.program().buffers.iter().filter(|b| b.layout.interleave.is_some_and(|(_, n)| n == 4));
    assert_eq!(packed.count(), if isa == Isa::Avx2 { 2 } else { 0 });
}

#[test]
fn parameters_that_do_not_fit_are_refused() {
    let case = Case { direction: "forward", signed: true, per_column: false, lengths: false, states: false };
    let mut model = case.model();
    for initializer in &mut model.graph.as_mut().unwrap().initializer {
        if initializer.name() == "rs" {
            *initializer = f32s("rs", &[3], &[1.0; 3]);
        }
    }
    let (kind, text) = refusal(model);
    assert_eq!(kind, ErrorKind::Shape);
    let cause = "scales or zero points [3] for weights of 1 directions and 8 columns";
    assert!(text.contains(cause), "{text}");
}
