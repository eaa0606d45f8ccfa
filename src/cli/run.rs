//! `nestjit run`: one run of a model, tensors in and out of files.

use std::fs;

use nestjit::report::format::name;
use nestjit::report::text::table::table;
use nestjit::{Result, Tensor};
use serde::Serialize;
use serde_json::json;

use super::args::RunArgs;
use super::compiler::{compiler, remark_on_plan};
use super::files::file_name;
use super::model::{self, LoadedModel};
use super::{Outcome, complain, npy, progress, tensors};

pub(crate) fn execute(args: &RunArgs) -> Result<Outcome> {
    let loaded = LoadedModel::load(&args.model.model, &args.model.given)?;
    let compiler = compiler(args.threads, &args.model.passes);
    remark_on_plan(&compiler)?;
    let session = loaded.session(compiler);
    let call = progress::during("compiling and running", || session.call_items(&loaded.inputs))?;
    let outputs = loaded.named(call.outputs);
    model::remark(&session);
    let random = loaded.random;
    if !random.is_empty() {
        let names: Vec<String> = random.iter().map(|n| format!("'{}'", name(n))).collect();
        complain(&format!("no file given for {}: seeded random values", names.join(", ")));
    }
    let mut summaries = Vec::new();
    let mut taken = Vec::new();
    if let Some(dir) = &args.output_dir {
        fs::create_dir_all(dir).map_err(|e| npy::io_error(dir, "create", e))?;
    }
    for (output, tensor) in &outputs {
        let mut file = None;
        if let Some(dir) = &args.output_dir {
            let path = dir.join(file_name(output, &mut taken) + ".npy");
            npy::write(&path, tensor)?;
            file = Some(path.display().to_string());
        }
        summaries.push(Summary::new(output, tensor, file)?);
    }
    if args.json {
        let object = json!({ "model": args.model.model, "random_inputs": random, "outputs": summaries });
        return Ok((object.to_string() + "\n").into());
    }
    let header = ["output", "type", "shape", "min", "max", "mean", ""];
    Ok(table(header, &[3, 4, 5], summaries.iter().map(Summary::row)).into())
}

/// What is said of an output; serialised, a part of what `--json` prints.
#[derive(Serialize)]
struct Summary {
    /// The model's name for it.
    name: String,
    r#type: String,
    shape: Vec<usize>,
    /// Absent if there is no element, or if they are not finite numbers.
    min: Option<f64>,
    max: Option<f64>,
    mean: Option<f64>,
    /// Where it was written.
    file: Option<String>,
}

impl Summary {
    fn new(output: &str, tensor: &Tensor, file: Option<String>) -> Result<Summary> {
        let (mut min, mut max, mut sum) = (None, None, 0.0);
        // `f64::min` passes over NaN; a summary must not.
        tensors::for_each_f64(tensor, |v| {
            min = Some(min.map_or(v, |m: f64| if m.is_nan() || m < v { m } else { v }));
            max = Some(max.map_or(v, |m: f64| if m.is_nan() || m > v { m } else { v }));
            sum += v;
        })?;
        Ok(Summary {
            name: output.to_owned(),
            r#type: tensor.dtype().to_string(),
            shape: tensor.shape().to_vec(),
            min,
            max,
            mean: (!tensor.is_empty()).then(|| sum / tensor.len() as f64),
            file,
        })
    }

    fn row(&self) -> [String; 7] {
        let show = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.6}"));
        let (min, max, mean) = (show(self.min), show(self.max), show(self.mean));
        let written = name(self.file.as_deref().unwrap_or_default());
        [name(&self.name), self.r#type.clone(), format!("{:?}", self.shape), min, max, mean, written]
    }
}
