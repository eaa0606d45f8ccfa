//! The machine that code is generated for: vector tier and cache sizes.
//!
//! Passes see the CPU only through [`Target`]; which instructions exist is code generation's knowledge.

/// A tier of vector instructions. Ordered: a tier includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Isa {
    /// 128-bit vectors: SSE on x86-64 (with FMA where the CPU has it), NEON on aarch64.
    Simd128,
    /// 256-bit AVX2 with FMA.
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

/// The machine that code is generated for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The vector tier that micro-kernels are emitted for.
    pub isa: Isa,
    /// Whether 128-bit code may use fused multiply-add.
    pub fma: bool,
    /// Bytes of the first-level data cache of a core.
    pub l1_bytes: usize,
    /// Bytes of the second-level cache of a core.
    pub l2_bytes: usize,
    /// Bytes of the last-level cache.
    pub l3_bytes: usize,
    /// Physical cores available to this process.
    pub cores: usize,
}
