//! Recurrent layers: by hand, against cells written out in primitive operations, and direction by direction.

use std::slice::from_ref;

use super::*;
use crate::graph::builder::CellWeights;
use crate::graph::{Direction, RecurrentKind};

const LSTM: RecurrentKind = RecurrentKind::Lstm;

fn layer(kind: RecurrentKind, hidden: usize, direction: Direction, clip: Option<f64>) -> Op {
    let one: &[Unary] = match kind {
        RecurrentKind::Rnn => &[Unary::Tanh],
        RecurrentKind::Lstm => &[Unary::Sigmoid, Unary::Tanh, Unary::Tanh],
        RecurrentKind::Gru { .. } => &[Unary::Sigmoid, Unary::Tanh],
    };
    Op::Recurrent { kind, hidden, direction, activations: one.repeat(direction.count()), clip }
}

#[test]
fn an_rnn_by_hand() {
    let op = Op::Recurrent {
        kind: RecurrentKind::Rnn,
        hidden: 1,
        direction: Direction::Forward,
        activations: vec![Unary::Relu],
        clip: Some(50.0),
    };
    let (w, r) = (t(&[1, 1, 2], &[1.0, 10.0]), t(&[1, 1, 1], &[2.0]));
    let x = t(&[3, 1, 2], &[1.0, 1.0, -40.0, 1.0, 3.0, 1.0]);
    let outputs = evaluate_op(&op, &[x.clone(), w.clone(), r.clone()]).unwrap();
    // 11; -30 + 22 < 0; 13.
    assert_close(&outputs[0], &[3, 1, 1, 1], &[11.0, 0.0, 13.0]);
    assert_close(&outputs[1], &[1, 1, 1], &[13.0]);
    let (b, h) = (t(&[1, 2], &[1.0, 0.5]), t(&[1, 1, 1], &[100.0]));
    let outputs = evaluate_op(&op, &[x, w, r, b, h]).unwrap();
    // 11 + 200 + 1.5 is clipped to 50; -30 + 100 + 1.5 too; 13 + 100 + 1.5 too.
    assert_close(&outputs[0], &[3, 1, 1, 1], &[50.0, 50.0, 50.0]);
}

#[test]
fn an_lstm_by_hand() {
    let op = Op::Recurrent {
        kind: LSTM,
        hidden: 1,
        direction: Direction::Forward,
        activations: vec![Unary::Identity, Unary::Neg, Unary::Square],
        clip: None,
    };
    // Input, output, forget, cell.
    let w = t(&[1, 4, 1], &[1.0, 2.0, 3.0, 4.0]);
    let r = t(&[1, 4, 1], &[1.0, 0.0, 0.0, 1.0]);
    let b = t(&[1, 8], &[0.0, 0.0, 1.0, 0.0, 0.0, 0.5, 0.0, 0.0]);
    let inputs = [t(&[1, 1, 1], &[2.0]), w, r, b, t(&[1, 1, 1], &[3.0]), t(&[1, 1, 1], &[0.5])];
    let outputs = evaluate_op(&op, &inputs).unwrap();
    // i = 2 + 3, o = 4 + 0.5, f = 6 + 1, g = -(8 + 3); c = 7 * 0.5 - 5 * 11 = -51.5; h = 4.5 * c^2.
    assert_close(&outputs[2], &[1, 1, 1], &[-51.5]);
    assert_close(&outputs[1], &[1, 1, 1], &[4.5 * 51.5 * 51.5]);
    assert_eq!(outputs[0].shape(), [1, 1, 1, 1]);
}

#[test]
fn a_gru_by_hand() {
    let run = |linear_before_reset| {
        let op = Op::Recurrent {
            kind: RecurrentKind::Gru { linear_before_reset },
            hidden: 1,
            direction: Direction::Forward,
            activations: vec![Unary::Identity, Unary::Identity],
            clip: None,
        };
        // Update, reset, hidden.
        let w = t(&[1, 3, 1], &[0.25, 1.0, 1.0]);
        let r = t(&[1, 3, 1], &[0.0, 1.0, 2.0]);
        let b = t(&[1, 6], &[0.0, 0.0, 0.0, 0.0, 0.0, 10.0]);
        evaluate_op(&op, &[t(&[1, 1, 1], &[2.0]), w, r, b, t(&[1, 1, 1], &[3.0])]).unwrap()
    };
    // z = 0.5, r = 5; n = 2 + 2 * 15 + 10 = 42; h = 0.5 * 42 + 0.5 * 3.
    assert_close(&run(false)[1], &[1, 1, 1], &[22.5]);
    // n = 2 + 5 * (6 + 10) = 82.
    assert_close(&run(true)[1], &[1, 1, 1], &[42.5]);
}

/// The rows of PyTorch's gates in the order of ONNX.
fn reorder(weights: &Tensor, order: &[usize], hidden: usize) -> Tensor {
    let rows: Vec<i64> =
        order.iter().flat_map(|gate| (gate * hidden..(gate + 1) * hidden).map(|row| row as i64)).collect();
    eval(Op::Gather { axis: 0 }, &[weights.clone(), ints(&[rows.len()], &rows)])
}

