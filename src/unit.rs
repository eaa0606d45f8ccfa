//! What is compiled: a program of loop nests together with its constants and its interface.
//!
//! Lowering makes a [`Unit`], nest passes rewrite it, code generation and the runtime read it. It belongs to
//! none of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nestjit_ir::{BufId, Buffer, DType, Program, Role};

use crate::error::{Error, Result};
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
    /// Constants that a pass has made of others by arithmetic in which errors grow: they are not to be rounded further.
    pub exact: HashSet<BufId>,
    /// Where each `temp` buffer lies, once memory is planned.
    pub plan: Option<MemoryPlan>,
}

impl Unit {
    /// A unit around a program that was parsed or built by hand: its inputs and outputs are the `in` and `out`
    /// buffers in order, its constants are given by name.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] if a constant is missing or does not fit its buffer,
    /// [`crate::ErrorKind::Usage`] if there is no constant of a given name.
    pub fn from_program<'n>(
        program: Program,
        constants: impl IntoIterator<Item = (&'n str, Tensor)>,
    ) -> Result<Unit> {
        let with_role =
            |role| -> Vec<BufId> { program.buf_ids().filter(|id| program.buf(*id).role == role).collect() };
        let const_bufs = with_role(Role::Const);
        let mut consts = HashMap::new();
        for (name, tensor) in constants {
            let named = |id: &&BufId| program.buf(**id).name == name;
            let Some(id) = const_bufs.iter().find(named) else {
                return Err(Error::usage(format!("there is no constant %{}", name.escape_debug())));
            };
            let buffer = program.buf(*id);
            if tensor.dtype() != buffer.dtype || tensor.shape() != buffer.shape {
                return Err(Error::shape(format!(
                    "the constant %{name} is {}{:?}, but {}{:?} was given",
                    buffer.dtype,
                    buffer.shape,
                    tensor.dtype(),
                    tensor.shape()
                )));
            }
            consts.insert(*id, Arc::new(tensor));
        }
        if let Some(id) = const_bufs.iter().find(|id| !consts.contains_key(id)) {
            return Err(Error::shape(format!("the constant %{} is not given", program.buf(*id).name)));
        }
        let (inputs, outputs) = (with_role(Role::In), with_role(Role::Out));
        Ok(Unit { program, consts, inputs, outputs, exact: HashSet::new(), plan: None })
    }
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

impl MemoryPlan {
    /// The bytes that a `temp` buffer takes in the arena: those of its storage, and behind single bytes and `bf16` three more,
    /// which nobody writes while the buffer lives. So whatever begins in it can be read four bytes at a time.
    pub fn bytes_of(buffer: &Buffer) -> usize {
        let grouped = buffer.dtype == DType::BF16 || buffer.dtype.size() == 1;
        buffer.storage_bytes() + if grouped { MemoryPlan::SLACK } else { 0 }
    }

    /// The bytes behind such a buffer.
    pub const SLACK: usize = 3;
}
