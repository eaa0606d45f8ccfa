//! Kernels as x86-64 machine code: AVX-512 with 16 lanes, AVX2, FMA and F16C with 8.
//!
//! The function is called like the one that `clif` emits: its only argument points to the kernel's
//! arguments. `flatten` makes the kernel a list of nodes, `liveness` and `regalloc` assign vector registers,
//! `pointers` integer ones, `emit` (loops, the frame) with `operands`, `integer`, `inst`, `convert`, `dot`, `lookup`, `memory`, `guard`,
//! `reduce` and `call` writes the instructions of `codes`, and `assembler` turns them into bytes. `needs` says what
//! instructions take beside their operands.

mod assembler;
mod call;
mod codes;
mod convert;
mod dot;
mod emit;
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

#[cfg(all(test, target_arch = "x86_64", unix))]
mod tests;

use super::Kernel;
use super::select::Machine;
use crate::error::{Error, Result};
use crate::target::Isa;

/// The instructions to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::codegen) enum Tier {
    Avx2,
    /// With dot products of bytes of 256 bits, AVX-VNNI.
    Avx2Vnni,
    Avx512,
    /// With dot products of bytes, AVX512_VNNI.
    Avx512Vnni,
}

impl Tier {
    /// The tier for an instruction set, with or without dot products of bytes; `None` if its kernels are emitted by
    /// Cranelift.
    pub fn of(isa: Isa, vnni: bool) -> Option<Tier> {
        match isa.min(Isa::WIDEST_EMITTED) {
            Isa::Simd128 => None,
            Isa::Avx2 => Some(if vnni { Tier::Avx2Vnni } else { Tier::Avx2 }),
            Isa::Avx512 => Some(if vnni { Tier::Avx512Vnni } else { Tier::Avx512 }),
        }
    }

    fn is_512(self) -> bool {
        match self {
            Tier::Avx2 | Tier::Avx2Vnni => false,
            Tier::Avx512 | Tier::Avx512Vnni => true,
        }
    }

    /// Whether there is [`super::Inst::Dot`].
    fn has_dot(self) -> bool {
        match self {
            Tier::Avx2 | Tier::Avx512 => false,
            Tier::Avx2Vnni | Tier::Avx512Vnni => true,
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
            dot: self.has_dot(),
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
