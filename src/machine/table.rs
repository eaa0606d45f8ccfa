//! Machines that are known, and families for those that are not.
//!
//! Figures are those of one socket of the model that is named. Where they come from is said beside each: measurements of
//! this project (`benches/bandwidth.rs`, `nestjit machine --calibrate`), or what makers' manuals and data sheets say, with
//! estimates of the rest, which no such machine has confirmed. Rates of caches are those of long reads in the widest vectors; what channels of memory
//! could transfer is taken by [`SUSTAINED`].

use super::Isa;
use super::detect::Cpu;
use super::model::{Cache, MachineModel, Memory};

const K: usize = 1 << 10;
const M: usize = 1 << 20;

/// The share of what its channels could transfer that memory sustains when all cores read.
const SUSTAINED: f64 = 0.85;

/// A machine that is known.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The name by which it is asked for.
    pub name: &'static str,
    /// What it is.
    pub summary: &'static str,
    /// Where its figures come from.
    pub source: &'static str,
    /// How a CPU says that it is one.
    ids: &'static [Id],
    isa: Isa,
    features: Features,
    cores: usize,
    ghz: f64,
    vector_ops: f64,
    vector_loads: f64,
    fma_latency: f64,
    caches: [Cache; 3],
    memory: Memory,
}

/// What a machine of the table has besides its tier.
#[derive(Clone, Copy, Debug)]
struct Features {
    vnni: bool,
    bf16: bool,
    amx: bool,
}

/// A range of the models of a maker's family: of CPUID, or of the parts of an ARM core's main ID register.
#[derive(Clone, Copy, Debug)]
struct Id {
    maker: &'static str,
    family: u32,
    models: (u32, u32),
}

const fn amd(family: u32, first: u32, last: u32) -> Id {
    Id { maker: "AuthenticAMD", family, models: (first, last) }
}

const fn intel(model: u32) -> Id {
    Id { maker: "GenuineIntel", family: 6, models: (model, model) }
}

const fn arm(part: u32) -> Id {
    Id { maker: "ARM", family: 0x41, models: (part, part) }
}

/// Bytes, ways, sharers, bytes per cycle; lines have 64 bytes.
const fn cache(bytes: usize, ways: usize, sharers: usize, rate: f64) -> Cache {
    Cache { bytes, line: 64, ways, sharers, rate }
}

/// What one core reads, and what the channels of all could transfer.
const fn memory(core_gbytes: f64, channels: f64) -> Memory {
    Memory { core_gbytes, all_gbytes: SUSTAINED * channels }
}

const PLAIN: Features = Features { vnni: false, bf16: false, amx: false };
const VNNI: Features = Features { vnni: true, ..PLAIN };
const VNNI_BF16: Features = Features { bf16: true, ..VNNI };
const AMX: Features = Features { amx: true, ..VNNI };

