//! What limits a nest: arithmetic or memory, judged by what the machine was measured to do.

use serde::Serialize;

use crate::runtime::machine::Machine;

/// Nests this far from the balance point in either direction count as balanced.
const MARGIN: f64 = 2.0;

/// What limits a nest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Balance {
    /// Arithmetic: more than twice as many operations per byte as the machine needs to be busy.
    ComputeBound,
    /// Neither by more than a factor of two.
    Balanced,
    /// Memory: less than half as many.
    BandwidthBound,
}

impl Balance {
    /// All of them.
    pub const ALL: [Balance; 3] = [Balance::ComputeBound, Balance::Balanced, Balance::BandwidthBound];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Balance::ComputeBound => "COMPUTE_BOUND",
            Balance::Balanced => "BALANCED",
            Balance::BandwidthBound => "BANDWIDTH_BOUND",
        }
    }
}

/// What a number of threads can do together.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Roofline {
    /// The threads.
    pub threads: usize,
    /// Billions of `f32` operations per second.
    pub peak_gflops: f64,
    /// Billions of bytes per second read from memory.
    pub read_gbytes: f64,
}

impl Roofline {
    /// The figures of this machine.
    pub fn new(machine: Machine, threads: usize) -> Roofline {
        Roofline { threads, peak_gflops: machine.peak_gflops, read_gbytes: machine.read_gbytes }
    }

    /// The operations per byte at which arithmetic and memory take equally long.
    pub fn balance_point(&self) -> f64 {
        self.peak_gflops / self.read_gbytes
    }

    /// What limits a nest of this many operations per byte.
    pub fn balance(&self, intensity: f64) -> Balance {
        match intensity / self.balance_point() {
            r if r > MARGIN => Balance::ComputeBound,
            r if r < 1.0 / MARGIN => Balance::BandwidthBound,
            _ => Balance::Balanced,
        }
    }

    /// The shortest time in milliseconds that so many operations and bytes can take.
    pub fn ms(&self, flops: f64, bytes: usize) -> f64 {
        (flops / self.peak_gflops).max(bytes as f64 / self.read_gbytes) / 1e6
    }
}

/// The measured time of a nest.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct NestTime {
    /// The median over the measured runs, in milliseconds.
    pub ms: f64,
    /// The share of the time of all nests.
    pub time_share: f64,
    /// Billions of operations per second.
    pub gflops: f64,
    /// The shortest possible time (the roofline: peak arithmetic, and everything read from memory at full
    /// bandwidth) in relation to the measured one. More than 1 means that caches held what was read.
    pub roofline_share: f64,
}

/// The measured runs as a whole.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Measured {
    /// How many runs were measured.
    pub runs: usize,
    /// The sum of the medians of all nests, in milliseconds.
    pub nests_ms: f64,
    /// What the shares are in relation to.
    #[serde(flatten)]
    pub roofline: Roofline,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balance_depends_on_the_distance_from_the_balance_point() {
        let roofline = Roofline { threads: 1, peak_gflops: 200.0, read_gbytes: 20.0 };
        assert_eq!(roofline.balance_point(), 10.0);
        let of = |intensity| roofline.balance(intensity).name();
        assert_eq!(
            [0.0, 4.9, 5.0, 20.0, 20.1].map(of),
            ["BANDWIDTH_BOUND", "BANDWIDTH_BOUND", "BALANCED", "BALANCED", "COMPUTE_BOUND"]
        );
        assert_eq!(serde_json::to_value(Balance::ComputeBound).unwrap(), "COMPUTE_BOUND");
        // 2 GFLOP take 10 ms, 1 GB takes 50 ms.
        assert_eq!(roofline.ms(2e9, 0), 10.0);
        assert_eq!(roofline.ms(2e9, 1_000_000_000), 50.0);
    }
}
