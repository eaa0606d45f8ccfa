//! Lesson 2: the same model with and without fusion.
//!
//! Fusion merges the loops of an operation with those of its consumer, so that what is between them never
//! becomes an array in memory. It must not change the result, and it leaves a remark for everything it did not
//! merge.

use nestjit::graph::Weights;
use nestjit::{Activation, Compiler, Result, Sequential};

/// Runs the lesson.
pub fn main() -> Result<()> {
    let model = Sequential::new(&[64, 256])
        .dense(256, Activation::Relu)
        .dense(256, Activation::Gelu)
        .dense(10, Activation::Softmax)
        .build()?;
    let fused = Compiler::new().compile(&model)?;
    let unfused = Compiler::new().disable_pass("OpFusion").compile(&model)?;

    let [with, without] = [&fused, &unfused].map(|executable| executable.fusion_report().compiled);
    for (label, totals) in [("fused", with), ("unfused", without)] {
        println!("{label}: {} kernels, {} bytes between them", totals.kernels, totals.temporary_bytes);
    }
    assert!(with.kernels < without.kernels);
    assert!(with.temporary_bytes < without.temporary_bytes);

    let x = [Weights::new(1).uniform(&[64, 256], -1.0, 1.0)?];
    let (a, b) = (fused.run(&x)?, unfused.run(&x)?);
    let pairs = a[0].values::<f32>()?.iter().zip(b[0].values::<f32>()?);
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("the results differ by at most {worst:e}");
    assert!(worst < 1e-5);

    // What was merged, and what was not and why.
    println!("\n{}", fused.fusion_report().to_text(5));
    Ok(())
}
