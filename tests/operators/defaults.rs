//! What is said by default may be said: the default values of attributes, as the schemas of the package onnx have them
//! (`defaults.txt`, which `defaults.py` writes), change nothing when a node spells them out.

use nestjit::graph::{Graph, Precision, evaluate};
use nestjit::onnx::{MAX_OPSET, OnnxModel, OpEntry, Specialization, operators};
use nestjit::{DType, Tensor};

use super::example::{Example, Size};

/// Versions whose defaults ask for training, which is not supported.
const TRAINING: [(&str, i64); 4] =
    [("BatchNormalization", 1), ("BatchNormalization", 6), ("Dropout", 1), ("Dropout", 6)];

/// The graph of an example in a version of the operator set, for the first type that it can be imported with.
fn import(example: &Example, version: i64) -> Option<(DType, Graph, Vec<Tensor>)> {
    DType::ALL.into_iter().find_map(|dtype| {
        let (model, inputs) = example.model("", version, dtype);
        let graph = OnnxModel::from_proto(model).and_then(|m| m.graph(&Specialization::default())).ok()?;
        Some((dtype, graph, inputs))
    })
}

/// Whether the example can be imported; an error if it cannot with the defaults written out, or is something else then.
fn holds(example: &Example, defaults: &Example, version: i64) -> Result<bool, String> {
    let Some((dtype, plain, inputs)) = import(example, version) else { return Ok(false) };
    let failure =
        |what: &str, e: nestjit::Error| format!("{}, version {version}: {what}{e}", example.operator);
    let (model, _) = example.with_attributes_of(defaults).model("", version, dtype);
    let spelled_out = OnnxModel::from_proto(model)
        .and_then(|m| m.graph(&Specialization::default()))
        .map_err(|e| failure("", e))?;
    let value =
        |graph: &Graph| evaluate(graph, &inputs, Precision::F32).map_err(|e| failure("evaluator: ", e));
    let (expected, actual) = (value(&plain)?, value(&spelled_out)?);
    let same =
        |a: &Tensor, b: &Tensor| (a.dtype(), a.shape(), a.bytes()) == (b.dtype(), b.shape(), b.bytes());
    match expected.len() == actual.len() && expected.iter().zip(&actual).all(|(a, b)| same(a, b)) {
        true => Ok(true),
        false => Err(format!("{}, version {version}: another result", example.operator)),
    }
}

#[test]
fn defaults_can_be_written_out() {
    let (examples, defaults) = (super::examples(), super::parse(include_str!("defaults.txt"), Size::Small));
    let (mut failures, mut tried) = (Vec::new(), 0);
    for (i, of_schema) in defaults.iter().enumerate() {
        let operator = of_schema.operator.as_str();
        let Some(entry) = operators().find(|e| e.domain.is_empty() && e.name == operator) else { continue };
        // A schema is in force up to the next one.
        let since = of_schema.version.expect("defaults have a version");
        let next = defaults.get(i + 1).filter(|d| d.operator == operator).and_then(|d| d.version);
        let last = next.map_or(entry.until.unwrap_or(MAX_OPSET), |next| next - 1);
        let versions = since.max(entry.since)..=last;
        if of_schema.has_no_attributes()
            || versions.is_empty()
            || entry.session
            || TRAINING.contains(&(operator, since))
        {
            continue;
        }
        let mut found = false;
        for example in examples.iter().filter(|e| e.name == operator) {
            for version in [*versions.start(), *versions.end()] {
                match holds(example, of_schema, version) {
                    Ok(imported) => found |= imported,
                    Err(e) => failures.push(e),
                }
            }
        }
        tried += usize::from(found);
        if !found {
            failures.push(format!("{operator}, version {since}: no example can be imported"));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(tried > 200, "only {tried} schemas were tried");
}

/// Sets to come: what has the form that is known is taken at its word, but for operators whose meaning still changes.
#[test]
fn newer_operator_sets_are_refused_by_the_operator_only() {
    let version = MAX_OPSET + 7;
    let mut failures = Vec::new();
    for example in super::examples() {
        let named = |e: &&OpEntry| e.domain.is_empty() && e.name == example.name;
        let Some(entry) = operators().find(named) else { continue };
        if entry.until.is_some() || import(&example, MAX_OPSET).is_none() {
            continue;
        }
        if import(&example, version).is_none() != entry.changing {
            failures.push(example.operator.clone());
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
