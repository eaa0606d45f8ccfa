//! Einstein summation: operands are combined two at a time, each combination a batched matrix product.

use std::collections::HashMap;

use super::gather::steps;
use super::{Halt, NodeCx, OpEntry, Result, missing, one, op};
use crate::graph::{Binary, Reduction, ValueId};

pub(super) const OPS: &[OpEntry] = &[op("Einsum", 12, einsum).in_f32(&[0])];

/// A dimension's name: a letter, or a position in the ellipsis.
type Label = u32;

/// An operand whose dimensions have names, none twice.
#[derive(Clone)]
struct Labelled {
    value: ValueId,
    labels: Vec<Label>,
}

/// The labels of a term; `ellipsis` dimensions stand for `...`, counted from the last of `most`.
fn labels(term: &str, ellipsis: usize) -> Result<Vec<Label>> {
    let mut labels = Vec::new();
    let mut rest = term;
    let mut seen = false;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("...") && !seen {
            labels.extend((0..ellipsis as u32).rev().map(|d| 0x0100_0000 + d));
            rest = &rest[3..];
            seen = true;
        } else if c.is_ascii_alphabetic() {
            labels.push(c as Label);
            rest = &rest[1..];
        } else {
            return Err(Halt::invalid(format!(
                "the term '{}' of the equation makes no sense",
                term.escape_debug()
            )));
        }
    }
    Ok(labels)
}

fn einsum(cx: &mut NodeCx<'_>) -> Result<Vec<ValueId>> {
    let equation = cx.attributes.string("equation")?.ok_or_else(|| missing("equation"))?;
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (terms, output) = match equation.split_once("->") {
        Some((terms, output)) => (terms, Some(output)),
        None => (equation.as_str(), None),
    };
    let terms: Vec<&str> = terms.split(',').collect();
    let inputs = cx.inputs()?;
    if terms.len() != inputs.len() {
        return Err(Halt::invalid(format!(
            "the equation has {} terms, but there are {} operands",
            terms.len(),
            inputs.len()
        )));
    }
    let mut operands = Vec::with_capacity(inputs.len());
    let mut most = 0;
    for (term, value) in terms.iter().zip(&inputs) {
        let letters = term.replace("...", "").len();
        let rank = cx.rank(*value);
        let ellipsis = match term.contains("...") {
            true => rank.checked_sub(letters),
            false => (rank == letters).then_some(0),
        };
        let shape = cx.shape(*value);
        let misfit = || {
            Halt::shape(format!(
                "the term '{}' does not fit an operand of shape {shape:?}",
                term.escape_debug()
            ))
        };
        let ellipsis = ellipsis.ok_or_else(misfit)?;
        most = most.max(ellipsis);
        operands.push(Labelled { value: *value, labels: labels(term, ellipsis)? });
    }
    let wanted = match output {
        Some(output) => labels(output, most)?,
        None => implicit(&operands, most),
    };
    let extents = extents(cx, &operands)?;
    for (i, label) in wanted.iter().enumerate() {
        if !extents.contains_key(label) || wanted[..i].contains(label) {
            return Err(Halt::invalid(
                "the equation's output names a dimension that no operand has, or one twice",
            ));
        }
    }
    for operand in &mut operands {
        *operand = diagonal(cx, operand.clone(), &extents)?;
    }
    let mut operands = operands.into_iter();
    let mut left = operands.next().ok_or_else(|| Halt::invalid("at least one operand is needed"))?;
    let rest: Vec<Labelled> = operands.collect();
    for (i, right) in rest.iter().enumerate() {
        let later =
            |label: &Label| wanted.contains(label) || rest[i + 1..].iter().any(|o| o.labels.contains(label));
        left = combine(cx, left, right.clone(), &extents, later)?;
    }
    let left = sum_others(cx, left, |label| wanted.contains(label))?;
    let perm: Option<Vec<usize>> =
        wanted.iter().map(|w| left.labels.iter().position(|label| label == w)).collect();
    let perm = perm.ok_or_else(|| Halt::internal("a dimension of the result is lost"))?;
    one(cx.transpose(left.value, &perm))
}

/// Without an output: the ellipsis, and then letters that appear once, in alphabetical order.
fn implicit(operands: &[Labelled], most: usize) -> Vec<Label> {
    let all: Vec<Label> = operands.iter().flat_map(|o| o.labels.iter().copied()).collect();
    let mut once: Vec<Label> = all
        .iter()
        .copied()
        .filter(|label| *label < 0x0100_0000 && all.iter().filter(|other| *other == label).count() == 1)
        .collect();
    once.sort_unstable();
    (0..most as u32).rev().map(|d| 0x0100_0000 + d).chain(once).collect()
}

