//! A kernel: its instructions and what they refer to.

use nestjit_ir::BufId;

use super::tiles::TileInst;
use super::{Arg, Class, Inst, Reg};

/// A function at the SIMD level.
#[derive(Clone, PartialEq, Default, Debug)]
pub(in crate::codegen) struct Kernel {
    /// Lanes of a register whose lanes have 32 bits.
    pub lanes: usize,
    pub args: Vec<Arg>,
    /// The class of each register.
    pub regs: Vec<Class>,
    pub counters: u32,
    /// Scratch memory that [`Arg::Scratch`] points to.
    pub scratch_bytes: usize,
    /// Buffers that the kernel writes.
    pub written: Vec<BufId>,
    pub body: Vec<Inst>,
}

impl Kernel {
    /// The class of a register.
    pub fn class(&self, reg: Reg) -> Class {
        self.regs[reg.0 as usize]
    }

    /// Adds what its dot products multiply to a list of names in ascending order.
    pub fn computes(&self, names: &mut Vec<&'static str>) {
        fn block(body: &[Inst], names: &mut Vec<&'static str>) {
            for inst in body {
                let name = match inst {
                    Inst::Dot { kind, .. } => kind.name(),
                    Inst::Tile(TileInst::Dot { of, .. }) => of.name(),
                    Inst::Loop { body, .. } | Inst::IfAny { body, .. } => {
                        block(body, names);
                        continue;
                    }
                    _ => continue,
                };
                if let Err(at) = names.binary_search(&name) {
                    names.insert(at, name);
                }
            }
        }
        block(&self.body, names);
    }
}
