//! `nestjit bench --html`: the page of what was measured, beside what others need.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nestjit::report::page::{Peer, TimedRuns, timing};
use nestjit::{Error, Result};
use serde::Deserialize;

use super::super::npy::io_error;
use super::{Bench, Cold, Run};

/// What `benches/peers/peers.py --json` writes, as far as it is shown.
#[derive(Deserialize)]
pub(super) struct Peers {
    results: Vec<PeerResult>,
}

#[derive(Deserialize)]
struct PeerResult {
    model: String,
    threads: usize,
    runtimes: BTreeMap<String, PeerTimes>,
}

/// Absent if the runtime failed.
#[derive(Deserialize)]
struct PeerTimes {
    median_ms: Option<f64>,
    cold_ms: Option<f64>,
}

/// Reads what was measured of others.
///
/// # Errors
/// If the file cannot be read or is no such file.
pub(super) fn read_peers(file: &Path) -> Result<Peers> {
    let text = fs::read_to_string(file).map_err(|e| io_error(file, "read", e))?;
    serde_json::from_str(&text).map_err(|e| {
        Error::invalid(format!(
            "'{}' is not what peers.py wrote: {e}",
            file.display().to_string().escape_debug()
        ))
    })
}

/// Writes the page.
///
/// # Errors
/// If the file cannot be written, or others were not measured with the model.
pub(super) fn write(file: &Path, bench: &Bench, peers: Option<&Peers>) -> Result<()> {
    let runs: Vec<TimedRuns> = bench.runs.iter().map(timed).collect();
    let threads = if bench.threads == 1 { "thread" } else { "threads" };
    let mut facts = vec![
        bench.cpu.clone(),
        format!("{} code", bench.isa),
        format!("{} {threads}", bench.threads),
        format!("nestjit {}", bench.version),
        format!(
            "{:.1} GFLOP/s and {:.1} GB/s per core",
            bench.machine.fma_peak_gflops, bench.machine.memory_read_gbytes
        ),
    ];
    if !bench.machine.steady {
        facts.push("the machine was busy".to_owned());
    }
    let peers = peers.map_or_else(|| Ok(Vec::new()), |peers| peers.of(&bench.model, bench.threads))?;
    let page = timing(&bench.model, &facts, &runs, &peers);
    fs::write(file, page).map_err(|e| io_error(file, "write", e))
}

fn timed(run: &Run) -> TimedRuns {
    let Cold { load, passes, codegen, pack, first_run, total: _ } = run.first.cold_ms;
    TimedRuns {
        label: run.label().to_owned(),
        cold: vec![
            ("load", load),
            ("passes", passes),
            ("codegen", codegen),
            ("pack", pack),
            ("first run", first_run),
        ],
        warm: run.samples_ms.clone(),
    }
}

impl Peers {
    /// What others need for a model, which goes by its name or the name of its file.
    fn of(&self, model: &str, threads: usize) -> Result<Vec<Peer>> {
        let stem = Path::new(model).file_stem().and_then(|stem| stem.to_str());
        let same =
            |r: &&PeerResult| (r.model == model || Some(r.model.as_str()) == stem) && r.threads == threads;
        let result = self.results.iter().find(same).ok_or_else(|| {
            let model = model.escape_debug();
            Error::usage(format!(
                "--peers: the file has nothing of the model '{model}' with {threads} threads"
            ))
        })?;
        let peer = |(name, times): (&String, &PeerTimes)| {
            Some(Peer { name: name.clone(), median: times.median_ms?, cold: times.cold_ms? })
        };
        Ok(result.runtimes.iter().filter(|(name, _)| *name != "nestjit").filter_map(peer).collect())
    }
}
