//! IntegerContractions: matrix products and convolutions of quantised tensors become products of the 8-bit integers
//! that are stored, and scales and zero points move behind the sum.
//!
//! An operand `a[m,k] = (qa[m,k] - za) * sa` and another `b[k,n] = (qb[k,n] - zb[n]) * sb[n]` (see [`image`]) have the
//! product
//!
//! `sa * sb[n] * (sum(qa * qb) - za * sum_k(qb) - zb[n] * sum_k(qa) + K * za * zb[n])`
//!
//! whose sums are exact in `i32`. What can be computed of it at compile time is: with constant weights, one vector is
//! added and one multiplied. The left operand is made `u8` and the right one `i8`, which is what machines multiply;
//! the zero point moves along. Nothing is looked up by the name of an operation: whatever casts, subtracts and
//! multiplies an 8-bit tensor on its way to a contraction counts.
//!
//! Where only the right operand is such an image, of a constant within four bits, that stays packed (see [`packed`]).
//!
//! What is quantised as it was before (see [`repeated`]) only moves. Where a result is quantised again, [`requantise`] takes the division by its scale into the factor. What is merged
//! and tiled after that is for the passes on nests.

use super::PassContext;
use crate::error::Result;
use crate::graph::{Graph, Op};
use crate::remark::{Integers, Reason, Remark};

mod channelwise;
mod contraction;
mod image;
mod moves;
mod operand;
mod packed;
mod repeated;
mod requantise;
mod rewriter;
mod weights;

use contraction::Contraction;
use rewriter::Rewriter;

/// Runs the pass.
pub fn run(graph: &mut Graph, _: &PassContext<'_>, remarks: &mut Vec<Remark>) -> Result<bool> {
    if !graph.values.iter().any(|v| v.dtype.is_byte()) {
        return Ok(false);
    }
    let nodes = std::mem::take(&mut graph.nodes);
    let mut rewriter = Rewriter::new(graph, &nodes);
    let mut products = Vec::new();
    let mut moved = false;
    for node in &nodes {
        rewriter.begin(node);
        let place = |e: crate::Error| e.at(&node.name, node.op.name());
        if !matches!(node.op, Op::MatMul | Op::Gemm { .. } | Op::Conv { .. }) {
            let rewritten = repeated::rewrite(&mut rewriter, node).map_err(place)?;
            moved |= rewritten;
            if !rewritten {
                rewriter.keep(node.clone());
            }
            continue;
        }
        match Contraction::find(&mut rewriter, node).map_err(place)? {
            Found::Integers(contraction) => {
                let how = contraction.rewrite(&mut rewriter).map_err(place)?;
                products.push(node.outputs[0]);
                remarks.push(Remark::node(&node.name, Reason::Integers(how)));
            }
            found => match packed::rewrite(&mut rewriter, node).map_err(place)? {
                true => {
                    moved = true;
                    remarks.push(Remark::node(&node.name, Reason::Integers(Integers::Packed)));
                }
                false => {
                    rewriter.keep(node.clone());
                    if let Found::Refused(reason) = found {
                        remarks.push(Remark::node(&node.name, Reason::Integers(reason)));
                    }
                }
            },
        }
    }
    let before = nodes.len();
    let nodes = rewriter.finish();
    // Parameters were computed on the way.
    graph.nodes = nodes.into_iter().filter(|n| n.outputs.iter().any(|id| !graph.is_const(*id))).collect();
    let changed = moved || !products.is_empty() || graph.nodes.len() < before;
    if !products.is_empty() {
        requantise::run(graph, &products)?;
    }
    graph.remove_dead();
    Ok(changed)
}

/// What a contraction is.
enum Found {
    /// A product of 8-bit integers, affinely.
    Integers(Box<Contraction>),
    /// It has quantised operands, but is left as it is.
    Refused(Integers),
    /// Anything else.
    Other,
}
