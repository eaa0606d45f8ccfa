//! What the machine has that a kernel is built for.

use super::Builder;

impl Builder {
    pub fn has_fma(&self) -> bool {
        self.fma
    }

    pub fn has_scale(&self) -> bool {
        self.scale
    }

    pub fn has_ternary(&self) -> bool {
        self.ternary
    }

    pub fn has_dot(&self) -> bool {
        self.dot
    }

    pub fn has_tiles(&self) -> bool {
        self.tiles
    }

    pub fn has_bf16_tiles(&self) -> bool {
        self.bf16_tiles
    }

    pub fn has_bf16_dot(&self) -> bool {
        self.bf16
    }
}
