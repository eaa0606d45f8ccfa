//! What tests of passes that rewrite nests share: units from text with random constants, and what they compute.

use std::collections::HashMap;
use std::sync::Arc;

use nestjit_ir::interp::{Mode, Value, interpret, no_calls};
use nestjit_ir::parse::parse;
use nestjit_ir::{BufId, DType, Role};

use crate::tensor::Tensor;
use crate::unit::Unit;

/// A unit with random constants.
pub(super) fn unit(text: &str) -> Unit {
    let program = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let of = |role| program.buf_ids().filter(|b| program.buf(*b).role == role).collect::<Vec<BufId>>();
    let (consts, inputs, outputs) = (of(Role::Const), of(Role::In), of(Role::Out));
    let mut unit = Unit { program, inputs, outputs, ..Unit::default() };
    for (seed, b) in consts.into_iter().enumerate() {
        let shape = unit.program.buf(b).shape.clone();
        unit.consts.insert(b, Arc::new(Tensor::random(DType::F32, &shape, seed as u64).unwrap()));
    }
    unit
}

/// What it computes from random inputs, which are the same for every program with the same buffers.
pub(super) fn results(unit: &Unit, mode: Mode) -> HashMap<BufId, Value> {
    let program = &unit.program;
    let mut given = HashMap::new();
    for b in program.buf_ids() {
        let buffer = program.buf(b);
        let tensor = match buffer.role {
            Role::Const => unit.consts.get(&b).cloned(),
            Role::In => Tensor::random(DType::F32, &buffer.shape, u64::from(b.0) + 100).ok().map(Arc::new),
            _ => None,
        };
        if let Some(tensor) = tensor {
            let values = tensor.values::<f32>().unwrap();
            given.insert(b, Value::from_fn(DType::F32, &buffer.shape, |i| f64::from(values[i])));
        }
    }
    interpret(program, &given, mode, &no_calls).expect("the program runs")
}
