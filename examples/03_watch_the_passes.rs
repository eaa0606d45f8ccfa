//! Lesson 3: watching the passes.
//!
//! A pass rewrites a program, and programs have a textual form that can be read and parsed back. Seen after each
//! pass, three plain nests become one, and the one becomes tiles.

use nestjit::passes::{LOWER, PIPELINE};
use nestjit::{Activation, Compiler, Error, Result, Sequential};

/// Runs the lesson.
pub fn main() -> Result<()> {
    println!("The passes:");
    for pass in PIPELINE {
        println!("  {:<16}{}", pass.name, pass.summary);
    }

    let model = Sequential::new(&[4, 32]).dense(16, Activation::Relu).build()?;
    let executable = Compiler::new().keep_programs(true).compile(&model)?;

    // The plain nests: one per operation, each the textbook loop.
    let lowered = executable.program_after(LOWER)?;
    println!("\nAfter lowering:\n{lowered}");
    // Merged: the bias and the activation are applied where the sum is complete.
    let merged = executable.program_after("OpFusion")?;
    println!("\nAfter OpFusion:\n{merged}");
    println!("\nIn the end, with tiles and vectors:\n{}", executable.program());

    // The text is the program: parsed back, it is the same.
    let count = |text: &str| -> Result<usize> {
        let program = nestjit::ir::parse::parse(text).map_err(|e| Error::internal(e.to_string()))?;
        assert_eq!(program.to_string(), text);
        Ok(program.nests.len())
    };
    assert!(count(merged)? < count(lowered)?);
    assert_eq!(count(merged)?, 1);
    Ok(())
}
