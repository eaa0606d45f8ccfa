//! What classical models need.

use nestjit::graph::{Binary, Op, Unary, ValueId};

use super::{Cases, Maker};

pub fn add(cases: &mut Cases) {
    for (name, samples, classes) in [
        ("two", 3, 2),
        ("three", 5, 3),
        ("one_sample", 1, 4),
        ("many", 20, 7),
        ("one_class", 3, 1),
        ("none", 0, 3),
    ] {
        cases.add(format!("pairwise_coupling/{name}"), |m| {
            let r = pairs(m, samples, classes);
            m.op(Op::PairwiseCoupling, &[r])
        });
    }
}

/// Probabilities of classes beside each other.
fn pairs(m: &mut Maker, samples: usize, classes: usize) -> ValueId {
    let x = m.x(&[samples, classes, classes]);
    let other = m.op(Op::Transpose { perm: vec![0, 2, 1] }, &[x])[0];
    let difference = m.op(Op::Binary(Binary::Sub), &[x, other])[0];
    m.op(Op::Unary(Unary::Sigmoid), &[difference])[0]
}
