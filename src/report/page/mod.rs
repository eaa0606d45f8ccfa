//! The fusion report as a page for a browser, and as a graph for Graphviz; measured runs as a page.
//!
//! The page is one file: style, script and data are inside, and nothing is fetched. What comes from a model (names
//! above all) reaches it in two ways only, both escaped: as text and attributes (`escape`), and as JSON that the
//! script shows as text.

mod dot;
mod escape;
mod graph;
mod layout;
mod nests;
mod svg;
mod timing;

use std::fmt::Write as _;
use std::ops::Range;

use serde_json::{Value, json};

pub use dot::dot;
pub use timing::{Peer, TimedRuns, timing};

use self::escape::{html as esc, script};
use self::graph::Drawing;
use super::format::{bytes, count, ms, percent, signed_bytes};
use super::fusion::{FusionReport, Group};
use crate::runtime::executable::Executable;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The report as one HTML page. Loop nests and machine code are shown as far as the executable keeps them.
pub fn html(report: &FusionReport, executable: &Executable) -> String {
    let before = Drawing::before(report, executable);
    let after = Drawing::after(report, executable);
    let mut page = String::new();
    // Writing to a `String` cannot fail.
    let _ = write(&mut page, report, executable, [&before, &after]);
    page
}

fn write(
    page: &mut String,
    report: &FusionReport,
    executable: &Executable,
    [before, after]: [&Drawing; 2],
) -> std::fmt::Result {
    let model = esc(&report.model);
    // The nonce keeps scripts and styles out that are not these, should a name ever get here as it is.
    writeln!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'nonce-nestjit'; \
         script-src 'nonce-nestjit'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{model} - nestjit fusion report</title>\n<style nonce=\"nestjit\">\n{STYLE}</style>\n</head>\n<body>"
    )?;
    header(page, report)?;
    writeln!(page, "<main>")?;
    pane(page, "before", "Before", &format!("{} operations", report.ops), before)?;
    pane(page, "after", "After", &format!("{} loop nests", report.nests), after)?;
    writeln!(
        page,
        "<section class=\"pane details\" aria-labelledby=\"details-title\"><header>\
         <h2 id=\"details-title\">Group</h2></header><div class=\"scroll\" id=\"details\" tabindex=\"0\" \
         aria-live=\"polite\"><p class=\"hint\">Select an operation or a loop nest: click it, or focus a graph and use \
         the arrow keys. Operations have the colour of the loop nest that they became.</p></div></section>\n</main>"
    )?;
    writeln!(page, "<noscript><p class=\"hint\">Details of groups need JavaScript.</p></noscript>")?;
    tables(page, report)?;
    let data = script(&data(report, executable).to_string());
    writeln!(page, "<script type=\"application/json\" id=\"data\">{data}</script>")?;
    writeln!(page, "<script nonce=\"nestjit\">\n{SCRIPT}</script>\n</body>\n</html>")
}

fn header(page: &mut String, report: &FusionReport) -> std::fmt::Result {
    let without = match report.disabled_passes.as_slice() {
        [] => String::new(),
        passes => format!(" without {}", passes.join(", ")),
    };
    let planned = report.planned_for.as_ref();
    let planned = planned.map_or_else(String::new, |planned| format!(", planned for {planned}"));
    writeln!(
        page,
        "<header class=\"top\"><div class=\"title\"><h1>{}</h1><p>nestjit fusion report, {}{}{}</p></div>\
         <form role=\"search\" id=\"search\"><input type=\"search\" id=\"query\" placeholder=\"Find an operation\" \
         aria-label=\"Find an operation or a loop nest\"></form></header>",
        esc(&report.model),
        esc(&report.isa),
        esc(&planned),
        esc(&without)
    )?;
    let mut tiles = vec![
        ("operations", report.ops.to_string(), format!("in {} loop nests", report.nests)),
        ("operations per nest", format!("{:.2}", report.efficiency), String::new()),
        (
            "of the nests are fused",
            percent(report.coverage_nests),
            format!("with {} of the operations", percent(report.coverage_ops)),
        ),
        (
            "less memory traffic",
            percent(report.traffic_reduction),
            format!(
                "{} instead of {}",
                bytes(report.traffic_fused_bytes),
                bytes(report.traffic_unfused_bytes)
            ),
        ),
        ("of weights", bytes(report.weight_bytes), "not counted as saved".to_owned()),
    ];
    if let Some(measured) = &report.measured {
        let threads = measured.roofline.threads;
        let unit = if threads == 1 { "thread" } else { "threads" };
        tiles.push((
            "per run, in nests",
            format!("{} ms", ms(measured.nests_ms)),
            format!("{threads} {unit}"),
        ));
    }
    write!(page, "<dl class=\"tiles\">")?;
    for (label, value, note) in tiles {
        write!(page, "<div><dt>{label}</dt><dd>{value}</dd><dd class=\"note\">{note}</dd></div>")?;
    }
    writeln!(page, "</dl>")
}

fn pane(page: &mut String, id: &str, title: &str, note: &str, drawing: &Drawing) -> std::fmt::Result {
    writeln!(
        page,
        "<section class=\"pane graph\" aria-labelledby=\"{id}-title\"><header><h2 id=\"{id}-title\">{title}</h2>\
         <p>{note}</p><span class=\"zoom\"><button type=\"button\" data-zoom=\"{id}\" data-by=\"0.8\" \
         aria-label=\"Zoom out\">&minus;</button><button type=\"button\" data-zoom=\"{id}\" data-by=\"1.25\" \
         aria-label=\"Zoom in\">+</button></span></header>\n<div class=\"scroll\" id=\"{id}\">"
    )?;
    svg::write(page, id, title, drawing)?;
    writeln!(page, "</div></section>")
}

