//! The fusion report as text for a terminal.

pub mod compare;
mod parts;
pub mod table;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::format::{bytes, count, ms, name, percent, signed_bytes};
use super::fusion::{FusionReport, Group};
use super::roofline::{Balance, Figures, Roofline};
use super::scaling::Scaling;
use table::table;

/// The widest column of operations in the listing; longer names are cut.
const MAX_NAME: usize = 48;
/// The shares of the steps of a nest and of the model from which on scalar loops are named.
const SCALAR_OF_NEST: f64 = 0.05;
const SCALAR_OF_MODEL: f64 = 0.001;

/// The prediction for more cores, in lines of the summary.
fn scaled(scaling: &Scaling) -> String {
    let end = match scaling.limit {
        Some(limit) if scaling.scales_to == 1 => format!("scales to 1 core, limited by {}", limit.words()),
        Some(limit) => format!("scales to {} cores, limited by {}", scaling.scales_to, limit.words()),
        None => format!("scales to {} cores and more", scaling.scales_to),
    };
    let machine = name(&scaling.machine);
    let mut text =
        format!(" scaling      predicted for {machine} of {} cores: {end}\n", scaling.machine_cores);
    let rows = scaling.points.iter().map(|p| {
        [
            p.cores.to_string(),
            ms(p.ms),
            format!("{:.1}", p.speedup),
            percent(p.speedup / p.cores as f64),
            percent(p.serial),
            percent(p.uneven),
            percent(p.memory),
            percent(p.hand_over),
        ]
    });
    let header =
        ["cores", "ms", "speed-up", "efficiency", "one thread", "too few parts", "memory", "handing over"];
    for line in table(header, &[0, 1, 2, 3, 4, 5, 6, 7], rows).lines() {
        text += &format!("             {line}\n");
    }
    text
}

