//! What the operating system and the CPU say about this machine. Whatever cannot be found out gets a default
//! that is right for most machines; nothing here fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use super::Isa;
use super::model::Cache;
use crate::threads;

const CPUS: &str = "/sys/devices/system/cpu";

/// The widest vector tier that the CPU (and the operating system) supports.
pub(super) fn isa() -> Isa {
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        match (avx2, avx512) {
            (true, true) => Isa::Avx512,
            (true, false) => Isa::Avx2,
            (false, _) => Isa::Simd128,
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    Isa::Simd128
}

/// Whether vectors of a tier have dot products of bytes.
pub(super) fn vnni(isa: Isa) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        match isa {
            Isa::Simd128 => false,
            Isa::Avx2 => is_x86_feature_detected!("avxvnni"),
            Isa::Avx512 => is_x86_feature_detected!("avx512vnni"),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = isa;
        false
    }
}

/// Whether vectors of a tier have dot products of pairs of `bf16`.
pub(super) fn bf16(isa: Isa) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        match isa {
            Isa::Simd128 | Isa::Avx2 => false,
            Isa::Avx512 => is_x86_feature_detected!("avx512bf16"),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = isa;
        false
    }
}

/// Whether vectors of a tier have dot products of pairs of `bf16` that are faster than multiply-adds of `f32`.
///
/// AMD's cores from Zen 4 on issue two `vdpbf16ps` per cycle where they issue two `vfmadd231ps` of the same width, which
/// is twice as many products (measured on Zen 5, 512 bits: 5.4 of either per nanosecond, latencies of 6 and 4 cycles).
/// Intel's (Sapphire Rapids, Granite Rapids) split it: 109 GFLOP/s, where multiply-adds of `f32` reach 229.
pub(super) fn fast_bf16(isa: Isa) -> bool {
    bf16(isa) && cpu().maker == "AuthenticAMD"
}

/// What CPU this is: who made it, and the numbers that it has there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Cpu {
    /// `AuthenticAMD`, `GenuineIntel`, `ARM`, `Apple`; empty if it is not known.
    pub maker: String,
    pub family: u32,
    pub model: u32,
}

/// What CPU this is. It is asked once: where the system is a virtual machine, each answer takes ten microseconds and more.
pub(super) fn cpu() -> &'static Cpu {
    static CPU: OnceLock<Cpu> = OnceLock::new();
    CPU.get_or_init(detect_cpu)
}

fn detect_cpu() -> Cpu {
    #[cfg(target_arch = "x86_64")]
    {
        let id = std::arch::x86_64::__cpuid(1).eax;
        let field = |from: u32, bits: u32| id >> from & ((1 << bits) - 1);
        let family = field(8, 4) + if field(8, 4) == 15 { field(20, 8) } else { 0 };
        let extended = matches!(field(8, 4), 6 | 15);
        let model = field(4, 4) | if extended { field(16, 4) << 4 } else { 0 };
        Cpu { maker: String::from_utf8_lossy(&vendor()).into_owned(), family, model }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        if cfg!(all(target_vendor = "apple", target_arch = "aarch64")) {
            return Cpu { maker: "Apple".to_owned(), ..Cpu::default() };
        }
        let text = fs::read_to_string(Path::new(CPUS).join("cpu0/regs/identification/midr_el1"));
        text.ok().and_then(|text| arm_cpu(&text)).unwrap_or_default()
    }
}

/// What the main ID register of an ARM core says: implementer and part.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn arm_cpu(text: &str) -> Option<Cpu> {
    let id = u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()? as u32;
    Some(Cpu { maker: "ARM".to_owned(), family: id >> 24, model: id >> 4 & 0xfff })
}

/// Who made the CPU.
#[cfg(target_arch = "x86_64")]
fn vendor() -> [u8; 12] {
    let words = std::arch::x86_64::__cpuid(0);
    let mut name = [0; 12];
    for (part, word) in name.chunks_mut(4).zip([words.ebx, words.edx, words.ecx]) {
        part.copy_from_slice(&word.to_le_bytes());
    }
    name
}

/// Whether 128-bit vectors have a fused multiply-add.
pub(super) fn fma() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("fma")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        cfg!(target_arch = "aarch64")
    }
}

/// The data caches of levels 1, 2 and 3, no level smaller than the one before. What is not said is as given; rates are.
pub(super) fn caches(given: [Cache; 3]) -> [Cache; 3] {
    // They stay what they are, and reading about them takes as long as compiling a small nest.
    static FOUND: OnceLock<[Found; 3]> = OnceLock::new();
    complete(FOUND.get_or_init(|| caches_of_cpu().unwrap_or_else(|| caches_at(Path::new(CPUS)))), given)
}

