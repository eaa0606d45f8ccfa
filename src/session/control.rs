//! Steps: operations of the host, and bodies that are run for conditions, iterations, slices and elements.

use super::plan::{BodyPlan, Slots, facts, item};
use super::run::{Run, arranged, scalar};
use crate::error::{Error, ErrorKind, Result};
use crate::host::{Item, slice_at, stack};
use crate::onnx::{Branch, Planned, Scan, Slot, Step, StepKind};
use crate::runtime::input::Value;
use crate::tensor::Tensor;

impl Run<'_> {
    /// The results of a step.
    pub fn step(&self, step: &Step, plans: &[BodyPlan], slots: &Slots<'_>) -> Result<Vec<Item>> {
        let operand = |slot: &Option<Slot>| match slot {
            Some(slot) => item(slots, *slot),
            None => Ok(Item::Absent),
        };
        let operands: Vec<Item> = step.inputs.iter().map(operand).collect::<Result<_>>()?;
        let around = |branch: &Branch| -> Result<Vec<Item>> {
            branch.captures.iter().map(|slot| item(slots, *slot)).collect()
        };
        match (&step.kind, plans) {
            (StepKind::Host(op), _) => op.run(&operands),
            (StepKind::Call(body), [plan]) => {
                let mut arguments = operands;
                arguments.resize(body.body.inputs(), Item::Absent);
                self.inner(plan, [arguments, around(body)?].concat())
            }
            (StepKind::If { then, other }, [a, b]) => {
                let condition = operands.first().map(|c| scalar(c, "the condition")).transpose()?.flatten();
                match condition.ok_or_else(|| Error::invalid("the condition is missing"))? != 0 {
                    true => self.inner(a, around(then)?),
                    false => self.inner(b, around(other)?),
                }
            }
            (StepKind::Loop(body), [plan]) => self.run_loop(plan, operands, &around(body)?),
            (StepKind::Scan(body, scan), [plan]) if scan.batched => {
                self.batched(plan, scan, operands, &around(body)?)
            }
            (StepKind::Scan(body, scan), [plan]) => self.scan(plan, scan, operands, None, &around(body)?),
            (StepKind::Map(body), [plan]) => self.map(plan, &operands, &around(body)?),
            _ => Err(Error::internal("a step without its bodies")),
        }
    }

    fn run_loop(&self, plan: &BodyPlan, mut operands: Vec<Item>, around: &[Item]) -> Result<Vec<Item>> {
        let operand = |i: usize| operands.get(i).unwrap_or(&Item::Absent);
        let count = scalar(operand(0), "the number of iterations")?;
        let mut go_on = scalar(operand(1), "the loop's condition")?.is_none_or(|condition| condition != 0);
        let mut state = operands.split_off(operands.len().min(2));
        let scans = plan.body.outputs().len().saturating_sub(1 + state.len());
        let mut collected: Vec<Vec<Tensor>> = vec![Vec::new(); scans];
        let mut i = 0;
        while go_on && count.is_none_or(|count| i < count) {
            if i as u64 >= self.session.loop_limit {
                let message = format!("the loop goes on after {i} iterations, which is the session's limit");
                return Err(Error::new(ErrorKind::Limit, message));
            }
            let mut arguments = vec![Tensor::scalar(i).into(), Tensor::scalar(true).into()];
            arguments.append(&mut state);
            arguments.extend(around.iter().cloned());
            let mut results = self.inner(plan, arguments)?;
            collect(&mut collected, results.split_off(results.len() - scans))?;
            state = results.split_off(1);
            go_on = scalar(&results[0], "the loop's condition")?.is_some_and(|condition| condition != 0);
            i += 1;
        }
        if i == 0 && scans > 0 {
            let first = 1 + state.len();
            let mut arguments = vec![Tensor::scalar(0i64).into(), Tensor::scalar(true).into()];
            arguments.extend(state.iter().chain(around).cloned());
            let empty = empty_results(plan, &arguments, first);
            state.extend(
                empty
                    .into_iter()
                    .map(|(dtype, shape)| {
                        Tensor::zeros(dtype, &[&[0], &shape[..]].concat()).map(Item::Tensor)
                    })
                    .collect::<Result<Vec<_>>>()?,
            );
            return Ok(state);
        }
        for list in &collected {
            state.push(stack(list, 0, false)?.into());
        }
        Ok(state)
    }

    /// All slices, or the first `count`; then the results are as long as if it were all, filled up with zeros.
    fn scan(
        &self,
        plan: &BodyPlan,
        scan: &Scan,
        mut operands: Vec<Item>,
        count: Option<usize>,
        around: &[Item],
    ) -> Result<Vec<Item>> {
        let scanned = operands.split_off(operands.len().saturating_sub(scan.inputs.len()));
        let mut state = operands;
        let (carried, scans) = (state.len(), plan.body.outputs().len().saturating_sub(state.len()));
        let mut along = Vec::with_capacity(scanned.len());
        for (operand, (axis, reverse)) in scanned.iter().zip(&scan.inputs) {
            let x = operand.tensor()?;
            along.push((x, dimension(*axis, x.shape().len())?, *reverse));
        }
        let length = along.first().map_or(0, |(x, d, _)| x.shape()[*d]);
        if along.iter().any(|(x, d, _)| x.shape()[*d] != length) {
            return Err(Error::shape("the scanned inputs have different numbers of elements"));
        }
        let count = count.unwrap_or(length);
        if count > length {
            return Err(Error::shape(format!("the length {count} of a sequence is outside 0..={length}")));
        }
        let mut collected: Vec<Vec<Tensor>> = vec![Vec::new(); scans];
        for i in 0..count {
            let mut arguments = std::mem::take(&mut state);
            for (x, d, reverse) in &along {
                arguments.push(slice_at(x, *d, if *reverse { count - 1 - i } else { i })?.into());
            }
            arguments.extend(around.iter().cloned());
            let mut results = self.inner(plan, arguments)?;
            collect(&mut collected, results.split_off(carried))?;
            state = results;
        }
        if count == 0 && scans > 0 {
            let mut arguments = state.clone();
            for (x, d, _) in &along {
                let mut shape = x.shape().to_vec();
                shape.remove(*d);
                arguments.push(Tensor::zeros(x.dtype(), &shape)?.into());
            }
            arguments.extend(around.iter().cloned());
            for ((dtype, mut shape), (axis, _)) in
                empty_results(plan, &arguments, carried).into_iter().zip(&scan.outputs)
            {
                shape.insert(dimension(*axis, shape.len() + 1)?, length);
                state.push(Tensor::zeros(dtype, &shape)?.into());
            }
            return Ok(state);
        }
        for (list, (axis, reverse)) in collected.iter_mut().zip(&scan.outputs) {
            if let Some(first) = list.first().filter(|_| count < length) {
                let zeros = Tensor::zeros(first.dtype(), first.shape())?;
                list.resize(length, zeros);
            }
            state.push(stack(list, *axis, *reverse)?.into());
        }
        Ok(state)
    }

    /// A scan of each element of a batch, as far as its length says.
    fn batched(
        &self,
        plan: &BodyPlan,
        scan: &Scan,
        mut operands: Vec<Item>,
        around: &[Item],
    ) -> Result<Vec<Item>> {
        let lengths = match operands.remove(0) {
            Item::Absent => None,
            lengths => Some(lengths.tensor()?.values::<i64>()?.to_vec()),
        };
        let mut batch = None;
        for operand in &operands {
            let n = operand.tensor()?.shape().first().copied();
            if n.is_none() || batch.replace(n).is_some_and(|other| other != n) {
                return Err(Error::shape("the operands have different batches"));
            }
        }
        let batch = batch.flatten().unwrap_or_default();
        if batch == 0 || lengths.as_ref().is_some_and(|lengths| lengths.len() != batch) {
            return Err(Error::shape(format!("the lengths {lengths:?} do not fit a batch of {batch}")));
        }
        let mut collected: Vec<Vec<Tensor>> = vec![Vec::new(); plan.body.outputs().len()];
        for b in 0..batch {
            let length = lengths.as_ref().map(|lengths| usize::try_from(lengths[b])).transpose();
            let length = length.map_err(|_| Error::shape("the length of a sequence is negative"))?;
            let element = |operand: &Item| slice_at(operand.tensor()?, 0, b).map(Item::Tensor);
            let slices = operands.iter().map(element).collect::<Result<_>>()?;
            collect(&mut collected, self.scan(plan, scan, slices, length, around)?)?;
        }
        collected.iter().map(|list| stack(list, 0, false).map(Item::Tensor)).collect()
    }

    fn map(&self, plan: &BodyPlan, operands: &[Item], around: &[Item]) -> Result<Vec<Item>> {
        let count = operands.first().map(Item::sequence).transpose()?.map_or(0, <[Tensor]>::len);
        let mut collected: Vec<Vec<Tensor>> = vec![Vec::new(); plan.body.outputs().len()];
        for i in 0..count {
            let mut arguments = Vec::with_capacity(operands.len() + around.len());
            for operand in operands {
                arguments.push(match operand {
                    Item::Sequence(list) => list.get(i).cloned().map(Item::Tensor).ok_or_else(|| {
                        Error::shape(format!("sequences of {count} and of {} elements", list.len()))
                    })?,
                    other => other.clone(),
                });
            }
            arguments.extend(around.iter().cloned());
            collect(&mut collected, self.inner(plan, arguments)?)?;
        }
        Ok(collected.into_iter().map(Item::Sequence).collect())
    }
}

