//! Kernels as x86-64 machine code: AVX-512 with 16 lanes, AVX2, FMA and F16C with 8.
//!
//! The function is called like the one that `clif` emits: its only argument points to the kernel's
//! arguments. `flatten` makes the kernel a list of nodes, `liveness` and `regalloc` assign vector registers,
//! `pointers` integer ones, `emit` (loops, the frame) with `operands`, `integer`, `inst`, `convert`, `dot`, `tiles`, `lookup`, `memory`, `guard`,
//! `reduce` and `call` writes the instructions of `codes`, which `assembler` collects and `encode` turns into bytes by the table in
//! `encodings`. `needs` says what
//! instructions take beside their operands. `entry` writes functions that only call a kernel.

mod assembler;
mod call;
mod codes;
mod convert;
mod dot;
mod emit;
mod encode;
mod encodings;
mod entry;
mod flatten;
mod guard;
mod inst;
mod integer;
mod liveness;
mod lookup;
mod memory;
mod needs;
mod operands;
mod pointers;
mod reduce;
mod regalloc;
mod tiles;

#[cfg(all(test, target_arch = "x86_64", unix))]
mod tests;

pub(in crate::codegen) use self::entry::{EntryCode, Value, emit_entry};
use super::select::Machine;
use super::{DotKind, Kernel};
use crate::error::{Error, Result};
use crate::machine::{Isa, MachineModel};

/// The instructions to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::codegen) struct Tier {
    /// AVX-512, or else AVX2.
    wide: bool,
    /// Dot products of bytes: AVX512_VNNI, or AVX-VNNI.
    vnni: bool,
    /// Dot products of `bf16`, AVX512_BF16.
    bf16: bool,
    /// Matrix tiles, AMX, and those that may multiply `bf16`.
    tiles: bool,
    bf16_tiles: bool,
}

impl Tier {
    /// The tier for a machine; `None` if its kernels are emitted by Cranelift.
    pub fn of(target: &MachineModel) -> Option<Tier> {
        let wide = match target.isa.min(Isa::WIDEST_EMITTED) {
            Isa::Simd128 => return None,
            Isa::Avx2 => false,
            Isa::Avx512 => true,
        };
        Some(Tier {
            wide,
            vnni: target.vnni,
            bf16: wide && target.bf16,
            tiles: wide && target.amx,
            bf16_tiles: wide && target.amx && target.amx_bf16,
        })
    }

    fn is_512(self) -> bool {
        self.wide
    }

    fn has_tiles(self) -> bool {
        self.tiles
    }

    /// Whether there is an instruction for a kind of [`super::Inst::Dot`].
    fn has_dot(self, kind: DotKind) -> bool {
        match kind {
            DotKind::Bytes => self.vnni,
            DotKind::Bf16 => self.bf16,
        }
    }

    /// Lanes of the kernels that are emitted.
    pub fn lanes(self) -> usize {
        if self.is_512() { 16 } else { 8 }
    }

    /// Vector registers.
    fn registers(self) -> usize {
        if self.is_512() { 32 } else { 16 }
    }

    /// What kernels are selected for.
    pub fn machine(self) -> Machine {
        Machine {
            lanes: self.lanes(),
            registers: self.registers(),
            fma: true,
            scale: self.is_512(),
            ternary: self.is_512(),
            dot: self.vnni,
            bf16: self.bf16,
            tiles: self.tiles,
            bf16_tiles: self.bf16_tiles,
        }
    }
}

/// The alignment of the code that [`emit()`] makes.
pub(in crate::codegen) const ALIGN: u64 = 64;

/// The machine code of a kernel, and its text if that is wanted.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] if the kernel is not for this tier.
pub(in crate::codegen) fn emit(kernel: &Kernel, tier: Tier, keep_text: bool) -> Result<(Vec<u8>, String)> {
    if kernel.lanes != tier.lanes() {
        return Err(Error::internal(format!("a kernel of {} lanes for {tier:?}", kernel.lanes)));
    }
    emit::emit(kernel, tier, keep_text).map_err(|e| Error::internal(format!("kernel: {e}")))
}