/// What is said of a cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Found {
    bytes: Option<usize>,
    line: Option<usize>,
    ways: Option<usize>,
    sharers: Option<usize>,
}

fn complete(found: &[Found; 3], given: [Cache; 3]) -> [Cache; 3] {
    let mut caches = given;
    let mut least = 1;
    for (cache, found) in caches.iter_mut().zip(found) {
        cache.line = found.line.unwrap_or(cache.line);
        cache.bytes = found.bytes.unwrap_or(cache.bytes).max(least);
        cache.ways = found.ways.unwrap_or(cache.ways);
        if cache.line.saturating_mul(cache.ways) > cache.bytes || cache.ways == 0 {
            cache.ways = 1;
        }
        cache.sharers = found.sharers.unwrap_or(cache.sharers).max(1);
        least = cache.bytes;
    }
    caches
}

/// What CPUID says, without a file being read.
#[cfg(target_arch = "x86_64")]
fn caches_of_cpu() -> Option<[Found; 3]> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let leaf = match cpu().maker.as_str() {
        "GenuineIntel" if __cpuid(0).eax >= 4 => 4,
        "AuthenticAMD" if __cpuid(0x8000_0000).eax >= 0x8000_001d => 0x8000_001d,
        _ => return None,
    };
    let mut found = [Found::default(); 3];
    let mut logical = [0; 3];
    for index in 0..16 {
        let words = __cpuid_count(leaf, index);
        let (kind, level) = (words.eax & 0x1f, (words.eax >> 5 & 7) as usize);
        if kind == 0 {
            break;
        }
        // Of data, or of both.
        if kind == 2 || !(1..=3).contains(&level) {
            continue;
        }
        let field = |word: u32, from: u32, bits: u32| (word >> from & ((1 << bits) - 1)) as usize + 1;
        let (line, parts, ways) =
            (field(words.ebx, 0, 12), field(words.ebx, 12, 10), field(words.ebx, 22, 10));
        let sets = words.ecx as usize + 1;
        logical[level - 1] = field(words.eax, 14, 12);
        let bytes = line.checked_mul(parts)?.checked_mul(ways)?.checked_mul(sets)?;
        found[level - 1] =
            Found { bytes: Some(bytes), line: Some(line), ways: Some(ways * parts), sharers: None };
    }
    // The threads of a core share its first-level cache.
    let sharing = logical[0].max(1);
    for (found, logical) in found.iter_mut().zip(logical) {
        found.sharers = (logical > 0).then(|| (logical / sharing).max(1));
    }
    found[0].bytes.is_some().then_some(found)
}

#[cfg(not(target_arch = "x86_64"))]
fn caches_of_cpu() -> Option<[Found; 3]> {
    None
}

/// What the system says.
fn caches_at(cpus: &Path) -> [Found; 3] {
    let mut all = [Found::default(); 3];
    let list =
        |path: &Path| fs::read_to_string(path).ok().and_then(|text| parse_list(&text)).map(|list| list.len());
    let threads = list(&cpus.join("cpu0/topology/thread_siblings_list")).unwrap_or(1).max(1);
    for index in 0..16 {
        let dir = cpus.join(format!("cpu0/cache/index{index}"));
        let read = |name| fs::read_to_string(dir.join(name)).map(|text| text.trim().to_owned());
        let number = |name| read(name).ok().and_then(|text| text.parse::<usize>().ok()).filter(|n| *n > 0);
        // Caches are numbered without gaps.
        let Some(level) = number("level") else { break };
        let (Ok(kind), Ok(size), 1..=3) = (read("type"), read("size"), level) else { continue };
        if kind != "Instruction" {
            all[level - 1] = Found {
                bytes: parse_size(&size),
                line: number("coherency_line_size"),
                ways: number("ways_of_associativity"),
                sharers: list(&dir.join("shared_cpu_list")).map(|cpus| (cpus / threads).max(1)),
            };
        }
    }
    all
}

fn parse_size(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    digits.parse::<usize>().ok().filter(|n| (1..1 << 30).contains(n)).map(|n| n << shift)
}

