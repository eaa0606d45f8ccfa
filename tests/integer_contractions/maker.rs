//! Graphs of quantised tensors, in every form that models have them in.

use nestjit::graph::{Graph, Op, Unary, ValueId};
use nestjit::{DType, GraphBuilder, Tensor};

/// A graph in the making, and random numbers (SplitMix64).
pub struct Maker {
    pub g: GraphBuilder,
    pub inputs: Vec<Tensor>,
    state: u64,
}

/// How an operand is quantised.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub dtype: DType,
    /// Whether the integers are known when the graph is compiled.
    pub constant: bool,
    pub zero: Zero,
    /// The dimension that scales and zero points vary along; the rank if there is one for all.
    pub axis: Option<usize>,
    /// Between integers and floats: the way through i32 (DequantizeLinear), or f32 only.
    pub by_f32: bool,
}

/// A zero point.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Zero {
    None,
    Constant,
    /// It comes with the run.
    Input,
}

impl Form {
    pub fn of(dtype: DType, constant: bool, zero: Zero) -> Form {
        Form { dtype, constant, zero, axis: None, by_f32: false }
    }
}

impl Maker {
    pub fn new(name: &str) -> Maker {
        let state = name.bytes().fold(7, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Maker { g: GraphBuilder::new(name), inputs: Vec::new(), state }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn bytes(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        let bytes: Vec<u8> = (0..shape.iter().product()).map(|_| self.next() as u8).collect();
        Tensor::from_bytes(dtype, shape, &bytes).unwrap()
    }

    fn scales(&mut self, shape: &[usize]) -> Tensor {
        let n = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|_| 0.01 + (self.next() % 1000) as f32 * 1e-4).collect();
        Tensor::new(shape, &values).unwrap()
    }

    pub fn given(&mut self, tensor: Tensor) -> ValueId {
        let id = self.g.input(&format!("in{}", self.inputs.len()), tensor.dtype(), tensor.shape());
        self.inputs.push(tensor);
        id
    }

    pub fn value(&mut self, tensor: Tensor, constant: bool) -> ValueId {
        if constant { self.g.constant("c", tensor) } else { self.given(tensor) }
    }

    /// `q - zero` as `i32`.
    pub fn shifted(&mut self, form: Form, shape: &[usize]) -> ValueId {
        let q = self.bytes(form.dtype, shape);
        let q = self.value(q, form.constant);
        self.less_zero(q, form, shape)
    }

    fn parameter_shape(form: Form, shape: &[usize]) -> Vec<usize> {
        match form.axis {
            None => Vec::new(),
            Some(axis) => (0..shape.len()).map(|d| if d == axis { shape[d] } else { 1 }).collect(),
        }
    }

    fn less_zero(&mut self, q: ValueId, form: Form, shape: &[usize]) -> ValueId {
        let wide = self.g.cast(q, if form.by_f32 { DType::F32 } else { DType::I32 });
        if form.zero == Zero::None {
            return wide;
        }
        let zero = self.bytes(form.dtype, &Self::parameter_shape(form, shape));
        let zero = self.value(zero, form.zero == Zero::Constant);
        let zero = self.g.cast(zero, if form.by_f32 { DType::F32 } else { DType::I32 });
        self.g.sub(wide, zero)
    }

    /// `(q - zero) * scale`.
    pub fn quantised(&mut self, form: Form, shape: &[usize]) -> ValueId {
        let shifted = self.shifted(form, shape);
        let float = self.g.cast(shifted, DType::F32);
        let scale = self.scales(&Self::parameter_shape(form, shape));
        let scale = self.g.constant("scale", scale);
        self.g.mul(float, scale)
    }

    /// `round(x / scale) + zero`, clipped to `dtype`.
    pub fn requantised(&mut self, x: ValueId, scale: f32, zero: f32, dtype: DType) -> ValueId {
        let scale = self.g.constant("scale", Tensor::scalar(scale));
        let quotient = self.g.div(x, scale);
        let rounded = self.g.node("", Op::Unary(Unary::Round), &[quotient])[0];
        let zero = self.g.constant("zero", Tensor::scalar(zero));
        let shifted = self.g.add(rounded, zero);
        let (min, max) = if dtype == DType::U8 { (0.0, 255.0) } else { (-128.0, 127.0) };
        let clipped = self.g.clip(shifted, Some(min), Some(max));
        self.g.cast(clipped, dtype)
    }

    pub fn one(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        self.g.node("", op, inputs)[0]
    }

    pub fn finish(mut self, outputs: &[ValueId]) -> (Graph, Vec<Tensor>) {
        for (i, id) in outputs.iter().enumerate() {
            self.g.output(&format!("out{i}"), *id);
        }
        (self.g.build().unwrap(), self.inputs)
    }
}
