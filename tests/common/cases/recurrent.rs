//! Recurrent layers.

use nestjit::DType;
use nestjit::graph::{Direction, Op, RecurrentKind, Unary, ValueId};

use super::{Cases, Maker};

/// One layer: extents, and what is given.
#[derive(Clone)]
struct Layer {
    kind: RecurrentKind,
    direction: Direction,
    steps: usize,
    batch: usize,
    inputs: usize,
    hidden: usize,
    /// How many of bias, initial state and initial cell are given.
    optional: usize,
    clip: Option<f64>,
    activations: Vec<Unary>,
    dtype: DType,
    /// Whether weights are constants, not inputs.
    constant: bool,
}

impl Layer {
    fn new(kind: RecurrentKind) -> Layer {
        Layer {
            kind,
            direction: Direction::Forward,
            steps: 4,
            batch: 3,
            inputs: 5,
            hidden: 6,
            optional: 1,
            clip: None,
            activations: Vec::new(),
            dtype: DType::F32,
            constant: true,
        }
    }

    fn build(&self, m: &mut Maker) -> Vec<ValueId> {
        let (d, rows) = (self.direction.count(), self.kind.gates() * self.hidden);
        let weight = |m: &mut Maker, shape: &[usize]| match self.constant {
            true => m.weight(shape),
            false => m.input(self.dtype, shape),
        };
        let x = m.input(self.dtype, &[self.steps, self.batch, self.inputs]);
        let mut operands = vec![x, weight(m, &[d, rows, self.inputs]), weight(m, &[d, rows, self.hidden])];
        if self.optional > 0 {
            operands.push(weight(m, &[d, 2 * rows]));
        }
        for _ in 1..self.optional {
            operands.push(m.input(self.dtype, &[d, self.batch, self.hidden]));
        }
        let activations = match (self.activations.is_empty(), self.kind) {
            (false, _) => self.activations.clone(),
            (_, RecurrentKind::Rnn) => vec![Unary::Tanh],
            (_, RecurrentKind::Lstm) => vec![Unary::Sigmoid, Unary::Tanh, Unary::Tanh],
            (_, RecurrentKind::Gru { .. }) => vec![Unary::Sigmoid, Unary::Tanh],
        };
        let activations = if self.activations.is_empty() { activations.repeat(d) } else { activations };
        let op = Op::Recurrent {
            kind: self.kind,
            hidden: self.hidden,
            direction: self.direction,
            activations,
            clip: self.clip,
        };
        m.op(op, &operands)
    }
}

pub fn add(cases: &mut Cases) {
    quantized(cases);
    let kinds = [
        ("rnn", RecurrentKind::Rnn),
        ("lstm", RecurrentKind::Lstm),
        ("gru", RecurrentKind::Gru { linear_before_reset: false }),
        ("gru_linear", RecurrentKind::Gru { linear_before_reset: true }),
    ];
    for (name, kind) in kinds {
        let most = if kind == RecurrentKind::Lstm { 3 } else { 2 };
        let base = Layer::new(kind);
        let mut variants = vec![
            ("forward", base.clone()),
            ("reverse", Layer { direction: Direction::Reverse, ..base.clone() }),
            ("bidirectional", Layer { direction: Direction::Bidirectional, optional: most, ..base.clone() }),
            ("no_bias", Layer { optional: 0, ..base.clone() }),
            ("initial", Layer { optional: most, ..base.clone() }),
            ("clip", Layer { clip: Some(0.5), ..base.clone() }),
            ("one_step", Layer { steps: 1, batch: 1, optional: most, ..base.clone() }),
            ("one_sample", Layer { batch: 1, hidden: 16, ..base.clone() }),
            ("ragged", Layer { steps: 3, batch: 5, inputs: 7, hidden: 11, ..base.clone() }),
            ("no_steps", Layer { steps: 0, optional: most, ..base.clone() }),
            ("no_samples", Layer { batch: 0, ..base.clone() }),
            ("no_inputs", Layer { inputs: 0, ..base.clone() }),
            ("f64", Layer { dtype: DType::F64, constant: false, optional: most, ..base.clone() }),
            ("weights_are_inputs", Layer { constant: false, ..base.clone() }),
        ];
        let activations = match kind {
            RecurrentKind::Rnn => vec![Unary::ScaledTanh { alpha: 1.2, beta: 0.4 }],
            RecurrentKind::Lstm => vec![
                Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
                Unary::Softsign,
                Unary::LeakyRelu { alpha: 0.1 },
            ],
            RecurrentKind::Gru { .. } => {
                vec![Unary::HardSigmoid { alpha: 0.2, beta: 0.5 }, Unary::Affine { alpha: 0.4, beta: -0.2 }]
            }
        };
        variants.push(("activations", Layer { activations, ..base.clone() }));
        for (variant, layer) in variants {
            cases.add(format!("{name}/{variant}"), |m| layer.build(m));
        }
        cases.add(format!("{name}/only_all_states"), |m| vec![base.build(m)[0]]);
        cases.add(format!("{name}/only_last_state"), |m| vec![base.build(m)[1]]);
        let mixed = Layer { direction: Direction::Bidirectional, ..base.clone() };
        let both = match kind {
            RecurrentKind::Rnn => vec![Unary::Tanh, Unary::Sigmoid],
            RecurrentKind::Lstm => {
                vec![Unary::Sigmoid, Unary::Tanh, Unary::Tanh, Unary::Tanh, Unary::Sigmoid, Unary::Softsign]
            }
            RecurrentKind::Gru { .. } => vec![Unary::Sigmoid, Unary::Tanh, Unary::Tanh, Unary::Softplus],
        };
        cases.add(format!("{name}/activations_per_direction"), |m| {
            Layer { activations: both, ..mixed }.build(m)
        });
    }
}

