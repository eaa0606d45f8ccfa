//! `nestjit zoo`: the built-in models.

use nestjit::Result;
use nestjit::graph::ValueId;
use nestjit::report::text::table::table;
use nestjit::zoo::{self, ZooEntry};

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
    let rows = listed.map(row).collect::<Result<Vec<_>>>()?;
    Ok(table(["model", "inputs", "outputs", "ops", ""], &[3], rows).into())
}

fn row(entry: &ZooEntry) -> Result<[String; 5]> {
    let (name, summary) = (entry.name.to_owned(), entry.summary.to_owned());
    // To know more of a network is to draw its weights, hundreds of megabytes of them.
    if let Some(size) = entry.resolution() {
        return Ok([name, format!("size {size}, or NAME@SIZE"), String::new(), String::new(), summary]);
    }
    let model = nestjit::zoo::build(entry.name)?;
    let ports = |ids: &[ValueId]| {
        let one = |id: &ValueId| {
            let value = model.graph.value(*id);
            let shape: Vec<String> = value.shape.iter().map(usize::to_string).collect();
            format!("{}: {}[{}]", value.name, value.dtype, shape.join(","))
        };
        ids.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let (inputs, outputs) = (ports(&model.graph.inputs), ports(&model.graph.outputs));
    Ok([name, inputs, outputs, model.graph.nodes.len().to_string(), summary])
}
