//! What was compiled of a body: a chain of stages for each way that a call can take. How one is found again is left
//! to `cache`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nestjit_ir::DType;

use super::cache::{self, Cache, Values};
use super::model::Body;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::host::Item;
use crate::onnx::{Fact, Slot, Stage, Step, StepKind};
use crate::runtime::Executable;
use crate::runtime::input::Value;
use crate::tensor::Tensor;

/// The largest value that a stage is compiled for. Shapes and axes are small; what is larger is data, and would be
/// compiled for anew with every call.
pub(super) const MAX_VALUE_BYTES: usize = 64 << 10;

/// A body, and what was compiled of it.
#[derive(Debug)]
pub(super) struct BodyPlan {
    pub body: Body,
    pub first: Cache,
}

/// What computes a program.
#[derive(Debug)]
pub(super) enum StageCode {
    Compiled(Executable),
    Evaluated(Box<Graph>),
}

/// A stage, compiled.
#[derive(Debug)]
pub(super) struct Entry {
    shapes: Vec<Signature>,
    values: Values,
    pub code: Option<StageCode>,
    /// What the code was compiled from, if a call that is traced compiled it.
    pub graph: Option<Arc<Graph>>,
    /// Without its graph.
    pub stage: Stage,
    /// For each step, the plans of its bodies.
    pub plans: Vec<Vec<BodyPlan>>,
    /// The values of which the following stages know more than the shape.
    known: BTreeSet<Slot>,
    pub next: Cache,
}

/// What a program depends on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Signature {
    Tensor(DType, Vec<usize>),
    Sequence,
    Absent,
}

/// The values of a body while it is executed.
pub(super) type Slots<'v> = Vec<Option<Value<'v>>>;

impl BodyPlan {
    pub fn new(body: Body) -> BodyPlan {
        let first = Cache::new(body.arguments().to_vec());
        BodyPlan { body, first }
    }

    /// How many programs are kept.
    pub fn programs(&self) -> usize {
        self.first.programs()
    }

    /// The memory that they take, in bytes.
    pub fn bytes(&self) -> usize {
        self.first.bytes()
    }
}

impl Entry {
    pub fn new(
        shapes: Vec<Signature>,
        values: Values,
        mut known: BTreeSet<Slot>,
        stage: Stage,
        code: Option<StageCode>,
    ) -> Entry {
        known.extend(stage.constants.iter().map(|(slot, _)| *slot));
        known.extend(&stage.values);
        let keys = stage.shapes.iter().chain(&stage.values).copied().collect();
        let plans = stage.steps.iter().map(plans).collect();
        Entry { shapes, values, code, graph: None, stage, plans, known, next: Cache::new(keys) }
    }

    /// Whether it is right for these values; `keys` are those whose types and shapes tell entries apart.
    pub fn serves(&self, keys: &[Slot], slots: &Slots<'_>) -> bool {
        let same = |(slot, signature): (&Slot, &Signature)| signature.is_of(slots[*slot].as_ref());
        keys.iter().zip(&self.shapes).all(same) && self.has_values(slots)
    }

    /// Whether it is right for these values, if it is for their shapes.
    pub fn has_values(&self, slots: &Slots<'_>) -> bool {
        cache::are(&self.values, slots)
    }

    /// A number for what it is for.
    pub fn key(&self) -> u64 {
        cache::key(&self.shapes, &self.values)
    }

    /// How many programs it has, with those of its bodies and of what follows.
    pub fn programs(&self) -> usize {
        let bodies: usize = self.plans.iter().flatten().map(BodyPlan::programs).sum();
        usize::from(self.code.is_some()) + bodies + self.next.programs()
    }

    /// The memory that they take, in bytes.
    pub fn bytes(&self) -> usize {
        let own = match &self.code {
            Some(StageCode::Compiled(executable)) => executable.memory_bytes(),
            Some(StageCode::Evaluated(_)) | None => 0,
        };
        own + self.plans.iter().flatten().map(BodyPlan::bytes).sum::<usize>() + self.next.bytes()
    }

    /// Gives back the memory that they keep for later runs.
    pub fn trim(&self) {
        if let Some(StageCode::Compiled(executable)) = &self.code {
            executable.trim();
        }
        self.plans.iter().flatten().for_each(|plan| plan.first.trim());
        self.next.trim();
    }

