//! Local buffers: in registers where every access is to a known place, else in the kernel's scratch memory.

use nestjit_ir::{BufId, DType};
use smallvec::SmallVec;

use super::access::Parts;
use super::facts::Element;
use super::value::{Regs, Val, class_of};
use super::{Result, Selector, Stop, unsupported};
use crate::lanes::Refusal;

/// Registers that one local buffer may take.
const MAX_REGISTERS: usize = 64;
/// Scratch memory that a kernel may ask for: addresses within it are constants of instructions.
const MAX_SCRATCH_BYTES: usize = 1 << 30;

/// Where a local buffer lives.
pub(super) enum Local {
    /// In registers. A register holds one element in all lanes, or consecutive elements.
    Registers {
        dtype: DType,
        /// Declared within a vector loop: every lane has its own.
        per_lane: bool,
        /// What registers hold, in the order of elements. Most buffers hold one.
        cells: SmallVec<[Cell; 1]>,
        /// How many registers there are.
        count: usize,
    },
    /// At this offset in the scratch memory.
    Memory(usize),
    /// The same, and every lane has its own: in place of each element, there are as many as the vector loop
    /// has lanes.
    LaneMemory(usize),
}

/// The elements that a register holds.
pub(super) struct Cell {
    first: i64,
    len: usize,
    /// Whether lanes differ.
    varying: bool,
    /// The registers, one or a pair for each chunk if every lane has its own.
    registers: SmallVec<[Option<Regs>; 4]>,
}

impl Selector<'_> {
    pub(super) fn declare(&mut self, buf: BufId) -> Result<()> {
        let buffer = self.region.program.buf(buf);
        if !self.region.private.contains(&buf) {
            return Ok(());
        }
        let local = if self.spilled.contains(&buf) {
            let offset = self.scratch_top;
            let copies = if self.group.is_some() { self.chunks() * self.b.lanes() } else { 1 };
            let bytes = buffer.storage_bytes().checked_mul(copies);
            let top = bytes.and_then(|b| b.checked_next_multiple_of(64)).and_then(|b| b.checked_add(offset));
            let Some(top) = top.filter(|t| *t <= MAX_SCRATCH_BYTES) else {
                return unsupported(Refusal::LocalTooLarge);
            };
            self.scratch_top = top;
            self.scratch_max = self.scratch_max.max(top);
            if self.group.is_some() { Local::LaneMemory(offset) } else { Local::Memory(offset) }
        } else {
            let dtype = buffer.dtype;
            Local::Registers { dtype, per_lane: self.group.is_some(), cells: SmallVec::new(), count: 0 }
        };
        self.locals.insert(buf, local);
        Ok(())
    }

    pub(super) fn is_in_registers(&self, buf: BufId) -> bool {
        matches!(self.locals.get(&buf), Some(Local::Registers { .. }))
    }

    /// The register that an access to a local buffer means; `None` if the buffer is in memory.
    pub(super) fn cell(&mut self, e: &Element<'_>) -> Result<Option<Val>> {
        match self.first_of_cell(e)? {
            Some((_, true)) => Err(Stop::Spill(e.buf)),
            cell => Ok(cell.map(|(val, _)| val)),
        }
    }

    /// The same, and whether the access means only the first of the elements in it.
    pub(super) fn first_of_cell(&mut self, e: &Element<'_>) -> Result<Option<(Val, bool)>> {
        let buf = e.buf;
        if !self.is_in_registers(buf) {
            return Ok(None);
        }
        // The constant part, and how much it grows per lane; none if the place is not known.
        let known = |parts: &Parts| parts.counters.is_empty() && parts.outer.terms().is_empty();
        let at = match &e.form.offset {
            Some(at) => match at.as_const() {
                Some(constant) => Some((constant, 0)),
                None => {
                    let (at, constant) = self.placed(&e.form, at, 1)?;
                    let parts = &self.placed[at].parts;
                    known(parts).then_some((constant, parts.lane))
                }
            },
            None => match self.offset(e)? {
                Some(at) => {
                    let parts = self.parts(&at, 1)?;
                    known(&parts).then_some((parts.constant, parts.lane))
                }
                None => None,
            },
        };
        let (lanes, chunk, pairs) = (self.lanes(), self.chunk, self.has_upper_half());
        let Some(Local::Registers { dtype, per_lane, cells, count }) = self.locals.get_mut(&buf) else {
            return Ok(None);
        };
        let spill = Err(Stop::Spill(buf));
        let Some((first, lane)) = at else { return spill };
        let (len, varying) = match (lane, *per_lane) {
            (0, per_lane) => (1, per_lane),
            (1, false) => (lanes, true),
            _ => return spill,
        };
        if *count > MAX_REGISTERS {
            return spill;
        }
        let position = match cells.binary_search_by_key(&first, |c| c.first) {
            Ok(position) => position,
            Err(position) => {
                let overlaps = |a: &Cell, b: i64| a.first + a.len as i64 > b;
                let cell = Cell { first, len, varying, registers: SmallVec::new() };
                if position > 0 && overlaps(&cells[position - 1], first)
                    || cells.get(position).is_some_and(|after| overlaps(&cell, after.first))
                {
                    return spill;
                }
                cells.insert(position, cell);
                position
            }
        };
        let cell = &mut cells[position];
        let part = cell.varying && varying && cell.len > len && !class_of(*dtype).is_wide();
        if (cell.len, cell.varying) != (len, varying) && !part {
            return spill;
        }
        let which = if *per_lane { chunk } else { 0 };
        if cell.registers.len() <= which {
            cell.registers.resize(which + 1, None);
        }
        let class = class_of(*dtype);
        let regs = *cell.registers[which].get_or_insert_with(|| {
            let mut variable = || {
                *count += 1;
                self.b.variable(class)
            };
            let low = variable();
            match class.is_wide() {
                // Equal lanes are in either half.
                true => Regs::pair(low, if varying && pairs { variable() } else { low }),
                false => Regs::one(low),
            }
        });
        Ok(Some((Val::new(*dtype, regs, varying), part)))
    }
}
