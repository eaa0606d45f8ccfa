//! `nestjit bench`: what a model costs cold and warm, fused and unfused, measured side by side.
//!
//! Whole calls of sessions are measured, of which each loads the model anew: that is part of a cold run.

mod page;
mod text;

use std::thread;
use std::time::{Duration, Instant};

use nestjit::report::fusion::Totals;
use nestjit::report::{Summary, flops};
use nestjit::runtime::measure::{self, Rates};
use nestjit::session::CallTrace;
use nestjit::{Compiler, DType, Error, Executable, Item, Result, Session, Tensor, lower};
use serde::Serialize;

use super::args::{BenchArgs, Fusion};
use super::compiler::{FUSION, compiler, fuses, remark_on_plan, remark_on_threads, warm_up_compiler};
use super::model::{self, LoadedModel};
use super::{Outcome, progress};

/// All figures; serialised, the object that `--json` prints.
#[derive(Serialize)]
struct Bench {
    model: String,
    /// The version of nestjit.
    version: &'static str,
    /// The machine by its name, or what is planned for instead.
    cpu: String,
    threads: usize,
    isa: String,
    /// Floating-point operations of one run, counted in the nests before any pass.
    flops: f64,
    /// Multiply-accumulates of one run, of numbers of any type, counted in the same nests.
    macs: f64,
    /// Those of integers, which are no floating-point operations.
    integer_macs: f64,
    machine: CoreRates,
    /// What the first compilation in a process costs once, whatever the model; not part of any run below.
    startup_ms: f64,
    runs: Vec<Run>,
    /// How many times as fast as unfused code fused code is, by medians.
    speedup: Option<f64>,
    /// After how many runs fusion has paid for what it adds to the compile time; absent if it never does.
    payback_runs: Option<u64>,
}

/// What one core of the machine can do, measured.
#[derive(Serialize)]
struct CoreRates {
    fma_peak_gflops: f64,
    memory_read_gbytes: f64,
    /// Whether the machine was quiet enough for these figures to be right; if not, they are too low.
    steady: bool,
}

#[derive(Serialize)]
struct Run {
    #[serde(flatten)]
    first: FirstCall,
    /// The second run.
    second_ms: f64,
    warm_ms: Summary,
    gflops: f64,
    /// Each measured run, in order.
    samples_ms: Vec<f64>,
    /// What several callers at once get.
    streams: Option<Streams>,
}

/// Callers in threads of their own that share a session, each with so many runs as one caller had.
#[derive(Serialize)]
struct Streams {
    callers: usize,
    /// Runs of all callers per second, from the first to the last.
    runs_per_second: f64,
    /// How long a run took its caller.
    run_ms: Summary,
}

/// What the first call of a session compiled, and what it cost.
#[derive(Serialize)]
struct FirstCall {
    fusion: bool,
    disabled_passes: Vec<String>,
    /// How many programs: 1, unless shapes depend on data or conditions decide what is computed.
    programs: usize,
    kernels: usize,
    /// The bytes of the buffers between kernels.
    temp_bytes: usize,
    /// The memory that they share.
    arena_bytes: usize,
    cold_ms: Cold,
    /// What `cold_ms.passes` consists of.
    passes_ms: Vec<PassTime>,
}

/// The phases up to the end of the first run; they add up to `total`.
#[derive(Serialize)]
struct Cold {
    load: f64,
    passes: f64,
    codegen: f64,
    pack: f64,
    first_run: f64,
    total: f64,
}

/// What a pass took in all programs, or what is done besides the passes: `setup`, `lower`, `record`.
#[derive(Serialize)]
struct PassTime {
    pass: &'static str,
    ms: f64,
}

/// What is computed in one run, counted in the nests before any pass.
#[derive(Clone, Copy, Default)]
struct Work {
    flops: f64,
    macs: f64,
    integer_macs: f64,
}

impl Work {
    /// That of a call, whose programs were compiled by it.
    fn of(trace: &CallTrace) -> Result<Work> {
        let mut work = Work::default();
        for part in &trace.parts {
            let Some(graph) = &part.graph else { continue };
            let (plain, runs) = (lower::lower(graph)?.program, part.runs as f64);
            work.flops += runs * flops::count(&plain);
            work.macs += runs * flops::count_macs_of(&plain, |_| true);
            work.integer_macs += runs * flops::count_macs_of(&plain, DType::is_int);
        }
        Ok(work)
    }
}

/// A session being measured.
struct Subject {
    session: Session,
    inputs: Vec<Item>,
    /// Buffers for the outputs, if all of these are tensors.
    outputs: Option<Vec<Tensor>>,
    work: Work,
    first: FirstCall,
    second_ms: f64,
    warm_ms: Vec<f64>,
    streams: Option<Streams>,
}

