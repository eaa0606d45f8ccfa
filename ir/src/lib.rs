//! `nestjit-ir`: the loop-nest IR.
//!
//! A [`Program`] is a list of buffers and a list of nests; a nest is a tree of `for` loops over `Store` and
//! `Reduce` statements whose indices are affine in the loop variables.

pub mod access;
pub mod affine;
pub mod build;
pub mod canon;
pub mod expr;
pub mod interp;
pub mod layout;
pub mod nest;
pub mod ops;
pub mod parse;
pub mod print;
pub mod types;
pub mod verify;
pub mod visit;

pub use affine::{Affine, Var};
pub use build::NestBuilder;
pub use expr::{SCALAR, indices};
pub use nest::*;
pub use ops::{BinOp, ReduceOp, UnOp};
pub use types::{DType, Scalar};
