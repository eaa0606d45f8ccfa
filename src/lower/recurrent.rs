//! Recurrent layers. The products with the input are one contraction over all steps; the recurrence is a nest with
//! a serial loop over time whose state lives in local buffers.

use nestjit_ir::{Affine, BufId, DType, Expr, NestBuilder, ReduceOp, Scalar, Var};

use super::activation::{self, Names};
use super::context::{Context, Loop, accumulate, loops};
use super::dynamic_lstm;
use super::elementwise::clipped;
use super::operand::{Array, Operand};
use crate::error::Result;
use crate::graph::{Direction, RecurrentKind, Unary};

/// The attributes of the layer.
pub(super) struct Layer<'a> {
    pub kind: RecurrentKind,
    pub hidden: usize,
    pub direction: Direction,
    pub activations: &'a [Unary],
    pub clip: Option<f64>,
}

pub(super) fn recurrent(cx: &mut Context<'_, '_>, layer: &Layer<'_>) -> Result<()> {
    let projected = project(cx, layer)?;
    let weights = Weights::Floats { r: cx.array(2)?, bias: cx.optional(3)? };
    let cell = Cell::new(cx, layer, projected, weights)?;
    write(cx, layer, &cell);
    Ok(())
}

/// An LSTM of products with the input whose recurrent products are of 8-bit integers.
pub(super) fn dynamic_quantize_lstm(cx: &mut Context<'_, '_>, layer: &Layer<'_>) -> Result<()> {
    let projected = cx.array(0)?;
    let weights = Weights::Bytes(Box::new(dynamic_lstm::Weights::new(cx)?));
    let cell = Cell::new(cx, layer, projected, weights)?;
    write(cx, layer, &cell);
    Ok(())
}

fn write(cx: &mut Context<'_, '_>, layer: &Layer<'_>, cell: &Cell) {
    let directions = layer.direction.count();
    let mut b = cx.nest("");
    for d in 0..directions {
        let reverse = layer.direction == Direction::Reverse || d == 1;
        let per_direction = layer.activations.len() / directions;
        let activations = &layer.activations[d * per_direction..(d + 1) * per_direction];
        One { cell, d: d as i64, reverse, activations }.write(&mut b);
    }
    b.finish();
}

/// What multiplies the state.
enum Weights {
    /// `[D, rows, H]`, and the biases of both products.
    Floats { r: Array, bias: Option<Operand> },
    /// Integers of 8 bits; the products with the input are `[T, B, D * rows]` and have the biases.
    Bytes(Box<dynamic_lstm::Weights>),
}

/// `NODE.x[d, t, b, m] = sum(x[t, b, k] * w[d, m, k]) + input bias[d, m]`, where `m` runs over the gates and,
/// within each, over the hidden units.
fn project(cx: &mut Context<'_, '_>, layer: &Layer<'_>) -> Result<Array> {
    let rows = layer.kind.gates() * layer.hidden;
    let (x, w, bias) = (cx.factor(0)?, cx.factor(1)?, cx.optional(3)?);
    let outer: [Loop; 4] = [
        ("d".into(), layer.direction.count()),
        ("t".into(), x.shape[0]),
        ("b".into(), x.shape[1]),
        ("m".into(), rows),
    ];
    let shape: Vec<usize> = outer.iter().map(|l| l.1).collect();
    let y = cx.temp("x", x.dtype, &shape)?;
    let acc = cx.name("x_acc");
    let mut nest = cx.nest("x");
    loops(&mut nest, &outer, |nest, vars| {
        let [d, t, b, m] = [vars[0], vars[1], vars[2], vars[3]];
        let sum = accumulate(nest, &acc, ReduceOp::Add, x.dtype, &[("k".into(), x.shape[2])], |k| {
            x.at([t, b, k[0]]) * w.at([d, m, k[0]])
        });
        let value = match &bias {
            Some(bias) => sum + bias.at([d, m]),
            None => sum,
        };
        y.store(nest, vars, value);
    });
    nest.finish();
    Ok(y)
}

