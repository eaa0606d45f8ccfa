//! What tiles depend on of the machine.

use super::choose::TileKind;
use super::dot::Products;
use crate::target::Target;

/// What the choice depends on of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    /// `f32` elements of a vector register.
    pub lanes: usize,
    /// Vector registers.
    pub registers: usize,
    /// Bytes of the first and second level caches.
    pub caches: [f64; 2],
    /// Whether dot products of bytes are single instructions.
    pub dot: bool,
    /// Whether there are dot products of `bf16`.
    pub bf16: bool,
    /// Whether there are matrix tiles that multiply bytes, and those that multiply `bf16`.
    pub tiles: bool,
    pub bf16_tiles: bool,
}

impl Machine {
    /// The part of a target that the choice depends on.
    pub fn of(target: &Target) -> Machine {
        Machine {
            lanes: target.isa.f32_lanes(),
            registers: target.isa.vector_registers(),
            caches: [target.l1_bytes as f64, target.l2_bytes as f64],
            dot: target.vnni,
            bf16: target.bf16,
            tiles: target.amx,
            bf16_tiles: target.amx_bf16,
        }
    }
}

impl Machine {
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
