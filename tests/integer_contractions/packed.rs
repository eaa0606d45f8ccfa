//! Products of floats with constant weights of few bits: which of them stay packed, in which blocks, and that they are the
//! same numbers.

use nestjit::graph::{Graph, Op, Precision, evaluate};
use nestjit::{DType, GraphBuilder, Tensor};

use super::{distance, rewritten};

const INNER: usize = 64;
const COLUMNS: usize = 5;

/// A product with weights `q * scale`, both written out for each element.
fn product(q: Tensor, scale: impl Fn(usize, usize) -> f32) -> Graph {
    let scale: Vec<f32> = (0..INNER * COLUMNS).map(|i| scale(i / COLUMNS, i % COLUMNS)).collect();
    let mut b = GraphBuilder::new("packed");
    let x = b.input("x", DType::F32, &[3, INNER]);
    let q = b.constant("q", q);
    let scale = b.constant("scale", Tensor::new(&[INNER, COLUMNS], &scale).unwrap());
    let wide = b.cast(q, DType::F32);
    let w = b.mul(wide, scale);
    let y = b.matmul(x, w);
    b.output("y", y);
    b.build().unwrap()
}

/// Checks that weights stay packed in blocks of so many, or do not.
#[track_caller]
fn check(graph: &Graph, block: Option<usize>) {
    let (after, _) = rewritten(graph);
    let blocks = after.nodes.iter().filter_map(|node| match node.op {
        Op::PackedMatMul { block, .. } => Some(block),
        _ => None,
    });
    assert_eq!(blocks.collect::<Vec<_>>(), Vec::from_iter(block), "{after}");
    let x = [Tensor::random(DType::F32, &[3, INNER], 1).unwrap()];
    let [expected, found] = [graph, &after].map(|graph| evaluate(graph, &x, Precision::F64).unwrap());
    assert!(distance(&found[0], &expected[0]) < 1e-6, "{after}");
}

fn numbers(of: impl Fn(usize) -> i32) -> (Vec<u8>, Vec<i8>) {
    let all = || (0..INNER * COLUMNS).map(&of);
    (all().map(|v| (v + 8) as u8).collect(), all().map(|v| v as i8).collect())
}

#[test]
fn four_bits_hold_sixteen_numbers() {
    for (beyond, block) in [(7, Some(INNER)), (-8, Some(INNER)), (8, None), (-9, None)] {
        let (unsigned, signed) = numbers(|i| if i == 77 { beyond } else { i as i32 * 7 % 16 - 8 });
        if beyond >= -8 {
            check(&product(Tensor::new(&[INNER, COLUMNS], &unsigned).unwrap(), |_, _| 0.25), block);
        }
        check(&product(Tensor::new(&[INNER, COLUMNS], &signed).unwrap(), |_, _| 0.25), block);
    }
}

#[test]
fn a_block_ends_where_any_column_has_another_scale() {
    let (unsigned, _) = numbers(|i| i as i32 * 7 % 16 - 8);
    let q = || Tensor::new(&[INNER, COLUMNS], &unsigned).unwrap();
    check(&product(q(), |_, n| 0.25 + n as f32), Some(64));
    check(&product(q(), |k, n| if n == 3 && k >= 32 { 0.5 } else { 0.25 }), Some(32));
    check(
        &product(q(), |k, n| match n {
            1 if k >= 48 => 0.5,
            4 if k >= 32 => 0.125,
            _ => 0.25,
        }),
        Some(16),
    );
    // Blocks of so few are not worth a scale each.
    check(&product(q(), |k, n| if n == 3 && k >= 8 { 0.5 } else { 0.25 }), None);
}
