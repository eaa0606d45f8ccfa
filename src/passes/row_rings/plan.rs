//! How a ring walks over the rows, and whether that pays.
//!
//! The cost counts cycles of a core: arithmetic, rows that two strips both compute, rows that are carried from
//! block to block, constants that are read again for each block, and the bytes of the tensors in between, which
//! come from the last-level cache or memory if they are whole and from the second-level cache if they are strips.

use smallvec::{SmallVec, smallvec};

use super::stage::{Window, contracts};
use super::{Link, Ring};
use crate::machine::MachineModel;
use crate::passes::cost::Rates;

/// The share of the peak that the stages reach.
const SHARE: f64 = 0.6;

/// The share of the time for moving bytes between the caches that computing does not hide.
const EXPOSED: f64 = 0.3;

/// Cycles to start a stage on a block.
const START: f64 = 100.0;

/// A ring must save at least this share.
const GAIN: f64 = 0.98;

/// How much longer a ring takes whose last stage only pools: in strips, its rows are short runs of vectors, and a
/// convolution before it hides most of the time for moving bytes anyway.
const POOLING: f64 = 1.1;

/// Blocks of more rows than this are not considered.
const MOST_ROWS: usize = 64;

/// Rows `first ..` of the last stage's output: `strips` strips of `blocks` blocks, each computed in `steps` steps of
/// `rows` rows. The first tensor's strip has room for a block, the others' for a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RingPart {
    pub first: usize,
    pub strips: usize,
    pub blocks: usize,
    pub steps: usize,
    pub rows: usize,
}

impl RingPart {
    /// How many rows a strip computes.
    pub fn strip_rows(&self) -> usize {
        self.blocks * self.steps * self.rows
    }

    /// Whether there is more to do than one step.
    pub fn is_loop(&self) -> bool {
        self.strips * self.blocks * self.steps > 1
    }
}

/// What to do with a ring.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct RingPlan {
    /// All rows, in order: strips for the threads, then perhaps what remains.
    pub parts: Vec<RingPart>,
    /// The bytes of the strips that lie between the stages.
    pub bytes: usize,
    /// Estimated cycles, of this and of the stages one after the other.
    pub cycles: f64,
    pub apart: f64,
}

impl RingPlan {
    /// Whether it is worth it.
    pub fn pays(&self) -> bool {
        self.cycles < GAIN * self.apart
    }
}

/// The rows of one tensor between two stages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RingRows {
    /// Rows that the strip has room for.
    pub window: usize,
    /// Rows by which the window moves when it is full.
    pub step: usize,
    /// Rows at its front that were computed before.
    pub carry: usize,
    /// Rows that a step computes.
    pub new: usize,
}

/// The rows of all tensors between the stages; `None` if steps or blocks do not fit together.
pub(super) fn rows_of(links: &[Link], part: RingPart) -> Option<SmallVec<[RingRows; 4]>> {
    let (mut count, mut step) = (part.rows, part.rows);
    let mut all: SmallVec<[RingRows; 4]> = SmallVec::with_capacity(links.len());
    for (at, link) in links.iter().enumerate().rev() {
        let steps = if at == 0 { part.steps } else { 1 };
        let Window { stride, span, .. } = link.window;
        let window = ((steps - 1) * step + count - 1) * stride + span;
        let advance = steps * step * stride;
        let again = part.blocks * part.steps > 1;
        let carry = if again { window.saturating_sub(advance) } else { 0 };
        let new = (window - carry) / steps;
        let even = steps == 1 || (new * steps == window - carry && new * steps == advance);
        // Only the first tensor's strip is there for more than one step.
        if carry > advance || !even || (at > 0 && carry > 0) {
            return None;
        }
        all.push(RingRows { window, step: advance, carry, new });
        (count, step) = (new, step * stride);
    }
    all.reverse();
    Some(all)
}

/// Why no plan is needed: the tensors between the stages stay in the second-level cache as they are.
pub(super) fn stays(ring: &Ring, target: &MachineModel) -> bool {
    let bytes: usize = ring.links.iter().map(|l| l.bytes).sum();
    4 * bytes <= 3 * target.l2_bytes()
}

/// The best way over the rows, whether it pays or not; `None` if there is none.
pub(super) fn plan(ring: &Ring, target: &MachineModel) -> Option<RingPlan> {
    let model = RingModel::new(ring, target);
    let total = ring.rows();
    let cores = target.cores.max(1);
    let mut best: Option<RingPlan> = None;
    for strips in [1, cores, 2 * cores, 4 * cores].into_iter().filter(|s| *s <= total) {
        let strip = total / strips;
        for size in 1..=strip.min(MOST_ROWS) {
            for rows in (1..=size).filter(|r| size.is_multiple_of(*r)) {
                let part = RingPart { first: 0, strips, blocks: strip / size, steps: size / rows, rows };
                let parts = with_rest(part, total);
                let Some((cycles, bytes)) = model.cost(&parts) else { continue };
                if best.as_ref().is_none_or(|b| cycles < b.cycles) {
                    best = Some(RingPlan { parts: parts.into_vec(), bytes, cycles, apart: model.apart() });
                }
            }
        }
    }
    best
}

