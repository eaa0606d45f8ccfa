//! The patterns of TensorFlow's remapper, each of which is one nest here and computes the same.
//!
//! `patterns.nest` holds the nests; `NESTJIT_BLESS=1` rewrites it.

#[path = "../common/patterns.rs"]
mod patterns;

use std::fmt::Write as _;
use std::path::Path;

use crate::harness::fuse;

#[test]
fn every_pattern_is_one_nest() {
    let patterns = patterns::patterns(6, 8);
    assert!(patterns.len() > 70);
    let mut apart = Vec::new();
    let mut golden = String::new();
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
            writeln!(golden, "// {}\n{}", pattern.name, fused.text()).expect("strings can be written to");
        }
    }
    assert!(apart.is_empty(), "{}", apart.join("\n\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fusion/patterns.nest");
    if std::env::var_os("NESTJIT_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&path, &golden).expect("the file can be written");
    }
    let expected = std::fs::read_to_string(&path).expect("the file exists");
    let first = golden.lines().zip(expected.lines()).position(|(a, b)| a != b);
    assert!(golden == expected, "{} is different from line {first:?} on", path.display());
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
