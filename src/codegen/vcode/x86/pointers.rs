//! Integer registers: one pointer per distinct address pattern and loop, moved by a constant per iteration,
//! and one counter per loop.

use super::flatten::{Flat, Node};
use super::liveness::Allocation;
use super::regalloc::{Interval, scan};
use crate::codegen::hash::FastMap;
use crate::codegen::vcode::tiles::TileInst;
use crate::codegen::vcode::{Access, ArgId, Counter, Inst, Int, Terms};

/// Position of an integer value in [`Integers::values`].
pub(super) type Value = usize;

/// Addresses that differ only by a constant have one pattern, and share a pointer.
type Pattern = (ArgId, Terms);

/// Where an integer value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Home {
    /// In the integer register with this number; see [`super::emit`].
    Register(u8),
    /// In this stack slot of 8 bytes.
    Slot(usize),
    /// In the table of arguments only.
    Table(ArgId),
}

/// A pointer that moves with a loop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub pointer: Value,
    /// Where it starts, apart from the loop's first iteration.
    pub from: Value,
    /// Bytes per iteration.
    pub bytes: i64,
}

/// The counter of a loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Count {
    /// The loop runs once and nothing asks for the counter.
    None,
    /// Counts the remaining iterations.
    Down(Value),
    /// Has the value that instructions ask for.
    Up(Value),
}

/// What a loop does with integers.
pub(super) struct LoopIntegers {
    pub steps: Vec<Step>,
    pub count: Count,
}

/// The integer values of a kernel.
pub(super) struct Integers {
    pub loops: Vec<LoopIntegers>,
    /// Where each value is.
    pub values: Vec<Home>,
    /// Argument pointers that are loaded at the start.
    pub roots: Vec<(ArgId, Value)>,
    pub slot_count: usize,
    patterns: FastMap<Pattern, Value>,
    counters: FastMap<Counter, Value>,
}

impl Integers {
    /// Plans for this many integer registers.
    pub fn new(flat: &Flat<'_>, allocation: &Allocation, registers: usize) -> Integers {
        let mut planner = Planner {
            flat,
            allocation,
            intervals: Vec::new(),
            patterns: FastMap::default(),
            steps: flat.loops.iter().map(|_| Vec::new()).collect(),
            roots: Vec::new(),
        };
        let asked = planner.accesses();
        let mut counters = FastMap::default();
        let mut loops = Vec::new();
        for (number, info) in flat.loops.iter().enumerate() {
            let mut value = || {
                let weight = 2.0 * flat.weight(info.first);
                planner.value(2 * info.first, 2 * info.last + 1, weight)
            };
            let count = if asked.contains(&info.counter) {
                let value = value();
                counters.insert(info.counter, value);
                Count::Up(value)
            } else if info.trips() == Some(1) {
                Count::None
            } else {
                Count::Down(value())
            };
            loops.push(LoopIntegers { steps: std::mem::take(&mut planner.steps[number]), count });
        }
        let assigned = scan(&planner.intervals, registers);
        let mut slot_count = 0;
        let mut values: Vec<Home> = assigned
            .iter()
            .map(|register| match register {
                Some(register) => Home::Register(*register),
                None => {
                    slot_count += 1;
                    Home::Slot(slot_count - 1)
                }
            })
            .collect();
        // An argument need not be stored again.
        for (arg, value) in &planner.roots {
            if matches!(values[*value], Home::Slot(_)) {
                values[*value] = Home::Table(*arg);
            }
        }
        Integers { loops, values, roots: planner.roots, slot_count, patterns: planner.patterns, counters }
    }

    /// The pointer of an access.
    pub fn pointer(&self, access: &Access) -> Option<Home> {
        let address = &access.address;
        self.patterns.get(&(address.base, address.terms.clone())).map(|v| self.values[*v])
    }

    /// The counter of a loop, if instructions ask for it.
    pub fn counter(&self, counter: Counter) -> Option<Home> {
        self.counters.get(&counter).map(|v| self.values[*v])
    }
}