/// Everything that the recurrence reads and writes, for all directions.
struct Cell {
    kind: RecurrentKind,
    hidden: usize,
    batch: usize,
    steps: usize,
    dtype: DType,
    clip: Option<f64>,
    /// The products with the input.
    projected: Array,
    weights: Weights,
    initial_h: Option<Operand>,
    initial_c: Option<Operand>,
    y: Option<Array>,
    y_h: Option<Array>,
    y_c: Option<Array>,
    names: Names,
    /// The names of local buffers: `NODE.part`.
    local: LocalNames,
}

struct LocalNames {
    h: String,
    c: String,
    gates: String,
    reset: String,
    acc: String,
}

impl Cell {
    fn new(cx: &mut Context<'_, '_>, layer: &Layer<'_>, projected: Array, weights: Weights) -> Result<Cell> {
        let lstm = layer.kind == RecurrentKind::Lstm;
        let (steps, batch) = match weights {
            Weights::Floats { .. } => (projected.shape[1], projected.shape[2]),
            Weights::Bytes(_) => (projected.shape[0], projected.shape[1]),
        };
        Ok(Cell {
            kind: layer.kind,
            hidden: layer.hidden,
            batch,
            steps,
            dtype: projected.dtype,
            clip: layer.clip,
            projected,
            weights,
            initial_h: cx.optional(4)?,
            initial_c: cx.optional(5)?,
            y: cx.result_if_used(0)?,
            y_h: cx.result_if_used(1)?,
            y_c: if lstm { cx.result_if_used(2)? } else { None },
            names: Names::of(cx),
            local: LocalNames {
                h: cx.name("h"),
                c: cx.name("c"),
                gates: cx.name("gates"),
                reset: cx.name("reset"),
                acc: cx.name("acc"),
            },
        })
    }
}

/// One direction of a layer.
struct One<'a> {
    cell: &'a Cell,
    d: i64,
    reverse: bool,
    activations: &'a [Unary],
}

/// Local buffers of one direction: `[batch, hidden]` each, and the gates' arguments `[batch, rows]`.
struct State {
    h: BufId,
    c: Option<BufId>,
    gates: BufId,
}

