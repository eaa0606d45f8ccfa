//! The figures of a machine that decisions and estimates depend on, and that of the host.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::{Isa, detect, table};
use crate::error::{Error, Result};

/// A cache.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// The bytes of one cache of this level.
    pub bytes: usize,
    /// Bytes of a line.
    pub line: usize,
    /// Lines of a set.
    pub ways: usize,
    /// The cores that share one.
    pub sharers: usize,
    /// Bytes that a core reads from it per cycle, in a long run.
    pub rate: f64,
}

/// Main memory.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Billions of bytes per second that one core reads.
    pub core_gbytes: f64,
    /// Billions of bytes per second that all cores read together.
    pub all_gbytes: f64,
}

/// A machine, or one that could be: what it can execute, and what that takes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineModel {
    /// What it is called: a name of the table, or that of a file.
    pub name: String,
    /// The vector tier that code is generated for.
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
    /// Physical cores; of the host, those that this process may run on.
    pub cores: usize,
    /// Billions of cycles per second of a core that computes with vectors.
    pub ghz: f64,
    /// Multiply-adds of vectors that a core starts per cycle.
    pub vector_ops: f64,
    /// Vectors that a core loads per cycle from the first-level cache.
    pub vector_loads: f64,
    /// Cycles from a multiply-add to the next one that needs its sum.
    pub fma_latency: f64,
    /// The data caches of levels 1, 2 and 3.
    pub caches: [Cache; 3],
    /// Main memory.
    pub memory: Memory,
    /// Nanoseconds until a thread that sleeps is at work.
    pub wake_ns: f64,
    /// Nanoseconds until a thread that watches for work is at work, and until it is heard that it is done.
    pub hand_over_ns: f64,
}

impl MachineModel {
    /// What is assumed of machines that were not measured.
    pub(super) const WAKE_NS: f64 = 5_000.0;
    /// As above.
    pub(super) const HAND_OVER_NS: f64 = 1_000.0;

    /// The machine this runs on. Code is generated for the widest tier that the CPU has, that can be emitted
    /// ([`Isa::WIDEST_EMITTED`]) and that is not above `cap`. What the CPU and the system do not say themselves is taken
    /// from the table, by what CPU it is or by its tier.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if the CPU does not have the tier `cap`.
    pub fn host(cap: Option<Isa>) -> Result<MachineModel> {
        let whole = MachineModel::whole_host();
        let widest = cap.unwrap_or(whole.isa).min(Isa::WIDEST_EMITTED);
        let mut host = whole.clone().limited(cap, "this CPU only has")?;
        host.narrow(widest);
        let isa = host.isa;
        Ok(MachineModel {
            vnni: isa.host_has_vnni(),
            bf16: isa.host_has_fast_bf16(),
            amx: isa.host_has_tiles(),
            amx_bf16: isa.host_has_tiles(),
            ..host
        })
    }

