//! Measured runs as a page: the phases of cold runs, warm runs one by one and how they are distributed, and medians beside
//! those of others. One file, which fetches nothing and has no script.

use std::fmt::{self, Write};

use super::escape::html as esc;
use crate::report::format::ms;
use crate::report::stats::Summary;

const STYLE: &str = include_str!("style.css");

/// What this page has besides the style of all pages.
const OWN_STYLE: &str = "body { padding-bottom: 24px; } section { margin: 14px 20px; padding: 12px 16px; background: var(--card); \
     border: 1px solid var(--line); border-radius: 8px; overflow-x: auto; } section h2 { margin-bottom: 8px; } \
     svg { margin: 0; } svg text { font: 12px system-ui, sans-serif; } svg text.left { text-anchor: start; } \
     svg text.right { text-anchor: end; } .axis { stroke: var(--line); } .median { stroke-width: 1.5; stroke-dasharray: 5 3; } \
     .c0 { fill: var(--b0); } .c1 { fill: var(--b2); } .c2 { fill: var(--b1); } .c3 { fill: var(--b3); } .c4 { fill: var(--b4); } \
     .s0 { stroke: var(--b0); } .s1 { stroke: var(--b2); } .s2 { stroke: var(--b1); } .s3 { stroke: var(--b3); } .s4 { stroke: var(--b4); }";

/// The width of all drawings, and what is left of it for labels.
const WIDTH: f64 = 920.0;
const LABELS: f64 = 170.0;

/// The height of a bar with the space behind it.
const BAR: f64 = 28.0;

/// The height of drawings that have two axes.
const HEIGHT: f64 = 240.0;

/// Bars of a histogram.
const BINS: usize = 46;

/// Times below this many milliseconds are drawn as if they were longer: nothing is divided by 0.
const SHORTEST: f64 = 1e-9;

/// Colours that things take in turns.
const COLOURS: usize = 5;

/// What was measured of one program.
#[derive(Clone, Debug)]
pub struct TimedRuns {
    /// What it is called.
    pub label: String,
    /// The phases of the cold run in order, in milliseconds.
    pub cold: Vec<(&'static str, f64)>,
    /// Warm runs in order, in milliseconds.
    pub warm: Vec<f64>,
}

/// What somebody else needs for the same model, in milliseconds.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Who.
    pub name: String,
    /// The median of its warm runs.
    pub median: f64,
    /// The cold run.
    pub cold: f64,
}

/// The page of a model. `facts` are said below its name: the machine, threads, versions.
pub fn timing(model: &str, facts: &[String], runs: &[TimedRuns], peers: &[Peer]) -> String {
    let mut page = String::new();
    // Writing to a `String` cannot fail.
    let _ = write(&mut page, model, facts, runs, peers);
    page
}

fn write(
    page: &mut String,
    model: &str,
    facts: &[String],
    runs: &[TimedRuns],
    peers: &[Peer],
) -> fmt::Result {
    let facts: Vec<String> = facts.iter().map(|fact| esc(fact)).collect();
    writeln!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}: times</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}{OWN_STYLE}</style></head><body>\
         <div class=\"top\"><div class=\"title\"><h1>{0}</h1><p>{1}</p></div></div>",
        esc(model),
        facts.join(" &middot; ")
    )?;
    section(page, "Cold run, phase by phase (ms)", |page| cold(page, runs))?;
    section(page, "Warm runs in order (ms); dashed: medians", |page| iterations(page, runs))?;
    section(page, "Distribution of warm runs (ms)", |page| distribution(page, runs))?;
    section(page, "Medians of warm runs (ms)", |page| medians(page, runs, peers))?;
    writeln!(page, "</body></html>")
}

fn section(page: &mut String, title: &str, content: impl FnOnce(&mut String) -> fmt::Result) -> fmt::Result {
    writeln!(page, "<section><h2>{title}</h2>")?;
    content(page)?;
    writeln!(page, "</section>")
}

fn open(page: &mut String, title: &str, height: f64) -> fmt::Result {
    writeln!(
        page,
        "<svg role=\"img\" aria-label=\"{title}\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">"
    )
}