fn extents(cx: &NodeCx<'_>, operands: &[Labelled]) -> Result<HashMap<Label, usize>> {
    let mut extents: HashMap<Label, usize> = HashMap::new();
    for operand in operands {
        for (label, n) in operand.labels.iter().zip(cx.shape(operand.value)) {
            let known = extents.entry(*label).or_insert(n);
            if *known == 1 {
                *known = n;
            } else if n != 1 && n != *known {
                return Err(Halt::shape(format!(
                    "a dimension of the equation has {n} elements in one operand and {known} in another"
                )));
            }
        }
    }
    Ok(extents)
}

/// Dimensions of 1 broadcast; those named twice are walked along together.
fn diagonal(cx: &mut NodeCx<'_>, operand: Labelled, extents: &HashMap<Label, usize>) -> Result<Labelled> {
    let full: Vec<usize> = operand.labels.iter().map(|label| extents[label]).collect();
    let mut value = cx.expand(operand.value, &full)?;
    let mut labels = operand.labels;
    while let Some((i, j)) = (0..labels.len())
        .flat_map(|i| (i + 1..labels.len()).map(move |j| (i, j)))
        .find(|(i, j)| labels[*i] == labels[*j])
    {
        // Both to the end, flat, and every (n + 1)th element of them.
        let shape = cx.shape(value);
        let n = shape[i];
        let mut perm: Vec<usize> = (0..shape.len()).filter(|d| *d != i && *d != j).collect();
        let mut outer: Vec<usize> = perm.iter().map(|d| shape[*d]).collect();
        let label = labels[i];
        labels = perm.iter().map(|d| labels[*d]).collect();
        labels.push(label);
        perm.extend([i, j]);
        value = cx.transpose(value, &perm)?;
        outer.push(n * n);
        value = cx.reshape(value, &outer)?;
        let on_diagonal = steps(cx, 1, 0, n, n + 1)?;
        value = cx.gather(value, on_diagonal, outer.len() - 1)?;
    }
    Ok(Labelled { value, labels })
}

/// Sums over dimensions that are not wanted.
fn sum_others(cx: &mut NodeCx<'_>, operand: Labelled, wanted: impl Fn(&Label) -> bool) -> Result<Labelled> {
    let axes: Vec<usize> = (0..operand.labels.len()).filter(|d| !wanted(&operand.labels[*d])).collect();
    if axes.is_empty() {
        return Ok(operand);
    }
    let value = cx.reduce(Reduction::Sum, operand.value, &axes, false)?;
    Ok(Labelled { value, labels: operand.labels.into_iter().filter(|label| wanted(label)).collect() })
}

/// The product of two operands, summed over what nothing needs `later`.
fn combine(
    cx: &mut NodeCx<'_>,
    left: Labelled,
    right: Labelled,
    extents: &HashMap<Label, usize>,
    later: impl Fn(&Label) -> bool,
) -> Result<Labelled> {
    let left = sum_others(cx, left, |label| later(label) || right.labels.contains(label))?;
    let right = sum_others(cx, right, |label| later(label) || left.labels.contains(label))?;
    let (a, b) = (left.labels.clone(), right.labels.clone());
    let shared = |label: &&Label| b.contains(label);
    let batch: Vec<Label> = a.iter().filter(shared).filter(|l| later(l)).copied().collect();
    let summed: Vec<Label> = a.iter().filter(shared).filter(|l| !later(l)).copied().collect();
    let rows: Vec<Label> = a.iter().filter(|l| !b.contains(l)).copied().collect();
    let columns: Vec<Label> = b.iter().filter(|l| !a.contains(l)).copied().collect();
    let sizes = |labels: &[Label]| -> Vec<usize> { labels.iter().map(|l| extents[l]).collect() };
    let size = |labels: &[Label]| -> usize { sizes(labels).iter().product() };
    let arranged = |cx: &mut NodeCx<'_>, operand: &Labelled, order: [&[Label]; 3]| {
        let position = |label: &Label| operand.labels.iter().position(|l| l == label);
        let perm: Option<Vec<usize>> = order.concat().iter().map(position).collect();
        let perm = perm.ok_or_else(|| Halt::internal("a dimension is lost"))?;
        let moved = cx.transpose(operand.value, &perm)?;
        cx.reshape(moved, &order.map(size))
    };
    let x = arranged(cx, &left, [&batch, &rows, &summed])?;
    let value = if summed.is_empty() {
        let y = arranged(cx, &right, [&batch, &summed, &columns])?;
        cx.binary(Binary::Mul, x, y)?
    } else {
        let y = arranged(cx, &right, [&batch, &summed, &columns])?;
        cx.matmul(x, y)?
    };
    let labels = [batch, rows, columns].concat();
    Ok(Labelled { value: cx.reshape(value, &sizes(&labels))?, labels })
}
