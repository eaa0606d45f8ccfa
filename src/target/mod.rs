//! The machine that code is generated for: vector tier and cache sizes.
//!
//! Passes see the CPU only through [`Target`]; which instructions exist is code generation's knowledge.

use crate::error::{Error, Result};

mod amx;
mod detect;

#[doc(hidden)]
pub use amx::assume as assume_tiles;

/// A tier of vector instructions. Ordered: a tier includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
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

/// The machine that code is generated for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The vector tier that micro-kernels are emitted for.
    pub isa: Isa,
    /// Whether 128-bit code may use fused multiply-add.
    pub fma: bool,
    /// Whether code of the tier may use dot products of bytes: AVX-VNNI with 256 bits, AVX512_VNNI with 512.
    pub vnni: bool,
    /// Whether contractions may compute in `bf16`, with dot products of pairs (AVX512_BF16): where that was asked for
    /// ([`crate::options::Precision`]) and is faster than `f32`.
    pub bf16: bool,
    /// Whether code may use matrix tiles, AMX, to multiply bytes.
    pub amx: bool,
    /// Whether contractions may compute in `bf16` in matrix tiles: where that was asked for.
    pub amx_bf16: bool,
    /// Bytes of the first-level data cache of a core.
    pub l1_bytes: usize,
    /// Bytes of the second-level cache of a core.
    pub l2_bytes: usize,
    /// Bytes of the last-level cache.
    pub l3_bytes: usize,
    /// Physical cores available to this process.
    pub cores: usize,
}

impl Target {
    /// The machine this runs on. Code is generated for the widest tier that the CPU has, that can be emitted
    /// ([`Isa::WIDEST_EMITTED`]) and that is not above `cap`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if the CPU does not have the tier `cap`.
    pub fn host(cap: Option<Isa>) -> Result<Target> {
        Target::limited(detect::isa(), cap)
    }

    fn limited(cpu: Isa, cap: Option<Isa>) -> Result<Target> {
        let cap = cap.unwrap_or(cpu);
        if cap > cpu {
            return Err(Error::usage(format!(
                "{} instructions were asked for, but this CPU only has {}",
                cap.name(),
                cpu.name()
            )));
        }
        let [l1_bytes, l2_bytes, l3_bytes] = detect::caches();
        let isa = cap.min(Isa::WIDEST_EMITTED);
        Ok(Target {
            isa,
            vnni: detect::vnni(isa),
            bf16: detect::fast_bf16(isa),
            amx: isa.host_has_tiles(),
            amx_bf16: isa.host_has_tiles(),
            fma: detect::fma(),
            l1_bytes,
            l2_bytes,
            l3_bytes,
            cores: detect::cores(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_above_the_cpu_is_refused_and_one_below_is_kept() {
        let error = Target::limited(Isa::Avx2, Some(Isa::Avx512)).unwrap_err();
        assert_eq!(error.to_string(), "avx512 instructions were asked for, but this CPU only has avx2");
        for cap in [None, Some(Isa::Simd128), Some(Isa::Avx512)] {
            let target = Target::limited(Isa::Avx512, cap).unwrap();
            assert!(target.isa <= Isa::WIDEST_EMITTED && target.isa <= cap.unwrap_or(Isa::Avx512));
        }
    }

    #[test]
    fn the_host_makes_sense() {
        let host = Target::host(None).unwrap();
        assert!(host.cores >= 1 && host.l1_bytes >= 4096 && host.l2_bytes >= host.l1_bytes);
        assert!(host.l3_bytes >= host.l2_bytes);
    }

    #[test]
    fn names_are_read_back() {
        for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512] {
            assert_eq!(Isa::from_name(isa.name()), Some(isa));
        }
    }
}