impl FusionReport {
    /// The report as text, at most `limit` nests and `limit` refusals. Needs the feature `cli`.
    pub fn to_text(&self, limit: usize) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = self.write(&mut text, limit);
        text
    }

    fn write(&self, text: &mut String, limit: usize) -> std::fmt::Result {
        self.write_summary(text)?;
        if let Some(parts) = &self.parts {
            write!(text, "\nParts\n{}", parts::table_of(parts))?;
        }
        if let Some(variants) = &self.compare {
            write!(text, "\nHow much is fused\n{}", compare::variants(variants))?;
        }
        writeln!(text, "\nFusion patterns")?;
        text.push_str(&table(
            ["pattern", "nests", "ops/nest", "FLOP/byte", "saved"],
            &[1, 2, 3, 4],
            self.patterns.iter().map(|p| {
                [
                    name(&p.pattern),
                    p.count.to_string(),
                    format!("{:.1}", p.average_ops),
                    format!("{:.1}", p.intensity),
                    signed_bytes(p.bytes_saved),
                ]
            }),
        ));
        writeln!(text, "\nGraph")?;
        text.push_str(&self.listing(limit));
        self.write_refusals(text, limit)
    }

    fn write_summary(&self, text: &mut String) -> std::fmt::Result {
        write!(text, "model {}", name(&self.model))?;
        if !self.isa.is_empty() {
            write!(text, "   isa {}", self.isa)?;
        }
        if let Some(planned) = &self.planned_for {
            write!(text, "   planned for {planned}")?;
        }
        if !self.disabled_passes.is_empty() {
            write!(text, "   without {}", self.disabled_passes.join(", "))?;
        }
        writeln!(text, "\n")?;
        let plural = if self.nests == 1 { "nest" } else { "nests" };
        writeln!(
            text,
            " operations   {} in {} {plural}: {:.2} per nest",
            self.ops, self.nests, self.efficiency
        )?;
        writeln!(
            text,
            " coverage     {} of the nests fuse two or more operations, {} of the operations are in them",
            percent(self.coverage_nests),
            percent(self.coverage_ops)
        )?;
        writeln!(text, " single ops   {} of the nests", percent(self.single_op_share()))?;
        writeln!(
            text,
            " traffic      {} of activations, {} if each operation ran alone: {} less; weights {}",
            bytes(self.traffic_fused_bytes),
            bytes(self.traffic_unfused_bytes),
            percent(self.traffic_reduction),
            bytes(self.weight_bytes)
        )?;
        writeln!(
            text,
            " memory       {} of temporaries in an arena of {}",
            bytes(self.compiled.temporary_bytes),
            bytes(self.compiled.arena_bytes)
        )?;
        writeln!(text, " intensity    {:.1} FLOP per byte", self.intensity())?;
        if let Some(roofline) = &self.roofline {
            let of = |b: Balance| self.groups.iter().filter(|g| g.balance == Some(b)).count();
            let counts = Balance::ALL.map(|b| format!("{} {}", of(b), b.name()));
            let (judged, how) = match roofline.figures {
                Figures::Measured => (counts.join(", "), "measured"),
                Figures::Given => (counts.join(", "), "given"),
                Figures::Busy => {
                    let why = "not judged: the machine was busy when it was measured (--rates gives figures)";
                    (why.to_owned(), "measured, too low,")
                }
            };
            let threads = if roofline.threads == 1 { "thread" } else { "threads" };
            writeln!(
                text,
                " balance      {judged}\n              ({:.1} FLOP per byte: {:.1} GFLOP/s and {:.1} GB/s, {how} with {} {threads})",
                roofline.balance_point(),
                roofline.peak_gflops,
                roofline.read_gbytes,
                roofline.threads
            )?;
        }
        if let Some(measured) = &self.measured {
            let (runs, all) = (measured.runs, ms(measured.nests_ms));
            writeln!(text, " time         {all} ms in nests (medians of {runs} runs)")?;
        }
        if let Some(scaling) = &self.scaling {
            text.write_str(&scaled(scaling))?;
        }
        if let Some(precision) = self.precision {
            let nests =
                self.groups.iter().filter(|g| g.computes.iter().any(|c| c.starts_with(precision))).count();
            let which = match nests {
                0 => "no nest computes in it, as none would be faster here".to_owned(),
                n => format!("{n} of {} nests compute in it", self.nests),
            };
            writeln!(text, " precision    {precision} was allowed: {which}")?;
        }
        if self.folded > 0 {
            writeln!(text, " folded       {} operations were computed at compile time", self.folded)?;
        }
        Ok(())
    }

    /// The operations in order, a box beside each group of them.
    fn listing(&self, limit: usize) -> String {
        let shown = &self.groups[..self.groups.len().min(limit)];
        let ops: Vec<Vec<String>> = shown.iter().map(op_lines).collect();
        let roofline = self.measured.as_ref().map(|measured| &measured.roofline);
        let steps = self.groups.iter().map(|group| group.steps).sum();
        let boxes: Vec<Vec<String>> = shown.iter().map(|group| box_lines(group, roofline, steps)).collect();
        let widest = |lines: &[Vec<String>]| lines.iter().flatten().map(|l| l.chars().count()).max();
        let (left, right) = (widest(&ops).unwrap_or(0), widest(&boxes).unwrap_or(0));
        let mut text = String::new();
        let mut program = None;
        for ((ops, lines), group) in ops.iter().zip(&boxes).zip(shown) {
            if let Some(number) = group.program.filter(|_| group.program != program) {
                let _ = writeln!(text, " ---- program {number}");
                program = group.program;
            }
            let (title, content) = lines.split_first().map_or(("", &[][..]), |(t, c)| (t.as_str(), c));
            let mut side = vec![format!("┌─ {title} {}┐", "─".repeat(right - title.chars().count()))];
            let height = content.len().max(ops.len().saturating_sub(2));
            for at in 0..height {
                side.push(format!("│  {:<right$} │", content.get(at).map_or("", String::as_str)));
            }
            side.push(format!("└{}┘", "─".repeat(right + 3)));
            for at in 0..side.len().max(ops.len()) {
                let op = ops.get(at).map_or("", String::as_str);
                let _ = writeln!(text, " {op:<left$}  {}", side.get(at).map_or("", String::as_str));
            }
        }
        text + &omitted(self.groups.len(), limit)
    }

    fn write_refusals(&self, text: &mut String, limit: usize) -> std::fmt::Result {
        if self.refusals.is_empty() {
            return writeln!(text, "\nNot fused: no nest reads what another writes");
        }
        writeln!(text, "\nNot fused")?;
        text.push_str(&table(
            ["producer", "consumer", "reason", "bytes", ""],
            &[3],
            self.refusals.iter().take(limit).map(|r| {
                [name(&r.producer), name(&r.consumer), r.code.clone(), bytes(r.bytes), name(&r.message)]
            }),
        ));
        text.push_str(&omitted(self.refusals.len(), limit));
        let mut by_code: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for r in &self.refusals {
            let entry = by_code.entry(&r.code).or_default();
            *entry = (entry.0 + 1, entry.1.saturating_add(r.bytes));
        }
        let rows = by_code.iter().map(|(code, (n, cost))| [(*code).to_owned(), n.to_string(), bytes(*cost)]);
        write!(text, "\nReasons\n{}", table(["reason", "edges", "bytes"], &[1, 2], rows))
    }
}

