//! What limits a nest: arithmetic or memory, judged by what the machine was measured to do.

use serde::Serialize;

use crate::runtime::measure::{Measurement, Rates};

/// Nests this far from the balance point in either direction count as balanced.
const MARGIN: f64 = 2.0;

/// What limits a nest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
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

/// Where the figures of a machine come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Figures {
    /// They were measured.
    Measured,
    /// They were measured while the machine was busy: it can do more, and nothing is judged by them.
    Busy,
    /// The user gave them.
    Given,
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
    /// Where the figures come from.
    pub figures: Figures,
}

impl Roofline {
    /// The figures that were measured.
    pub fn measured(measurement: Measurement, threads: usize) -> Roofline {
        let Rates { peak_gflops, read_gbytes } = measurement.rates;
        let figures = if measurement.steady { Figures::Measured } else { Figures::Busy };
        Roofline { threads, peak_gflops, read_gbytes, figures }
    }

    /// The figures that the user gives.
    pub fn given(rates: Rates, threads: usize) -> Roofline {
        let Rates { peak_gflops, read_gbytes } = rates;
        Roofline { threads, peak_gflops, read_gbytes, figures: Figures::Given }
    }

    /// The operations per byte at which arithmetic and memory take equally long.
    pub fn balance_point(&self) -> f64 {
        self.peak_gflops / self.read_gbytes
    }

    /// What limits a nest of this many operations per byte; `None` if the figures say nothing.
    pub fn balance(&self, intensity: f64) -> Option<Balance> {
        match (self.figures, intensity / self.balance_point()) {
            (Figures::Busy, _) => None,
            (Figures::Measured | Figures::Given, r) => Some(match r {
                r if r > MARGIN => Balance::ComputeBound,
                r if r < 1.0 / MARGIN => Balance::BandwidthBound,
                _ => Balance::Balanced,
            }),
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
    /// bandwidth) in relation to the measured one. More than 1 needs `beyond`.
    pub roofline_share: f64,
    /// Why the share is more than 1.
    #[serde(rename = "roofline_note", skip_serializing_if = "Option::is_none")]
    pub beyond: Option<Beyond>,
}

/// Why a nest took less time than its roofline says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Beyond {
    /// Caches held what it read: it was faster than memory, and not faster than arithmetic.
    InCache,
    /// It did more arithmetic than the figures of the machine say is possible: they are too low.
    FiguresTooLow,
}

impl NestTime {
    /// The time of a nest, and what it is in relation to: the time of all nests in milliseconds, its operations, and the
    /// bytes it moves.
    pub fn new(ms: f64, all: f64, flops: f64, bytes: usize, roofline: &Roofline) -> NestTime {
        let roofline_share = ratio(roofline.ms(flops, bytes), ms);
        let beyond = if roofline_share <= 1.0 {
            None
        } else if roofline.ms(flops, 0) > ms {
            Some(Beyond::FiguresTooLow)
        } else {
            Some(Beyond::InCache)
        };
        NestTime { ms, time_share: ratio(ms, all), gflops: ratio(flops, ms * 1e6), roofline_share, beyond }
    }

    /// The share of the roofline for people; beyond it, of arithmetic only, or none.
    pub fn share(&self, roofline: &Roofline) -> String {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        match self.beyond {
            None => format!("{} of roofline", percent(self.roofline_share)),
            Some(Beyond::InCache) => {
                format!("in cache, {} of peak", percent(self.gflops / roofline.peak_gflops))
            }
            Some(Beyond::FiguresTooLow) => "faster than the machine's figures".to_owned(),
        }
    }
}

fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
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
        let rates = Rates { peak_gflops: 200.0, read_gbytes: 20.0 };
        let roofline = Roofline::given(rates, 1);
        assert_eq!(roofline.balance_point(), 10.0);
        let of = |intensity| roofline.balance(intensity).unwrap().name();
        assert_eq!(
            [0.0, 4.9, 5.0, 20.0, 20.1].map(of),
            ["BANDWIDTH_BOUND", "BANDWIDTH_BOUND", "BALANCED", "BALANCED", "COMPUTE_BOUND"]
        );
        assert_eq!(serde_json::to_value(Balance::ComputeBound).unwrap(), "COMPUTE_BOUND");
        // 2 GFLOP take 10 ms, 1 GB takes 50 ms.
        assert_eq!(roofline.ms(2e9, 0), 10.0);
        assert_eq!(roofline.ms(2e9, 1_000_000_000), 50.0);
        let busy = Roofline::measured(Measurement { rates, steady: false }, 1);
        assert_eq!((busy.figures, busy.balance(100.0)), (Figures::Busy, None));
    }

    #[test]
    fn no_share_is_above_all_without_a_reason() {
        let roofline = Roofline::given(Rates { peak_gflops: 200.0, read_gbytes: 20.0 }, 1);
        let time = |ms| NestTime::new(ms, 100.0, 2e9, 1_000_000_000, &roofline);
        assert_eq!((time(50.0).beyond, time(50.0).share(&roofline)), (None, "100 % of roofline".to_owned()));
        assert_eq!(time(20.0).beyond, Some(Beyond::InCache));
        assert_eq!(time(20.0).share(&roofline), "in cache, 50 % of peak");
        assert_eq!(time(9.0).beyond, Some(Beyond::FiguresTooLow));
        assert!(!time(9.0).share(&roofline).contains('%'));
        assert_eq!(NestTime::new(0.0, 0.0, 1.0, 1, &roofline).roofline_share, 0.0);
    }
}