    /// This machine without any cap. It is looked at once: asking the CPU and the system takes as long as compiling a small
    /// model.
    fn whole_host() -> &'static MachineModel {
        static HOST: OnceLock<MachineModel> = OnceLock::new();
        HOST.get_or_init(|| {
            let isa = detect::isa();
            let known = table::of_cpu(detect::cpu(), isa).model();
            let mut host = MachineModel {
                fma: detect::fma(),
                cores: detect::cores(),
                caches: detect::caches(known.caches),
                ..known
            };
            // The entry may be one of another tier: of a CPU whose system keeps fewer registers, say.
            host.narrow(isa);
            host.isa = isa;
            host
        })
    }

    /// A machine for tests: figures of `zen5`, with vectors of a tier, without dot products and tiles, with so many bytes of
    /// the caches, and so many cores.
    #[doc(hidden)]
    pub fn plain(isa: Isa, bytes: [usize; 3], cores: usize) -> MachineModel {
        let mut machine = table::find("zen5").unwrap_or(&table::KNOWN[0]).model();
        machine.narrow(isa);
        for (cache, bytes) in machine.caches.iter_mut().zip(bytes) {
            *cache = Cache { bytes, ways: 8, sharers: 1, ..*cache };
        }
        let name = "plain".to_owned();
        MachineModel { name, cores, vnni: false, bf16: false, amx: false, amx_bf16: false, ..machine }
    }

    /// The machine with vectors of no more than a tier.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if it does not have the tier; `only` is how the message goes on.
    pub(super) fn limited(mut self, cap: Option<Isa>, only: &str) -> Result<MachineModel> {
        let Some(cap) = cap else { return Ok(self) };
        if cap > self.isa {
            let (asked, has) = (cap.name(), self.isa.name());
            return Err(Error::usage(format!("{asked} instructions were asked for, but {only} {has}")));
        }
        self.narrow(cap);
        Ok(self)
    }

    /// Gives up the tiers above this one, with what only they have.
    fn narrow(&mut self, isa: Isa) {
        if isa < self.isa {
            self.isa = isa;
            (self.vnni, self.bf16, self.amx, self.amx_bf16) = (false, false, false, false);
            // A wide unit that takes its operands in two halves starts two of them.
            (self.vector_ops, self.vector_loads) = (self.vector_ops.max(2.0), self.vector_loads.max(2.0));
        }
    }

    /// What code for this machine may execute and the host cannot: the first of it.
    pub fn lacks(&self, host: &MachineModel) -> Option<&'static str> {
        let needs = [
            (self.isa > host.isa, self.isa.name()),
            (self.fma && !host.fma, "fused multiply-add"),
            (self.vnni && !self.isa.host_has_vnni(), "dot products of bytes"),
            (self.bf16 && !self.isa.host_has_bf16(), "dot products of bf16"),
            ((self.amx || self.amx_bf16) && !self.isa.host_has_tiles(), "matrix tiles"),
        ];
        needs.into_iter().find(|need| need.0).map(|need| need.1)
    }

    /// Billions of `f32` operations per second of one core at best, two per multiply-add.
    pub fn peak_gflops(&self) -> f64 {
        2.0 * self.vector_ops * self.isa.f32_lanes() as f64 * self.ghz
    }

    /// Billions of bytes per second that so many cores read from memory together.
    pub fn memory_gbytes(&self, cores: usize) -> f64 {
        (self.memory.core_gbytes * cores as f64).min(self.memory.all_gbytes)
    }

    /// Bytes of the first-level data cache of a core.
    pub fn l1_bytes(&self) -> usize {
        self.caches[0].bytes
    }

    /// Bytes of the second-level cache.
    pub fn l2_bytes(&self) -> usize {
        self.caches[1].bytes
    }

    /// Bytes of the last-level cache.
    pub fn l3_bytes(&self) -> usize {
        self.caches[2].bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_above_the_machine_is_refused_and_one_below_is_kept() {
        let zen3 = || MachineModel::named("zen3", None).unwrap();
        let error = zen3().limited(Some(Isa::Avx512), "this CPU only has").unwrap_err();
        assert_eq!(error.to_string(), "avx512 instructions were asked for, but this CPU only has avx2");
        let sse = zen3().limited(Some(Isa::Simd128), "").unwrap();
        assert_eq!((sse.isa, zen3().limited(None, "").unwrap()), (Isa::Simd128, zen3()));
        let zen4 = MachineModel::named("zen4", Some(Isa::Avx2)).unwrap();
        assert_eq!((zen4.isa, zen4.bf16, zen4.vector_ops), (Isa::Avx2, false, 2.0));
    }

    #[test]
    fn the_host_makes_sense() {
        for cap in [None, Some(Isa::Simd128)] {
            let host = MachineModel::host(cap).unwrap();
            assert!(host.isa <= Isa::WIDEST_EMITTED && host.isa <= cap.unwrap_or(Isa::Avx512));
            assert!(host.cores >= 1 && host.l1_bytes() >= 4096 && host.l2_bytes() >= host.l1_bytes());
            assert!(host.l3_bytes() >= host.l2_bytes());
            assert_eq!(host.lacks(&MachineModel::host(None).unwrap()), None);
        }
    }

    #[test]
    fn what_the_host_lacks_is_named() {
        let host = MachineModel::host(Some(Isa::Simd128)).unwrap();
        let known = |name| MachineModel::named(name, None).unwrap();
        assert_eq!(known("zen3").lacks(&host), Some("avx2"));
        assert_eq!(known("granite_rapids").lacks(&host), Some("avx512"));
        assert_eq!(known("neoverse_v1").lacks(&host), None);
    }

    #[test]
    fn peaks_follow_from_units_and_clock() {
        let zen5 = MachineModel::named("zen5", None).unwrap();
        assert_eq!(zen5.peak_gflops(), 256.0);
        assert_eq!((zen5.memory_gbytes(2), zen5.memory_gbytes(64)), (66.0, 489.6));
    }
}
