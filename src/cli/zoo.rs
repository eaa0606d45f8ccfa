//! `nestjit zoo`: the built-in models.

use nestjit::report::format::table;
use nestjit::{Result, TensorSpec, zoo};

use super::Outcome;
use super::args::ZooArgs;
use super::session;

pub(crate) fn execute(args: &ZooArgs) -> Result<Outcome> {
    if args.names {
        let names: Vec<&str> = zoo::list().iter().map(|m| m.name).collect();
        return Ok((names.join("\n") + "\n").into());
    }
    let mut rows = Vec::new();
    for entry in zoo::list() {
        let model = session::load(entry.name)?;
        rows.push([
            entry.name.to_owned(),
            ports(&session::inputs_of(&model)),
            ports(&session::outputs_of(&model)),
            model.graph.nodes.len().to_string(),
            entry.summary.to_owned(),
        ]);
    }
    Ok(table(["model", "inputs", "outputs", "ops", ""], &[3], rows).into())
}

fn ports(ports: &[TensorSpec]) -> String {
    let one = |p: &TensorSpec| {
        let shape: Vec<String> = p.shape.iter().map(usize::to_string).collect();
        format!("{}: {}[{}]", p.name, p.dtype, shape.join(","))
    };
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}
