//! Tiers of vector instructions.

use serde::{Deserialize, Serialize};

use super::{amx, detect};

/// A tier of vector instructions. Ordered: a tier includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isa {
    /// 128-bit vectors: SSE on x86-64 (with FMA where the CPU has it), NEON on aarch64.
    Simd128,
    /// 256-bit AVX2 with FMA and F16C.
    Avx2,
    /// 512-bit AVX-512 (F, BW, DQ, VL).
    Avx512,
}

impl Isa {
    /// The name that options and reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Simd128 => "simd128",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// The tier of that name; `sse` is another name of `simd128`.
    pub fn from_name(name: &str) -> Option<Isa> {
        match name {
            "simd128" | "sse" => Some(Isa::Simd128),
            "avx2" => Some(Isa::Avx2),
            "avx512" => Some(Isa::Avx512),
            _ => None,
        }
    }

    /// The widest tier that code is emitted for, whatever the CPU has: this constant is the one place that
    /// says so. Code wider than Cranelift's follows the System V calling convention.
    pub const WIDEST_EMITTED: Isa =
        if cfg!(all(target_arch = "x86_64", unix)) { Isa::Avx512 } else { Isa::Simd128 };

    /// The widest tier that the CPU and the operating system have.
    pub fn host() -> Isa {
        detect::isa()
    }

    /// Whether the CPU has dot products of bytes in vectors of this tier.
    pub fn host_has_vnni(self) -> bool {
        self <= Isa::host() && detect::vnni(self)
    }

    /// Whether code in vectors of this tier may use matrix tiles, AMX: the CPU has them, with products of bytes and of `bf16`,
    /// and the system grants them to this process.
    pub fn host_has_tiles(self) -> bool {
        self == Isa::Avx512 && self.host_has_vnni() && amx::available()
    }

    /// Whether the CPU multiplies pairs of `bf16` in vectors of this tier.
    pub fn host_has_bf16(self) -> bool {
        self <= Isa::host() && detect::bf16(self)
    }

    /// Whether the CPU multiplies pairs of `bf16` in vectors of this tier, and faster than it multiplies `f32`.
    pub fn host_has_fast_bf16(self) -> bool {
        self <= Isa::host() && detect::fast_bf16(self)
    }

    /// `f32` elements of a vector register.
    pub const fn f32_lanes(self) -> usize {
        match self {
            Isa::Simd128 => 4,
            Isa::Avx2 => 8,
            Isa::Avx512 => 16,
        }
    }

    /// Vector registers that code can name.
    pub const fn vector_registers(self) -> usize {
        match self {
            Isa::Simd128 | Isa::Avx2 => 16,
            Isa::Avx512 => 32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512] {
            assert_eq!(Isa::from_name(isa.name()), Some(isa));
            assert_eq!(serde_json::to_value(isa).unwrap(), isa.name());
        }
    }
}
