//! `nestjit report`: what was fused, and what was not and why.

use nestjit::report::fusion::{FusionReport, Totals};
use nestjit::{Error, Result};

use super::Outcome;
use super::args::ReportArgs;
use super::session::{self, FUSION};

pub(crate) fn execute(args: &ReportArgs) -> Result<Outcome> {
    let model = session::load(&args.model.model)?;
    let disabled = &args.model.disable_pass;
    let executable = session::compile(&model, None, disabled, true)?;
    let mut report: FusionReport = executable.fusion_report();
    if !disabled.iter().any(|pass| pass == FUSION) {
        let unfused = session::compile(&model, None, disabled, false)?;
        report.unfused = Some(Totals::of(unfused.unit()));
    }
    let limit = args.max_nodes.unwrap_or(usize::MAX);
    if args.json {
        report.kernels.truncate(limit);
        report.decisions.truncate(limit);
        let json = serde_json::to_string_pretty(&report).map_err(|e| Error::internal(e.to_string()))?;
        return Ok((json + "\n").into());
    }
    Ok(report.to_text(limit).into())
}
