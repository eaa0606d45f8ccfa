//! Attention: which keys a query sees, what a query that sees none gets, and which scores are shown.

use nestjit::onnx::proto::tensor_proto::DataType;
use nestjit::onnx::proto::{ModelProto, NodeProto};
use nestjit::{ErrorKind, Tensor};

use super::common::onnx::{float, int, node, refusal, with};
use super::{assert_gives, floats, noise, single, tensor_of};

const BATCH: usize = 2;
const HEADS: usize = 2;
const QUERIES: usize = 3;
const KEYS: usize = 4;
const DEPTH: usize = 5;

/// A mask as the operator is given one.
#[derive(Clone, Copy, PartialEq)]
enum Given {
    None,
    /// Key 1 is hidden, and from query 2 all of them.
    Bools,
    /// The same, with minus infinity.
    Floats,
    /// Ends behind key 0, for queries that see a key: later keys are hidden.
    FirstColumn,
}

#[derive(Clone, Copy)]
struct Case {
    opset: i64,
    causal: bool,
    softcap: f64,
    /// Keys that are not padding, per batch.
    lengths: Option<[i64; BATCH]>,
    given: Given,
    window: Option<(i64, i64)>,
    shown: i64,
}

const PLAIN: Case = Case {
    opset: 24,
    causal: false,
    softcap: 0.0,
    lengths: None,
    given: Given::None,
    window: None,
    shown: 3,
};

fn hidden_by_mask(q: usize, k: usize) -> bool {
    k == 1 || q == 2
}

impl Case {
    fn masks(&self, q: usize, k: usize) -> bool {
        match self.given {
            Given::None => false,
            Given::Bools | Given::Floats => hidden_by_mask(q, k),
            Given::FirstColumn => k > 0 || q == 2,
        }
    }

    fn sees(&self, b: usize, q: usize, k: usize) -> bool {
        let length = self.lengths.map_or(KEYS as i64, |l| l[b]);
        let position = q as i64 + if self.lengths.is_some() { length - QUERIES as i64 } else { 0 };
        let key = k as i64;
        let (left, right) = self.window.unwrap_or((-1, -1));
        !self.masks(q, k)
            && key < length
            && (!self.causal || key <= position)
            && (left < 0 || key >= position.saturating_sub(left))
            && (right < 0 || key <= position.saturating_add(right))
    }

    fn node(&self) -> NodeProto {
        let mask = if self.given == Given::None { "" } else { "m" };
        let mut inputs = vec!["q", "k", "v", mask, "", "", "n"];
        if self.lengths.is_none() {
            inputs.truncate(4);
        }
        let mut node = node("Attention", &inputs, &["y", "", "", "s"]);
        node = with(node, int("is_causal", self.causal.into()));
        node = with(node, float("softcap", self.softcap as f32));
        node = with(node, int("qk_matmul_output_mode", self.shown));
        if let Some((left, right)) = self.window {
            node = with(with(node, int("left_window_size", left)), int("right_window_size", right));
        }
        node
    }

    fn model(&self) -> (ModelProto, Vec<Tensor>) {
        let (q, kv) = ([BATCH, HEADS, QUERIES, DEPTH], [BATCH, HEADS, KEYS, DEPTH]);
        let mut inputs: Vec<(&str, DataType, &[usize])> =
            vec![("q", DataType::Float, &q), ("k", DataType::Float, &kv), ("v", DataType::Float, &kv)];
        let mut values = vec![noise(&q, 1), noise(&kv, 2), noise(&kv, 3)];
        match self.given {
            Given::None => {}
            Given::Bools | Given::FirstColumn => {
                let shape: &[usize] =
                    if self.given == Given::Bools { &[QUERIES, KEYS] } else { &[QUERIES, 1] };
                let seen: Vec<bool> =
                    (0..QUERIES * shape[1]).map(|i| !self.masks(i / shape[1], i % shape[1])).collect();
                inputs.push(("m", DataType::Bool, shape));
                values.push(Tensor::new(shape, &seen).unwrap());
            }
            Given::Floats => {
                let added = |i: &[usize]| if hidden_by_mask(i[0], i[1]) { f64::NEG_INFINITY } else { 0.0 };
                inputs.push(("m", DataType::Float, &[QUERIES, KEYS]));
                values.push(tensor_of(&[QUERIES, KEYS], added));
            }
        }
        if let Some(lengths) = self.lengths {
            inputs.push(("n", DataType::Int64, &[BATCH]));
            values.push(Tensor::new(&[BATCH], &lengths).unwrap());
        }
        (single(self.opset, self.node(), &inputs, vec![]), values)
    }

