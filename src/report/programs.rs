//! The report of a model that is several programs, with operations of the host and control flow between them: the
//! nests of all programs, each program once however often it runs, and the parts in the order in which they ran.

use serde::Serialize;

use super::fusion::{self, FusionReport, ratio};
use super::roofline::Measured;
use super::scaling::Scaling;
use crate::onnx::Reason;

/// A part of a model: a program, or what runs between programs.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ReportedPart {
    /// How many bodies (of loops, branches, functions) it is in.
    pub depth: usize,
    /// The number of nests, if it is a program.
    pub kernels: Option<usize>,
    /// The node that it is and why it is not part of a program; or what began a new program.
    pub reasons: Vec<PartReason>,
    /// How often it ran in a call.
    pub runs: u64,
    /// The time of all these runs in milliseconds.
    pub ms: f64,
}

/// Why a node ends a program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PartReason {
    /// The node.
    pub node: String,
    /// The operation, with the version of its operator set.
    pub op: String,
    /// The reason.
    pub why: String,
}

impl From<&Reason> for PartReason {
    fn from(reason: &Reason) -> PartReason {
        PartReason { node: reason.node.clone(), op: reason.op.clone(), why: reason.why.clone() }
    }
}

impl FusionReport {
    /// The report of a model that is several programs.
    pub fn of_programs(model: &str, programs: Vec<FusionReport>, parts: Vec<ReportedPart>) -> FusionReport {
        let mut all = FusionReport { model: model.to_owned(), parts: Some(parts), ..FusionReport::default() };
        let (mut covered, mut saved) = (0.0, 0);
        for (number, program) in programs.into_iter().enumerate() {
            covered += program.coverage_ops * program.ops as f64;
            all.ops += program.ops;
            all.nests += program.nests;
            all.traffic_unfused_bytes += program.traffic_unfused_bytes;
            all.traffic_fused_bytes += program.traffic_fused_bytes;
            all.weight_bytes += program.weight_bytes;
            all.folded += program.folded;
            all.compiled = [all.compiled, program.compiled].into_iter().sum();
            if let Some(m) = program.measured {
                let before = all.measured.map_or(0.0, |m| m.nests_ms);
                all.measured = Some(Measured { nests_ms: before + m.nests_ms, ..m });
            }
            for mut group in program.groups {
                saved += group.bytes_saved;
                group.program = Some(number + 1);
                all.groups.push(group);
            }
            all.refusals.extend(program.refusals);
            (all.isa, all.disabled_passes) = (program.isa, program.disabled_passes);
            all.planned_for = program.planned_for;
            all.roofline = program.roofline.or(all.roofline);
            all.scaling = Scaling::of_programs(all.scaling.into_iter().chain(program.scaling));
        }
        let fused = all.groups.iter().filter(|g| g.ops.len() > 1).count();
        all.coverage_nests = ratio(fused as f64, all.nests as f64);
        all.coverage_ops = ratio(covered, all.ops as f64);
        all.efficiency = ratio(all.ops as f64, all.nests as f64);
        all.traffic_reduction = ratio(saved as f64, all.traffic_unfused_bytes as f64);
        all.patterns = fusion::patterns(&all.groups);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, Compiler, Sequential};

    #[test]
    fn programs_add_up() {
        let of = |width: usize| {
            let model =
                Sequential::new(&[8, 64]).dense(width, Activation::Relu).dense(10, Activation::Softmax);
            Compiler::new().compile(&model.build().unwrap()).unwrap().fusion_report()
        };
        let (a, b) = (of(64), of(32));
        let reason = PartReason { node: "c\n".to_owned(), op: "If".to_owned(), why: "data".to_owned() };
        let part = |depth, kernels, reasons| ReportedPart { depth, kernels, reasons, runs: 1, ms: 0.5 };
        let parts =
            vec![part(0, Some(a.nests), vec![]), part(0, None, vec![reason]), part(1, Some(b.nests), vec![])];
        let all = FusionReport::of_programs("m", vec![a.clone(), b.clone()], parts);
        assert_eq!((all.ops, all.nests), (a.ops + b.ops, a.nests + b.nests));
        assert_eq!(all.traffic_fused_bytes, a.traffic_fused_bytes + b.traffic_fused_bytes);
        let share = 1.0 - all.traffic_fused_bytes as f64 / all.traffic_unfused_bytes as f64;
        assert!((all.traffic_reduction - share).abs() < 1e-9);
        assert_eq!((all.coverage_nests, all.coverage_ops), (1.0, 1.0));
        assert_eq!(all.groups.last().and_then(|g| g.program), Some(2));
        #[cfg(feature = "cli")]
        {
            let text = all.to_text(usize::MAX);
            for expected in ["\nParts\n", " c\\n (If)", "   program 2: ", "data", " ---- program 2\n"] {
                assert!(text.contains(expected), "no {expected:?} in\n{text}");
            }
        }
    }
}