/// The machines that are known.
pub const KNOWN: &[Known] = &[
    Known {
        name: "zen3",
        summary: "AMD EPYC 7763, Zen 3, 64 cores",
        source: "after AMD software optimization guide for family 19h (units, latencies, caches); data sheet (8 channels DDR4-3200); not checked against a machine, rates of caches and threads are estimates",
        ids: &[amd(0x19, 0x00, 0x0f), amd(0x19, 0x20, 0x5f)],
        isa: Isa::Avx2,
        features: PLAIN,
        cores: 64,
        ghz: 3.2,
        vector_ops: 2.0,
        vector_loads: 2.0,
        fma_latency: 4.0,
        caches: [cache(32 * K, 8, 1, 64.0), cache(512 * K, 8, 1, 32.0), cache(32 * M, 16, 8, 20.0)],
        memory: memory(22.0, 204.8),
    },
    Known {
        name: "zen4",
        summary: "AMD EPYC 9554, Zen 4, 64 cores",
        source: "after AMD software optimization guide for family 19h models 10h (512 bits in two halves); data sheet (12 channels DDR5-4800); not checked against a machine, rates of caches and threads are estimates",
        ids: &[amd(0x19, 0x10, 0x1f), amd(0x19, 0x60, 0x7f), amd(0x19, 0xa0, 0xaf)],
        isa: Isa::Avx512,
        features: VNNI_BF16,
        cores: 64,
        ghz: 3.5,
        vector_ops: 1.0,
        vector_loads: 1.0,
        fma_latency: 4.0,
        caches: [cache(32 * K, 8, 1, 64.0), cache(M, 8, 1, 32.0), cache(32 * M, 16, 8, 20.0)],
        memory: memory(30.0, 460.8),
    },
    Known {
        name: "zen5",
        summary: "AMD EPYC 9575F, Zen 5, 64 cores",
        source: "measured by this project (4.0 GHz, 262 GFLOP/s; reads of 115, 60 and 22 bytes per cycle, 33 GB/s); data sheet (cores, 12 channels DDR5-6000)",
        ids: &[amd(0x1a, 0x00, 0xff)],
        isa: Isa::Avx512,
        features: VNNI_BF16,
        cores: 64,
        ghz: 4.0,
        vector_ops: 2.0,
        vector_loads: 2.0,
        fma_latency: 4.0,
        caches: [cache(48 * K, 12, 1, 115.0), cache(M, 16, 1, 60.0), cache(32 * M, 16, 8, 22.0)],
        memory: memory(33.0, 576.0),
    },
    Known {
        name: "skylake_x",
        summary: "Intel Xeon Platinum 8180, Skylake-X, 28 cores",
        source: "after Intel optimization reference manual (units, latencies, caches); data sheet (6 channels DDR4-2666); not checked against a machine, rates of caches and threads are estimates",
        ids: &[intel(0x55)],
        isa: Isa::Avx512,
        features: PLAIN,
        cores: 28,
        ghz: 2.5,
        vector_ops: 2.0,
        vector_loads: 2.0,
        fma_latency: 4.0,
        caches: [cache(32 * K, 8, 1, 128.0), cache(M, 16, 1, 48.0), cache(38 * M + 512 * K, 11, 28, 10.0)],
        memory: memory(12.0, 128.0),
    },
    Known {
        name: "ice_lake",
        summary: "Intel Xeon Platinum 8380, Ice Lake, 40 cores",
        source: "after Intel optimization reference manual; data sheet (8 channels DDR4-3200); not checked against a machine, rates of caches and threads are estimates",
        ids: &[intel(0x6a), intel(0x6c)],
        isa: Isa::Avx512,
        features: VNNI,
        cores: 40,
        ghz: 2.8,
        vector_ops: 2.0,
        vector_loads: 2.0,
        fma_latency: 4.0,
        caches: [cache(48 * K, 12, 1, 128.0), cache(M + 256 * K, 20, 1, 48.0), cache(60 * M, 12, 40, 10.0)],
        memory: memory(12.0, 204.8),
    },
    Known {
        name: "sapphire_rapids",
        summary: "Intel Xeon Platinum 8490H, Sapphire Rapids, 60 cores",
        source: "after Intel optimization reference manual; data sheet (8 channels DDR5-4800); not checked against a machine, rates of caches and threads are estimates",
        ids: &[intel(0x8f), intel(0xcf)],
        isa: Isa::Avx512,
        features: AMX,
        cores: 60,
        ghz: 2.9,
        vector_ops: 2.0,
        vector_loads: 2.0,
        fma_latency: 4.0,
        caches: [
            cache(48 * K, 12, 1, 128.0),
            cache(2 * M, 16, 1, 48.0),
            cache(112 * M + 512 * K, 15, 60, 9.0),
        ],
        memory: memory(12.0, 307.2),
    },
    Known {
        name: "granite_rapids",
        summary: "Intel Xeon 6980P, Granite Rapids, 128 cores",
        source: "measured by this project (3.6 GHz, 229 GFLOP/s); Intel optimization reference manual; data sheet (12 channels DDR5-6400)",
        ids: &[intel(0xad), intel(0xae)],
        isa: Isa::Avx512,
        features: AMX,
        cores: 128,
        ghz: 3.6,
        vector_ops: 2.0,
        vector_loads: 2.0,
        fma_latency: 4.0,
        caches: [cache(48 * K, 12, 1, 128.0), cache(2 * M, 16, 1, 48.0), cache(504 * M, 16, 128, 8.0)],
        memory: memory(12.0, 614.4),
    },
    Known {
        name: "alder_lake",
        summary: "Intel Core i9-12900K, Alder Lake, 8 performance cores",
        source: "after Intel optimization reference manual (Golden Cove); data sheet (2 channels DDR5-4800); not checked against a machine, rates of caches and threads are estimates",
        ids: &[intel(0x97), intel(0x9a), intel(0xb7), intel(0xba), intel(0xbf)],
        isa: Isa::Avx2,
        features: VNNI,
        cores: 8,
        ghz: 4.9,
        vector_ops: 2.0,
        vector_loads: 3.0,
        fma_latency: 4.0,
        caches: [cache(48 * K, 12, 1, 96.0), cache(M + 256 * K, 10, 1, 48.0), cache(30 * M, 12, 8, 12.0)],
        memory: memory(35.0, 76.8),
    },
    Known {
        name: "neoverse_n1",
        summary: "AWS Graviton2, Neoverse N1, 64 cores",
        source: "after Arm Neoverse N1 software optimization guide; data sheet (8 channels DDR4-3200); not checked against a machine, rates of caches and threads are estimates",
        ids: &[arm(0xd0c)],
        isa: Isa::Simd128,
        features: PLAIN,
        cores: 64,
        ghz: 2.5,
        vector_ops: 2.0,
        vector_loads: 2.0,
        fma_latency: 4.0,
        caches: [cache(64 * K, 4, 1, 32.0), cache(M, 8, 1, 24.0), cache(32 * M, 16, 64, 12.0)],
        memory: memory(20.0, 204.8),
    },
    Known {
        name: "neoverse_v1",
        summary: "AWS Graviton3, Neoverse V1, 64 cores",
        source: "after Arm Neoverse V1 software optimization guide (4 units of 128 bits); data sheet (8 channels DDR5-4800); not checked against a machine, rates of caches and threads are estimates",
        ids: &[arm(0xd40)],
        isa: Isa::Simd128,
        features: PLAIN,
        cores: 64,
        ghz: 2.6,
        vector_ops: 4.0,
        vector_loads: 3.0,
        fma_latency: 4.0,
        caches: [cache(64 * K, 4, 1, 48.0), cache(M, 8, 1, 32.0), cache(32 * M, 16, 64, 12.0)],
        memory: memory(25.0, 307.2),
    },
    Known {
        name: "neoverse_v2",
        summary: "AWS Graviton4, Neoverse V2, 96 cores",
        source: "after Arm Neoverse V2 software optimization guide (4 units of 128 bits); data sheet (12 channels DDR5-5600); not checked against a machine, rates of caches and threads are estimates",
        ids: &[arm(0xd4f)],
        isa: Isa::Simd128,
        features: PLAIN,
        cores: 96,
        ghz: 2.8,
        vector_ops: 4.0,
        vector_loads: 3.0,
        fma_latency: 4.0,
        caches: [cache(64 * K, 4, 1, 48.0), cache(2 * M, 8, 1, 32.0), cache(36 * M, 16, 96, 12.0)],
        memory: memory(30.0, 537.6),
    },
    Known {
        name: "apple_m1",
        summary: "Apple M1 Pro, 8 performance cores",
        source: "after Apple silicon CPU optimization guide (4 units of 128 bits, caches); data sheet (memory); not checked against a machine, rates of caches and threads are estimates",
        ids: &[],
        isa: Isa::Simd128,
        features: PLAIN,
        cores: 8,
        ghz: 3.2,
        vector_ops: 4.0,
        vector_loads: 3.0,
        fma_latency: 4.0,
        caches: [line128(128 * K, 8, 1, 48.0), line128(12 * M, 12, 4, 32.0), line128(24 * M, 12, 8, 20.0)],
        memory: memory(60.0, 204.8),
    },
    Known {
        name: "avx512",
        summary: "any CPU with AVX-512, 16 cores",
        source: "the least of the known ones",
        ids: &[],
        isa: Isa::Avx512,
        features: PLAIN,
        cores: 16,
        ghz: 3.0,
        vector_ops: 2.0,
        vector_loads: 2.0,
        fma_latency: 4.0,
        caches: [cache(32 * K, 8, 1, 96.0), cache(M, 16, 1, 40.0), cache(32 * M, 12, 16, 12.0)],
        memory: memory(15.0, 100.0),
    },
    Known {
        name: "avx2",
        summary: "any CPU with AVX2, 8 cores",
        source: "after Intel optimization reference manual (Haswell to Skylake); 2 channels DDR4-2666; not checked against a machine, rates of caches and threads are estimates",
        ids: &[],
        isa: Isa::Avx2,
        features: PLAIN,
        cores: 8,
        ghz: 3.5,
        vector_ops: 2.0,
        vector_loads: 2.0,
        fma_latency: 4.0,
        caches: [cache(32 * K, 8, 1, 64.0), cache(512 * K, 8, 1, 32.0), cache(16 * M, 16, 8, 14.0)],
        memory: memory(18.0, 42.6),
    },
    Known {
        name: "simd128",
        summary: "any CPU with 128-bit vectors, 4 cores",
        source: "the least of the known ones",
        ids: &[],
        isa: Isa::Simd128,
        features: PLAIN,
        cores: 4,
        ghz: 2.5,
        vector_ops: 2.0,
        vector_loads: 2.0,
        fma_latency: 4.0,
        caches: [cache(32 * K, 8, 1, 32.0), cache(512 * K, 8, 1, 20.0), cache(8 * M, 16, 4, 10.0)],
        memory: memory(12.0, 25.6),
    },
];

