//! nestjit: a JIT compiler for fused neural-network loop nests.
//!
//! A [`Model`] comes from [`GraphBuilder`], [`Sequential`] or the [`zoo`]; a [`Compiler`] makes an [`Executable`] of
//! it; the executable runs, and tells what was done and what it cost. A [`Session`] calls models of any kind, ONNX files for
//! whatever shapes come, and compiles when it has to. [`compiler`] is the place to start reading.
//!
//! The feature `cli`, on by default, is what the command `nestjit` and reports as text need.

pub mod compiler;
pub mod error;
pub mod graph;
pub mod machine;
pub mod onnx;
pub mod options;
pub mod remark;
pub mod report;
pub mod runtime;
pub mod session;
pub mod tensor;
pub mod zoo;

mod budget;
mod lanes;
mod memory;
mod threads;

// What the command, tests and benches reach as well. These change without notice.
#[doc(hidden)]
pub mod codegen;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod host;
#[doc(hidden)]
pub mod interpret;
#[doc(hidden)]
pub mod laps;
#[doc(hidden)]
pub mod lower;
#[doc(hidden)]
pub mod passes;
#[doc(hidden)]
pub mod unit;

pub use ndarray;

pub use compiler::Compiler;
pub use error::{Error, ErrorKind, Result};
pub use graph::builder::Activation;
pub use graph::{GraphBuilder, Model, Sequential};
pub use host::Item;
pub use nestjit_ir as ir;
pub use nestjit_ir::{DType, bf16, f16};
pub use options::{Fusion, Options, Precision, RowRings};
pub use runtime::{
    AsInput, CancelHandle, Executable, Input, OutputBuffer, RunOptions, TensorSpec, TensorView,
};
pub use session::{Session, SessionModel};
pub use tensor::{Element, Tensor};

/// The code in README.md, as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
