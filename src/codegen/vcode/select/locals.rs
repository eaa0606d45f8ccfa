//! Local buffers: in registers where every access is to a known place, else in the kernel's scratch memory.

use std::collections::BTreeMap;

use nestjit_ir::layout::offset;
use nestjit_ir::{BufId, DType, Index};

use super::{LANE, Result, Selector, Stop, Val, unsupported};
use crate::codegen::hash::FastMap;
use crate::codegen::vcode::{Class, Reg};

/// Registers that one local buffer may take.
const MAX_REGISTERS: usize = 64;
/// Scratch memory that a kernel may ask for: addresses within it are constants of instructions.
const MAX_SCRATCH_BYTES: usize = 1 << 30;

/// Where a local buffer lives.
pub(super) enum Local {
    /// In registers. A register holds one element in all lanes, or consecutive elements.
    Registers {
        class: Class,
        /// Declared within a vector loop: every lane has its own.
        per_lane: bool,
        /// The elements that registers hold: the first, how many, and whether lanes differ.
        cells: BTreeMap<i64, (usize, bool)>,
        /// The register of each first element, and of each chunk if every lane has its own.
        registers: FastMap<(i64, usize), Reg>,
    },
    /// At this offset in the scratch memory.
    Memory(usize),
    /// The same, and every lane has its own: in place of each element, there are as many as the vector loop
    /// has lanes.
    LaneMemory(usize),
}

impl Selector<'_> {
    pub(super) fn declare(&mut self, buf: BufId) -> Result<()> {
        let buffer = self.region.program.buf(buf);
        if !self.region.private.contains(&buf) {
            return Ok(());
        }
        let local = if self.spilled.contains(&buf) {
            if buffer.dtype != DType::F32 {
                return unsupported("a local buffer of truth values in memory");
            }
            let offset = self.scratch_top;
            let copies = if self.group.is_some() { self.chunks() * self.b.lanes() } else { 1 };
            let bytes = buffer.storage_bytes().checked_mul(copies);
            let top = bytes.and_then(|b| b.checked_next_multiple_of(64)).and_then(|b| b.checked_add(offset));
            let Some(top) = top.filter(|t| *t <= MAX_SCRATCH_BYTES) else {
                return unsupported("a local buffer that is too large");
            };
            self.scratch_top = top;
            self.scratch_max = self.scratch_max.max(top);
            if self.group.is_some() { Local::LaneMemory(offset) } else { Local::Memory(offset) }
        } else {
            let class = match buffer.dtype {
                DType::F32 => Class::F32,
                DType::Bool => Class::Mask,
                _ => return unsupported("a local buffer of another type"),
            };
            Local::Registers {
                class,
                per_lane: self.group.is_some(),
                cells: BTreeMap::new(),
                registers: FastMap::default(),
            }
        };
        self.locals.insert(buf, local);
        Ok(())
    }

    pub(super) fn is_in_registers(&self, buf: BufId) -> bool {
        matches!(self.locals.get(&buf), Some(Local::Registers { .. }))
    }

    /// The register that an access to a local buffer means; `None` if the buffer is in memory.
    pub(super) fn cell(&mut self, buf: BufId, index: &[Index]) -> Result<Option<Val>> {
        if !self.is_in_registers(buf) {
            return Ok(None);
        }
        let index = self.resolve(buf, index)?;
        let at = offset(self.region.program.buf(buf), &index, &self.extents);
        let (lanes, chunk) = (self.lanes(), self.chunk);
        let Some(Local::Registers { class, per_lane, cells, registers }) = self.locals.get_mut(&buf) else {
            return Ok(None);
        };
        let spill = Err(Stop::Spill(buf));
        let Some(at) = at.filter(|a| a.vars().all(|v| v == LANE)) else { return spill };
        let (step, first) = (at.coeff(LANE), at.offset());
        let cell = match (step, *per_lane) {
            (0, per_lane) => (1, per_lane),
            (1, false) => (lanes, true),
            _ => return spill,
        };
        if *cells.entry(first).or_insert(cell) != cell {
            return spill;
        }
        let before = cells.range(..first).next_back();
        let after = cells.range(first + 1..).next();
        if before.is_some_and(|(start, (n, _))| start + *n as i64 > first)
            || after.is_some_and(|(start, _)| first + cell.0 as i64 > *start)
            || registers.len() > MAX_REGISTERS
        {
            return spill;
        }
        let key = (first, if *per_lane { chunk } else { 0 });
        let class = *class;
        let reg = *registers.entry(key).or_insert_with(|| self.b.variable(class));
        Ok(Some(Val { reg, varying: cell.1 }))
    }
}
