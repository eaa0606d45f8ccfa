//! The patterns of TensorFlow's remapper, each of which is one nest here and computes the same.
//!
//! `patterns.nest` holds the nests; `NESTJIT_BLESS=1` rewrites it.

#[path = "../common/patterns.rs"]
mod patterns;

use std::fmt::Write as _;

use nestjit::graph::ModelOps;
use nestjit::report::FusionReport;
use nestjit::report::fusion::Subject;

use crate::harness::{fuse, golden};

#[test]
fn every_pattern_is_one_nest() {
    let patterns = patterns::patterns(6, 8);
    assert!(patterns.len() > 70);
    let mut apart = Vec::new();
    let mut text = String::new();
    for pattern in &patterns {
        let fused = fuse(&pattern.graph);
        fused.same_bits();
        fused.compiled_agrees();
        if fused.nests() != 1 {
            apart.push(format!("{}: {}{:#?}", pattern.name, fused.text(), fused.remarks));
        }
        // What follows a product is the same for all of them.
        let shown =
            ["DepthwiseConv2dNative", "Conv3D", "MatMul"].iter().all(|p| !pattern.name.starts_with(p));
        if shown {
            writeln!(text, "// {}\n{}", pattern.name, fused.text()).expect("strings can be written to");
        }
    }
    assert!(apart.is_empty(), "{}", apart.join("\n\n"));
    golden("patterns.nest", &text);
}

/// `remapper.txt` holds what the report calls the patterns.
#[test]
fn the_report_uses_the_words_of_the_remapper() {
    let mut text = String::new();
    for pattern in patterns::patterns(6, 8) {
        let fused = fuse(&pattern.graph);
        let subject = Subject {
            model: &pattern.name,
            ops: &ModelOps::trace(&pattern.graph, &pattern.graph),
            unit: &fused.after,
            remarks: &fused.remarks,
            disabled_passes: &[],
            cache: 1 << 20,
        };
        let report = FusionReport::new(&subject);
        let [group] = report.groups.as_slice() else { panic!("{} is not one nest", pattern.name) };
        // What is spelled out is one operation.
        let words = match (&group.remapper, group.ops.as_slice()) {
            (None, [op]) => op.op.as_str(),
            (words, _) => words.as_deref().expect("there are several operations"),
        };
        writeln!(text, "{}\n    {words}", pattern.name).expect("strings can be written to");
    }
    golden("remapper.txt", &text);
}

#[test]
fn a_nest_names_its_operations_in_order() {
    let patterns = patterns::patterns(6, 8);
    let ops = |name: &str| -> Vec<String> {
        let pattern = patterns.iter().find(|p| p.name == name).expect("the pattern exists");
        let nest = &fuse(&pattern.graph).after.program.nests[0];
        nest.ops.iter().filter_map(|op| op.split(' ').next()).map(str::to_owned).collect()
    };
    assert_eq!(ops("Conv2D with FusedBatchNorm and Relu"), ["Conv", "BatchNorm", "Relu"]);
    assert_eq!(ops("Conv2D with Squeeze and BiasAdd"), ["Conv", "Reshape", "BiasAdd"]);
    assert_eq!(ops("Pad with Conv2D"), ["Pad", "Conv", "BiasAdd", "Relu"]);
    assert_eq!(ops("MatMul with BiasAdd and Swish"), ["MatMul", "BiasAdd", "Sigmoid", "Mul"]);
}
