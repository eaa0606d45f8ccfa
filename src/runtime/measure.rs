//! What the cores of this machine can do, measured: the figures that kernels are held against.
//!
//! These are short measurements of loops written here, not of generated code, so a kernel that is close to
//! them leaves nothing on the table. They are repeated, and say themselves whether they can be trusted: on a machine that
//! is busy with something else they are too low, and different each time.

mod calibrate;
mod tiles;

use std::fs;
use std::hint::black_box;
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};

pub use self::calibrate::{Calibration, calibrate};
pub use self::tiles::tile_gops;
use crate::machine::Isa;

/// How long the shortest run of a loop is looked for in each round.
const BUDGET: Duration = Duration::from_millis(10);

/// How often everything is measured.
const ROUNDS: usize = 4;

/// How far the two best rounds may be apart, relative to the best.
const SPREAD: f64 = 0.1;

/// The share of the time that a thread may have waited for a core.
const WAITING: f64 = 0.1;

/// Multiply-adds that do not depend on one another: enough to cover the latency of two FMA units.
const CHAINS: usize = 12;

/// Iterations between two looks at the clock.
const STEPS: usize = 20_000;

/// What a core, or several together, can do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rates {
    /// Billions of `f32` operations per second, two per fused multiply-add, in registers of the given width.
    pub peak_gflops: f64,
    /// Billions of bytes per second read from memory: a buffer larger than the last-level cache, start to end.
    pub read_gbytes: f64,
}

/// What was measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Measurement {
    /// The best of several rounds.
    pub rates: Rates,
    /// Whether the rounds agree and no thread had to wait for a core. If not, something else kept the machine busy, and it can
    /// do more than this.
    pub steady: bool,
}

/// What a thread measured: a figure of each round, and the share of the time that it waited for a core.
struct Thread {
    rounds: Vec<Rates>,
    waiting: f64,
}

/// Measures so many cores at the same time, with the vector registers of a tier: what they reach together. More threads
/// than cores do no more than the cores. Takes some tenths of a second.
pub fn measure(isa: Isa, l3_bytes: usize, threads: usize) -> Measurement {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.clamp(1, cores);
    // Made when it is known how many threads there are.
    let barrier = OnceLock::new();
    let one = || thread(isa, l3_bytes, barrier.wait());
    let measured: Vec<Thread> = std::thread::scope(|scope| {
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, one).ok();
        let running: Vec<_> = (1..threads).map_while(start).collect();
        barrier.get_or_init(|| Barrier::new(running.len() + 1));
        let mine = one();
        running.into_iter().filter_map(|thread| thread.join().ok()).chain([mine]).collect()
    });
    let waiting = measured.iter().map(|thread| thread.waiting).fold(0.0, f64::max);
    let sum = |of: fn(&Rates) -> f64| -> Vec<f64> {
        let round = |i: usize| measured.iter().filter_map(|t| t.rounds.get(i)).map(of).sum();
        (0..ROUNDS).map(round).collect()
    };
    let (peaks, reads) = (sum(|m| m.peak_gflops), sum(|m| m.read_gbytes));
    let best = |figures: &[f64]| figures.iter().copied().fold(0.0, f64::max);
    Measurement {
        rates: Rates { peak_gflops: best(&peaks), read_gbytes: best(&reads) },
        steady: agree(&peaks) && agree(&reads) && waiting <= WAITING,
    }
}

/// Whether the two best figures are close.
fn agree(figures: &[f64]) -> bool {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.as_slice() {
        [.., second, best] => *second >= (1.0 - SPREAD) * best,
        _ => false,
    }
}

fn thread(isa: Isa, l3_bytes: usize, barrier: &Barrier) -> Thread {
    let buffer = vec![1u64; (4 * l3_bytes).clamp(64 << 20, 256 << 20) / 8];
    barrier.wait();
    let (start, waited) = (Instant::now(), time_waited());
    let mut idle = Duration::ZERO;
    let mut meet = || {
        let start = Instant::now();
        barrier.wait();
        idle += start.elapsed();
    };
    let mut rounds = Vec::with_capacity(ROUNDS);
    // Each round reads a part of its own, so that no cache holds it.
    for part in buffer.chunks(buffer.len().div_ceil(ROUNDS)) {
        meet();
        let peak_gflops = peak_gflops(isa);
        meet();
        rounds.push(Rates { peak_gflops, read_gbytes: read_gbytes(part) });
    }
    let waited = match (waited, time_waited()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => Duration::ZERO,
    };
    let busy = start.elapsed().saturating_sub(idle);
    Thread { rounds, waiting: waited.as_secs_f64() / busy.as_secs_f64() }
}

