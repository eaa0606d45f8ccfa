//! `nestjit info`: what a model takes, returns and consists of, and what is not supported. Nothing is compiled.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nestjit::onnx::{Dim, InputKind, InputSpec, MAX_ML_OPSET, MAX_OPSET, OperatorUse};
use nestjit::report::format::{bytes, count, name};
use nestjit::report::text::table::table;
use nestjit::{Error, Result, SessionModel};
use serde::Serialize;

use super::Outcome;
use super::args::InfoArgs;
use super::model;

/// What there is to know of a model.
#[derive(Serialize)]
struct Info {
    model: String,
    /// By domain; the default domain is `ai.onnx`. Empty for built-in models.
    opsets: BTreeMap<String, i64>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// What `--dim` takes, in order.
    open_dimensions: Vec<String>,
    /// The elements of weights, and their bytes.
    weights: usize,
    weight_bytes: usize,
    functions: usize,
    nodes: usize,
    operators: Vec<Operator>,
}

/// An input or output.
#[derive(Serialize)]
struct Port {
    name: String,
    /// `f32[batch,3,224,224]`; `?` where nothing is declared.
    r#type: String,
}

/// An operator, and how many nodes have it.
#[derive(Serialize)]
struct Operator {
    domain: String,
    name: String,
    count: usize,
    /// Why it is not supported.
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

pub(crate) fn execute(args: &InfoArgs) -> Result<Outcome> {
    let model = model::open(&args.model)?;
    let info = Info::of(&model);
    if args.json {
        let json = serde_json::to_string_pretty(&info).map_err(|e| Error::internal(e.to_string()))?;
        return Ok((json + "\n").into());
    }
    let text = info.text(&args.model).map_err(|e| Error::internal(e.to_string()))?;
    Ok(text.into())
}

impl Info {
    fn of(model: &SessionModel) -> Info {
        let all = model.overview();
        let domain = |domain: &str| if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() };
        let output = |(name, spec): &(String, Option<InputSpec>)| match spec {
            Some(spec) => Port::of(spec),
            None => Port { name: name.clone(), r#type: "?".to_owned() },
        };
        let nodes = all.nodes();
        let operator = |used: OperatorUse| Operator {
            domain: domain(&used.domain),
            name: used.name,
            count: used.count,
            missing: used.missing,
        };
        Info {
            model: model.name().to_owned(),
            opsets: all.opsets.iter().map(|(name, version)| (domain(name), *version)).collect(),
            inputs: model.inputs().iter().map(Port::of).collect(),
            outputs: all.outputs.iter().map(output).collect(),
            open_dimensions: model::open_dimensions(model.inputs()),
            weights: all.weights.0,
            weight_bytes: all.weights.1,
            functions: all.functions,
            nodes,
            operators: all.operators.into_iter().map(operator).collect(),
        }
    }

    fn text(&self, given: &str) -> std::result::Result<String, std::fmt::Error> {
        let mut text = format!("model {}\n", name(&self.model));
        if !self.opsets.is_empty() {
            let newest = |domain: &str| match domain {
                "ai.onnx" => format!(" ({MAX_OPSET} is the newest that is known)"),
                "ai.onnx.ml" => format!(" ({MAX_ML_OPSET} is the newest that is known)"),
                _ => String::new(),
            };
            let sets =
                self.opsets.iter().map(|(domain, v)| format!("{} {v}{}", name(domain), newest(domain)));
            writeln!(text, "operator sets: {}", sets.collect::<Vec<_>>().join(", "))?;
        }
        writeln!(text, "weights: {} numbers, {}", count(self.weights as f64), bytes(self.weight_bytes))?;
        for (what, ports) in [("inputs", &self.inputs), ("outputs", &self.outputs)] {
            writeln!(text, "\n{what}")?;
            text += &ports.iter().map(|p| format!("  {}: {}\n", name(&p.name), p.r#type)).collect::<String>();
        }
        if !self.open_dimensions.is_empty() {
            let dims = self.open_dimensions.iter().map(|d| format!(" --dim '{}=N'", name(d)));
            writeln!(
                text,
                "open dimensions, 1 unless files or options say more:{}",
                dims.collect::<String>()
            )?;
        }
        let of_functions = match self.functions {
            0 => String::new(),
            n => format!(", those of {n} functions among them"),
        };
        writeln!(text, "\n{} nodes{of_functions}", self.nodes)?;
        let row = |used: &Operator| {
            let domain = if used.domain == "ai.onnx" { String::new() } else { name(&used.domain) };
            let missing = used.missing.as_ref().map(|why| format!("NOT SUPPORTED: {}", name(why)));
            [used.count.to_string(), name(&used.name), domain, missing.unwrap_or_default()]
        };
        let mut operators: Vec<&Operator> = self.operators.iter().collect();
        operators.sort_by_key(|used| (used.missing.is_none(), std::cmp::Reverse(used.count)));
        text += &table(["nodes", "operator", "domain", ""], &[0], operators.into_iter().map(row));
        let missing: Vec<&Operator> = self.operators.iter().filter(|used| used.missing.is_some()).collect();
        if missing.is_empty() {
            writeln!(text, "\nall operators are supported; `nestjit run {}` runs it", name(given))?;
        } else {
            let nodes: usize = missing.iter().map(|used| used.count).sum();
            writeln!(
                text,
                "\n{} operators of {nodes} nodes are not supported; those that are: docs/OPERATORS.md",
                missing.len()
            )?;
        }
        Ok(text)
    }
}

impl Port {
    fn of(spec: &InputSpec) -> Port {
        let dim = |dim: &Dim| match dim {
            Dim::Fixed(extent) => extent.to_string(),
            Dim::Symbol(symbol) => name(symbol),
            Dim::Unknown => "?".to_owned(),
        };
        let tensor = match &spec.dims {
            Some(dims) => {
                format!("{}[{}]", spec.dtype, dims.iter().map(dim).collect::<Vec<_>>().join(","))
            }
            None => format!("{} of any shape", spec.dtype),
        };
        let r#type = match spec.kind {
            InputKind::Tensor => tensor,
            InputKind::Sequence => format!("a sequence of tensors of {}", spec.dtype),
            InputKind::Optional => format!("an optional value of {}", spec.dtype),
            _ => "?".to_owned(),
        };
        Port { name: spec.name.clone(), r#type }
    }
}
