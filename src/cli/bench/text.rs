//! `nestjit bench` as text: cold runs phase by phase, warm runs in a table, and what fusion brought.

use std::fmt::Write as _;

use nestjit::report::Summary;
use nestjit::report::format::{bytes, count, ms, name};
use nestjit::report::text::table::table;

use super::{Bench, CoreRates, Run, pair};

/// From which ratio of times on one program counts as slower than another.
const SLOWER: f64 = 1.03;

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

impl Bench {
    pub(super) fn to_text(&self, warmup: u32) -> String {
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
            ["", "mean", "median", "max", "min", "std", "p90", "p99", "GFLOP/s", "of peak"],
            &[1, 2, 3, 4, 5, 6, 7, 8, 9],
            self.runs.iter().map(|run| {
                let w = &run.warm_ms;
                [
                    run.label().to_owned(),
                    ms(w.mean),
                    ms(w.median),
                    ms(w.max),
                    ms(w.min),
                    ms(w.std),
                    ms(w.p90),
                    ms(w.p99),
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
                format!("{} {} MAC/s", run.label(), count(self.integer_macs / (run.warm_ms.median * 1e-3)))
            };
            let rates: Vec<String> = self.runs.iter().map(rate).collect();
            writeln!(text, "of integers, which are no floating-point operations: {}", rates.join(", "))?;
        }
        for run in &self.runs {
            if let Some(streams) = &run.streams {
                writeln!(
                    text,
                    "{} callers at once, {}: {:.1} runs/s, {:.2} times one caller's; each run {} ms (median), {} (p99)",
                    streams.callers,
                    run.label(),
                    streams.runs_per_second,
                    streams.runs_per_second * run.warm_ms.mean * 1e-3,
                    ms(streams.run_ms.median),
                    ms(streams.run_ms.p99)
                )?;
            }
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
