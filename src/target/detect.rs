//! What the operating system and the CPU say about this machine. Whatever cannot be found out gets a default
//! that is right for most machines; nothing here fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use super::Isa;

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

/// Whether vectors of a tier have dot products of pairs of `bf16` that are faster than multiply-adds of `f32`.
///
/// AMD's cores from Zen 4 on issue two `vdpbf16ps` per cycle where they issue two `vfmadd231ps` of the same width, which
/// is twice as many products (measured on Zen 5, 512 bits: 5.4 of either per nanosecond, latencies of 6 and 4 cycles).
/// Intel's (Sapphire Rapids, Granite Rapids) split it: 109 GFLOP/s, where multiply-adds of `f32` reach 229.
pub(super) fn fast_bf16(isa: Isa) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        match isa {
            Isa::Simd128 | Isa::Avx2 => false,
            Isa::Avx512 => is_x86_feature_detected!("avx512bf16") && vendor() == *b"AuthenticAMD",
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = isa;
        false
    }
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

/// The bytes of the data caches of levels 1, 2 and 3, ascending.
pub(super) fn caches() -> [usize; 3] {
    // They stay what they are, and reading about them takes as long as compiling a small nest.
    static CACHES: OnceLock<[usize; 3]> = OnceLock::new();
    *CACHES.get_or_init(|| caches_at(Path::new(CPUS)))
}

fn caches_at(cpus: &Path) -> [usize; 3] {
    let mut sizes: [Option<usize>; 3] = [None; 3];
    for index in 0..16 {
        let dir = cpus.join(format!("cpu0/cache/index{index}"));
        let read = |name| fs::read_to_string(dir.join(name)).map(|text| text.trim().to_owned());
        // Caches are numbered without gaps.
        let Ok(level) = read("level") else { break };
        let (Ok(kind), Ok(size)) = (read("type"), read("size")) else { continue };
        let (Ok(level @ 1..=3), Some(size)) = (level.parse::<usize>(), parse_size(&size)) else { continue };
        if kind != "Instruction" {
            sizes[level - 1] = Some(size);
        }
    }
    let l1 = sizes[0].unwrap_or(32 << 10);
    let l2 = sizes[1].unwrap_or(512 << 10).max(l1);
    [l1, l2, sizes[2].unwrap_or(8 << 20).max(l2)]
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
    let available = std::thread::available_parallelism().map_or(1, usize::from);
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
        assert_eq!(caches_at(dir.path()), [48 << 10, 1 << 20, 32 << 20]);
        assert_eq!(caches_at(&dir.path().join("nowhere")), [32 << 10, 512 << 10, 8 << 20]);
        assert_eq!((parse_size("1x"), parse_size(""), parse_size("0K")), (None, None, None));
    }
}