    /// What the next stage is compiled for besides shapes.
    pub fn next_values(&self, slots: &Slots<'_>) -> Result<Values> {
        let mut values = Vec::with_capacity(self.stage.values.len());
        for slot in &self.stage.values {
            let tensor = tensor(slots, *slot)?;
            let bytes = tensor.len() * tensor.dtype().size();
            if bytes > MAX_VALUE_BYTES {
                let reason = self.stage.waits.first();
                let error = Error::unsupported(format!(
                    "{}, and they are too large ({bytes} bytes) to compile for",
                    reason.map_or("it needs values", |reason| reason.why.as_str()),
                ));
                return Err(match reason {
                    Some(reason) => error.at(&reason.node, &reason.op),
                    None => error,
                });
            }
            values.push((*slot, tensor));
        }
        Ok(values)
    }

    /// The values of which the following stages know more than the shape.
    pub fn known(&self) -> &BTreeSet<Slot> {
        &self.known
    }
}

/// The plans of the bodies of a step.
fn plans(step: &Step) -> Vec<BodyPlan> {
    let branches = match &step.kind {
        StepKind::Host(_) => Vec::new(),
        StepKind::If { then, other } => vec![then, other],
        StepKind::Call(body) | StepKind::Loop(body) | StepKind::Scan(body, _) | StepKind::Map(body) => {
            vec![body]
        }
    };
    branches.into_iter().map(|branch| BodyPlan::new(Body::Onnx(Arc::clone(&branch.body)))).collect()
}

impl Signature {
    pub fn of(value: Option<&Value<'_>>) -> Signature {
        match value.and_then(Value::port) {
            Some((dtype, shape)) => Signature::Tensor(dtype, shape.to_vec()),
            None => match value {
                Some(Value::Item(Item::Sequence(_))) => Signature::Sequence,
                _ => Signature::Absent,
            },
        }
    }

    pub fn is_of(&self, value: Option<&Value<'_>>) -> bool {
        match (self, value) {
            (Signature::Tensor(dtype, shape), Some(value)) => value.port() == Some((*dtype, shape)),
            (Signature::Sequence, Some(Value::Item(Item::Sequence(_)))) => true,
            (Signature::Absent, Some(Value::Item(Item::Absent)) | None) => true,
            _ => false,
        }
    }
}

/// What is known of the values that exist.
///
/// # Errors
/// As [`Value::to_item`].
pub(super) fn facts(slots: &Slots<'_>, known: &BTreeSet<Slot>) -> Result<BTreeMap<Slot, Fact>> {
    let mut facts = BTreeMap::new();
    for (slot, value) in slots.iter().enumerate() {
        let Some(value) = value else { continue };
        facts.insert(
            slot,
            match value.port() {
                Some(_) if known.contains(&slot) => Fact::Value(tensor(slots, slot)?),
                Some((dtype, shape)) => Fact::Tensor(dtype, shape.to_vec()),
                None => Fact::Item,
            },
        );
    }
    Ok(facts)
}

/// The tensor that is there.
pub(super) fn tensor(slots: &Slots<'_>, slot: Slot) -> Result<Tensor> {
    value(slots, slot)?.view()?.to_tensor()
}

/// What is there.
pub(super) fn value<'s, 'v>(slots: &'s Slots<'v>, slot: Slot) -> Result<&'s Value<'v>> {
    let value = slots.get(slot).and_then(Option::as_ref);
    value.ok_or_else(|| Error::internal("a value is read before it is made"))
}

/// What is there, to be kept.
pub(super) fn item(slots: &Slots<'_>, slot: Slot) -> Result<Item> {
    value(slots, slot)?.to_item()
}

/// Makes a caller's tensors that a step reads the call's own, so that they are copied once at most.
pub(super) fn own(slots: &mut Slots<'_>, wanted: impl Iterator<Item = Slot>) -> Result<()> {
    for slot in wanted {
        if let Some(Some(value @ Value::View(_))) = slots.get_mut(slot) {
            *value = Value::Item(value.to_item()?);
        }
    }
    Ok(())
}
