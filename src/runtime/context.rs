//! What one run needs for itself: the arena, scratch memory, and the table of buffer addresses.
//!
//! Contexts are made once and used again, so that a run allocates nothing; as many exist as runs have been
//! going on at the same time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use nestjit_ir::{BufId, Role};

use super::pack::Storage;
use crate::codegen::Code;
use crate::error::{Error, Result};
use crate::memory::{ALIGN, Block};
use crate::unit::{MemoryPlan, Unit};

/// The address tables of all nests, one after the other, and where the addresses come from.
#[derive(Debug)]
pub(super) struct Bindings {
    /// Where the table of each nest starts.
    pub tables: Vec<usize>,
    /// Table entries that an input provides: (entry, input).
    pub inputs: Vec<(usize, usize)>,
    /// Table entries that an output provides: (entry, output).
    pub outputs: Vec<(usize, usize)>,
    fixed: Vec<Source>,
    arena_bytes: usize,
    scratch_bytes: usize,
    threads: usize,
}

/// Where the address of a table entry comes from, if it is the same in every run of a context.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// An input or output: given anew in each run.
    Run,
    Const(ConstAddress),
    Arena(usize),
}

/// The address of a constant, which lives as long as the executable.
#[derive(Clone, Copy, Debug)]
struct ConstAddress(*mut u8);

// SAFETY: constants are never written, and may be read by all threads.
unsafe impl Send for ConstAddress {}
// SAFETY: as above.
unsafe impl Sync for ConstAddress {}

impl Bindings {
    /// Finds out where every buffer of every nest lies.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] if a buffer has no place.
    pub fn new(
        unit: &Unit,
        plan: &MemoryPlan,
        code: &Code,
        consts: &HashMap<BufId, Storage>,
        threads: usize,
    ) -> Result<Bindings> {
        let scratch = code.nests().iter().map(|n| n.scratch_bytes).max().unwrap_or(0);
        let mut bindings = Bindings {
            tables: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            fixed: Vec::new(),
            arena_bytes: plan.bytes,
            scratch_bytes: scratch.next_multiple_of(ALIGN),
            threads,
        };
        for nest in code.nests() {
            bindings.tables.push(bindings.fixed.len());
            for id in &nest.params {
                let source = bindings.source(unit, plan, consts, *id)?;
                bindings.fixed.push(source);
            }
        }
        Ok(bindings)
    }

    fn source(
        &mut self,
        unit: &Unit,
        plan: &MemoryPlan,
        consts: &HashMap<BufId, Storage>,
        id: BufId,
    ) -> Result<Source> {
        let buffer = unit.program.buf(id);
        let position = |list: &[BufId]| list.iter().position(|b| *b == id);
        let plain = buffer.layout.is_row_major() && buffer.halo.is_empty();
        let entry = self.fixed.len();
        let source = match buffer.role {
            Role::In if plain => position(&unit.inputs).map(|i| {
                self.inputs.push((entry, i));
                Source::Run
            }),
            Role::Out if plain => position(&unit.outputs).map(|o| {
                self.outputs.push((entry, o));
                Source::Run
            }),
            Role::Const => consts.get(&id).map(|c| Source::Const(ConstAddress(c.as_ptr()))),
            Role::Temp => plan.offsets.get(&id).copied().filter(|o| self.fits(*o, buffer)).map(Source::Arena),
            Role::In | Role::Out | Role::Local => None,
        };
        source.ok_or_else(|| Error::internal(format!("the buffer %{} has no place in memory", buffer.name)))
    }

    fn fits(&self, offset: usize, buffer: &nestjit_ir::Buffer) -> bool {
        offset.is_multiple_of(ALIGN)
            && offset.checked_add(buffer.storage_bytes()).is_some_and(|end| end <= self.arena_bytes)
    }
}

/// The memory of a run.
pub(super) struct RunContext {
    /// One address per parameter of each nest; see [`Bindings::tables`].
    pub addresses: Box<[*mut u8]>,
    /// Temporaries; their addresses are in `addresses`.
    _arena: Block,
    scratch: Block,
    scratch_bytes: usize,
}

// SAFETY: the addresses point into memory that the context owns, to constants that are never written, or to
// inputs and outputs that are set anew before each run.
unsafe impl Send for RunContext {}
// SAFETY: through a shared reference, addresses can only be read; using them is `unsafe` by itself.
unsafe impl Sync for RunContext {}

impl RunContext {
    /// Allocates a context.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Limit`] if there is not enough memory.
    pub fn new(bindings: &Bindings) -> Result<RunContext> {
        let arena = Block::zeroed(bindings.arena_bytes)?;
        let too_much =
            || Error::new(crate::ErrorKind::Limit, "the scratch memory is larger than the address space");
        let scratch = bindings.scratch_bytes.checked_mul(bindings.threads).ok_or_else(too_much)?;
        let address = |source: &Source| match source {
            Source::Run => std::ptr::null_mut(),
            Source::Const(address) => address.0,
            Source::Arena(offset) => arena.as_ptr().wrapping_add(*offset),
        };
        Ok(RunContext {
            addresses: bindings.fixed.iter().map(address).collect(),
            _arena: arena,
            scratch: Block::zeroed(scratch)?,
            scratch_bytes: bindings.scratch_bytes,
        })
    }

    /// The scratch memory for one part of a parallel loop; parts are numbered below the number of threads.
    pub fn scratch(&self, part: usize) -> *mut u8 {
        self.scratch.as_ptr().wrapping_add(part * self.scratch_bytes)
    }
}

/// The contexts that no run is using.
#[derive(Default)]
pub(super) struct ContextPool(Mutex<Vec<RunContext>>);

impl ContextPool {
    /// Calls `f` with a context, a new one if all are in use.
    ///
    /// # Errors
    /// Those of [`RunContext::new`] and of `f`.
    pub fn with<R>(&self, bindings: &Bindings, f: impl FnOnce(&mut RunContext) -> Result<R>) -> Result<R> {
        let idle = self.lock().pop();
        let mut context = match idle {
            Some(context) => context,
            None => RunContext::new(bindings)?,
        };
        let result = f(&mut context);
        self.put(context);
        result
    }

    /// Adds a context.
    pub fn put(&self, context: RunContext) {
        self.lock().push(context);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<RunContext>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
