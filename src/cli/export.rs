//! `nestjit export`: a model as an ONNX file.

use nestjit::Result;
use nestjit::report::format::name;

use super::args::ExportArgs;
use super::{Outcome, onnx, session};

pub(crate) fn execute(args: &ExportArgs) -> Result<Outcome> {
    let model = onnx::load_graph(&args.model, &args.given)?;
    session::expect_inputs(&model, &args.given.inputs)?;
    model.write_onnx(&args.file)?;
    let file = args.file.display().to_string();
    Ok(format!(
        "{}: {} operations, written to {}\n",
        name(&model.graph.name),
        model.graph.nodes.len(),
        name(&file)
    )
    .into())
}