struct Planner<'a, 'k> {
    flat: &'a Flat<'k>,
    allocation: &'a Allocation,
    intervals: Vec<Interval>,
    patterns: FastMap<Pattern, Value>,
    steps: Vec<Vec<Step>>,
    roots: Vec<(ArgId, Value)>,
}

impl Planner<'_, '_> {
    fn value(&mut self, start: usize, end: usize, weight: f32) -> Value {
        let (start, end) = (start as u32, end as u32);
        self.intervals.push(Interval { start, end, weight, hints: [None; 2] });
        self.intervals.len() - 1
    }

    /// Makes the pointers of all accesses; returns the counters that instructions ask for.
    fn accesses(&mut self) -> Vec<Counter> {
        let mut asked: Vec<Counter> = Vec::new();
        let mut ask = |int: &Int| asked.extend(int.terms.iter().map(|t| t.0));
        for (at, node) in self.flat.nodes.iter().enumerate() {
            let Node::Inst(inst, _) = node else { continue };
            match inst {
                Inst::Load { from: a, .. } | Inst::Prefetch { at: a, .. } => self.access(a, at),
                Inst::Lookup { table: a, .. } | Inst::Gather { from: a, .. } => self.access(a, at),
                Inst::LoadGuarded { from, guards, .. } => {
                    self.access(from, at);
                    guards.iter().for_each(|g| ask(&g.value));
                }
                Inst::Store { to, .. } => self.access(to, at),
                Inst::Tile(TileInst::Load { from: a, .. } | TileInst::Store { to: a, .. }) => {
                    self.access(a, at)
                }
                Inst::Tile(TileInst::Configure(_) | TileInst::Release | TileInst::Dot { .. }) => {}
                Inst::Iota { value, .. } => ask(value),
                _ => {}
            }
            inst.each_operand(|operand| {
                let nowhere = self.allocation.whole[operand.0 as usize].is_none();
                let again = self.flat.reloadable(operand).filter(|_| nowhere);
                if let Some(access) = self.flat.folded(operand).or(again) {
                    self.access(access, at);
                }
            });
        }
        asked
    }

    fn access(&mut self, access: &Access, at: usize) {
        let pattern = (access.address.base, access.address.terms.clone());
        let pointer = self.pointer(pattern, self.flat.around[at].in_loop, at);
        self.intervals[pointer].weight += self.flat.weight(at);
    }

    /// The pointer of a pattern that is needed at this position, in this loop.
    fn pointer(&mut self, pattern: Pattern, in_loop: Option<usize>, at: usize) -> Value {
        let moves = |l: &usize| pattern.1.iter().any(|t| t.0 == self.flat.loops[*l].counter);
        let Some(l) = self.flat.loops_from(in_loop).find(moves) else {
            return self.root(pattern, in_loop, at);
        };
        if let Some(known) = self.patterns.get(&pattern) {
            return *known;
        }
        let info = &self.flat.loops[l];
        let (inner, outer): (Vec<_>, Vec<_>) = pattern.1.iter().copied().partition(|t| t.0 == info.counter);
        let bytes = inner.iter().map(|t| t.1).sum();
        let from = self.pointer((pattern.0, outer.into()), info.parent, info.first);
        let before = info.parent.map_or(1.0, |p| self.flat.weight(self.flat.loops[p].first));
        self.intervals[from].weight += before;
        let pointer = self.value(2 * info.first, 2 * info.last + 1, self.flat.weight(info.first));
        self.steps[l].push(Step { pointer, from, bytes });
        self.patterns.insert(pattern, pointer);
        pointer
    }

    /// An argument itself: loaded at the start, kept to the end of the loops that use it.
    fn root(&mut self, pattern: Pattern, in_loop: Option<usize>, at: usize) -> Value {
        let until = self.flat.loops_from(in_loop).last().map_or(at, |l| self.flat.loops[l].last);
        if let Some(&known) = self.patterns.get(&pattern) {
            let end = &mut self.intervals[known].end;
            *end = (*end).max(2 * until as u32 + 1);
            return known;
        }
        let value = self.value(0, 2 * until + 1, 0.0);
        self.roots.push((pattern.0, value));
        self.patterns.insert(pattern, value);
        value
    }
}
