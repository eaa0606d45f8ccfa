//! What one core of this machine can do, measured: the figures that kernels are held against.
//!
//! These are short measurements of loops written here, not of generated code, so a kernel that is close to
//! them leaves nothing on the table.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::target::Isa;

/// How long each measurement takes, roughly.
const BUDGET: Duration = Duration::from_millis(25);

/// Multiply-adds that do not depend on one another: enough to cover the latency of two FMA units.
const CHAINS: usize = 12;

/// Iterations between two looks at the clock.
const STEPS: usize = 20_000;

/// What a core, or several together, can do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Machine {
    /// Billions of `f32` operations per second, two per fused multiply-add, in registers of the given width.
    pub peak_gflops: f64,
    /// Billions of bytes per second read from memory: a buffer larger than the last-level cache, start to end.
    pub read_gbytes: f64,
}

/// Measures one core, with the vector registers of a tier; takes about 0.1 s.
pub fn measure(isa: Isa, l3_bytes: usize) -> Machine {
    Machine { peak_gflops: peak_gflops(isa), read_gbytes: read_gbytes(l3_bytes) }
}

/// Measures as many cores at the same time: what they reach together. More threads than cores do no more than the
/// cores.
pub fn measure_together(isa: Isa, l3_bytes: usize, threads: usize) -> Machine {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.clamp(1, cores);
    let together = |one: &(dyn Fn() -> f64 + Sync)| -> f64 {
        let start = Barrier::new(threads);
        std::thread::scope(|scope| {
            let measured = |_| {
                scope.spawn(|| {
                    start.wait();
                    one()
                })
            };
            let running: Vec<_> = (0..threads).map(measured).collect();
            running.into_iter().filter_map(|thread| thread.join().ok()).sum()
        })
    };
    Machine { peak_gflops: together(&|| peak_gflops(isa)), read_gbytes: together(&|| read_gbytes(l3_bytes)) }
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

/// The rate at which one core reads memory.
fn read_gbytes(l3_bytes: usize) -> f64 {
    const LANES: usize = 64;
    let bytes = (4 * l3_bytes).clamp(64 << 20, 256 << 20);
    let buffer = vec![1u64; bytes / 8];
    let seconds = best_seconds(|| {
        let mut sums = [0u64; LANES];
        for chunk in black_box(&buffer).as_chunks::<LANES>().0 {
            for (sum, value) in sums.iter_mut().zip(chunk) {
                *sum ^= value;
            }
        }
        black_box(sums)
    });
    (buffer.len() * 8) as f64 / seconds / 1e9
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

#[cfg(target_arch = "x86_64")]
mod x86 {
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
    chains!(simd128, simd128_inner, "fma", _mm_set1_ps, _mm_fmadd_ps, _mm_cvtss_f32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_plausible() {
        for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512] {
            let peak = peak_gflops(isa);
            assert!(peak.is_finite() && peak > 0.1, "{isa:?}: {peak}");
        }
        let read = read_gbytes(0);
        assert!(read.is_finite() && read > 0.1, "{read}");
        let both = measure_together(Isa::Simd128, 0, 1000);
        assert!(both.peak_gflops > 0.1 && both.read_gbytes > 0.1, "{both:?}");
    }
}