/// What does not fit beside the graphs: comparison, patterns and refusals.
fn tables(page: &mut String, report: &FusionReport) -> std::fmt::Result {
    if let Some(variants) = &report.compare {
        let columns =
            ["fusion", "nests", "fused nests", "ops per nest", "traffic", "saved", "temporaries", "ms"];
        let rows = variants.iter().map(|v| {
            vec![
                v.fusion.name().to_owned(),
                v.nests.to_string(),
                percent(v.coverage_nests),
                format!("{:.2}", v.efficiency),
                bytes(v.traffic_bytes),
                percent(v.traffic_reduction),
                bytes(v.temporary_bytes),
                v.nests_ms.map_or_else(String::new, ms),
            ]
        });
        table(page, "How much is fused", &columns, 1..8, rows)?;
    }
    let patterns = report.patterns.iter().map(|p| {
        let (average, intensity) = (format!("{:.1}", p.average_ops), format!("{:.1}", p.intensity));
        vec![p.pattern.clone(), p.count.to_string(), average, intensity, signed_bytes(p.bytes_saved)]
    });
    let columns = ["pattern", "nests", "ops per nest", "FLOP per byte", "saved"];
    table(page, "Fusion patterns", &columns, 1..5, patterns)?;
    let refusals = report.refusals.iter().map(|r| {
        let (producer, consumer) = (short(&r.producer, 60), short(&r.consumer, 60));
        vec![producer, consumer, r.code.clone(), bytes(r.bytes), short(&r.message, 200)]
    });
    table(page, "Not fused", &["producer", "consumer", "reason", "bytes", ""], 3..4, refusals)
}

/// A table with a title; `numbers` are the columns of numbers.
fn table(
    page: &mut String,
    title: &str,
    columns: &[&str],
    numbers: Range<usize>,
    rows: impl Iterator<Item = Vec<String>>,
) -> std::fmt::Result {
    let class = |column: usize| if numbers.contains(&column) { " class=\"n\"" } else { "" };
    write!(page, "<section class=\"table\"><h2>{title}</h2><div class=\"wide\"><table><thead><tr>")?;
    for (i, column) in columns.iter().enumerate() {
        write!(page, "<th{}>{column}</th>", class(i))?;
    }
    writeln!(page, "</tr></thead><tbody>")?;
    for row in rows {
        write!(page, "<tr>")?;
        for (i, cell) in row.iter().enumerate() {
            write!(page, "<td{}>{}</td>", class(i), esc(cell))?;
        }
        writeln!(page, "</tr>")?;
    }
    writeln!(page, "</tbody></table></div></section>")
}

/// What the script shows of each group.
fn data(report: &FusionReport, executable: &Executable) -> Value {
    let texts = nests::texts(executable);
    let mut codes: Vec<String> = Vec::new();
    let groups: Vec<Value> = report
        .groups
        .iter()
        .enumerate()
        .map(|(at, group)| {
            let code = nests::listing(executable.machine_code(at));
            let code = code.map(|code| {
                codes.iter().position(|known| *known == code).unwrap_or_else(|| {
                    codes.push(code);
                    codes.len() - 1
                })
            });
            let ops: Vec<Value> = group.ops.iter().map(|op| json!([op.op, op.name])).collect();
            json!({
                "nest": group.nest, "pattern": group.pattern, "remapper": group.remapper, "ops": ops,
                "facts": facts(report, group), "texts": texts[at], "code": code,
            })
        })
        .collect();
    json!({"groups": groups, "codes": codes})
}

/// The figures of a group, as people read them.
fn facts(report: &FusionReport, group: &Group) -> Vec<[String; 2]> {
    let mut facts = vec![
        ("multiply-adds", count(group.macs)),
        ("operations", format!("{} FLOP", count(group.flops))),
        ("reads", bytes(group.read_bytes)),
        ("writes", bytes(group.written_bytes)),
        ("weights", bytes(group.weight_bytes)),
        ("saved", signed_bytes(group.bytes_saved)),
        ("intensity", format!("{:.1} FLOP/byte", group.intensity)),
    ];
    if let Some(balance) = group.balance {
        facts.push(("class", balance.name().to_owned()));
    }
    if let Some(time) = &group.time {
        facts.push(("time", format!("{} ms ({})", ms(time.ms), percent(time.time_share))));
        facts.push(("speed", format!("{:.1} GFLOP/s", time.gflops)));
        if let Some(measured) = &report.measured {
            facts.push(("roofline", time.share(&measured.roofline)));
        }
    }
    if !group.calls.is_empty() {
        facts.push(("calls", group.calls.join(", ")));
    }
    facts.into_iter().map(|(label, value)| [label.to_owned(), value]).collect()
}

/// A text of at most `limit` characters, cut in the middle: both ends of a name tell something.
fn short(text: &str, limit: usize) -> String {
    let text = super::format::name(text);
    let length = text.chars().count();
    if length <= limit {
        return text;
    }
    let half = (limit - 1) / 2;
    let start: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(length - half).collect();
    format!("{start}\u{2026}{end}")
}

#[cfg(test)]
mod tests;