/// An LSTM with a state in 8 bits.
#[derive(Clone)]
struct Quantized {
    direction: Direction,
    steps: usize,
    batch: usize,
    hidden: usize,
    /// How many of initial state and initial cell are given.
    states: usize,
    clip: Option<f64>,
    /// Whether weights are constants, not inputs.
    constant: bool,
    /// The zero point of all weights.
    zero: i32,
}

impl Quantized {
    fn build(&self, m: &mut Maker) -> Vec<ValueId> {
        let (d, rows) = (self.direction.count(), 4 * self.hidden);
        let x = m.x(&[self.steps, self.batch, d * rows]);
        let shape = [d, rows, self.hidden];
        let r = if self.constant { m.byte_weight(DType::I8, &shape) } else { m.bytes(DType::I8, &shape) };
        let scales: Vec<f32> = (0..d * rows).map(|i| 0.002 + 0.0005 * (i % 5) as f32).collect();
        let scale = m.constant(&[d, rows], &scales);
        let zero = match self.constant {
            true => m.constant(&[d, rows], &vec![self.zero; d * rows]),
            false => m.input(DType::I32, &[d, rows]),
        };
        let mut operands = vec![x, r, scale, zero];
        for _ in 0..self.states {
            operands.push(m.input(DType::F32, &[d, self.batch, self.hidden]));
        }
        let activations = [Unary::Sigmoid, Unary::Tanh, Unary::Tanh].repeat(d);
        let (hidden, direction, clip) = (self.hidden, self.direction, self.clip);
        m.op(Op::DynamicQuantizeLstm { hidden, direction, activations, clip }, &operands)
    }
}

fn quantized(cases: &mut Cases) {
    let base = Quantized {
        direction: Direction::Forward,
        steps: 4,
        batch: 3,
        hidden: 6,
        states: 0,
        clip: None,
        constant: true,
        zero: 0,
    };
    let variants = [
        ("forward", base.clone()),
        ("reverse", Quantized { direction: Direction::Reverse, states: 1, ..base.clone() }),
        ("bidirectional", Quantized { direction: Direction::Bidirectional, states: 2, ..base.clone() }),
        ("zero_points", Quantized { zero: -5, states: 2, ..base.clone() }),
        ("clip", Quantized { clip: Some(0.5), ..base.clone() }),
        ("one_sample", Quantized { batch: 1, hidden: 16, ..base.clone() }),
        ("ragged", Quantized { batch: 5, hidden: 37, ..base.clone() }),
        ("no_steps", Quantized { steps: 0, states: 2, ..base.clone() }),
        ("no_samples", Quantized { batch: 0, ..base.clone() }),
        ("weights_are_inputs", Quantized { constant: false, ..base.clone() }),
    ];
    for (variant, layer) in variants {
        cases.add(format!("dynamic_lstm/{variant}"), |m| layer.build(m));
    }
    cases.add("dynamic_lstm/only_last_state", |m| vec![base.build(m)[1]]);
}
