//! `nestjit export`: a model as an ONNX file.

use std::path::Path;

use nestjit::report::format::name;
use nestjit::{Compiler, Error, Result};

use super::Outcome;
use super::args::ExportArgs;
use super::model::LoadedModel;

pub(crate) fn execute(args: &ExportArgs) -> Result<Outcome> {
    let same = |of: &Path| std::fs::canonicalize(of).ok();
    if same(&args.file).is_some_and(|file| same(Path::new(&args.model)) == Some(file)) {
        let file = args.file.display().to_string();
        return Err(Error::usage(format!("{} is the model itself: write to another file", name(&file))));
    }
    let loaded = LoadedModel::load(&args.model, &args.given)?;
    let model = loaded.session(Compiler::new()).graph(&loaded.inputs)?.ok_or_else(|| {
        Error::unsupported(format!(
            "'{}' is not one program: shapes in it depend on data, or conditions decide what is computed",
            args.model.escape_debug()
        ))
    })?;
    model.write_onnx(&args.file)?;
    let (file, operations) = (args.file.display().to_string(), model.graph.nodes.len());
    Ok(format!("{}: {operations} operations, written to {}\n", name(&model.graph.name), name(&file)).into())
}