/// How long this thread was ready to run and another one had the core, since it began; `None` where the system does not tell.
fn time_waited() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().nth(1)?.parse().ok()?))
}

/// The multiply-add rate in registers of this tier.
fn peak_gflops(isa: Isa) -> f64 {
    let (chains, lanes): (fn() -> f32, usize) = match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if std::is_x86_feature_detected!("avx512f") => (x86::avx512, 16),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") => {
            (x86::avx2, 8)
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Simd128 if std::is_x86_feature_detected!("fma") => (x86::simd128, 4),
        _ => (portable, 4),
    };
    let flops = (STEPS * CHAINS * lanes * 2) as f64;
    flops / best_seconds(|| black_box(chains())) / 1e9
}

/// Billions of operations per second of one core on bytes, two per product that is added to a sum of 32 bits, in registers of
/// this tier: dot products of four bytes, or the exact form of two instructions where there are none. The best of a
/// few short runs.
pub fn byte_gops(isa: Isa) -> f64 {
    let (chains, products): (fn() -> i32, usize) = match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if std::is_x86_feature_detected!("avx512vnni") => (x86::avx512_vnni, 64),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if std::is_x86_feature_detected!("avx512bw") => (x86::avx512_pairs, 32),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if std::is_x86_feature_detected!("avxvnni") => (x86::avx_vnni, 32),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if std::is_x86_feature_detected!("avx2") => (x86::avx2_pairs, 16),
        _ => (portable_bytes, 4),
    };
    let operations = (STEPS * CHAINS * products * 2) as f64;
    let run = || operations / best_seconds(|| black_box(chains())) / 1e9;
    (0..ROUNDS).map(|_| run()).fold(0.0, f64::max)
}

/// The rate at which one core reads a buffer: the median over parts of it, each of which takes less than a time slice.
fn read_gbytes(buffer: &[u64]) -> f64 {
    const LANES: usize = 64;
    /// Elements of a part.
    const PART: usize = 1 << 18;
    let rate = |part: &[u64]| {
        let start = Instant::now();
        let mut sums = [0u64; LANES];
        for chunk in black_box(part).as_chunks::<LANES>().0 {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum ^= value;
            }
        }
        black_box(sums);
        (part.len() * 8) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    let mut rates: Vec<f64> = buffer.chunks(PART).map(rate).collect();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}

/// The shortest of the runs that fit into the budget; at least two, of which the first warms up.
fn best_seconds<R>(mut f: impl FnMut() -> R) -> f64 {
    let begin = Instant::now();
    f();
    let mut best = f64::INFINITY;
    loop {
        let start = Instant::now();
        f();
        best = best.min(start.elapsed().as_secs_f64());
        if begin.elapsed() >= BUDGET {
            return best;
        }
    }
}

/// Multiply-adds as two operations, in whatever registers the compiler takes: where there is no faster form.
fn portable() -> f32 {
    let mut acc = [[1.0f32; 4]; CHAINS];
    let (a, b) = (black_box(0.999f32), black_box(0.001f32));
    for _ in 0..STEPS {
        for lane in acc.as_flattened_mut() {
            *lane = if cfg!(target_arch = "aarch64") { lane.mul_add(a, b) } else { *lane * a + b };
        }
    }
    acc.as_flattened().iter().sum()
}

