//! Winograd: convolutions with a 3x3 window and stride 1 are computed by minimal filtering, with 2.25 or 4 times
//! fewer multiplications, where a model of operations and bytes says that this pays.
//!
//! Any loop nest of that form is rewritten, whatever operation it came from; its epilogue is computed on the
//! results as they leave the last transform. The transforms round more often than the direct sum: with filters
//! and inputs of one magnitude, results differ from the exact ones by up to about 2e-6 of the largest result,
//! against 1e-6 directly. Switch the pass off where that matters.
//!
//! Vectors run along the channels. An input or results whose channels lie apart, as in the model's own NCHW tensors,
//! are exchanged row by row within a block.

mod filters;
mod rewrite;
mod rows;
#[cfg(test)]
mod tests;
mod transform;

use std::sync::Arc;

use nestjit_ir::hash::FastMap;
use nestjit_ir::{BufId, Buffer, DType, Expr, Program, Role, Stmt};

use self::filters::{TOGETHER, filters};
use self::rewrite::Rewrite;
use super::PassContext;
use crate::error::Result;
use crate::passes::schedule::border::Survey;
use crate::passes::schedule::chain::drop_unit_loops;
use crate::passes::schedule::minimal_filtering::algorithm::Filtering;
use crate::passes::schedule::minimal_filtering::convolution::{Convolution, find};
use crate::passes::schedule::minimal_filtering::cost::{self, FilteringPlan};
use crate::passes::schedule::pad;
use crate::remark::{NotFiltered, Reason, Remark};
use crate::tensor::{Computed, Factors, Origin, Tensor};
use crate::unit::Unit;

/// How much of the filters is read at once.
const PART_BYTES: usize = 512 << 10;

/// Transformed filters that exist already: the same weights may serve several convolutions.
type Filters = FastMap<(BufId, Filtering), BufId>;

/// What rewriting one convolution finds out for the next.
#[derive(Default)]
struct Known {
    filters: Filters,
    /// How temporaries are accessed; rewriting does not change who writes them nor what surrounds them.
    survey: Option<Survey>,
}

/// Rewrites the convolutions for which it pays.
///
/// # Errors
/// [`crate::ErrorKind::Limit`] if transformed filters are larger than the address space.
pub fn run(unit: &mut Unit, ctx: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    let mut changed = false;
    let mut known = Known::default();
    for n in 0..unit.program.nests.len() {
        let mut at = 0;
        while let Some(stmt) = unit.program.nests[n].body.get(at) {
            at += 1;
            let Stmt::For(l) = stmt else { continue };
            let Some(found) = find(&unit.program, l) else { continue };
            let outcome = found.map(|conv| (cost::plan(&conv, ctx.target), conv));
            let name = &unit.program.nests[n].name;
            remarks.push(remark(name, outcome.as_ref().map(|(plan, _)| *plan).map_err(|o| *o)));
            if let Ok((plan, conv)) = outcome
                && plan.pays()
            {
                let stmts = rewrite(unit, conv, plan, &mut known)?;
                let end = at - 1 + stmts.len();
                unit.program.nests[n].body.splice(at - 1..at, stmts);
                at = end;
                changed = true;
            }
        }
    }
    Ok(changed)
}

/// The statements that compute a convolution according to a plan.
fn rewrite(
    unit: &mut Unit,
    mut conv: Convolution,
    plan: FilteringPlan,
    known: &mut Known,
) -> Result<Vec<Stmt>> {
    let survey = known.survey.get_or_insert_with(|| Survey::new(&unit.program));
    let mut stmts = match conv.gathered {
        true => Vec::new(),
        false => pad_input(&mut unit.program, &mut conv, plan.filtering, survey),
    };
    let filters = transformed(unit, &conv, plan.filtering, known)?;
    stmts.extend(Rewrite::new(&mut unit.program, &conv, plan, filters).run());
    Ok(stmts)
}

