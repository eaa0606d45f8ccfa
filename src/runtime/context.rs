//! What one run needs for itself: the arena, scratch memory, and the table of buffer addresses.
//!
//! Contexts are made once and used again, so that a run allocates nothing. As many are kept as runs have lately been
//! going on at the same time, and no more than there are cores.

use std::collections::HashMap;

use nestjit_ir::{BufId, Role};

use super::fork::{Guarded, Held};
use super::pack::Storage;
use crate::codegen::Code;
use crate::error::{Error, Result};
use crate::memory::{ALIGN, Block};
use crate::threads;
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
            Role::Const => match consts.get(&id) {
                Some(c) => Some(Source::Const(ConstAddress(c.as_ptr()?))),
                None => None,
            },
            Role::Temp => plan.offsets.get(&id).copied().filter(|o| self.fits(*o, buffer)).map(Source::Arena),
            Role::In | Role::Out | Role::Local => None,
        };
        source.ok_or_else(|| Error::internal(format!("the buffer %{} has no place in memory", buffer.name)))
    }

    fn fits(&self, offset: usize, buffer: &nestjit_ir::Buffer) -> bool {
        offset.is_multiple_of(ALIGN)
            && offset.checked_add(MemoryPlan::bytes_of(buffer)).is_some_and(|end| end <= self.arena_bytes)
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

    /// The memory that it takes, in bytes.
    pub fn bytes(bindings: &Bindings) -> usize {
        bindings.arena_bytes + bindings.scratch_bytes * bindings.threads
    }

    /// The scratch memory of one of the threads of a run, which are numbered.
    pub fn scratch(&self, thread: usize) -> *mut u8 {
        self.scratch.as_ptr().wrapping_add(thread * self.scratch_bytes)
    }

    /// What a call that has just ended with a nonzero status on this thread left at the start of its scratch memory: the
    /// value that a check found outside its range.
    pub fn failed_value(&self, thread: usize) -> i64 {
        if self.scratch_bytes < size_of::<i64>() {
            return 0;
        }
        // SAFETY: the scratch memory of each thread has `scratch_bytes` bytes, is aligned and initialised, and nothing
        // runs that could write to it: the caller is the thread.
        unsafe { self.scratch(thread).cast::<i64>().read() }
    }
}

/// The contexts that no run is using, as many as are likely to be needed.
pub(super) struct ContextPool {
    state: Guarded<State>,
    /// The most that are kept: more runs at once than there are cores gain nothing from memory of their own.
    most: usize,
}

#[derive(Default)]
struct State {
    idle: Vec<RunContext>,
    /// Runs that are going on.
    running: usize,
    /// The most that were going on at once, in the current period and in the one before.
    peaks: [usize; 2],
    /// Runs that ended in the current period.
    ended: usize,
}

/// After so many runs it is looked at anew how many of them go on at once.
const PERIOD: usize = 256;

impl ContextPool {
    /// A pool with one context.
    pub fn new(first: RunContext) -> ContextPool {
        let most = threads::available();
        ContextPool { state: Guarded::new(State { idle: vec![first], ..State::default() }), most }
    }

    /// Calls `f` with a context, a new one if all are in use.
    ///
    /// # Errors
    /// Those of [`RunContext::new`] and of `f`.
    pub fn with<R>(&self, bindings: &Bindings, f: impl FnOnce(&mut RunContext) -> Result<R>) -> Result<R> {
        let mut lease = Lease { pool: self, context: self.lock().begin() };
        let context = match &mut lease.context {
            Some(context) => context,
            none => none.insert(RunContext::new(bindings)?),
        };
        f(context)
    }

    /// Gives back the contexts that no run is using.
    pub fn trim(&self) {
        let idle = std::mem::take(&mut self.lock().idle);
        // Freed when the lock is not held any more.
        drop(idle);
    }

    /// How many contexts are kept for later runs.
    pub fn idle(&self) -> usize {
        self.lock().idle.len()
    }

    fn lock(&self) -> Held<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// A run begins, with a context if there is one.
    fn begin(&mut self) -> Option<RunContext> {
        self.running += 1;
        self.peaks[0] = self.peaks[0].max(self.running);
        self.idle.pop()
    }

    /// A run ends. Those contexts are returned that need not be kept.
    fn end(&mut self, context: Option<RunContext>, most: usize) -> Vec<RunContext> {
        self.ended += 1;
        if self.ended == PERIOD {
            self.ended = 0;
            self.peaks = [self.running, self.peaks[0]];
        }
        self.running -= 1;
        self.idle.extend(context);
        let [now, before] = self.peaks;
        let keep = now.max(before).clamp(1, most.max(1)).min(self.idle.len());
        // Those that were used last stay: their pages are in the caches.
        let excess = self.idle.len() - keep;
        self.idle.drain(..excess).collect()
    }
}

/// A context in use.
struct Lease<'p> {
    pool: &'p ContextPool,
    context: Option<RunContext>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let unneeded = self.pool.lock().end(self.context.take(), self.pool.most);
        // Freed when the lock is not held any more.
        drop(unneeded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings() -> Bindings {
        Bindings {
            tables: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            fixed: Vec::new(),
            arena_bytes: 1 << 20,
            scratch_bytes: 64,
            threads: 1,
        }
    }

    /// So many runs at once.
    fn nested(pool: &ContextPool, bindings: &Bindings, depth: usize) {
        let inner = |_: &mut RunContext| {
            if depth > 1 {
                nested(pool, bindings, depth - 1);
            }
            Ok(())
        };
        pool.with(bindings, inner).unwrap();
    }

    #[test]
    fn what_many_runs_needed_at_once_is_not_kept() {
        let bindings = bindings();
        let mut pool = ContextPool::new(RunContext::new(&bindings).unwrap());
        pool.most = 4;
        nested(&pool, &bindings, 3);
        assert_eq!(pool.idle(), 3, "as many as ran at once are there for the next time");
        nested(&pool, &bindings, 64);
        assert_eq!(pool.idle(), 4, "but no more than can run at once");
        for _ in 0..2 * PERIOD {
            nested(&pool, &bindings, 1);
        }
        assert_eq!(pool.idle(), 1, "when runs have come one by one for a while, one is enough");
        pool.trim();
        assert_eq!(pool.idle(), 0);
        nested(&pool, &bindings, 2);
        assert_eq!(pool.idle(), 2);
    }

    #[test]
    fn a_context_comes_back_from_a_run_that_fails_or_panics() {
        let bindings = bindings();
        let pool = ContextPool::new(RunContext::new(&bindings).unwrap());
        let error = pool.with(&bindings, |_| Err::<(), _>(Error::internal("no"))).unwrap_err();
        assert_eq!((error.message(), pool.idle()), ("no", 1));
        let run = || pool.with::<()>(&bindings, |_| panic!("no"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        assert_eq!((pool.idle(), pool.lock().running), (1, 0));
    }
}
