//! Control flow that becomes part of a program: conditions that are known choose a branch, small branches are both
//! computed; short loops with a known number of iterations are unrolled. What is left over is run by a session, which
//! compiles branches and bodies by themselves; where there is none, more is unrolled.

use nestjit_ir::DType;

use super::super::order::node_count;
use super::super::proto::GraphProto;
use super::super::scan::Scan;
use super::{Halt, NodeCx, OpEntry, Result, axis, extent, ints, op};
use crate::graph::{Op, ValueId};

pub(super) const OPS: &[OpEntry] = &[op("If", 1, if_), op("Loop", 1, loop_), op("Scan", 8, scan)];

/// The most iterations that are unrolled.
const ITERATIONS: usize = 10_000;

/// The most nodes that are unrolled if a session can run the body instead.
const UNROLLED_NODES: usize = 128;

/// The most nodes of two branches that are both computed if a session can choose.
const BOTH_NODES: usize = 16;

fn if_(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let condition = cx.input(0)?;
    let (then, other) = (cx.attributes.graph("then_branch")?, cx.attributes.graph("else_branch")?);
    if cx.elements(condition) != 1 || cx.dtype(condition) != DType::Bool {
        return Err(Halt::shape("the condition must be one bool"));
    }
    let chosen = |cx: &mut NodeCx<'_>| match cx.known_int(condition, "the condition")? != 0 {
        true => cx.subgraph(then, &[], "then"),
        false => cx.subgraph(other, &[], "else"),
    };
    if cx.constant_of(condition).is_some() {
        return chosen(cx);
    }
    // Operations have no effects: both branches may be computed. Where that is not possible, the condition must be
    // known.
    let mark = cx.sink.mark();
    let staged = cx.sink.is_staged();
    if !staged || node_count(then) + node_count(other) <= BOTH_NODES {
        let first = mark.nodes;
        let results = both(cx, condition, [then, other]);
        let cheap = || cx.sink.graph.nodes[first..].iter().all(|node| is_cheap(&node.op));
        if results.is_ok() && (!staged || cheap()) {
            return results;
        }
    }
    cx.sink.rollback(mark);
    match staged {
        true => Err(Halt::host("its condition depends on data")),
        false => chosen(cx),
    }
}

/// Whether an operation costs little and cannot fail, so that computing it in vain does no harm.
fn is_cheap(op: &Op) -> bool {
    use Op::*;
    matches!(
        op,
        Unary(_)
            | Binary(_)
            | Where
            | Clip { .. }
            | Cast { .. }
            | Reshape { .. }
            | Slice { .. }
            | Expand { .. }
    )
}

/// Both branches, and of each pair of results the one that the condition chooses.
fn both(cx: &mut NodeCx<'_>, condition: ValueId, branches: [&GraphProto; 2]) -> Result<Vec<ValueId>> {
    let [then, other] = branches;
    let (a, b) = (cx.subgraph(then, &[], "then")?, cx.subgraph(other, &[], "else")?);
    let condition = cx.reshape(condition, &[])?;
    if a.len() != b.len() {
        return Err(Halt::invalid("the branches have different numbers of outputs"));
    }
    let mut results = Vec::with_capacity(a.len());
    for (a, b) in a.into_iter().zip(b) {
        let (x, y) = (cx.shape(a), cx.shape(b));
        if x != y || cx.dtype(a) != cx.dtype(b) {
            return Err(Halt::unsupported(format!(
                "branches whose results have the shapes {x:?} and {y:?} cannot be chosen between at run time"
            )));
        }
        results.push(cx.select(condition, a, b)?);
    }
    Ok(results)
}

/// The number of iterations of a loop that is unrolled.
fn iterations(count: i64) -> Result<usize> {
    let count = extent(count.max(0), "the number of iterations")?;
    match count > ITERATIONS {
        true => {
            Err(Halt::limit(format!("there are {count} iterations, but at most {ITERATIONS} are unrolled")))
        }
        false => Ok(count),
    }
}

/// Leaves a loop to the host that would become too many nodes.
fn expect_short(count: usize, body: &GraphProto) -> Result<()> {
    match count.saturating_mul(node_count(body)) > UNROLLED_NODES {
        true => Err(Halt::host("its body is compiled once for all iterations")),
        false => Ok(()),
    }
}

