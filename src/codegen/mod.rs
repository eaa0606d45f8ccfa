//! Code generation: from scheduled nests to native code in one JIT module.
//!
//! [`compile`] is all that the rest of the crate sees. `nest` compiles every construct of the IR with
//! Cranelift, one scalar at a time; what is `f32` and affine and contains vector loops goes through `vcode`,
//! the SIMD-level code, instead. Nothing outside this module names Cranelift or an instruction set.

mod address;
mod code_memory;
mod contract;
mod function;
mod math;
mod module;
mod nest;
mod runtime_fns;
#[cfg(test)]
mod tests;
mod vcode;

use nestjit_ir::hash;

pub use module::{Code, CodegenOptions, CodegenStats, Entry, NestCode, ParallelLoop, Segment, compile};
pub use nest::{MOST_LOOPS, ScalarLoop};