impl One<'_> {
    fn write(&self, b: &mut NestBuilder<'_>) {
        let cell = self.cell;
        let shape = [cell.batch, cell.hidden];
        let lstm = cell.kind == RecurrentKind::Lstm;
        let h = b.temp(&cell.local.h, cell.dtype, &shape);
        let c = lstm.then(|| b.temp(&cell.local.c, cell.dtype, &shape));
        self.start(b, h, cell.initial_h.as_ref());
        if let Some(c) = c {
            self.start(b, c, cell.initial_c.as_ref());
        }
        b.for_("t", cell.steps, |b, t| {
            let step: Affine = if self.reverse { Affine::from(cell.steps as i64 - 1) - t } else { t.into() };
            let gates = b.temp(&cell.local.gates, cell.dtype, &[cell.batch, self.rows()]);
            let state = State { h, c, gates };
            match cell.kind {
                RecurrentKind::Rnn => self.rnn(b, &state, &step),
                RecurrentKind::Lstm => self.lstm(b, &state, &step),
                RecurrentKind::Gru { linear_before_reset: true } => self.gru(b, &state, &step),
                RecurrentKind::Gru { linear_before_reset: false } => self.gru_reset_first(b, &state, &step),
            }
        });
        for (to, from) in [(&cell.y_h, Some(h)), (&cell.y_c, c)] {
            if let (Some(to), Some(from)) = (to, from) {
                self.each(b, |b, i, j| to.store(b, self.at(i, j), Expr::load(from, [i, j])));
            }
        }
    }

    fn rows(&self) -> usize {
        self.cell.kind.gates() * self.cell.hidden
    }

    /// Loops over the state.
    fn each(&self, b: &mut NestBuilder<'_>, body: impl FnOnce(&mut NestBuilder<'_>, Var, Var)) {
        b.for_all(&["b", "j"], &[self.cell.batch, self.cell.hidden], |b, v| body(b, v[0], v[1]));
    }

    /// An index into `[directions, batch, hidden]`.
    fn at(&self, b: Var, j: Var) -> [Affine; 3] {
        [self.d.into(), b.into(), j.into()]
    }

    fn start(&self, b: &mut NestBuilder<'_>, state: BufId, initial: Option<&Operand>) {
        self.each(b, |b, i, j| {
            let value = match initial {
                Some(initial) => initial.at(self.at(i, j)),
                None => Scalar::zero(self.cell.dtype).into(),
            };
            b.store(state, [i, j], value);
        });
    }

    /// Rows `first .. first + count` of `gates`: `from r + recurrent bias`, and the product with the input if
    /// `add_input`.
    fn products(
        &self,
        b: &mut NestBuilder<'_>,
        gates: BufId,
        from: BufId,
        rows: std::ops::Range<usize>,
        input: impl Fn(Var, &Affine) -> Option<Expr>,
    ) {
        let cell = self.cell;
        let bytes = match &cell.weights {
            Weights::Floats { .. } => None,
            Weights::Bytes(weights) => Some(weights.quantize(b, from, [cell.batch, cell.hidden])),
        };
        b.for_all(&["b", "m"], &[cell.batch, rows.len()], |b, v| {
            let (i, m) = (v[0], v[1] + rows.start as i64);
            let mut sum = match (&cell.weights, &bytes) {
                (Weights::Bytes(weights), Some(bytes)) => {
                    weights.product(b, bytes, i, [self.d.into(), m.clone()])
                }
                (Weights::Floats { r, .. }, _) => {
                    let k: [Loop; 1] = [("k".into(), cell.hidden)];
                    accumulate(b, &cell.local.acc, ReduceOp::Add, cell.dtype, &k, |k| {
                        Expr::load(from, [i, k[0]]) * r.at([self.d.into(), m.clone(), k[0].into()])
                    })
                }
                (Weights::Bytes(_), None) => unreachable!("the state was quantised"),
            };
            if let Weights::Floats { bias: Some(bias), .. } = &cell.weights {
                sum = sum + bias.at([self.d.into(), m.clone() + self.rows() as i64]);
            }
            if let Some(input) = input(i, &m) {
                sum = sum + input;
            }
            b.store(gates, [i.into(), m], sum);
        });
    }

    /// The product with the input of a gate's row.
    fn input(&self, step: &Affine, b: Var, row: &Affine) -> Expr {
        let x = &self.cell.projected;
        match self.cell.weights {
            Weights::Floats { .. } => x.at([self.d.into(), step.clone(), b.into(), row.clone()]),
            Weights::Bytes(_) => x.at([step.clone(), b.into(), row.clone() + self.d * self.rows() as i64]),
        }
    }

    /// Unit `j` of a gate, as a row.
    fn row(&self, gate: usize, j: Var) -> Affine {
        j + (gate * self.cell.hidden) as i64
    }

    fn activate(&self, b: &mut NestBuilder<'_>, which: usize, argument: Expr) -> Expr {
        let cell = self.cell;
        let argument = clipped(argument, cell.dtype, cell.clip.map(|c| -c), cell.clip);
        activation::unary(b, &cell.names, self.activations[which], cell.dtype, argument)
    }

    /// A gate whose argument lies in `gates`.
    fn gate(&self, b: &mut NestBuilder<'_>, which: usize, gates: BufId, i: Var, row: Affine) -> Expr {
        self.activate(b, which, Expr::load(gates, [i.into(), row]))
    }

    /// Stores the new state and the result of the step.
    fn emit(&self, b: &mut NestBuilder<'_>, h: BufId, step: &Affine, i: Var, j: Var, value: Expr) {
        b.store(h, [i, j], value);
        if let Some(y) = &self.cell.y {
            y.store(b, [step.clone(), self.d.into(), i.into(), j.into()], Expr::load(h, [i, j]));
        }
    }

    fn rnn(&self, b: &mut NestBuilder<'_>, s: &State, step: &Affine) {
        self.products(b, s.gates, s.h, 0..self.rows(), |i, m| Some(self.input(step, i, m)));
        self.each(b, |b, i, j| {
            let h = self.gate(b, 0, s.gates, i, self.row(0, j));
            self.emit(b, s.h, step, i, j, h);
        });
    }

    fn lstm(&self, b: &mut NestBuilder<'_>, s: &State, step: &Affine) {
        let Some(c) = s.c else { unreachable!("an LSTM has a cell state") };
        self.products(b, s.gates, s.h, 0..self.rows(), |i, m| Some(self.input(step, i, m)));
        self.each(b, |b, i, j| {
            let input = self.gate(b, 0, s.gates, i, self.row(0, j));
            let forget = self.gate(b, 0, s.gates, i, self.row(2, j));
            let candidate = self.gate(b, 1, s.gates, i, self.row(3, j));
            b.store(c, [i, j], forget * Expr::load(c, [i, j]) + input * candidate);
            let output = self.gate(b, 0, s.gates, i, self.row(1, j));
            let cell = activation::unary(
                b,
                &self.cell.names,
                self.activations[2],
                self.cell.dtype,
                Expr::load(c, [i, j]),
            );
            self.emit(b, s.h, step, i, j, output * cell);
        });
    }

    /// `h = (1 - z) * candidate + z * h`.
    fn gru_update(&self, b: &mut NestBuilder<'_>, s: &State, i: Var, j: Var, candidate: Expr) -> Expr {
        let z = self.gate(b, 0, s.gates, i, self.row(0, j));
        let z = self.cell.names.share(b, self.cell.dtype, z);
        let one = Expr::literal(self.cell.dtype, 1.0);
        (one - z.clone()) * candidate + z * Expr::load(s.h, [i, j])
    }

    /// The reset gate applies to the recurrent product.
    fn gru(&self, b: &mut NestBuilder<'_>, s: &State, step: &Affine) {
        // The products with the input of the hidden gate must stay apart from the recurrent product.
        let split = 2 * self.cell.hidden;
        self.products(b, s.gates, s.h, 0..split, |i, m| Some(self.input(step, i, m)));
        self.products(b, s.gates, s.h, split..self.rows(), |_, _| None);
        self.each(b, |b, i, j| {
            let reset = self.gate(b, 0, s.gates, i, self.row(1, j));
            let row = self.row(2, j);
            let argument =
                self.input(step, i, &row) + reset * Expr::load(s.gates, [Affine::from(i), row.clone()]);
            let candidate = self.activate(b, 1, argument);
            let h = self.gru_update(b, s, i, j, candidate);
            self.emit(b, s.h, step, i, j, h);
        });
    }

    /// The reset gate applies to the state, before the recurrent product.
    fn gru_reset_first(&self, b: &mut NestBuilder<'_>, s: &State, step: &Affine) {
        let cell = self.cell;
        let split = 2 * cell.hidden;
        self.products(b, s.gates, s.h, 0..split, |i, m| Some(self.input(step, i, m)));
        let reset = b.temp(&cell.local.reset, cell.dtype, &[cell.batch, cell.hidden]);
        self.each(b, |b, i, j| {
            let gate = self.gate(b, 0, s.gates, i, self.row(1, j));
            b.store(reset, [i, j], gate * Expr::load(s.h, [i, j]));
        });
        self.products(b, s.gates, reset, split..self.rows(), |i, m| Some(self.input(step, i, m)));
        self.each(b, |b, i, j| {
            let candidate = self.gate(b, 1, s.gates, i, self.row(2, j));
            let h = self.gru_update(b, s, i, j, candidate);
            self.emit(b, s.h, step, i, j, h);
        });
    }
}