    fn check(&self) {
        let (model, inputs) = self.model();
        let [q, k, v] = [0, 1, 2].map(|i| floats(&inputs[i]));
        let at = |x: &[f64], b: usize, h: usize, t: usize, n: usize, d: usize| {
            x[((b * HEADS + h) * n + t) * DEPTH + d]
        };
        let product = |b: usize, h: usize, i: usize, j: usize| {
            let sum: f64 = (0..DEPTH).map(|d| at(&q, b, h, i, QUERIES, d) * at(&k, b, h, j, KEYS, d)).sum();
            sum / (DEPTH as f64).sqrt()
        };
        let capped = |b, h, i, j| match self.softcap {
            0.0 => product(b, h, i, j),
            cap => cap * (product(b, h, i, j) / cap).tanh(),
        };
        let masked = |b, h, i, j| {
            if self.sees(b, i, j) { capped(b, h, i, j) } else { f64::NEG_INFINITY }
        };
        let weight = |b, h, i, j| {
            let sum: f64 = (0..KEYS).map(|j| f64::exp(masked(b, h, i, j))).sum();
            if sum == 0.0 { 0.0 } else { f64::exp(masked(b, h, i, j)) / sum }
        };
        let y = tensor_of(&[BATCH, HEADS, QUERIES, DEPTH], |i| {
            (0..KEYS).map(|j| weight(i[0], i[1], i[2], j) * at(&v, i[0], i[1], j, KEYS, i[3])).sum()
        });
        let shown = tensor_of(&[BATCH, HEADS, QUERIES, KEYS], |i| {
            let [b, h, q, k] = [i[0], i[1], i[2], i[3]];
            match self.shown {
                0 => product(b, h, q, k),
                1 => capped(b, h, q, k),
                2 => masked(b, h, q, k),
                _ => weight(b, h, q, k),
            }
        });
        assert_gives(model, &inputs, &[y, shown], 1e-5);
    }
}

#[test]
fn the_last_query_is_the_last_key_that_is_no_padding() {
    for lengths in [[4, 3], [3, 4], [4, 1]] {
        for shown in [2, 3] {
            Case { causal: true, lengths: Some(lengths), shown, ..PLAIN }.check();
        }
    }
    Case { causal: true, ..PLAIN }.check();
    Case { lengths: Some([2, 3]), ..PLAIN }.check();
}

#[test]
fn a_query_that_sees_no_key_gets_zeros() {
    for given in [Given::Bools, Given::Floats, Given::FirstColumn] {
        for causal in [false, true] {
            for shown in [2, 3] {
                Case { given, causal, shown, ..PLAIN }.check();
            }
        }
        Case { given, causal: true, lengths: Some([4, 2]), ..PLAIN }.check();
    }
    Case { lengths: Some([0, 4]), ..PLAIN }.check();
    Case { opset: 23, given: Given::Bools, ..PLAIN }.check();
}

#[test]
fn scores_are_shown_before_or_after_the_softcap() {
    for shown in 0..4 {
        Case { softcap: 0.25, given: Given::Bools, shown, ..PLAIN }.check();
    }
}

#[test]
fn windows_move_with_the_query() {
    for window in [(0, -1), (1, 0), (-1, 1), (0, 0), (1, 1), (-1, -1), (i64::MAX, i64::MAX)] {
        for causal in [false, true] {
            Case { opset: 25, window: Some(window), causal, ..PLAIN }.check();
        }
        Case { opset: 25, window: Some(window), lengths: Some([4, 2]), ..PLAIN }.check();
    }
    let (model, _) = Case { opset: 25, window: Some((-2, 0)), ..PLAIN }.model();
    let (kind, text) = refusal(model);
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(text.contains("left_window_size must not be negative, but is -2"), "{text}");
}

#[test]
fn padding_and_a_past_exclude_each_other() {
    let shape: &[usize] = &[BATCH, HEADS, KEYS, DEPTH];
    let inputs: Vec<(&str, DataType, &[usize])> =
        ["q", "k", "v", "pk", "pv"].into_iter().map(|name| (name, DataType::Float, shape)).collect();
    let lengths = ("n", DataType::Int64, &[BATCH][..]);
    let node = node("Attention", &["q", "k", "v", "", "pk", "pv", "n"], &["y", "ck", "cv"]);
    let (kind, text) = refusal(single(24, node, &[inputs, vec![lengths]].concat(), vec![]));
    assert_eq!(kind, ErrorKind::Invalid);
    assert!(text.contains("nonpad_kv_seqlen and a past exclude each other"), "{text}");
}
