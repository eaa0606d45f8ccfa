//! What a machine can do: measured, or given by the user so that reports of one model are the same twice.

use std::path::Path;

use nestjit::report::Roofline;
use nestjit::runtime::measure::{self, Rates};
use nestjit::{Error, Executable, Result, files};
use serde_json::Value;

use super::args::RatesArg;
use super::npy;

/// The figures for the threads of an executable.
pub(crate) fn roofline(given: Option<&RatesArg>, executable: &Executable) -> Result<Roofline> {
    let (target, threads) = (executable.target(), executable.threads());
    Ok(match given {
        Some(RatesArg::Values { gflops, gbps }) => {
            Roofline::given(Rates { peak_gflops: *gflops, read_gbytes: *gbps }, threads)
        }
        Some(RatesArg::File(path)) => Roofline::given(read(path)?, threads),
        // What is planned for is not what can be measured here.
        None if executable.options().machine.is_some() => {
            let cores = threads.min(target.cores);
            let peak_gflops = cores as f64 * target.peak_gflops();
            Roofline::given(Rates { peak_gflops, read_gbytes: target.memory_gbytes(cores) }, threads)
        }
        None => Roofline::measured(measure::measure(target.isa, target.l3_bytes(), threads), threads),
    })
}

/// The figures in a file: an object with `peak_gflops` and `read_gbytes`, or what `report --json` printed.
fn read(path: &Path) -> Result<Rates> {
    let text = files::read_text(path)?;
    let wrong = |why: &str| Error::usage(format!("{}: {why}", npy::show(path)));
    let json: Value = serde_json::from_str(&text).map_err(|e| wrong(&format!("no JSON: {e}")))?;
    let report = &json["models"][0]["machine"];
    let object = if report.is_object() { report } else { &json };
    if object["figures"] == "busy" {
        return Err(wrong("the machine was busy when these figures were measured: they are too low"));
    }
    if object["caches"].is_array() {
        return Err(wrong(
            "this describes a machine to plan for, as NESTJIT_MACHINE names it, and has no measured rates",
        ));
    }
    let figure = |name: &str| {
        let number = object[name].as_f64().filter(|n| n.is_finite() && *n > 0.0);
        number.ok_or_else(|| wrong(&format!("no positive number '{name}'")))
    };
    Ok(Rates { peak_gflops: figure("peak_gflops")?, read_gbytes: figure("read_gbytes")? })
}
