//! `nestjit zoo`: the built-in models.

use nestjit::report::format::table;
use nestjit::{Result, TensorSpec, zoo};

use super::Outcome;
use super::args::{ModelSize, ZooArgs};
use super::session;

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
    let mut rows = Vec::new();
    for entry in listed {
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
