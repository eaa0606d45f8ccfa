//! Several programs side by side: the same model with less fusion, or several models.

use serde::Serialize;

use super::fusion::FusionReport;

/// How much of a model is fused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Extent {
    /// Nothing: OpFusion is switched off.
    Unfused,
    /// Elementwise operations behind what they read.
    EpilogueOnly,
    /// Everything that OpFusion fuses.
    Full,
}

impl Extent {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Extent::Unfused => "unfused",
            Extent::EpilogueOnly => "epilogue-only",
            Extent::Full => "full",
        }
    }
}

/// The figures of one of the programs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Variant {
    /// How much is fused.
    pub fusion: Extent,
    /// Its nests.
    pub nests: usize,
    /// The share of nests that compute two or more operations.
    pub coverage_nests: f64,
    /// The share of operations in such nests.
    pub coverage_ops: f64,
    /// Operations per nest.
    pub efficiency: f64,
    /// The bytes of activations that the nests read and write.
    pub traffic_bytes: usize,
    /// The share of the traffic of single operations that is saved.
    pub traffic_reduction: f64,
    /// The bytes of the buffers between nests.
    pub temporary_bytes: usize,
    /// The sum of the medians of all nests in milliseconds, if that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nests_ms: Option<f64>,
}

impl Variant {
    /// The figures of a report.
    pub fn of(fusion: Extent, report: &FusionReport) -> Variant {
        Variant {
            fusion,
            nests: report.nests,
            coverage_nests: report.coverage_nests,
            coverage_ops: report.coverage_ops,
            efficiency: report.efficiency,
            traffic_bytes: report.traffic_fused_bytes,
            traffic_reduction: report.traffic_reduction,
            temporary_bytes: report.compiled.temporary_bytes,
            nests_ms: report.measured.map(|m| m.nests_ms),
        }
    }
}