/// A part, and others for the rows that it leaves.
fn with_rest(part: RingPart, total: usize) -> SmallVec<[RingPart; 3]> {
    let mut parts: SmallVec<[RingPart; 3]> = smallvec![part];
    let mut first = part.strips * part.strip_rows();
    let block = part.steps * part.rows;
    if total - first >= block {
        let blocks = (total - first) / block;
        parts.push(RingPart { first, strips: 1, blocks, ..part });
        first += blocks * block;
    }
    if total > first {
        parts.push(RingPart { first, strips: 1, blocks: 1, steps: 1, rows: total - first });
    }
    parts
}

struct RingModel<'a> {
    ring: &'a Ring,
    target: &'a MachineModel,
    rates: Rates,
    /// Cycles of a row of each stage.
    work: Vec<f64>,
    /// Bytes of a row of each tensor in between, and of all rows.
    rows: Vec<f64>,
    whole: Vec<f64>,
    /// Bytes of constants.
    weights: f64,
}

impl RingModel<'_> {
    fn new<'a>(ring: &'a Ring, target: &'a MachineModel) -> RingModel<'a> {
        let peak = target.vector_ops * target.isa.f32_lanes() as f64 * SHARE;
        let whole: Vec<f64> = ring.links.iter().map(|l| l.bytes as f64).collect();
        let heights = ring.stages.iter().map(|s| s.rows() as f64);
        RingModel {
            ring,
            target,
            rates: Rates::of(target),
            work: ring.stages.iter().map(|s| s.row_work() / peak).collect(),
            rows: whole.iter().zip(heights).map(|(w, h)| w / h).collect(),
            whole,
            weights: ring.weights as f64,
        }
    }

    /// Cycles of the stages one after the other, for one item of the batch.
    fn apart(&self) -> f64 {
        let work: f64 = self.work.iter().zip(&self.ring.stages).map(|(w, s)| w * s.rows() as f64).sum();
        let moved: f64 = self.whole.iter().map(|b| 2.0 * b / self.rates.again(*b)).sum();
        self.per_core(work + EXPOSED * moved) + EXPOSED * self.weights / self.rates.again(self.weights)
    }

    fn per_core(&self, cycles: f64) -> f64 {
        cycles / self.target.cores.max(1) as f64
    }

    /// Cycles for one item of the batch, and the bytes of the strips; `None` if that is no way to go.
    fn cost(&self, parts: &[RingPart]) -> Option<(f64, usize)> {
        let l2 = self.target.l2_bytes() as f64;
        if let [part] = parts
            && !part.is_loop()
        {
            // All rows at once: each stage is parallel by itself, and must leave its rows in the cache.
            let bytes: f64 = self.whole.iter().sum();
            let start = START * self.work.len() as f64;
            return (bytes <= 0.75 * l2).then(|| (self.apart() + start, bytes as usize));
        }
        let (mut cycles, mut most) = (0.0, 0.0f64);
        for part in parts {
            let rows = rows_of(&self.ring.links, *part)?;
            let steps = (part.blocks * part.steps) as f64;
            let bytes: f64 = rows.iter().zip(&self.rows).map(|(r, b)| r.window as f64 * b).sum();
            most = most.max(bytes);
            let rate = if bytes <= 0.5 * l2 { self.rates.l2 } else { self.rates.again(bytes.max(l2)) };
            let again = if self.rates.stays(bytes + self.weights) { self.rates.l2 } else { self.rates.l3 };
            let mut step = part.rows as f64 * self.work.last().copied().unwrap_or(0.0);
            for ((r, work), bytes) in rows.iter().zip(&self.work).zip(&self.rows) {
                step += r.new as f64 * (work + EXPOSED * 2.0 * bytes / rate);
            }
            step += START * self.work.len() as f64;
            let again = EXPOSED * steps * self.weights / again;
            // Rows that are carried, and rows that the strip before computes, too.
            let carried = rows.iter().zip(&self.rows).map(|(r, bytes)| r.carry as f64 * bytes);
            let moved = (part.blocks - 1) as f64 * 2.0 * carried.sum::<f64>() / self.rates.l2;
            let twice = rows.iter().zip(&self.work).map(|(r, work)| r.carry as f64 * work).sum::<f64>();
            let strip = steps * step + again + moved + twice;
            // Items of a batch are shared by the threads as well as strips.
            let units = part.strips * self.ring.batch_extent();
            let rounds = units.div_ceil(self.target.cores.max(1)) as f64;
            cycles += rounds * strip / self.ring.batch_extent() as f64;
        }
        let pools = self.ring.stages.last().is_some_and(|s| !contracts(&s.body));
        Some((if pools { POOLING * cycles } else { cycles }, most as usize))
    }
}
