//! What comes of merging two nests: found out once for all pairs that are equal up to names.
//!
//! The layers of a network ask the same again and again, and the answer takes most of the pass's time. It is given on an
//! [`Excerpt`] of the program that has nothing but the two nests.

use std::rc::Rc;

use nestjit_ir::excerpt::{Excerpt, Uses};
use nestjit_ir::hash::FastMap;
use nestjit_ir::{BufId, Program, Stmt};

use super::blocks::Blocks;
use super::inline::Pointwise;
use super::kinds::{Form, Kind, Kinds};
use super::merge::{self, Depth};
use super::{lanes, profit, repeat};
use crate::options::Fusion as Fusing;
use crate::passes::PassContext;
use crate::passes::schedule::minimal_filtering;
use crate::remark::Apart;

/// The statements of a merged nest, and how deeply the two were merged.
type Merged = (Vec<Stmt>, Depth);

/// How two nests are to be merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// As deeply as pays.
    Any,
    /// Some rows of a product at a time, for what normalises them.
    ManyRows,
}

/// What attempts have come to. The words are the kinds of the nests, what these have in common, and what is asked for.
#[derive(Default)]
pub(super) struct Attempts(FastMap<Vec<u64>, Attempt>);

struct Attempt {
    excerpt: Excerpt,
    result: Result<Outcome, Apart>,
}

/// A merged nest in an excerpt.
struct Outcome {
    kind: Rc<Kind>,
    /// What it uses of the excerpt.
    uses: Uses,
    depth: Depth,
}

impl Attempts {
    /// Merges two nests, or says why not. `flow` are the buffers that the first writes and the second reads.
    pub fn merge(
        &mut self,
        program: &mut Program,
        ctx: &PassContext<'_>,
        kinds: &mut Kinds,
        (first, second): (&Form, &Form),
        flow: &[BufId],
        way: Way,
    ) -> Result<(Form, Depth), Apart> {
        let mut key =
            vec![first.kind.number as u64, second.kind.number as u64, u64::from(way == Way::ManyRows)];
        let uses = first.uses.joined(&second.uses, &mut key);
        let flow: Vec<BufId> = flow.iter().filter_map(|b| uses.buf(*b)).collect();
        key.extend(flow.iter().map(|b| u64::from(b.0)));
        let attempt = self.0.entry(key).or_insert_with(|| {
            let mut excerpt = Excerpt::of(program, uses.clone());
            let (mut first, mut second) = (first.body(), second.body());
            excerpt.number(&mut first);
            excerpt.number(&mut second);
            let attempt = match way {
                Way::Any => any,
                Way::ManyRows => many_rows,
            };
            let merged = attempt(&mut excerpt.program, ctx, &first, &second, &flow);
            let result = merged.map(|(body, depth)| {
                let Form { kind, uses } = kinds.form(&excerpt.program, body);
                Outcome { kind, uses, depth }
            });
            Attempt { excerpt, result }
        });
        let placement = attempt.excerpt.place(program, &uses);
        match &attempt.result {
            Ok(Outcome { kind, uses, depth }) => {
                Ok((Form { kind: Rc::clone(kind), uses: placement.uses(uses) }, *depth))
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