/// Makes the tiles of the input, which may reach beyond it, lie inside: PeelBorders will give a temporary a border;
/// of anything else a padded copy is made here, by the statements returned. Guards in the transforms would cost more.
fn pad_input(
    program: &mut Program,
    conv: &mut Convolution,
    filtering: Filtering,
    survey: &Survey,
) -> Vec<Stmt> {
    let (loops, rounded) = (conv.extents(1), conv.extents(filtering.outputs()));
    // What lies beside a part of a buffer is no zero, and must not get into sums.
    let beside = pad::reads_beside(program, &loops, &rounded, &conv.input);
    let otherwise = conv.input.otherwise.get_or_insert_with(|| Box::new(Expr::f32(0.0)));
    if let Some(fill) = otherwise.as_const()
        && !beside
        && survey.can_grow(program, conv.input.buf, fill)
    {
        return Vec::new();
    }
    let mut made = Vec::new();
    match pad::whole(program, (&loops, &rounded), &conv.input, &mut made) {
        Some(padded) => conv.input = padded.read(&conv.input),
        // No tile leaves the input.
        None if !beside => conv.input.otherwise = None,
        None => {}
    }
    let mut stmts: Vec<Stmt> = made.into_iter().flat_map(|p| p.stmts).collect();
    drop_unit_loops(&mut stmts);
    stmts
}

/// Filters that are transformed when their packed form is made.
struct Transform {
    shape: [usize; 3],
    filtering: Filtering,
    weights: Arc<Tensor>,
    /// Of the weights: filter, channel, row, column.
    strides: [usize; 4],
}

impl Computed for Transform {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn write(&self, places: &[Vec<usize>], to: &mut [u8]) -> Result<()> {
        let [_, _, co] = self.shape;
        let by_filter = |f: &Factors| f.run == self.strides[0] && f.values.len() == co;
        let raw = self.weights.raw_if(by_filter)?;
        let factors = raw.factors.map(|f| &*f.values);
        // Filters that lie one behind the other are read in parts.
        let bytes = raw.size() / co;
        let apart = self.strides[0] * size_of::<f32>() == bytes;
        let most = if apart { (PART_BYTES / bytes.max(1)).next_multiple_of(TOGETHER) } else { co };
        let (mut scratch, out) = (Vec::new(), to.as_chunks_mut().0);
        for first in (0..co).step_by(most) {
            let range = first..(first + most).min(co);
            let w = raw.part(range.start * bytes..range.end * bytes, &mut scratch)?.as_chunks().0;
            filters(self.filtering, w, factors, self.strides, range, places, out);
        }
        Ok(())
    }

    fn origin(&self) -> Origin {
        let parameters = [self.filtering.inputs()].into_iter().chain(self.shape).chain(self.strides);
        Origin::Computed { by: "winograd", parameters: parameters.collect(), of: vec![self.weights.origin()] }
    }
}

/// The constant buffer for the transformed filters of a convolution.
fn transformed(
    unit: &mut Unit,
    conv: &Convolution,
    filtering: Filtering,
    known: &mut Known,
) -> Result<BufId> {
    let weights = conv.weights.buf;
    if let Some(buf) = known.filters.get(&(weights, filtering)) {
        return Ok(*buf);
    }
    let (co, ci, n) = (conv.filters.1, conv.channels.1, filtering.inputs());
    let shape = [n * n, ci, co];
    let source = unit.consts.get(&weights).ok_or_else(|| {
        crate::error::Error::invalid(format!("the constant %{} has no data", unit.program.buf(weights).name))
    })?;
    let dims = &unit.program.buf(weights).shape;
    let strides = |var| {
        let at = conv.weights.index.iter().position(|i| i.as_affine().is_some_and(|a| a.uses(var)));
        at.map_or(0, |d| dims[d + 1..].iter().product())
    };
    let strides = [conv.filters.0, conv.channels.0, conv.window[0], conv.window[1]].map(strides);
    let weights_data = Arc::clone(source);
    let name = unit.program.unique_buffer_name(&format!("{}.winograd", unit.program.buf(weights).name));
    let buf = unit.program.add_buffer(Buffer::new(name, DType::F32, &shape, Role::Const));
    let transform = Transform { shape, filtering, weights: weights_data, strides };
    unit.consts.insert(buf, Arc::new(Tensor::computed(DType::F32, Arc::new(transform))?));
    known.filters.insert((weights, filtering), buf);
    unit.exact.insert(buf);
    Ok(buf)
}

fn remark(nest: &str, outcome: std::result::Result<FilteringPlan, NotFiltered>) -> Remark {
    let reason = match outcome {
        Ok(plan) => Reason::Filtering {
            outputs: plan.filtering.outputs(),
            share: plan.cycles / plan.direct,
            rows: plan.pays().then_some(plan.rows),
        },
        Err(why) => Reason::NotFiltered(why),
    };
    Remark::nest(nest, reason)
}
