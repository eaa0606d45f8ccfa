//! nestjit: a JIT compiler for fused neural-network loop nests.
//!
//! A [`Model`] comes from [`GraphBuilder`], [`Sequential`] or the [`zoo`]; a [`Compiler`] makes an [`Executable`] of
//! it; the executable runs, and tells what was done and what it cost. A [`Session`] calls an ONNX file for whatever shapes
//! come. [`compiler`] is the place to start reading.

mod budget;
pub mod codegen;
pub mod compiler;
pub mod error;
pub mod files;
pub mod graph;
pub mod host;
pub mod interpret;
mod lanes;
pub mod laps;
pub mod lower;
mod memory;
pub mod onnx;
pub mod options;
pub mod passes;
pub mod report;
pub mod runtime;
pub mod session;
pub mod target;
pub mod tensor;
mod threads;
pub mod unit;
pub mod zoo;

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
pub use session::Session;
pub use tensor::{Element, Tensor};

/// The code in README.md, as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
