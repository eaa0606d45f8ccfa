//! `nestjit run`: one run of a model, tensors in and out of files.

use std::fs;

use nestjit::report::format::{name, table};
use nestjit::{Result, Tensor};

use super::args::RunArgs;
use super::files::file_name;
use super::onnx::{self, Loaded};
use super::{Outcome, complain, npy, parts, session};

pub(crate) fn execute(args: &RunArgs) -> Result<Outcome> {
    let threads = args.threads.map(|n| n as usize);
    let (outputs, random) = match onnx::load(&args.model.model, &args.model.dim, &args.input)? {
        Loaded::Graph(model) => {
            let (inputs, random) = session::inputs(&model, &args.input)?;
            let executable = session::compile(&model, threads, &args.model.passes, true)?;
            let names = session::outputs_of(&model).into_iter().map(|port| port.name);
            (names.zip(executable.run(&inputs)?).collect::<Vec<_>>(), random)
        }
        Loaded::Parts(parts) => {
            let s = parts.session(session::compiler(threads, &args.model.passes, true))?;
            let outputs = parts::tensors(&parts, &s.call_items(&parts.inputs)?.outputs);
            parts::remark(&s);
            (outputs, parts.random)
        }
    };
    if !random.is_empty() {
        let names: Vec<String> = random.iter().map(|n| format!("'{}'", name(n))).collect();
        complain(&format!("no file given for {}: seeded random values", names.join(", ")));
    }
    let mut rows = Vec::new();
    let mut taken = Vec::new();
    if let Some(dir) = &args.output_dir {
        fs::create_dir_all(dir).map_err(|e| npy::io_error(dir, "create", e))?;
    }
    for (output, tensor) in &outputs {
        let mut written = String::new();
        if let Some(dir) = &args.output_dir {
            let path = dir.join(file_name(output, &mut taken) + ".npy");
            npy::write(&path, tensor)?;
            written = path.display().to_string();
        }
        rows.push(row(output, tensor, written)?);
    }
    let header = ["output", "type", "shape", "min", "max", "mean", ""];
    Ok(table(header, &[3, 4, 5], rows).into())
}

fn row(output: &str, tensor: &Tensor, written: String) -> Result<[String; 7]> {
    let values = session::to_f64(tensor)?;
    let fold = |f: fn(f64, f64) -> f64| values.iter().copied().reduce(f);
    // `f64::min` passes over NaN; a summary must not.
    let min = fold(|a, b| if a.is_nan() || a < b { a } else { b });
    let max = fold(|a, b| if a.is_nan() || a > b { a } else { b });
    let mean = fold(|a, b| a + b).map(|sum| sum / values.len() as f64);
    let show = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.6}"));
    let shape = format!("{:?}", tensor.shape());
    Ok([name(output), tensor.dtype().to_string(), shape, show(min), show(max), show(mean), name(&written)])
}
