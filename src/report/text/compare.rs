//! Programs side by side, as tables.

use super::table::{rows, table};
use crate::report::compare::Variant;
use crate::report::format::{bytes, ms, name, percent};
use crate::report::fusion::FusionReport;

/// A row per program.
pub fn variants(variants: &[Variant]) -> String {
    let measured = variants.iter().any(|v| v.nests_ms.is_some());
    let mut header =
        vec!["fusion", "nests", "coverage", "ops", "ops/nest", "traffic", "saved", "temporaries"];
    if measured {
        header.push("ms");
    }
    let lines = variants.iter().map(|v| {
        let mut row = vec![
            v.fusion.name().to_owned(),
            v.nests.to_string(),
            percent(v.coverage_nests),
            percent(v.coverage_ops),
            format!("{:.2}", v.efficiency),
            bytes(v.traffic_bytes),
            percent(v.traffic_reduction),
            bytes(v.temporary_bytes),
        ];
        if measured {
            row.push(v.nests_ms.map_or_else(String::new, ms));
        }
        row
    });
    rows(&header, &[1, 2, 3, 4, 5, 6, 7, 8], lines)
}

/// A row per model.
pub fn models(reports: &[FusionReport]) -> String {
    table(
        ["model", "ops", "nests", "coverage", "of ops", "ops/nest", "unfused", "fused", "saved", "weights"],
        &[1, 2, 3, 4, 5, 6, 7, 8, 9],
        reports.iter().map(|r| {
            [
                name(&r.model),
                r.ops.to_string(),
                r.nests.to_string(),
                percent(r.coverage_nests),
                percent(r.coverage_ops),
                format!("{:.2}", r.efficiency),
                bytes(r.traffic_unfused_bytes),
                bytes(r.traffic_fused_bytes),
                percent(r.traffic_reduction),
                bytes(r.weight_bytes),
            ]
        }),
    )
}