/// Stacked bars, of which the longest takes the whole width.
fn cold(page: &mut String, runs: &[TimedRuns]) -> fmt::Result {
    let total = |run: &TimedRuns| run.cold.iter().map(|(_, time)| time).sum::<f64>();
    let scale = (WIDTH - LABELS - 80.0) / runs.iter().map(total).fold(SHORTEST, f64::max);
    open(page, "phases of the cold run", BAR * (runs.len() as f64 + 1.0))?;
    for (i, run) in runs.iter().enumerate() {
        let (top, mut x) = (BAR * i as f64, LABELS);
        label(page, top, &run.label)?;
        for (p, (phase, time)) in run.cold.iter().enumerate() {
            let width = time * scale;
            writeln!(
                page,
                "<rect class=\"c{}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"18\"><title>{phase}: {} ms</title></rect>",
                p % COLOURS,
                top + 4.0,
                ms(*time)
            )?;
            x += width;
        }
        text(page, "left", x + 6.0, top + 17.0, &ms(total(run)))?;
    }
    let (mut x, top) = (LABELS, BAR * runs.len() as f64);
    for (p, (phase, _)) in runs.first().iter().flat_map(|run| run.cold.iter().enumerate()) {
        let colour = p % COLOURS;
        writeln!(
            page,
            "<rect class=\"c{colour}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\"/>",
            top + 8.0
        )?;
        text(page, "left", x + 17.0, top + 18.0, phase)?;
        x += 110.0;
    }
    writeln!(page, "</svg>")
}

/// From the shortest run to one that nearly none exceeds: what is beyond would flatten all others.
fn range(runs: &[TimedRuns]) -> (f64, f64) {
    let summaries = || runs.iter().filter_map(|run| Summary::of(&run.warm));
    let least = summaries().map(|s| s.min).fold(f64::INFINITY, f64::min);
    let most = summaries().map(|s| s.p99.min(3.0 * s.median)).fold(0.0, f64::max);
    let margin = 0.05 * (most - least).max(1e-3 * most).max(SHORTEST);
    (if least.is_finite() { (least - margin).max(0.0) } else { 0.0 }, most + margin)
}

/// A dot for each run; runs beyond the range lie on its edge.
fn iterations(page: &mut String, runs: &[TimedRuns]) -> fmt::Result {
    let (least, most) = range(runs);
    let longest = runs.iter().map(|run| run.warm.len()).max().unwrap_or(0).max(2);
    let x = |i: usize| 70.0 + (WIDTH - 90.0) * i as f64 / (longest - 1) as f64;
    let y = |time: f64| 10.0 + (HEIGHT - 40.0) * (1.0 - (time.min(most) - least) / (most - least));
    open(page, "warm runs in order", HEIGHT)?;
    for share in [0.0, 0.5, 1.0] {
        let time = least + share * (most - least);
        writeln!(
            page,
            "<line class=\"axis\" x1=\"70\" x2=\"{:.1}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/>",
            WIDTH - 20.0,
            y(time)
        )?;
        text(page, "right", 64.0, y(time) + 4.0, &ms(time))?;
    }
    for (r, run) in runs.iter().enumerate() {
        let colour = r % COLOURS;
        for (i, time) in run.warm.iter().enumerate() {
            writeln!(
                page,
                "<circle class=\"c{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.2\"><title>{}, run {}: {} ms</title></circle>",
                x(i),
                y(*time),
                esc(&run.label),
                i + 1,
                ms(*time)
            )?;
        }
        if let Some(summary) = Summary::of(&run.warm) {
            let at = y(summary.median);
            writeln!(
                page,
                "<line class=\"median s{colour}\" x1=\"70\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>",
                WIDTH - 20.0
            )?;
        }
    }
    legend(page, runs)?;
    writeln!(page, "</svg>")
}

/// How many runs took how long; the last bar has all that took longer.
fn distribution(page: &mut String, runs: &[TimedRuns]) -> fmt::Result {
    let (least, most) = range(runs);
    let width = (WIDTH - 90.0) / BINS as f64;
    let bin = |time: f64| (((time - least) / (most - least) * BINS as f64) as usize).min(BINS - 1);
    let counts: Vec<[usize; BINS]> = runs
        .iter()
        .map(|run| {
            let mut counts = [0; BINS];
            run.warm.iter().for_each(|time| counts[bin(*time)] += 1);
            counts
        })
        .collect();
    let highest = counts.iter().flatten().copied().max().unwrap_or(0).max(1);
    open(page, "distribution of warm runs", HEIGHT)?;
    for (r, counts) in counts.iter().enumerate() {
        for (b, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let height = (HEIGHT - 50.0) * *count as f64 / highest as f64;
            let from = least + (most - least) * b as f64 / BINS as f64;
            writeln!(
                page,
                "<rect class=\"c{}\" opacity=\"0.6\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{}: {count} runs \
                 from {} ms</title></rect>",
                r % COLOURS,
                70.0 + width * b as f64,
                HEIGHT - 30.0 - height,
                width - 1.0,
                esc(&runs[r].label),
                ms(from)
            )?;
        }
    }
    for share in [0.0, 0.5, 1.0] {
        let anchor = if share == 1.0 { "right" } else { "left" };
        text(
            page,
            anchor,
            70.0 + (WIDTH - 90.0) * share,
            HEIGHT - 12.0,
            &ms(least + share * (most - least)),
        )?;
    }
    legend(page, runs)?;
    writeln!(page, "</svg>")
}

