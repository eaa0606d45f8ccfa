//! What is compiled: a program of loop nests together with its constants and its interface.
//!
//! Lowering makes a [`Unit`], nest passes rewrite it, code generation and the runtime read it. It belongs to
//! none of them.

use std::collections::HashMap;
use std::sync::Arc;

use nestjit_ir::{BufId, Program};

use crate::tensor::Tensor;

/// A program with the data and names that are not part of the program itself.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// The buffers and nests.
    pub program: Program,
    /// The contents of each `const` buffer, in logical row-major order. Buffers that share a tensor (the same
    /// weights in two layouts) share the `Arc`.
    pub consts: HashMap<BufId, Arc<Tensor>>,
    /// The model's inputs, in order: `in` buffers.
    pub inputs: Vec<BufId>,
    /// The model's outputs, in order: `out` buffers. The same buffer may occur twice.
    pub outputs: Vec<BufId>,
    /// Where each `temp` buffer lies, once memory is planned.
    pub plan: Option<MemoryPlan>,
}

/// Offsets of temporaries in one arena.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemoryPlan {
    /// The byte offset of each `temp` buffer; a multiple of 64. Buffers that do not live at the same time may
    /// overlap.
    pub offsets: HashMap<BufId, usize>,
    /// The size of the arena in bytes.
    pub bytes: usize,
}

/// Why something was or was not done: a line of the report.
#[derive(Clone, PartialEq, Debug)]
pub struct Remark {
    /// The pass that speaks.
    pub pass: &'static str,
    /// A stable reason code such as `recompute` or `fused-epilogue`.
    pub code: &'static str,
    /// What it is about: the producer (or the nest itself).
    pub producer: String,
    /// The consumer, if there is one.
    pub consumer: Option<String>,
    /// The bytes that pass through memory because a merge was not made, or that a merge saved.
    pub bytes: usize,
    /// Whether the pass did what it considered, or declined.
    pub applied: bool,
    /// One sentence for people.
    pub message: String,
}