fn op_lines(group: &Group) -> Vec<String> {
    let line = |op: &str, of: &str| {
        let text = format!("{op} {}", name(of));
        match text.char_indices().nth(MAX_NAME) {
            Some((at, _)) => format!("{}...", &text[..at]),
            None => text,
        }
    };
    match group.ops.is_empty() {
        true => vec![line("(nest)", &group.nest)],
        false => group.ops.iter().map(|op| line(&op.op, &op.name)).collect(),
    }
}

/// The title of a box, and its lines. All nests together run so many innermost statements.
fn box_lines(group: &Group, roofline: Option<&Roofline>, steps: f64) -> Vec<String> {
    let mut lines = vec![name(&group.pattern)];
    let (macs, flops) = (count(group.macs), count(group.flops));
    lines.push(format!("{macs} MAC  {flops} FLOP  {:.1} FLOP/byte", group.intensity));
    let external = bytes(group.read_bytes + group.written_bytes);
    let (weights, saved) = (bytes(group.weight_bytes), signed_bytes(group.bytes_saved));
    lines.push(format!("{external} external  {saved} saved  {weights} weights"));
    let mut last = group.balance.map_or_else(String::new, |b| b.name().to_owned());
    if let (Some(time), Some(roofline)) = (&group.time, roofline) {
        let (share, gflops) = (time.share(roofline), time.gflops);
        let _ =
            write!(last, "  {} ms ({})  {gflops:.1} GFLOP/s  {share}", ms(time.ms), percent(time.time_share));
    }
    if !group.calls.is_empty() {
        let _ = write!(last, "  calls {}", group.calls.join(", "));
    }
    if !last.is_empty() {
        lines.push(last.trim_start().to_owned());
    }
    if !group.computes.is_empty() {
        lines.push(format!("multiplies {}", group.computes.join(", ")));
    }
    lines.extend(scalar_line(group, steps));
    lines
}

/// The loops of a nest that are scalar code, if they are much of what the nest or the model does: the largest of them.
fn scalar_line(group: &Group, steps: f64) -> Option<String> {
    let loops = group.scalar_loops.iter().zip(&group.scalar_steps);
    let (text, most) = loops.max_by(|a, b| a.1.total_cmp(b.1))?;
    let matters = *most >= SCALAR_OF_NEST * group.steps && *most >= SCALAR_OF_MODEL * steps;
    matters.then(|| format!("scalar loop {text} ({} of the nest's steps)", percent(most / group.steps)))
}

fn omitted(n: usize, limit: usize) -> String {
    if n > limit { format!(" ... and {} more\n", n - limit) } else { String::new() }
}