fn loop_(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let body = cx.attributes.graph("body")?;
    let constant = |cx: &mut NodeCx<'_>, input, what| match cx.optional(input) {
        Some(x) => match ints(&cx.known_constant(x, what)?, what)?.as_slice() {
            [value] => Ok(Some(*value)),
            other => Err(Halt::shape(format!("{what} must be one integer, not {other:?}"))),
        },
        None => Ok(None),
    };
    let limit = constant(cx, 0, "the number of iterations")?;
    let mut go_on = constant(cx, 1, "the loop's condition")?.is_none_or(|condition| condition != 0);
    if cx.sink.is_staged() && go_on {
        let count = limit.map_or(usize::MAX, |n| usize::try_from(n.max(0)).unwrap_or(usize::MAX));
        expect_short(count, body)?;
    }
    let mut state: Vec<ValueId> = (2..cx.input_count()).map(|i| cx.input(i)).collect::<Result<_>>()?;
    let (carried, scans) = (state.len(), cx.output_count().saturating_sub(state.len()));
    let mut collected: Vec<Vec<ValueId>> = vec![Vec::new(); scans];
    let mut i = 0;
    while go_on && limit.is_none_or(|limit| i < limit) {
        iterations(i + 1)?;
        let mut arguments = vec![cx.values(&[], &[i])?, cx.scalar(DType::Bool, 1.0)];
        arguments.extend(&state);
        let mut results = cx.subgraph(body, &arguments, &i.to_string())?;
        if results.len() != 1 + carried + scans {
            return Err(Halt::invalid(format!("the body has {} outputs", results.len())));
        }
        let condition = cx.known_constant(results[0], "the loop's condition")?;
        go_on = ints(&condition, "the loop's condition")?.first().is_some_and(|condition| *condition != 0);
        for (list, value) in collected.iter_mut().zip(results.split_off(1 + carried)) {
            list.push(value);
        }
        state = results.split_off(1);
        i += 1;
    }
    for list in &collected {
        if list.is_empty() {
            return Err(Halt::host("it collects the values of no iteration"));
        }
        let joined = stack(cx, list, 0, false)?;
        state.push(joined);
    }
    Ok(state)
}

/// Tensors joined along a new dimension.
fn stack(cx: &mut NodeCx<'_>, list: &[ValueId], axis: usize, reverse: bool) -> Result<ValueId> {
    let mut slices = Vec::with_capacity(list.len());
    for value in list {
        slices.push(cx.unsqueeze(*value, axis)?);
    }
    if reverse {
        slices.reverse();
    }
    cx.concat(&slices, axis)
}

fn scan(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    if cx.opset < 9 {
        return Err(Halt::host("it scans sequences of different lengths"));
    }
    let body = cx.attributes.graph("body")?;
    let inputs = cx.inputs()?;
    let scan = Scan::of(&cx.attributes, inputs.len(), cx.output_count(), false)?;
    let (carried, outputs) = (inputs.len() - scan.inputs.len(), scan.outputs.len());
    let mut along = Vec::with_capacity(scan.inputs.len());
    let mut count = None;
    for (x, (d, reverse)) in inputs[carried..].iter().zip(&scan.inputs) {
        let d = axis(*d, cx.rank(*x))?;
        let n = cx.shape(*x)[d];
        if count.replace(n).is_some_and(|other| other != n) {
            return Err(Halt::shape("the scanned inputs have different numbers of elements"));
        }
        along.push((*x, d, *reverse));
    }
    let count = count.unwrap_or(0);
    if cx.sink.is_staged() {
        expect_short(count, body)?;
    }
    let count = iterations(count as i64)?;
    let mut state = inputs[..carried].to_vec();
    let mut collected: Vec<Vec<ValueId>> = vec![Vec::new(); outputs];
    for i in 0..count {
        let mut arguments = state.clone();
        for (x, d, reverse) in &along {
            let slice = cx.narrow(*x, *d, if *reverse { count - 1 - i } else { i }, 1)?;
            let mut shape = cx.shape(slice);
            shape.remove(*d);
            arguments.push(cx.reshape(slice, &shape)?);
        }
        let mut results = cx.subgraph(body, &arguments, &i.to_string())?;
        if results.len() != carried + outputs {
            return Err(Halt::invalid(format!("the body has {} outputs", results.len())));
        }
        for (list, value) in collected.iter_mut().zip(results.split_off(carried)) {
            list.push(value);
        }
        state = results;
    }
    for (list, (d, reverse)) in collected.iter().zip(&scan.outputs) {
        let Some(first) = list.first() else {
            return Err(Halt::host("it collects the values of no iteration"));
        };
        let d = axis(*d, cx.rank(*first) + 1)?;
        state.push(stack(cx, list, d, *reverse)?);
    }
    Ok(state)
}
