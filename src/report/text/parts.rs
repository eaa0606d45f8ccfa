//! The parts of a model that is several programs, as a table.

use std::fmt::Write as _;

use super::table::table;
use crate::report::format::{ms, name};
use crate::report::programs::ReportedPart;

/// The parts as a table.
pub(super) fn table_of(parts: &[ReportedPart]) -> String {
    let mut number = 0;
    let rows: Vec<[String; 4]> = parts
        .iter()
        .map(|part| {
            let mut what = "  ".repeat(part.depth);
            match part.kernels {
                Some(kernels) => {
                    number += 1;
                    let plural = if kernels == 1 { "nest" } else { "nests" };
                    // Writing to a `String` cannot fail.
                    let _ = write!(what, "program {number}: {kernels} {plural}");
                }
                None => {
                    let nodes = part.reasons.iter().map(|r| format!("{} ({})", name(&r.node), r.op));
                    what += &nodes.collect::<Vec<_>>().join(", ");
                }
            }
            let why: Vec<&str> = part.reasons.iter().map(|r| r.why.as_str()).collect();
            [what, part.runs.to_string(), ms(part.ms), name(&why.join("; "))]
        })
        .collect();
    table(["part", "runs", "ms", "why it ends a program"], &[1, 2], rows)
}
