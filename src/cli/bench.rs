//! `nestjit bench`: what a model costs cold and warm, fused and unfused, measured side by side.
//!
//! Whole calls of sessions are measured, of which each loads the model anew: that is part of a cold run.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use nestjit::report::format::{bytes, count, ms, name};
use nestjit::report::fusion::Totals;
use nestjit::report::text::table::table;
use nestjit::report::{Summary, flops};
use nestjit::runtime::measure::{self, Rates};
use nestjit::session::CallTrace;
use nestjit::{Compiler, DType, Error, Executable, Item, Result, Session, Tensor, lower};
use serde::Serialize;

use super::Outcome;
use super::args::{BenchArgs, Fusion};
use super::compiler::{FUSION, compiler, fuses, remark_on_plan, remark_on_threads, warm_up_compiler};
use super::model::{self, LoadedModel};

/// From which ratio of times on one program counts as slower than another.
const SLOWER: f64 = 1.03;

/// All figures; serialised, the object that `--json` prints.
#[derive(Serialize)]
struct Bench {
    model: String,
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
}

pub(crate) fn execute(args: &BenchArgs) -> Result<Outcome> {
    let bench = measure(args)?;
    if args.json {
        let json = serde_json::to_string(&bench).map_err(|e| Error::internal(e.to_string()))?;
        return Ok((json + "\n").into());
    }
    Ok(bench.to_text(args.warmup).into())
}

