//! Lesson 5: writing a loop nest as text, and running it.
//!
//! Everything that nestjit compiles is a loop nest, and a nest need not come from a model. This one is a dense
//! layer with a ReLU, as in the textbook: the passes find the contraction, tile and vectorise it.

use nestjit::unit::Unit;
use nestjit::{Compiler, Error, Result, Tensor, ir};

const DENSE: &str = "
nest @dense(in %x: f32[4,8], const %w: f32[8,16], const %b: f32[16], out %y: f32[4,16]) {
  for n < 4 {
    for m < 16 {
      temp %t: f32
      %t = 0.0
      for k < 8 {
        %t += %x[n,k] * %w[k,m]
      }
      %y[n,m] = max(%t + %b[m], 0.0)
    }
  }
}
";

/// Runs the lesson.
pub fn main() -> Result<()> {
    let program = ir::parse::parse(DENSE).map_err(|e| Error::invalid(e.to_string()))?;
    let weights = Tensor::new(&[8, 16], &[0.25f32; 128])?;
    let bias = Tensor::new(&[16], &[-1.0f32; 16])?;
    let unit = Unit::from_program(program, [("w", weights), ("b", bias)])?;
    let executable = Compiler::new().compile_unit("dense", unit)?;
    println!("{}", executable.program());

    // Row n of x is all n, so each element of row n of y is max(8 * n / 4 - 1, 0).
    let x: Vec<f32> = (0..32).map(|i| (i / 8) as f32).collect();
    let outputs = executable.run(&[Tensor::new(&[4, 8], &x)?])?;
    for (n, row) in outputs[0].values::<f32>()?.chunks(16).enumerate() {
        println!("row {n}: {}", row[0]);
        assert_eq!(row, [(2.0 * n as f32 - 1.0).max(0.0); 16]);
    }

    // A mistake has a line and a column.
    let Err(error) = ir::parse::parse(&DENSE.replace("%w[k,m]", "%w[k,m")) else {
        panic!("the text is wrong")
    };
    println!("a mistake: {error}");
    Ok(())
}