/// A bar for each program and for each of the others.
fn medians(page: &mut String, runs: &[TimedRuns], peers: &[Peer]) -> fmt::Result {
    let own = runs.iter().filter_map(|run| Some((run.label.as_str(), Summary::of(&run.warm)?.median, None)));
    let others = peers.iter().map(|peer| (peer.name.as_str(), peer.median, Some(peer.cold)));
    let bars: Vec<(&str, f64, Option<f64>)> = own.chain(others).collect();
    let scale = (WIDTH - LABELS - 220.0) / bars.iter().map(|bar| bar.1).fold(SHORTEST, f64::max);
    open(page, "medians of warm runs", BAR * bars.len() as f64)?;
    for (i, (name, median, cold)) in bars.iter().enumerate() {
        let top = BAR * i as f64;
        label(page, top, name)?;
        let colour = if i < runs.len() { i % COLOURS } else { COLOURS - 1 };
        writeln!(
            page,
            "<rect class=\"c{colour}\" x=\"{LABELS}\" y=\"{:.1}\" width=\"{:.1}\" height=\"18\"/>",
            top + 4.0,
            median * scale
        )?;
        let said = cold.map_or_else(|| ms(*median), |cold| format!("{} (cold {})", ms(*median), ms(cold)));
        text(page, "left", LABELS + median * scale + 6.0, top + 17.0, &said)?;
    }
    writeln!(page, "</svg>")
}

fn legend(page: &mut String, runs: &[TimedRuns]) -> fmt::Result {
    for (r, run) in runs.iter().enumerate() {
        let (x, y) = (WIDTH - 190.0, 16.0 + 18.0 * r as f64);
        writeln!(
            page,
            "<rect class=\"c{}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\"/>",
            r % COLOURS,
            y - 10.0
        )?;
        text(page, "left", x + 17.0, y, &run.label)?;
    }
    Ok(())
}

/// What a bar is of.
fn label(page: &mut String, top: f64, name: &str) -> fmt::Result {
    text(page, "right", LABELS - 8.0, top + 17.0, name)
}

fn text(page: &mut String, anchor: &str, x: f64, y: f64, what: &str) -> fmt::Result {
    writeln!(page, "<text class=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", esc(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(label: &str, warm: &[f64]) -> TimedRuns {
        TimedRuns { label: label.to_owned(), cold: vec![("load", 1.0), ("passes", 2.0)], warm: warm.to_vec() }
    }

    #[test]
    fn every_run_is_a_dot_and_in_one_bar() {
        let both = [runs("fused", &[1.0, 1.1, 1.2, 90.0]), runs("unfused", &[2.0, 2.0, 2.1, 2.2])];
        let peer = Peer { name: "<other>".to_owned(), median: 3.0, cold: 40.0 };
        let page = timing("a & b", &["one thread".to_owned()], &both, &[peer]);
        assert_eq!(page.matches("<circle").count(), 8);
        let counted = page.split(" runs from ").map(|part| part.rsplit(' ').next().unwrap());
        let counted: usize = counted.filter_map(|count| count.parse::<usize>().ok()).sum();
        assert_eq!(counted, 8);
        for part in ["a &amp; b", "&lt;other&gt;", "passes: 2.000 ms", "3.000 (cold 40.00)"] {
            assert!(page.contains(part), "no {part} in {page}");
        }
        assert!(!page.contains("<script") && !page.contains("NaN") && !page.contains("inf"), "{page}");
    }

    #[test]
    fn few_and_equal_runs_have_a_place() {
        for warm in [&[][..], &[1.0], &[1.0, 1.0], &[0.0]] {
            let page = timing("m", &[], &[runs("only", warm)], &[]);
            assert!(!page.contains("NaN") && !page.contains("inf"), "{warm:?}: {page}");
        }
    }
}