pub(crate) fn execute(args: &BenchArgs) -> Result<Outcome> {
    if !args.given.inputs.is_empty() && args.models.len() > 1 {
        return Err(Error::usage("--input is for one model"));
    }
    if args.html.is_some() && args.models.len() > 1 {
        return Err(Error::usage("--html is for one model"));
    }
    let peers = args.peers.as_deref().map(page::read_peers).transpose()?;
    let mut said = Vec::new();
    for model in &args.models {
        let bench = measure(model, args)?;
        if let Some(file) = &args.html {
            page::write(file, &bench, peers.as_ref())?;
        }
        said.push(match args.json {
            true => serde_json::to_string(&bench).map_err(|e| Error::internal(e.to_string()))? + "\n",
            false => bench.to_text(args.warmup),
        });
    }
    Ok(said.join(if args.json { "" } else { "\n" }).into())
}

/// When enough warm runs are measured.
enum Until {
    Runs(u32),
    Time(Instant),
}

impl Until {
    fn new(args: &BenchArgs) -> Until {
        match args.seconds {
            Some(seconds) => Until::Time(Instant::now() + Duration::from_secs_f64(seconds)),
            None => Until::Runs(args.iterations),
        }
    }

    /// Whether another one follows so many.
    fn more(&self, runs: u32) -> bool {
        match self {
            Until::Runs(wanted) => runs < *wanted,
            Until::Time(end) => runs == 0 || Instant::now() < *end,
        }
    }
}

fn measure(model: &str, args: &BenchArgs) -> Result<Bench> {
    let compiler = compiler(args.threads, &args.passes);
    if args.fusion != Fusion::Off && !fuses(&compiler)? {
        let message = format!("{FUSION} is switched off, so there is no fused code: add `--fusion off`");
        return Err(Error::usage(message));
    }
    remark_on_plan(&compiler)?;
    remark_on_threads(&compiler)?;
    let startup = Instant::now();
    let first = warm_up_compiler(&compiler)?;
    let startup_ms = millis(startup.elapsed());

    let unfused = compiler.clone().disable_pass(FUSION);
    let compilers = match args.fusion {
        Fusion::Both => vec![compiler, unfused],
        Fusion::On => vec![compiler],
        Fusion::Off => vec![unfused],
    };
    let cold = |compiler| Subject::cold(model, args, compiler);
    let mut subjects = compilers.into_iter().map(cold).collect::<Result<Vec<_>>>()?;
    for subject in &mut subjects {
        subject.second_ms = subject.timed_run()?;
    }
    // Interleaved, so that a disturbance of the machine hits all alike.
    for _ in 1..args.warmup {
        for subject in &mut subjects {
            subject.timed_run()?;
        }
    }
    let until = Until::new(args);
    let mut measured = 0;
    let steps = if let Until::Runs(runs) = until { Some(runs.into()) } else { None };
    let mut shown = progress::Steps::new("measuring warm runs:", steps);
    while until.more(measured) {
        for subject in &mut subjects {
            let time = subject.timed_run()?;
            subject.warm_ms.push(time);
        }
        measured += 1;
        shown.done(measured.into());
    }
    drop(shown);
    if let Some(callers) = args.streams {
        for subject in &mut subjects {
            subject.streams = Some(subject.call_at_once(callers, measured)?);
        }
    }

    let (threads, target) = (first.threads(), first.target());
    let Work { flops, macs, integer_macs } = subjects[0].work;
    let measurement = measure::measure(target.isa, target.l3_bytes(), 1);
    let Rates { peak_gflops, read_gbytes } = measurement.rates;
    let isa = target.isa.name().to_owned();
    let runs = subjects.into_iter().map(|s| s.summary(flops)).collect::<Result<Vec<_>>>()?;
    Ok(Bench {
        model: model.to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        cpu: target.name.clone(),
        threads,
        isa,
        flops,
        macs,
        integer_macs,
        machine: CoreRates {
            fma_peak_gflops: peak_gflops,
            memory_read_gbytes: read_gbytes,
            steady: measurement.steady,
        },
        startup_ms,
        speedup: speedup(&runs),
        payback_runs: payback(&runs),
        runs,
    })
}

impl Subject {
    /// Loads the model, and calls it for the first time, which compiles it.
    fn cold(model: &str, args: &BenchArgs, compiler: Compiler) -> Result<Subject> {
        let (fusion, disabled_passes) = (fuses(&compiler)?, compiler.options()?.disabled_passes.clone());
        let loaded = LoadedModel::load(model, &args.given)?;
        let session = loaded.session(compiler);
        let session = match args.cache_limit {
            Some(limit) => session.cache_limit(limit as usize),
            None => session,
        };
        let (call, trace) = progress::during("compiling", || session.trace(&loaded.inputs))?;
        let (mut passes_ms, mut codegen, mut pack) = (Vec::<PassTime>::new(), 0.0, 0.0);
        for timings in trace.programs().map(Executable::timings) {
            for (pass, time) in timings.each_pass() {
                match passes_ms.iter_mut().find(|sum| sum.pass == pass) {
                    Some(sum) => sum.ms += millis(time),
                    None => passes_ms.push(PassTime { pass, ms: millis(time) }),
                }
            }
            codegen += millis(timings.codegen);
            pack += millis(timings.pack);
        }
        let passes = passes_ms.iter().map(|pass| pass.ms).sum();
        // The import is a part of the call that needs it, and of what loading a model takes.
        let first_run = millis(call.total - call.compiled.unwrap_or_default());
        let total = loaded.load_ms + millis(call.total);
        let load = total - passes - codegen - pack - first_run;
        let totals: Totals = trace.programs().map(|executable| Totals::of(executable.unit())).sum();
        let first = FirstCall {
            fusion,
            disabled_passes,
            programs: call.programs,
            kernels: totals.kernels,
            temp_bytes: totals.temporary_bytes,
            arena_bytes: totals.arena_bytes,
            cold_ms: Cold { load, passes, codegen, pack, first_run, total },
            passes_ms,
        };
        let tensor = |item| if let Item::Tensor(tensor) = item { Some(tensor) } else { None };
        let outputs = call.outputs.into_iter().map(tensor).collect();
        let (inputs, work) = (loaded.inputs, Work::of(&trace)?);
        Ok(Subject {
            session,
            inputs,
            outputs,
            work,
            first,
            second_ms: 0.0,
            warm_ms: Vec::new(),
            streams: None,
        })
    }

