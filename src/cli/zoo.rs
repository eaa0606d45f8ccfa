//! `nestjit zoo`: the built-in models.

use nestjit::Result;
use nestjit::graph::ValueId;
use nestjit::report::text::table::table;
use nestjit::zoo::{self, ZooEntry};
use serde::Serialize;
use serde_json::json;

use super::Outcome;
use super::args::{ModelSize, ZooArgs};

pub(crate) fn execute(args: &ZooArgs) -> Result<Outcome> {
    let size = args.size.map(|size| match size {
        ModelSize::Small => zoo::Size::Small,
        ModelSize::Network => zoo::Size::Network,
    });
    let listed = zoo::list().iter().filter(|entry| size.is_none_or(|size| size == entry.size));
    if args.names {
        let names: Vec<&str> = listed.map(|entry| entry.name).collect();
        return Ok((names.join("\n") + "\n").into());
    }
    let models = listed.map(Listed::of).collect::<Result<Vec<_>>>()?;
    if args.json {
        return Ok((json!({ "models": models }).to_string() + "\n").into());
    }
    let text = table(["model", "inputs", "outputs", "ops", ""], &[3], models.iter().map(Listed::row));
    Ok((text + "weights are random numbers: outputs mean nothing, but that all ways to compute them agree\n")
        .into())
}

/// What is said of a model; serialised, a part of what `--json` prints.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    summary: &'static str,
    /// Height and width, or the length, of the inputs of a network; `NAME@SIZE` has another one.
    size: Option<usize>,
    /// Absent for networks: to know more of them is to draw their weights, hundreds of megabytes.
    inputs: Option<Vec<Port>>,
    outputs: Option<Vec<Port>>,
    operations: Option<usize>,
}

#[derive(Serialize)]
struct Port {
    name: String,
    r#type: String,
    shape: Vec<usize>,
}

impl Listed {
    fn of(entry: &ZooEntry) -> Result<Listed> {
        let (name, summary, size) = (entry.name, entry.summary, entry.resolution());
        if size.is_some() {
            return Ok(Listed { name, summary, size, inputs: None, outputs: None, operations: None });
        }
        let graph = zoo::build(name)?.graph;
        let port = |id: &ValueId| {
            let value = graph.value(*id);
            Port { name: value.name.clone(), r#type: value.dtype.to_string(), shape: value.shape.clone() }
        };
        let ports = |ids: &[ValueId]| Some(ids.iter().map(port).collect());
        let (inputs, outputs) = (ports(&graph.inputs), ports(&graph.outputs));
        Ok(Listed { name, summary, size, inputs, outputs, operations: Some(graph.nodes.len()) })
    }

    fn row(&self) -> [String; 5] {
        let ports = |ports: &Option<Vec<Port>>| {
            let one = |port: &Port| {
                let shape: Vec<String> = port.shape.iter().map(usize::to_string).collect();
                format!("{}: {}[{}]", port.name, port.r#type, shape.join(","))
            };
            ports.iter().flatten().map(one).collect::<Vec<_>>().join(", ")
        };
        let inputs = match self.size {
            Some(size) => format!("size {size}, or NAME@SIZE"),
            None => ports(&self.inputs),
        };
        let operations = self.operations.map(|n| n.to_string()).unwrap_or_default();
        [self.name.to_owned(), inputs, ports(&self.outputs), operations, self.summary.to_owned()]
    }
}