/// Products of bytes as operations on 32 bits, in whatever registers the compiler takes.
fn portable_bytes() -> i32 {
    let mut acc = [[1i32; 4]; CHAINS];
    let (a, b) = (black_box(3u8), black_box(-5i8));
    for _ in 0..STEPS {
        for lane in acc.as_flattened_mut() {
            *lane = black_box(lane.wrapping_add(i32::from(a) * i32::from(b)));
        }
    }
    acc.as_flattened().iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{CHAINS, STEPS};

    macro_rules! chains {
        ($name:ident, $inner:ident, $features:literal, $set:ident, $fma:ident, $first:ident) => {
            pub(super) fn $name() -> f32 {
                #[target_feature(enable = $features)]
                fn $inner() -> f32 {
                    let (a, b) = ($set(black_box(0.999)), $set(black_box(0.001)));
                    let mut acc = [$set(1.0); CHAINS];
                    for _ in 0..STEPS {
                        for chain in &mut acc {
                            *chain = $fma(*chain, a, b);
                        }
                    }
                    acc.into_iter().map(|chain| $first(chain)).sum()
                }
                // SAFETY: the only caller has asked the CPU for these features.
                unsafe { $inner() }
            }
        };
    }
    chains!(avx512, avx512_inner, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps, _mm512_cvtss_f32);
    chains!(avx2, avx2_inner, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps, _mm256_cvtss_f32);
    macro_rules! bytes {
        ($name:ident, $inner:ident, $features:literal, $set:ident, $step:expr, $first:ident) => {
            pub(super) fn $name() -> i32 {
                #[target_feature(enable = $features)]
                fn $inner() -> i32 {
                    let (a, b) = ($set(black_box(0x0102_0304)), $set(black_box(0x05fb_fa06)));
                    let mut acc = [$set(1); CHAINS];
                    for _ in 0..STEPS {
                        for chain in &mut acc {
                            *chain = $step(*chain, a, b);
                        }
                    }
                    acc.into_iter().fold(0, |sum, chain| sum ^ $first(chain))
                }
                // SAFETY: the only caller has asked the CPU for these features.
                unsafe { $inner() }
            }
        };
    }
    bytes!(
        avx512_vnni,
        avx512_vnni_inner,
        "avx512f,avx512vnni",
        _mm512_set1_epi32,
        _mm512_dpbusd_epi32,
        first512
    );
    bytes!(avx_vnni, avx_vnni_inner, "avx2,avxvnni", _mm256_set1_epi32, _mm256_dpbusd_avx_epi32, first256);
    bytes!(avx512_pairs, avx512_pairs_inner, "avx512f,avx512bw", _mm512_set1_epi32, pairs512, first512);
    bytes!(avx2_pairs, avx2_pairs_inner, "avx2", _mm256_set1_epi32, pairs256, first256);

    #[target_feature(enable = "avx512f,avx512bw")]
    fn pairs512(sum: __m512i, a: __m512i, mut b: __m512i) -> __m512i {
        // SAFETY: no instruction; but what is in the register is not known any more, so that products are not made once.
        unsafe { asm!("/* {0} */", inout(zmm_reg) b, options(nomem, nostack, preserves_flags)) };
        _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
    }

    #[target_feature(enable = "avx2")]
    fn pairs256(sum: __m256i, a: __m256i, mut b: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe { asm!("/* {0} */", inout(ymm_reg) b, options(nomem, nostack, preserves_flags)) };
        _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
    }

    #[target_feature(enable = "avx512f")]
    fn first512(v: __m512i) -> i32 {
        _mm512_cvtsi512_si32(v)
    }

    #[target_feature(enable = "avx2")]
    fn first256(v: __m256i) -> i32 {
        _mm256_cvtsi256_si32(v)
    }

    chains!(simd128, simd128_inner, "fma", _mm_set1_ps, _mm_fmadd_ps, _mm_cvtss_f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_positive() {
        for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512] {
            let peak = peak_gflops(isa);
            assert!(peak.is_finite() && peak > 0.0, "{isa:?}: {peak}");
            let peak = byte_gops(isa);
            assert!(peak.is_finite() && peak > 0.0, "{isa:?}: {peak}");
        }
        let Rates { peak_gflops, read_gbytes } = measure(Isa::Simd128, 0, 1000).rates;
        assert!(peak_gflops.is_finite() && peak_gflops > 0.0, "{peak_gflops}");
        assert!(read_gbytes.is_finite() && read_gbytes > 0.0, "{read_gbytes}");
    }

    #[test]
    fn rounds_agree_if_the_best_is_no_exception() {
        assert!(agree(&[100.0, 40.0, 95.0]));
        assert!(!agree(&[100.0, 80.0, 70.0]));
        assert!(!agree(&[1.0]));
    }
}