/// Adds a tensor to each list.
fn collect(lists: &mut [Vec<Tensor>], items: Vec<Item>) -> Result<()> {
    for (list, item) in lists.iter_mut().zip(items) {
        match item {
            Item::Tensor(tensor) => list.push(tensor),
            other => drop(other.tensor()?),
        }
    }
    Ok(())
}

/// Types and shapes of the results from `first` on that a body would have: as far as they follow from the arguments,
/// and otherwise as the model declares them.
fn empty_results(plan: &BodyPlan, arguments: &[Item], first: usize) -> Vec<(nestjit_ir::DType, Vec<usize>)> {
    let body = &plan.body;
    let arguments = arguments.iter().cloned().map(Value::Item).collect();
    let slots = arranged(body, arguments).unwrap_or_default();
    let facts = facts(&slots, &Default::default()).unwrap_or_default();
    let stage = match body.stage(None, &facts, None) {
        Ok(Planned::Stage(stage)) => Some(stage),
        _ => None,
    };
    let outputs = body.outputs().iter().enumerate().skip(first);
    let known = |slot: Slot| {
        let stage = stage.as_ref()?;
        if let Some((_, tensor)) = stage.constants.iter().find(|(to, _)| *to == slot) {
            return Some((tensor.dtype(), tensor.shape().to_vec()));
        }
        if let Some((number, _)) = stage.outputs.iter().find(|(_, to)| *to == slot) {
            let graph = stage.graph.as_ref()?;
            let value = graph.value(*graph.outputs.get(*number)?);
            return Some((value.dtype, value.shape.clone()));
        }
        let from = stage.aliases.iter().find(|(_, to)| *to == slot).map_or(slot, |(from, _)| *from);
        let (dtype, shape) = slots.get(from)?.as_ref()?.port()?;
        Some((dtype, shape.to_vec()))
    };
    outputs.map(|(i, slot)| known(*slot).unwrap_or_else(|| body.declared(i))).collect()
}

/// An axis, counted from the end if negative, of a tensor of this rank.
fn dimension(axis: i64, rank: usize) -> Result<usize> {
    let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    from_start
        .and_then(|a| usize::try_from(a).ok())
        .filter(|a| *a < rank)
        .ok_or_else(|| Error::invalid(format!("axis {axis} does not exist in a tensor of rank {rank}")))
}