const fn line128(bytes: usize, ways: usize, sharers: usize, rate: f64) -> Cache {
    Cache { bytes, line: 128, ways, sharers, rate }
}

/// The entry of that name.
pub(super) fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name)
}

/// The entry of a CPU; that of its tier if it is not known.
pub(super) fn of_cpu(cpu: &Cpu, isa: Isa) -> &'static Known {
    let is = |id: &Id| {
        id.maker == cpu.maker && id.family == cpu.family && (id.models.0..=id.models.1).contains(&cpu.model)
    };
    let known = KNOWN.iter().find(|known| known.ids.iter().any(is));
    let name = if cpu.maker == "Apple" { "apple_m1" } else { isa.name() };
    known.or_else(|| find(name)).unwrap_or(&KNOWN[0])
}

impl Known {
    /// The machine.
    pub fn model(&self) -> MachineModel {
        MachineModel {
            name: self.name.to_owned(),
            isa: self.isa,
            fma: true,
            vnni: self.features.vnni,
            bf16: self.features.bf16,
            amx: self.features.amx,
            amx_bf16: self.features.amx,
            cores: self.cores,
            ghz: self.ghz,
            vector_ops: self.vector_ops,
            vector_loads: self.vector_loads,
            fma_latency: self.fma_latency,
            caches: self.caches,
            // No digits that files would have to carry.
            memory: Memory { all_gbytes: (10.0 * self.memory.all_gbytes).round() / 10.0, ..self.memory },
            wake_ns: MachineModel::WAKE_NS,
            hand_over_ns: MachineModel::HAND_OVER_NS,
        }
    }
}