fn measure(args: &BenchArgs) -> Result<Bench> {
    let compiler = compiler(args.threads, &args.model.passes);
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
    let cold = |compiler| Subject::cold(args, compiler);
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
    for _ in 0..args.iterations {
        for subject in &mut subjects {
            let time = subject.timed_run()?;
            subject.warm_ms.push(time);
        }
    }

    let (threads, target) = (first.threads(), first.target());
    let Work { flops, macs, integer_macs } = subjects[0].work;
    let measurement = measure::measure(target.isa, target.l3_bytes(), 1);
    let Rates { peak_gflops, read_gbytes } = measurement.rates;
    let isa = target.isa.name().to_owned();
    let runs = subjects.into_iter().map(|s| s.summary(flops)).collect::<Result<Vec<_>>>()?;
    Ok(Bench {
        model: args.model.model.clone(),
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
    fn cold(args: &BenchArgs, compiler: Compiler) -> Result<Subject> {
        let (fusion, disabled_passes) = (fuses(&compiler)?, compiler.options()?.disabled_passes.clone());
        let loaded = LoadedModel::load(&args.model.model, &args.model.given)?;
        let session = loaded.session(compiler);
        let session = match args.cache_limit {
            Some(limit) => session.cache_limit(limit as usize),
            None => session,
        };
        let (call, trace) = session.trace(&loaded.inputs)?;
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
        Ok(Subject { session, inputs, outputs, work, first, second_ms: 0.0, warm_ms: Vec::new() })
    }

    /// Calls once; the time in milliseconds.
    fn timed_run(&mut self) -> Result<f64> {
        let start = Instant::now();
        match &mut self.outputs {
            Some(outputs) => self.session.run_into(&self.inputs, outputs)?,
            None => drop(self.session.call_items(&self.inputs)?),
        }
        Ok(millis(start.elapsed()))
    }

    fn summary(self, flops: f64) -> Result<Run> {
        model::remark(&self.session);
        let warm_ms = Summary::of(&self.warm_ms).ok_or_else(|| Error::internal("no warm run"))?;
        let gflops = flops / (warm_ms.median * 1e6);
        Ok(Run { first: self.first, second_ms: self.second_ms, warm_ms, gflops })
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

/// What is said if fused code took longer, by more than runs differ anyway: by medians as well as at best.
fn slower(fused: &Summary, unfused: &Summary) -> Option<String> {
    let slower = fused.median > SLOWER * unfused.median && fused.min > SLOWER * unfused.min;
    slower.then(|| {
        format!(
            "FUSION MADE THIS MODEL SLOWER: fused code takes {:.2} times as long; `nestjit report` names scalar loops and what was fused\n",
            fused.median / unfused.median
        )
    })
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

impl Bench {
    fn to_text(&self, warmup: u32) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = self.write(&mut text, warmup);
        text
    }

    fn write(&self, text: &mut String, warmup: u32) -> std::fmt::Result {
        let CoreRates { fma_peak_gflops: peak, memory_read_gbytes: read, steady } = self.machine;
        writeln!(
            text,
            "model {}   threads {}   isa {}   {:.2} MFLOP{} per run",
            name(&self.model),
            self.threads,
            self.isa,
            self.flops / 1e6,
            match self.integer_macs {
                0.0 => String::new(),
                macs => format!(" and {} MAC of integers", count(macs)),
            }
        )?;
        writeln!(
            text,
            "one core, measured: {peak:.1} GFLOP/s of {} multiply-add, {read:.1} GB/s read from memory{}",
            self.isa,
            if steady { "" } else { " (too low: the machine is busy)" }
        )?;
        writeln!(
            text,
            "first compilation of a process, once: {} ms, not included below",
            ms(self.startup_ms)
        )?;
        if self.runs.iter().any(|run| run.first.programs != 1) {
            writeln!(text, "several programs, and operations between them: `nestjit report` lists them")?;
        }
        for run in &self.runs {
            run.write(text, warmup)?;
        }
        writeln!(text, "\nExecution time summary of warm runs (ms):")?;
        let cores = peak * self.threads as f64;
        let share = |run: &Run| run.gflops / cores;
        text.push_str(&table(
            ["", "mean", "median", "max", "min", "std", "p90", "GFLOP/s", "of peak"],
            &[1, 2, 3, 4, 5, 6, 7, 8],
            self.runs.iter().map(|run| {
                let w = &run.warm_ms;
                let label = if run.first.fusion { "fused" } else { "unfused" };
                [
                    label.to_owned(),
                    ms(w.mean),
                    ms(w.median),
                    ms(w.max),
                    ms(w.min),
                    ms(w.std),
                    ms(w.p90),
                    format!("{:.1}", run.gflops),
                    match steady {
                        true if share(run) <= 1.0 => format!("{:.0} %", 100.0 * share(run)),
                        true => "above".to_owned(),
                        false => "unknown".to_owned(),
                    },
                ]
            }),
        ));
        if steady && self.runs.iter().any(|run| share(run) > 1.0) {
            writeln!(
                text,
                "above the peak: operations are those of the plain nests, and transformed convolutions (Winograd) do with fewer"
            )?;
        }
        if self.integer_macs > 0.0 {
            let rate = |run: &Run| {
                let label = if run.first.fusion { "fused" } else { "unfused" };
                format!("{label} {} MAC/s", count(self.integer_macs / (run.warm_ms.median * 1e-3)))
            };
            let rates: Vec<String> = self.runs.iter().map(rate).collect();
            writeln!(text, "of integers, which are no floating-point operations: {}", rates.join(", "))?;
        }
        if let (Some((fused, unfused)), Some(speedup)) = (pair(&self.runs), self.speedup) {
            writeln!(
                text,
                "\nfused against unfused: {speedup:.2}x by medians, {} -> {} kernels, {} -> {} of temporaries",
                unfused.first.kernels,
                fused.first.kernels,
                bytes(unfused.first.temp_bytes),
                bytes(fused.first.temp_bytes)
            )?;
            match self.payback_runs {
                Some(0) => {
                    writeln!(text, "fusion needs no run to pay off: it does not lengthen the compile time")
                }
                Some(1) => writeln!(text, "fusion has paid for its compile time after 1 run"),
                Some(n) => writeln!(text, "fusion has paid for its compile time after {n} runs"),
                None => writeln!(text, "fusion does not pay here: runs are not faster"),
            }?;
            text.push_str(&slower(&fused.warm_ms, &unfused.warm_ms).unwrap_or_default());
        }
        Ok(())
    }
}

impl Run {
    fn write(&self, text: &mut String, warmup: u32) -> std::fmt::Result {
        write!(text, "\nfusion {}", if self.first.fusion { "on" } else { "off" })?;
        if !self.first.disabled_passes.is_empty() {
            write!(text, " (without {})", self.first.disabled_passes.join(", "))?;
        }
        let (temps, arena) = (bytes(self.first.temp_bytes), bytes(self.first.arena_bytes));
        let programs = match self.first.programs {
            1 => String::new(),
            n => format!("{n} programs, "),
        };
        writeln!(
            text,
            ": {programs}{} kernels, temporaries of {temps} in {arena} of memory",
            self.first.kernels
        )?;
        let c = &self.first.cold_ms;
        writeln!(
            text,
            "  iteration 1 (cold)  {:>9} ms = load {} + passes {} + codegen {} + pack {} + first run {}",
            ms(c.total),
            ms(c.load),
            ms(c.passes),
            ms(c.codegen),
            ms(c.pack),
            ms(c.first_run)
        )?;
        writeln!(text, "  iteration 2         {:>9} ms", ms(self.second_ms))?;
        let first = u64::from(warmup.max(1)) + 2;
        let label = format!("iterations {first}..{}", first + self.warm_ms.n as u64 - 1);
        writeln!(text, "  {label:<19} {:>9} ms (median)", ms(self.warm_ms.median))
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
