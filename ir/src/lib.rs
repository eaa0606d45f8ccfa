//! `nestjit-ir`: the loop-nest IR.
//!
//! A [`Program`] is a list of buffers and a list of nests; a nest is a tree of `for` loops over `Store` and
//! `Reduce` statements whose indices are affine in the loop variables.

pub mod affine;
pub mod nest;
pub mod types;

pub use affine::{Affine, Var};
pub use nest::*;
pub use types::{DType, Scalar};
