//! What comes of merging two nests: found out once for all pairs that are equal up to names.
//!
//! The layers of a network ask the same again and again, and the answer takes most of the pass's time. It is given on an
//! [`Excerpt`] of the program that has nothing but the two nests.

use nestjit_ir::excerpt::{Detail, Excerpt, Key, Uses};
use nestjit_ir::hash::FastMap;
use nestjit_ir::{BufId, Program, Stmt};

use super::blocks::Blocks;
use super::inline::Pointwise;
use super::merge::{self, Depth};
use super::{lanes, profit, repeat};
use crate::options::Fusion as Fusing;
use crate::passes::PassContext;
use crate::passes::each_nest::set_apart;
use crate::passes::schedule::minimal_filtering;
use crate::remark::Apart;

/// The statements of a merged nest, and how deeply the two were merged.
pub(super) type Merged = (Vec<Stmt>, Depth);

/// How two nests are to be merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// As deeply as pays.
    Any,
    /// Some rows of a product at a time, for what normalises them.
    ManyRows,
}

/// What attempts have come to.
#[derive(Default)]
pub(super) struct Attempts(FastMap<Key, Attempt>);

struct Attempt {
    excerpt: Excerpt,
    result: Result<Merged, Apart>,
}

impl Attempts {
    /// Merges two nests, or says why not. `flow` are the buffers that the first writes and the second reads.
    pub fn merge(
        &mut self,
        program: &mut Program,
        ctx: &PassContext<'_>,
        (first, second): (&[Stmt], &[Stmt]),
        flow: &[BufId],
        way: Way,
    ) -> Result<Merged, Apart> {
        let uses = Uses::of(&[first, second]);
        let mut key = uses.key(program, &[first, second], Detail::Schedule);
        let flow: Vec<BufId> = flow.iter().filter_map(|b| uses.buf(*b)).collect();
        key.extend(flow.iter().map(|b| u64::from(b.0)));
        key.push((way == Way::ManyRows).into());
        set_apart(&mut key);
        let attempt = self.0.entry(key).or_insert_with(|| {
            let mut excerpt = Excerpt::of(program, uses.clone());
            let (mut first, mut second) = (first.to_vec(), second.to_vec());
            excerpt.number(&mut first);
            excerpt.number(&mut second);
            let attempt = match way {
                Way::Any => any,
                Way::ManyRows => many_rows,
            };
            let result = attempt(&mut excerpt.program, ctx, &first, &second, &flow);
            Attempt { excerpt, result }
        });
        let placement = attempt.excerpt.place(program, &uses);
        match &attempt.result {
            Ok((body, depth)) => {
                let mut body = body.clone();
                placement.statements(&mut body);
                Ok((body, *depth))
            }
            Err(why) => Err(why.placed(program, &placement)),
        }
    }
}

fn any(
    program: &mut Program,
    ctx: &PassContext<'_>,
    first: &[Stmt],
    second: &[Stmt],
    flow: &[BufId],
) -> Result<Merged, Apart> {
    let target = ctx.target;
    let mut merged = merge::merge(program, target, first, second, flow, None);
    let blocks_may_do = |why: &Apart| {
        if why.is_second_contraction() {
            let bytes: usize = flow.iter().map(|b| program.buf(*b).logical_bytes()).sum();
            return bytes > target.l2_bytes() && !profit::has_weights(program, second);
        }
        why.breaks_tile() || matches!(why, Apart::RowTooLarge { .. })
    };
    if merged.as_ref().is_err_and(blocks_may_do) {
        let blocks = Some(Blocks::new(program, target));
        merged = merge::merge(program, target, first, second, flow, blocks).or(merged);
    }
    if merged.is_err()
        && let Some(stores) = repeat::unrolled(second)
    {
        merged = merge::merge(program, target, first, &stores, flow, None).or(merged);
    }
    merged.and_then(|merged| permit(program, ctx, first, second, merged))
}

fn many_rows(
    program: &mut Program,
    ctx: &PassContext<'_>,
    first: &[Stmt],
    second: &[Stmt],
    flow: &[BufId],
) -> Result<Merged, Apart> {
    let blocks = Some(Blocks::of_many_rows(program, ctx.target));
    let merged = merge::merge(program, ctx.target, first, second, flow, blocks)?;
    permit(program, ctx, first, second, merged)
}

/// Declines a merge that is more than the options ask for, or that keeps another pass from what is worth more.
fn permit(
    program: &Program,
    ctx: &PassContext<'_>,
    first: &[Stmt],
    second: &[Stmt],
    merged: Merged,
) -> Result<Merged, Apart> {
    let epilogue = merged.1 == Depth::All && Pointwise::of(program, second).is_some();
    lanes::keeps(program, ctx.target.isa.f32_lanes(), [first, second], &merged.0)?;
    let filtered = |body: &[Stmt]| minimal_filtering::expected(program, body, ctx.target);
    if filtered(first) + filtered(second) > filtered(&merged.0) {
        return Err(Apart::LosesFiltering { row_by_row: merged.1 != Depth::All });
    }
    match ctx.fusion {
        Fusing::Epilogue if !epilogue => Err(Apart::EpilogueOnly),
        Fusing::Epilogue | Fusing::Full => Ok(merged),
    }
}
