//! Whether Winograd's algorithm pays for a convolution, and how many rows of tiles to do at a time.
//!
//! The cost counts cycles of a core, and the bytes of what does not stay in the first-level cache.

use super::algorithm::Filtering;
use super::convolution::Convolution;
use crate::machine::MachineModel;
use crate::passes::cost::Rates;

/// Shares of the peak that register tiles reach: of a direct convolution, and of the products here, whose sums
/// are shorter.
const DIRECT_SHARE: f64 = 0.92;
const PRODUCT_SHARE: f64 = 0.85;

/// Cycles to bring an element of an operand into another order, beside the transforms.
const EXCHANGE: f64 = 0.25;

/// Rewriting must save at least this share, for it costs accuracy and compile time.
const GAIN: f64 = 0.88;

/// What to do with a convolution.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FilteringPlan {
    pub filtering: Filtering,
    /// Rows of tiles that are transformed, multiplied and transformed back before the next ones.
    pub rows: usize,
    /// Estimated cycles, of this and of the direct convolution.
    pub cycles: f64,
    pub direct: f64,
}

/// The best plan, whether it pays or not.
pub fn plan(conv: &Convolution, target: &MachineModel) -> FilteringPlan {
    let (h, w) = (conv.rows.1, conv.columns.1);
    let (ci, co) = (conv.channels.1, conv.filters.1);
    let lanes = target.isa.f32_lanes();
    let vectors = |n: usize| n.div_ceil(lanes) as f64;
    // Multiply-adds of a vector of filters.
    let step = |outputs: f64| outputs * ci as f64 * vectors(co) / target.vector_ops;
    let rates = Rates::of(target);
    // Weights are read besides computing: the short sums of the products leave little time to wait in.
    let streamed = |bytes: f64| bytes / rates.first(bytes);
    let weights = (9 * ci * co * size_of::<f32>()) as f64;
    // Products of halves, of which the direct convolution may consist, come in pairs.
    let (at_once, bytes) = if target.bf16 { (2.0, 0.5) } else { (1.0, 1.0) };
    let direct = step((h * w * 9) as f64) / at_once / DIRECT_SHARE + streamed(bytes * weights);

    let mut best: Option<FilteringPlan> = None;
    for filtering in [Filtering::F4, Filtering::F2] {
        let (m, n) = (filtering.outputs(), filtering.inputs());
        let (high, wide) = (h.div_ceil(m), w.div_ceil(m));
        let tiles = (high * wide) as f64;
        let products = (n * n) as f64;
        let multiply = step(tiles * products) / PRODUCT_SHARE;
        // Loads, stores and about two operations for each element of a tile and dimension.
        let transforms = tiles * products * 3.5 * (vectors(ci) + vectors(co));
        let transformed = products * ((ci * co) * size_of::<f32>()) as f64;
        let per_row = products * (wide * (ci + co) * size_of::<f32>()) as f64;
        for rows in 1..=high {
            let blocks = high.div_ceil(rows) as f64;
            let between = per_row * rows as f64;
            let both = between + transformed;
            let rate = if rates.stays(both) { rates.l2 } else { rates.alone(between) };
            let first = streamed(transformed);
            let again = transformed * (blocks - 1.0)
                / if rates.stays(both) { rates.l2 } else { rates.l3.min(rates.beyond(transformed)) };
            let traffic = first + again + 2.0 * between * blocks / rate;
            // Neighbouring blocks read some rows twice.
            let again = 1.0 + (n - m) as f64 / (m * rows) as f64;
            let mut exchanged = 0.0;
            if conv.gathered {
                exchanged += EXCHANGE * again * (h * w * ci) as f64;
            }
            if conv.scattered {
                exchanged += EXCHANGE * (h * w * co) as f64;
            }
            let cycles = multiply + transforms + traffic + 200.0 * blocks + exchanged;
            if best.is_none_or(|b| cycles < b.cycles) {
                best = Some(FilteringPlan { filtering, rows, cycles, direct });
            }
        }
    }
    best.unwrap_or(FilteringPlan { filtering: Filtering::F2, rows: 1, cycles: f64::INFINITY, direct })
}

impl FilteringPlan {
    /// Whether it is worth it.
    pub fn pays(&self) -> bool {
        self.cycles < GAIN * self.direct
    }
}
