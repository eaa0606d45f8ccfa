//! What was compiled of a [`Body`], found again by shapes and values: a chain of stages for each way that a call can
//! take.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nestjit_ir::DType;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::host::Item;
use crate::onnx::{Body, Fact, Slot, Stage, Step, StepKind};
use crate::runtime::Executable;
use crate::tensor::Tensor;

/// The largest value that a stage is compiled for. Shapes and axes are small; what is larger is data, and would be
/// compiled for anew with every call.
pub(super) const MAX_VALUE_BYTES: usize = 64 << 10;

/// A body, and what was compiled of it.
#[derive(Debug)]
pub(super) struct Plan {
    pub body: Arc<Body>,
    pub first: Cache,
}

/// Entries for different shapes and values, the most recently used last.
#[derive(Debug)]
pub(super) struct Cache {
    /// Values whose types and shapes tell entries apart.
    keys: Vec<Slot>,
    entries: Mutex<Vec<Arc<Entry>>>,
}

/// What computes a program.
#[derive(Debug)]
pub(super) enum Code {
    Compiled(Executable),
    Evaluated(Graph),
}

/// A stage, compiled.
#[derive(Debug)]
pub(super) struct Entry {
    shapes: Vec<Signature>,
    values: Vec<(Slot, Tensor)>,
    pub code: Option<Code>,
    /// Without its graph.
    pub stage: Stage,
    /// For each step, the plans of its bodies.
    pub plans: Vec<Vec<Plan>>,
    /// The values of which the following stages know more than the shape.
    known: BTreeSet<Slot>,
    pub next: Cache,
}

/// What a program depends on.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Signature {
    Tensor(DType, Vec<usize>),
    Sequence,
    Absent,
}

/// The values of a body while it is executed.
pub(super) type Slots = Vec<Option<Item>>;

impl Plan {
    pub fn new(body: Arc<Body>) -> Plan {
        let first = Cache { keys: body.arguments().to_vec(), entries: Mutex::default() };
        Plan { body, first }
    }

    /// How many programs are kept.
    pub fn programs(&self) -> usize {
        self.first.programs()
    }
}

impl Cache {
    /// The entry for these values, if it was made already.
    pub fn find(&self, slots: &Slots) -> Option<Arc<Entry>> {
        let mut entries = self.lock();
        let position = entries.iter().rposition(|entry| entry.serves(&self.keys, slots))?;
        let last = entries.len() - 1;
        if position < last {
            entries[position..].rotate_left(1);
        }
        entries.last().cloned()
    }

    /// Adds an entry and forgets the oldest if there are more than `limit`.
    pub fn add(&self, entry: Arc<Entry>, slots: &Slots, limit: usize) {
        let mut entries = self.lock();
        // Another thread may have been faster.
        entries.retain(|other| !(other.values == entry.values && other.serves(&self.keys, slots)));
        entries.push(entry);
        let excess = entries.len().saturating_sub(limit);
        entries.drain(..excess);
    }

    fn programs(&self) -> usize {
        let below = |entry: &Arc<Entry>| {
            let bodies: usize = entry.plans.iter().flatten().map(Plan::programs).sum();
            usize::from(entry.code.is_some()) + bodies + entry.next.programs()
        };
        self.lock().iter().map(below).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        // What a thread that panicked left behind is a list of whole entries all the same.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub fn new(
        cache: &Cache,
        slots: &Slots,
        values: Vec<(Slot, Tensor)>,
        mut known: BTreeSet<Slot>,
        stage: Stage,
        code: Option<Code>,
    ) -> Entry {
        let shapes = cache.keys.iter().map(|slot| Signature::of(slots[*slot].as_ref())).collect();
        known.extend(stage.constants.iter().map(|(slot, _)| *slot));
        known.extend(&stage.values);
        let keys = stage.shapes.iter().chain(&stage.values).copied().collect();
        let plans = stage.steps.iter().map(plans).collect();
        let next = Cache { keys, entries: Mutex::default() };
        Entry { shapes, values, code, stage, plans, known, next }
    }

