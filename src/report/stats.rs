//! Summary statistics of repeated measurements.

use serde::Serialize;

/// What is reported of a list of durations, in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Summary {
    /// How many there are.
    pub n: usize,
    /// The shortest.
    pub min: f64,
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The smallest that at least 90 % do not exceed.
    pub p90: f64,
    /// The smallest that at least 99 % do not exceed.
    pub p99: f64,
    /// The longest.
    pub max: f64,
    /// The standard deviation of the population.
    pub std: f64,
}

impl Summary {
    /// Summarises measurements; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Summary> {
        let n = values.len();
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let mean = sorted.iter().sum::<f64>() / n as f64;
        let variance = sorted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        let median = f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2]);
        let [p90, p99] = [90, 99].map(|percent| sorted[(n * percent).div_ceil(100) - 1]);
        Some(Summary { n, min, median, mean, p90, p99, max, std: variance.sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(Summary::of(&[]), None);
        let one = Summary::of(&[2.5]).unwrap();
        assert_eq!(
            (one.min, one.median, one.mean, one.p90, one.p99, one.max, one.std),
            (2.5, 2.5, 2.5, 2.5, 2.5, 2.5, 0.0)
        );
        let ten: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        let s = Summary::of(&ten).unwrap();
        assert_eq!((s.n, s.min, s.median, s.mean, s.p90, s.p99, s.max), (10, 1.0, 5.5, 5.5, 9.0, 10.0, 10.0));
        assert!((s.std - 8.25f64.sqrt()).abs() < 1e-12);
    }
}
