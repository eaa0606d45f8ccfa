//! Measures the machine model of the host: clock, rates of caches and memory, what it takes to wake a thread.
//!
//! What CPU and system say (features, sizes, cores) stays as it is. Everything is measured several times; figures of
//! which the best two differ, or that were measured while threads waited for a core, are not to be trusted.

use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{ROUNDS, agree, best_seconds, measure, time_waited};
use crate::machine::{Cache, Isa, MachineModel, Memory};
use crate::runtime::pool::{Pool, lock};

/// The share of a cache that is read to measure it: all of it would not stay there.
const SHARE: usize = 2;

/// How long workers are left alone until they sleep.
const SLEEP: Duration = Duration::from_millis(2);

/// How often a thread is woken, and handed work.
const DISPATCHES: usize = 51;

/// A machine that was measured.
#[derive(Clone, PartialEq, Debug)]
pub struct Calibration {
    /// The machine.
    pub machine: MachineModel,
    /// Whether measurements agreed and no thread had to wait for a core.
    pub steady: bool,
}

/// Measures the host with vectors of no more than the tier of `host`, which says what is not measured. Takes some seconds.
pub fn calibrate(host: &MachineModel) -> Calibration {
    let started = (Instant::now(), time_waited());
    let one = measure(host.isa, host.l3_bytes(), 1);
    let all = measure(host.isa, host.l3_bytes(), host.cores);
    // Multiply-adds per cycle are known; how fast cycles are follows.
    let ghz = one.rates.peak_gflops / (2.0 * host.vector_ops * host.isa.f32_lanes() as f64);
    let mut steady = one.steady && all.steady;
    let mut caches = host.caches;
    let mut above = f64::INFINITY;
    for (level, cache) in caches.iter_mut().enumerate() {
        let (gbytes, agreed) = cache_gbytes(cache, level, host);
        steady &= agreed;
        // Nothing is read faster than through the level above.
        cache.rate = round((gbytes / ghz).min(above));
        above = cache.rate;
    }
    let core_gbytes = round(one.rates.read_gbytes);
    let memory = Memory { core_gbytes, all_gbytes: round(all.rates.read_gbytes).max(core_gbytes) };
    let (wake_ns, hand_over_ns) = waking();
    let waited = match (started.1, time_waited()) {
        (Some(before), Some(after)) => after.saturating_sub(before).as_secs_f64(),
        _ => 0.0,
    };
    steady &= waited <= super::WAITING * started.0.elapsed().as_secs_f64();
    let machine = MachineModel {
        name: "calibrated".to_owned(),
        ghz: round(ghz),
        caches,
        memory,
        wake_ns: round(wake_ns.max(hand_over_ns)),
        hand_over_ns: round(hand_over_ns),
        ..host.clone()
    };
    Calibration { machine, steady }
}

/// Three digits: there are no more in a measurement.
fn round(value: f64) -> f64 {
    let digits = 10f64.powi(2 - value.abs().log10().floor() as i32);
    (value * digits).round() / digits
}

/// Billions of bytes per second that a core reads from a cache, and whether rounds agreed.
fn cache_gbytes(cache: &Cache, level: usize, host: &MachineModel) -> (f64, bool) {
    // Of a cache that is shared, what a core may take without taking all.
    let share =
        if level == 2 { cache.bytes / SHARE / cache.sharers.clamp(1, 4) } else { cache.bytes / SHARE };
    let bytes = share.clamp(4096, 64 << 20).next_multiple_of(4096);
    let buffer = vec![1u64; bytes / 8];
    let read = reader(host.isa);
    // Short buffers several times, so that the clock does not count.
    let times = (1usize << 20).div_ceil(bytes);
    let round = || {
        let seconds =
            best_seconds(|| (0..times).map(|_| black_box(read(black_box(&buffer)))).fold(0, |a, b| a ^ b));
        (bytes * times) as f64 / seconds / 1e9
    };
    let rounds: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    (rounds.iter().copied().fold(0.0, f64::max), agree(&rounds))
}

/// Reads all of a buffer in vectors of a tier.
fn reader(isa: Isa) -> fn(&[u64]) -> u64 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if std::is_x86_feature_detected!("avx512f") => x86::avx512,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 if std::is_x86_feature_detected!("avx2") => x86::avx2,
        _ => portable,
    }
}

