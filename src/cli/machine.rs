//! `nestjit machine`: the machine that is planned for, those that are known, and this one measured.

use std::fmt::Write as _;
use std::fs;

use nestjit::machine::{KNOWN, MachineModel};
use nestjit::report::text::table::table;
use nestjit::runtime::measure::{Calibration, calibrate};
use nestjit::{Error, ErrorKind, Options, Result, options};

use super::args::MachineArgs;
use super::{Outcome, npy};

pub(crate) fn execute(args: &MachineArgs) -> Result<Outcome> {
    if args.list {
        return Ok(list().into());
    }
    let options = Options::from_env()?;
    let asked = args.name.as_ref().or(options.machine.as_ref());
    let host = || MachineModel::host(options.isa);
    if let Some(path) = &args.calibrate {
        let Calibration { machine, steady } = calibrate(&host()?);
        if !steady {
            return Err(Error::new(
                ErrorKind::Io,
                "the machine was busy while it was measured, so the figures would be wrong: nothing was written; try again \
                 when nothing else runs",
            ));
        }
        fs::write(path, to_json(&machine)?).map_err(|e| npy::io_error(path, "write", e))?;
        return Ok(format!("{}written to {}\n", to_text(&machine, None), npy::show(path)).into());
    }
    let machine = match asked {
        Some(name) => MachineModel::named(name, options.isa).map_err(|e| match args.name {
            Some(_) => e,
            None => options::said_by(options::MACHINE, name, e),
        })?,
        None => host()?,
    };
    if args.json {
        return Ok(to_json(&machine)?.into());
    }
    let lacks = asked.and_then(|_| machine.lacks(&MachineModel::host(None).ok()?));
    Ok(to_text(&machine, lacks).into())
}

fn to_json(machine: &MachineModel) -> Result<String> {
    let json = serde_json::to_string_pretty(machine);
    Ok(json.map_err(|e| Error::internal(e.to_string()))? + "\n")
}

/// The machines that are known.
fn list() -> String {
    let rows = KNOWN.iter().map(|known| [known.name, known.summary, known.source].map(str::to_owned));
    table(["name", "machine", "figures from"], &[], rows)
}

/// `lacks` is what the machine has and this one does not.
fn to_text(machine: &MachineModel, lacks: Option<&str>) -> String {
    let MachineModel { cores, ghz, vector_ops, vector_loads, fma_latency, memory, .. } = machine;
    let mut text = format!("machine       {}\n", machine.name.escape_debug());
    let known = KNOWN.iter().find(|known| known.name == machine.name);
    let mut line = |name: &str, value: String| {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "{name:13} {value}");
    };
    if let Some(known) = known {
        line("figures of", format!("{}: {}", known.summary, known.source));
    }
    let features =
        [("fma", machine.fma), ("vnni", machine.vnni), ("bf16", machine.bf16), ("amx", machine.amx)];
    let features = features.iter().filter(|f| f.1).map(|f| format!(", {}", f.0)).collect::<String>();
    line(
        "vectors",
        format!(
            "{}{features}: {} registers of {} f32",
            machine.isa.name(),
            machine.isa.vector_registers(),
            machine.isa.f32_lanes()
        ),
    );
    line("cores", format!("{cores} at {ghz} GHz"));
    line(
        "a cycle",
        format!("{vector_ops} multiply-adds (latency {fma_latency}) and {vector_loads} loads of a vector"),
    );
    for (level, cache) in (1..).zip(&machine.caches) {
        let size = match cache.bytes {
            bytes if bytes >= 1 << 20 => format!("{} MB", bytes as f64 / f64::from(1 << 20)),
            bytes => format!("{} KB", bytes as f64 / 1024.0),
        };
        let shared = match cache.sharers {
            1 => "of a core".to_owned(),
            n => format!("shared by {n} cores"),
        };
        let (line_bytes, ways, rate) = (cache.line, cache.ways, cache.rate);
        line(
            &format!("L{level}"),
            format!("{size} {shared}, {ways} ways, lines of {line_bytes} bytes, {rate} bytes a cycle"),
        );
    }
    line("memory", format!("{:.0} GB/s for a core, {:.0} for all", memory.core_gbytes, memory.all_gbytes));
    line(
        "threads",
        format!(
            "work handed over in {} us, {} us if they sleep",
            machine.hand_over_ns / 1e3,
            machine.wake_ns / 1e3
        ),
    );
    line("peak", format!("{:.0} GFLOP/s of a core in f32", machine.peak_gflops()));
    if let Some(what) = lacks {
        line("here", format!("only planned for: this CPU has no {what}"));
    }
    text
}