    /// Calls once; the time in milliseconds.
    fn timed_run(&mut self) -> Result<f64> {
        timed_call(&self.session, &self.inputs, self.outputs.as_deref_mut())
    }

    /// Calls from several threads at once, so often from each.
    fn call_at_once(&self, callers: usize, runs: u32) -> Result<Streams> {
        let caller = || {
            let mut outputs = self.outputs.clone();
            let call = |_| timed_call(&self.session, &self.inputs, outputs.as_deref_mut());
            (0..runs).map(call).collect::<Result<Vec<f64>>>()
        };
        let start = Instant::now();
        let times: Result<Vec<Vec<f64>>> = thread::scope(|scope| {
            let started: Vec<_> = (1..callers)
                .map(|_| thread::Builder::new().spawn_scoped(scope, caller))
                .collect::<std::io::Result<_>>()
                .map_err(|e| Error::usage(format!("{callers} callers cannot be started: {e}")))?;
            let own = caller();
            let others = started.into_iter().map(|thread| match thread.join() {
                Ok(times) => times,
                Err(_) => Err(Error::internal("a caller panicked")),
            });
            std::iter::once(own).chain(others).collect()
        });
        let times = times?.concat();
        let runs_per_second = times.len() as f64 / start.elapsed().as_secs_f64();
        let run_ms = Summary::of(&times).ok_or_else(|| Error::internal("no run"))?;
        Ok(Streams { callers, runs_per_second, run_ms })
    }

    fn summary(self, flops: f64) -> Result<Run> {
        model::remark(&self.session);
        let warm_ms = Summary::of(&self.warm_ms).ok_or_else(|| Error::internal("no warm run"))?;
        let gflops = flops / (warm_ms.median * 1e6);
        let Subject { first, second_ms, warm_ms: samples_ms, streams, .. } = self;
        Ok(Run { first, second_ms, warm_ms, gflops, samples_ms, streams })
    }
}

/// Calls once, if possible into buffers that are there; the time in milliseconds.
fn timed_call(session: &Session, inputs: &[Item], outputs: Option<&mut [Tensor]>) -> Result<f64> {
    let start = Instant::now();
    match outputs {
        Some(outputs) => session.run_into(inputs, outputs)?,
        None => drop(session.call_items(inputs)?),
    }
    Ok(millis(start.elapsed()))
}

impl Run {
    /// What it was a run of.
    fn label(&self) -> &'static str {
        if self.first.fusion { "fused" } else { "unfused" }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The fused and the unfused run, if both were measured.
fn pair(runs: &[Run]) -> Option<(&Run, &Run)> {
    Some((runs.iter().find(|r| r.first.fusion)?, runs.iter().find(|r| !r.first.fusion)?))
}

fn speedup(runs: &[Run]) -> Option<f64> {
    let (fused, unfused) = pair(runs)?;
    Some(unfused.warm_ms.median / fused.warm_ms.median)
}

fn payback(runs: &[Run]) -> Option<u64> {
    let (fused, unfused) = pair(runs)?;
    let compile = |run: &Run| run.first.cold_ms.passes + run.first.cold_ms.codegen + run.first.cold_ms.pack;
    payback_runs(compile(fused) - compile(unfused), unfused.warm_ms.median - fused.warm_ms.median)
}

/// How many runs that each save `gain` make up for `cost`, if that ever happens: what makes runs slower does not pay.
fn payback_runs(cost: f64, gain: f64) -> Option<u64> {
    match cost {
        c if c <= 0.0 && gain >= 0.0 => Some(0),
        c if gain > 0.0 => Some((c / gain).ceil() as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fusion_pays_back_when_gains_reach_its_cost() {
        assert_eq!(payback_runs(-1.0, 0.0), Some(0));
        assert_eq!(payback_runs(-1.0, -1.0), None);
        assert_eq!(payback_runs(1.0, 0.25), Some(4));
        assert_eq!(payback_runs(1.0, 0.3), Some(4));
        assert_eq!(payback_runs(1.0, 0.0), None);
        assert_eq!(payback_runs(1.0, -0.5), None);
    }
}