#[test]
fn layers_equal_their_cells() {
    let (batch, features, hidden) = (2, 3, 4);
    for (kind, order) in [
        (RecurrentKind::Rnn, &[0][..]),
        (LSTM, &[0, 3, 1, 2]),
        (RecurrentKind::Gru { linear_before_reset: true }, &[1, 0, 2]),
    ] {
        let rows = kind.gates() * hidden;
        let x = noise(&[batch, features], 1);
        let (h, c) = (noise(&[batch, hidden], 2), noise(&[batch, hidden], 3));
        let (w, r) = (noise(&[rows, features], 4), noise(&[rows, hidden], 5));
        let (bw, br) = (noise(&[rows], 6), noise(&[rows], 7));
        let mut g = GraphBuilder::new("cell");
        let [gx, gh, gc] =
            [("x", &x), ("h", &h), ("c", &c)].map(|(name, t)| g.input(name, DType::F32, t.shape()));
        let [input, hidden_weight, input_bias, hidden_bias] = [&w, &r, &bw, &br].map(|t| g.constant("w", t));
        let weights = CellWeights { input, hidden: hidden_weight, input_bias, hidden_bias };
        match kind {
            RecurrentKind::Rnn => {
                let y = g.rnn_cell(gx, gh, &weights);
                g.output("y", y);
            }
            RecurrentKind::Lstm => {
                let (y, cell) = g.lstm_cell(gx, gh, gc, &weights);
                g.output("y", y);
                g.output("cell", cell);
            }
            RecurrentKind::Gru { .. } => {
                let y = g.gru_cell(gx, gh, &weights);
                g.output("y", y);
            }
        }
        let inputs = [x.clone(), h.clone(), c.clone()];
        let cell = evaluate(&g.build().unwrap(), &inputs, Precision::F32).unwrap();

        let b = eval(Op::Concat { axis: 0 }, &[reorder(&bw, order, hidden), reorder(&br, order, hidden)]);
        let mut operands = vec![
            x.reshape(&[1, batch, features]).unwrap(),
            reorder(&w, order, hidden).reshape(&[1, rows, features]).unwrap(),
            reorder(&r, order, hidden).reshape(&[1, rows, hidden]).unwrap(),
            b.reshape(&[1, 2 * rows]).unwrap(),
            h.reshape(&[1, batch, hidden]).unwrap(),
        ];
        if kind == LSTM {
            operands.push(c.reshape(&[1, batch, hidden]).unwrap());
        }
        let outputs = evaluate_op(&layer(kind, hidden, Direction::Forward, None), &operands).unwrap();
        for (output, cell) in outputs[1..].iter().zip(&cell) {
            assert_close(output, &[1, batch, hidden], cell.values::<f32>().unwrap());
        }
        assert_eq!(outputs.len() - 1, cell.len());
    }
}

#[test]
fn both_directions_are_one_and_the_other() {
    let (steps, batch, features, hidden) = (5, 2, 3, 4);
    let kind = RecurrentKind::Gru { linear_before_reset: false };
    let x = noise(&[steps, batch, features], 1);
    let (w, r) = (noise(&[2, 3 * hidden, features], 2), noise(&[2, 3 * hidden, hidden], 3));
    let (b, h) = (noise(&[2, 6 * hidden], 4), noise(&[2, batch, hidden], 5));
    let both = evaluate_op(
        &layer(kind, hidden, Direction::Bidirectional, Some(0.8)),
        &[x.clone(), w.clone(), r.clone(), b.clone(), h.clone()],
    )
    .unwrap();
    for (d, direction) in [Direction::Forward, Direction::Reverse].into_iter().enumerate() {
        let part = |tensor: &Tensor, axis: usize| {
            let split = Op::Split { axis, sizes: vec![1, 1] };
            evaluate_op(&split, from_ref(tensor)).unwrap().remove(d)
        };
        let operands = [x.clone(), part(&w, 0), part(&r, 0), part(&b, 0), part(&h, 0)];
        let one = evaluate_op(&layer(kind, hidden, direction, Some(0.8)), &operands).unwrap();
        assert_eq!(one[0], part(&both[0], 1));
        assert_eq!(one[1], part(&both[1], 0));
        // The last state is the one of the step that was read last.
        let last = if direction == Direction::Forward { steps - 1 } else { 0 };
        let step = eval(Op::Gather { axis: 0 }, &[one[0].clone(), Tensor::scalar(last as i64)]);
        assert_eq!(step, one[1]);
    }
}

#[test]
fn no_steps_leave_the_initial_state() {
    let h = noise(&[1, 2, 3], 1);
    let operands =
        [t(&[0, 2, 1], &[]), noise(&[1, 12, 1], 2), noise(&[1, 12, 3], 3), noise(&[1, 24], 4), h.clone()];
    let outputs = evaluate_op(&layer(LSTM, 3, Direction::Reverse, None), &operands).unwrap();
    assert_eq!(outputs[0].shape(), [0, 1, 2, 3]);
    assert_eq!(outputs[1], h);
    assert_close(&outputs[2], &[1, 2, 3], &[0.0; 6]);
}