    fn serves(&self, keys: &[Slot], slots: &Slots) -> bool {
        let same = |(slot, signature): (&Slot, &Signature)| signature.is_of(slots[*slot].as_ref());
        keys.iter().zip(&self.shapes).all(same)
            && self
                .values
                .iter()
                .all(|(slot, value)| matches!(&slots[*slot], Some(Item::Tensor(tensor)) if tensor == value))
    }

    /// What the next stage is compiled for besides shapes.
    pub fn next_values(&self, slots: &Slots) -> Result<Vec<(Slot, Tensor)>> {
        let mut values = Vec::with_capacity(self.stage.values.len());
        for slot in &self.stage.values {
            let tensor = tensor(slots, *slot)?;
            if tensor.bytes().len() > MAX_VALUE_BYTES {
                let reason = self.stage.waits.first();
                let error = Error::unsupported(format!(
                    "{}, and they are too large ({} bytes) to compile for",
                    reason.map_or("it needs values", |reason| reason.why.as_str()),
                    tensor.bytes().len()
                ));
                return Err(match reason {
                    Some(reason) => error.at(&reason.node, &reason.op),
                    None => error,
                });
            }
            values.push((*slot, tensor.clone()));
        }
        Ok(values)
    }

    /// The values of which the following stages know more than the shape.
    pub fn known(&self) -> &BTreeSet<Slot> {
        &self.known
    }
}

/// The plans of the bodies of a step.
fn plans(step: &Step) -> Vec<Plan> {
    let branches = match &step.kind {
        StepKind::Host(_) => Vec::new(),
        StepKind::If { then, other } => vec![then, other],
        StepKind::Call(body) | StepKind::Loop(body) | StepKind::Scan(body, _) | StepKind::Map(body) => {
            vec![body]
        }
    };
    branches.into_iter().map(|branch| Plan::new(Arc::clone(&branch.body))).collect()
}

impl Signature {
    fn of(item: Option<&Item>) -> Signature {
        match item {
            Some(Item::Tensor(t)) => Signature::Tensor(t.dtype(), t.shape().to_vec()),
            Some(Item::Sequence(_)) => Signature::Sequence,
            Some(Item::Absent) | None => Signature::Absent,
        }
    }

    fn is_of(&self, item: Option<&Item>) -> bool {
        match (self, item) {
            (Signature::Tensor(dtype, shape), Some(Item::Tensor(t))) => {
                *dtype == t.dtype() && shape == t.shape()
            }
            (Signature::Sequence, Some(Item::Sequence(_))) => true,
            (Signature::Absent, Some(Item::Absent) | None) => true,
            _ => false,
        }
    }
}

/// What is known of the values that exist.
pub(super) fn facts(slots: &Slots, known: &BTreeSet<Slot>) -> BTreeMap<Slot, Fact> {
    let fact = |(slot, item): (Slot, &Option<Item>)| {
        Some((
            slot,
            match item.as_ref()? {
                Item::Tensor(t) if known.contains(&slot) => Fact::Value(t.clone()),
                Item::Tensor(t) => Fact::Tensor(t.dtype(), t.shape().to_vec()),
                Item::Sequence(_) | Item::Absent => Fact::Item,
            },
        ))
    };
    slots.iter().enumerate().filter_map(fact).collect()
}

/// The tensor that is there.
pub(super) fn tensor(slots: &Slots, slot: Slot) -> Result<&Tensor> {
    item(slots, slot)?.tensor()
}

/// What is there.
pub(super) fn item(slots: &Slots, slot: Slot) -> Result<&Item> {
    let item = slots.get(slot).and_then(Option::as_ref);
    item.ok_or_else(|| Error::internal("a value is read before it is made"))
}
