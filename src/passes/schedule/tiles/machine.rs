//! What tiles depend on of the machine.

use super::choose::TileKind;
use super::dot::Products;
use crate::machine::{Isa, MachineModel};
use crate::passes::cost;

/// What the choice depends on of the machine.
#[derive(Clone, Copy, Debug)]
pub struct TileMachine {
    /// `f32` elements of a vector register.
    pub lanes: usize,
    /// Vector registers.
    pub registers: usize,
    /// Cycles for an operation on a vector.
    pub op_cycles: f64,
    /// Cycles for loading one from the first-level cache.
    pub load_cycles: f64,
    /// Cycles from a multiply-add to the next one that needs its sum.
    pub fma_latency: f64,
    /// Bytes of the first and second level caches.
    pub caches: [f64; 2],
    /// Bytes of a line of the first one.
    pub line: f64,
    /// Cycles to bring a byte into them.
    pub byte_cycles: [f64; 2],
    /// Cycles to bring a byte of a panel into the first level.
    pub panel_byte_cycles: f64,
    /// Lines that are this many bytes apart share a set of the first level.
    pub set_distance: usize,
    /// Whether bits of an integer become a number in one instruction.
    pub ternary: bool,
    /// Whether dot products of bytes are single instructions.
    pub dot: bool,
    /// Whether there are dot products of `bf16`.
    pub bf16: bool,
    /// Whether there are matrix tiles that multiply bytes, and those that multiply `bf16`.
    pub tiles: bool,
    pub bf16_tiles: bool,
}

impl TileMachine {
    /// The part of a target that the choice depends on.
    pub fn of(target: &MachineModel) -> TileMachine {
        TileMachine {
            lanes: target.isa.f32_lanes(),
            registers: target.isa.vector_registers(),
            op_cycles: target.vector_ops.recip(),
            load_cycles: target.vector_loads.recip(),
            fma_latency: target.fma_latency,
            caches: [target.l1_bytes() as f64, target.l2_bytes() as f64],
            line: target.caches[0].line as f64,
            byte_cycles: cost::byte_cycles(target),
            panel_byte_cycles: cost::panel_byte_cycles(target),
            // A power of two, as addresses that share a set are apart.
            set_distance: (target.l1_bytes() / target.caches[0].ways).next_power_of_two(),
            ternary: target.isa == Isa::Avx512,
            dot: target.vnni,
            bf16: target.bf16,
            tiles: target.amx,
            bf16_tiles: target.amx_bf16,
        }
    }
}

impl TileMachine {
    /// Whether tiles of a kind are made of dot products of these.
    pub fn has(&self, kind: TileKind, products: Products) -> bool {
        match (kind, products) {
            // Bytes have an exact form where there is no instruction for them.
            (TileKind::Vectors, Products::Bytes) => true,
            (TileKind::Vectors, Products::Halves) => self.bf16,
            (TileKind::Matrix, Products::Bytes) => self.tiles,
            (TileKind::Matrix, Products::Halves) => self.bf16_tiles,
        }
    }
}