/// The physical cores that this process may run on; at least 1.
pub(super) fn cores() -> usize {
    let available = threads::available();
    let allowed = fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| text.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:").map(str::to_owned)));
    let Some(allowed) = allowed else { return available };
    // A quota of the control group may leave less than the affinity mask does.
    physical_cores(Path::new(CPUS), &allowed).map_or(available, |cores| cores.clamp(1, available))
}

/// How many cores the CPUs of a list such as `0-3,8` belong to, hyper-threads of one core counted once.
fn physical_cores(cpus: &Path, allowed: &str) -> Option<usize> {
    let mut cores = BTreeSet::new();
    for cpu in parse_list(allowed)? {
        let siblings = cpus.join(format!("cpu{cpu}/topology/thread_siblings_list"));
        cores.insert(fs::read_to_string(siblings).ok()?.trim().to_owned());
    }
    Some(cores.len())
}

fn parse_list(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last > 1 << 16 {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, file: &str, text: &str) {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn hyper_threads_count_once_and_affinity_counts() {
        let dir = tempfile::tempdir().unwrap();
        for (cpu, siblings) in ["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"].iter().enumerate() {
            write(dir.path(), &format!("cpu{cpu}/topology/thread_siblings_list"), &format!("{siblings}\n"));
        }
        assert_eq!(physical_cores(dir.path(), "\t0-7"), Some(4));
        assert_eq!(physical_cores(dir.path(), "0,4"), Some(1));
        assert_eq!(physical_cores(dir.path(), "0-2,7"), Some(4));
        assert_eq!(physical_cores(dir.path(), "0-9"), None);
        assert_eq!(physical_cores(dir.path(), "nonsense"), None);
        assert_eq!(physical_cores(dir.path(), "0-99999999999"), None);
    }

    #[test]
    fn an_arm_core_says_which_part_it_is() {
        let cpu = arm_cpu("0x00000000411fd401\n").unwrap();
        assert_eq!((cpu.maker.as_str(), cpu.family, cpu.model), ("ARM", 0x41, 0xd40));
        assert_eq!(super::super::table::of_cpu(&cpu, Isa::Simd128).name, "neoverse_v1");
        assert_eq!(super::super::table::of_cpu(&Cpu::default(), Isa::Avx2).name, "avx2");
        assert_eq!(arm_cpu("nonsense"), None);
    }

    #[test]
    fn the_cpu_and_the_system_say_the_same_of_caches() {
        if let (Some(cpu), system) = (caches_of_cpu(), caches_at(Path::new(CPUS)))
            && system[0].bytes.is_some()
        {
            assert_eq!(cpu.map(|f| f.line), system.map(|f| f.line));
            assert_eq!(cpu[0], Found { sharers: cpu[0].sharers, ..system[0] });
        }
    }

    #[test]
    fn caches_are_read_and_instructions_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let levels = [
            ("1", "Data", "48K"),
            ("1", "Instruction", "32K"),
            ("2", "Unified", "1024K"),
            ("3", "Unified", "32M"),
        ];
        for (index, (level, kind, size)) in levels.iter().enumerate() {
            for (file, text) in [("level", level), ("type", kind), ("size", size)] {
                write(dir.path(), &format!("cpu0/cache/index{index}/{file}"), &format!("{text}\n"));
            }
        }
        write(dir.path(), "cpu0/topology/thread_siblings_list", "0,4\n");
        write(dir.path(), "cpu0/cache/index3/ways_of_associativity", "16\n");
        write(dir.path(), "cpu0/cache/index3/coherency_line_size", "64\n");
        write(dir.path(), "cpu0/cache/index3/shared_cpu_list", "0-7\n");
        let found = caches_at(dir.path());
        assert_eq!(found.map(|f| f.bytes), [Some(48 << 10), Some(1 << 20), Some(32 << 20)]);
        assert_eq!((found[2].line, found[2].ways, found[2].sharers), (Some(64), Some(16), Some(4)));
        let given = super::super::table::find("simd128").unwrap().model().caches;
        let complete = complete(&found, given);
        assert_eq!(complete.map(|c| c.bytes), [48 << 10, 1 << 20, 32 << 20]);
        assert_eq!((complete[2].sharers, complete[2].rate), (4, given[2].rate));
        assert_eq!(super::complete(&caches_at(&dir.path().join("nowhere")), given), given);
        let small = [Found { bytes: Some(64 << 20), ..Found::default() }, Found::default(), Found::default()];
        assert_eq!(super::complete(&small, given).map(|c| c.bytes), [64 << 20; 3]);
        assert_eq!((parse_size("1x"), parse_size(""), parse_size("0K")), (None, None, None));
    }
}