fn portable(buffer: &[u64]) -> u64 {
    let mut sums = [0u64; 16];
    for chunk in buffer.as_chunks::<16>().0 {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum ^= value;
        }
    }
    sums.into_iter().fold(0, |a, b| a ^ b)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    macro_rules! reader {
        ($name:ident, $inner:ident, $features:literal, $register:ty, $zero:ident, $load:ident, $xor:ident) => {
            pub(super) fn $name(buffer: &[u64]) -> u64 {
                #[target_feature(enable = $features)]
                fn $inner(buffer: &[u64]) -> u64 {
                    const CHAINS: usize = 8;
                    const WORDS: usize = size_of::<$register>() / 8;
                    let mut sums = [$zero(); CHAINS];
                    for chunk in buffer.as_chunks::<{ CHAINS * WORDS }>().0 {
                        for (sum, words) in sums.iter_mut().zip(chunk.as_chunks::<WORDS>().0) {
                            // SAFETY: `words` has the size of a register; the load needs no alignment.
                            let loaded = unsafe { $load(words.as_ptr().cast()) };
                            *sum = $xor(*sum, loaded);
                        }
                    }
                    let words = sums.map(|sum| {
                        // SAFETY: registers are as large as their words, of which any bits are values.
                        let words = unsafe { std::mem::transmute::<$register, [u64; WORDS]>(sum) };
                        words.into_iter().fold(0, |a, b| a ^ b)
                    });
                    words.into_iter().fold(0, |a, b| a ^ b)
                }
                // SAFETY: the only caller has asked the CPU for these features.
                unsafe { $inner(buffer) }
            }
        };
    }
    reader!(
        avx512,
        avx512_inner,
        "avx512f",
        __m512i,
        _mm512_setzero_si512,
        _mm512_loadu_si512,
        _mm512_xor_si512
    );
    reader!(avx2, avx2_inner, "avx2", __m256i, _mm256_setzero_si256, _mm256_loadu_si256, _mm256_xor_si256);
}

/// The median times, in nanoseconds, until a worker that sleeps is at work, and until one that watches has done nothing
/// and that is known.
fn waking() -> (f64, f64) {
    let pool = Pool::new(2);
    let caller = thread::current().id();
    let arrived = Mutex::new(None);
    let wake = || {
        thread::sleep(SLEEP);
        let (came, given) = (AtomicBool::new(false), Instant::now());
        pool.run(2, &|_, _| {
            if thread::current().id() != caller {
                *lock(&arrived) = Some(given.elapsed());
                came.store(true, Ordering::Release);
                return;
            }
            // The worker must take the other part; but it may never come.
            while !came.load(Ordering::Acquire) && given.elapsed() < 10 * SLEEP {
                std::hint::spin_loop();
            }
        });
        lock(&arrived).take().unwrap_or(10 * SLEEP)
    };
    let hand_over = || {
        let start = Instant::now();
        pool.run(2, &|_, _| ());
        start.elapsed()
    };
    let median = |time: &dyn Fn() -> Duration| {
        let mut times: Vec<Duration> = (0..DISPATCHES).map(|_| time()).collect();
        times.sort_unstable();
        times[DISPATCHES / 2].as_nanos().max(1) as f64
    };
    (median(&wake), median(&hand_over))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_a_machine() {
        let host = MachineModel::host(None).unwrap();
        let machine = calibrate(&host).machine;
        let text = serde_json::to_string(&machine).unwrap();
        assert_eq!(MachineModel::from_json(&text).unwrap(), machine);
        assert_eq!((machine.isa, machine.cores, machine.l2_bytes()), (host.isa, host.cores, host.l2_bytes()));
    }

    #[test]
    fn every_reader_reads_everything() {
        let mut buffer = vec![0u64; 4096];
        for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512] {
            for at in [0, 1, 77, 4095] {
                buffer[at] = 1 << 40;
                assert_eq!(reader(isa)(&buffer), 1 << 40, "{isa:?} {at}");
                buffer[at] = 0;
            }
        }
    }

    #[test]
    fn three_digits_are_kept() {
        assert_eq!([1234.5, 0.012_345, 4.0, 99.96].map(round), [1230.0, 0.0123, 4.0, 100.0]);
    }
}
