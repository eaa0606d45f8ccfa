//! When registers hold values that are still needed, and which machine registers they get.
//!
//! A register has one interval, from its first to its last occurrence, extended over loops that it carries a
//! value through. A register that gets no machine register lives on the stack (a constant: behind the code)
//! and has a short interval of its own at each place that uses it.

use super::Tier;
use super::flatten::{Flat, Node, memory_operands};
use super::needs::{ELEMENT, needs};
use super::regalloc::{Interval, scan};
use crate::codegen::hash::{FastMap, FastSet};
use crate::codegen::vcode::{Class, Inst, Reg};

/// Where registers are.
#[derive(Default)]
pub(super) struct Allocation {
    /// The machine register of each register, throughout.
    pub whole: Vec<Option<u8>>,
    /// Of registers on the stack, while a node uses them.
    pub brief: FastMap<(Reg, usize), u8>,
    /// Of a node.
    pub temporaries: FastMap<usize, Vec<u8>>,
    pub mask_temporaries: FastMap<usize, Vec<u8>>,
    /// The stack slot of each register that has one.
    pub slots: FastMap<Reg, usize>,
    /// The number of stack slots.
    pub slot_count: usize,
    /// The whole interval of each register that occurs.
    intervals: Vec<Option<(usize, usize)>>,
}

impl Allocation {
    /// The registers with a machine register that are needed after a node and were written before it.
    pub fn live_across(&self, at: usize) -> impl Iterator<Item = (Reg, u8)> + '_ {
        self.whole.iter().enumerate().filter_map(move |(reg, register)| {
            let (start, end) = self.intervals[reg]?;
            (start < 2 * at && end > 2 * at + 1).then_some((Reg(reg as u32), (*register)?))
        })
    }
}

/// What it costs to do without a register for a value that can be made again, compared with others.
const REMADE: f32 = 0.05;

/// An occurrence of a register.
#[derive(Clone, Copy)]
struct Occurrence {
    at: usize,
    /// Written, and not read.
    def: bool,
    /// Written before the node's operands are read.
    early: bool,
}

/// Assigns machine registers: `vectors` vector registers and `masks` mask registers, which the 256-bit tier
/// does not have.
pub(super) fn allocate(flat: &Flat<'_>, tier: Tier, vectors: usize, masks: usize) -> Allocation {
    let occurrences = occurrences(flat, tier);
    let intervals: Vec<Option<(usize, usize)>> =
        occurrences.iter().map(|list| whole_interval(flat, list)).collect();
    let mut allocation =
        Allocation { whole: vec![None; flat.kernel.regs.len()], intervals, ..Allocation::default() };
    let mut spilled: FastSet<Reg> = FastSet::default();
    for in_masks in [false, true] {
        let registers = if in_masks { masks } else { vectors };
        if registers == 0 {
            continue;
        }
        let mut pool = Pool { flat, tier, in_masks, occurrences: &occurrences };
        pool.allocate(registers, &mut spilled, &mut allocation);
    }
    assign_slots(flat, &spilled, &mut allocation);
    allocation
}

fn occurrences(flat: &Flat<'_>, tier: Tier) -> Vec<Vec<Occurrence>> {
    let mut occurrences: Vec<Vec<Occurrence>> = vec![Vec::new(); flat.kernel.regs.len()];
    for (at, node) in flat.nodes.iter().enumerate() {
        match node {
            Node::IfBegin(mask) => {
                occurrences[mask.0 as usize].push(Occurrence { at, def: false, early: false });
            }
            Node::Inst(inst, dst) => {
                for operand in inst.operands() {
                    let list = &mut occurrences[operand.0 as usize];
                    if !flat.folded.contains_key(&operand) && list.last().is_none_or(|o| o.at != at) {
                        list.push(Occurrence { at, def: false, early: false });
                    }
                }
                if let Some(dst) = dst {
                    let early = needs(inst, class_of_first(flat, inst), tier).early;
                    let list = &mut occurrences[dst.0 as usize];
                    match list.last() {
                        // Read and written: the reading came first.
                        Some(last) if last.at == at => list.push(Occurrence { at, def: true, early: false }),
                        _ => list.push(Occurrence { at, def: true, early }),
                    }
                }
            }
            _ => {}
        }
    }
    occurrences
}

/// The class of the first operand that is not a selecting mask.
pub(super) fn class_of_first(flat: &Flat<'_>, inst: &Inst) -> Option<Class> {
    match inst {
        Inst::Select { a, .. } | Inst::Binary { a, .. } | Inst::Compare { a, .. } => {
            Some(flat.kernel.class(*a))
        }
        _ => None,
    }
}

fn whole_interval(flat: &Flat<'_>, occurrences: &[Occurrence]) -> Option<(usize, usize)> {
    let (first, last) = (occurrences.first()?, occurrences.last()?);
    let mut start = 2 * first.at + usize::from(first.def && !first.early);
    let mut end = 2 * last.at + usize::from(last.def);
    // The innermost loop that contains all occurrences.
    let contains = |l: usize, at: usize| flat.loops[l].first <= at && at <= flat.loops[l].last;
    let home = flat.loops_around(first.at).find(|&l| contains(l, last.at));
    // Whether an occurrence certainly gives the register a new value whenever its surroundings, which start
    // at `from`, are executed.
    let defines = |o: &Occurrence, from: usize| o.def && flat.around[o.at].conditional <= from;
    if let Some(home) = home {
        let info = &flat.loops[home];
        if !defines(first, info.first) {
            (start, end) = (2 * info.first, 2 * info.last + 1);
        }
    }
    let depth = home.map_or(0, |h| flat.loops[h].depth + 1);
    for o in occurrences {
        for l in flat.loops_around(o.at).filter(|&l| flat.loops[l].depth >= depth) {
            let info = &flat.loops[l];
            if first.at < info.first {
                // Comes from before the loop.
                end = end.max(2 * info.last + 1);
            } else if !defines(first, info.first) {
                start = start.min(2 * info.first);
                end = end.max(2 * info.last + 1);
            }
        }
    }
    Some((start, end))
}

/// One kind of machine registers.
struct Pool<'a, 'k> {
    flat: &'a Flat<'k>,
    tier: Tier,
    in_masks: bool,
    occurrences: &'a [Vec<Occurrence>],
}

/// Whose interval it is.
enum Owner {
    Whole(Reg),
    Brief(Reg, usize),
    Temporary(usize),
}

impl Pool<'_, '_> {
    fn contains(&self, reg: Reg) -> bool {
        let mask = self.flat.kernel.class(reg) == Class::Mask && self.tier.is_512();
        mask == self.in_masks
    }

    fn allocate(&mut self, registers: usize, spilled: &mut FastSet<Reg>, allocation: &mut Allocation) {
        loop {
            let (owners, intervals) = self.intervals(spilled, &allocation.intervals);
            let assigned = scan(&intervals, registers);
            let before = spilled.len();
            for (owner, register) in owners.iter().zip(&assigned) {
                if let (Owner::Whole(reg), None) = (owner, register) {
                    spilled.insert(*reg);
                }
            }
            if spilled.len() > before {
                continue;
            }
            for (owner, register) in owners.into_iter().zip(assigned) {
                let Some(register) = register else { continue };
                match owner {
                    Owner::Whole(reg) => allocation.whole[reg.0 as usize] = Some(register),
                    Owner::Brief(reg, at) => {
                        allocation.brief.insert((reg, at), register);
                    }
                    Owner::Temporary(at) => {
                        let map = if self.in_masks {
                            &mut allocation.mask_temporaries
                        } else {
                            &mut allocation.temporaries
                        };
                        map.entry(at).or_default().push(register);
                    }
                }
            }
            return;
        }
    }

    fn intervals(
        &self,
        spilled: &FastSet<Reg>,
        whole: &[Option<(usize, usize)>],
    ) -> (Vec<Owner>, Vec<Interval>) {
        let (mut owners, mut intervals) = (Vec::new(), Vec::new());
        let mut position: Vec<Option<usize>> = vec![None; whole.len()];
        for (i, list) in self.occurrences.iter().enumerate() {
            let reg = Reg(i as u32);
            let Some((start, end)) = whole[i].filter(|_| self.contains(reg)) else { continue };
            if !spilled.contains(&reg) {
                let weight: f32 = list.iter().map(|o| self.flat.weight(o.at)).sum();
                // What can be made again need not be stored, and is mostly a memory operand.
                let weight = if self.flat.can_be_remade(reg) { weight * REMADE } else { weight };
                // To do without a register pays the longer it would be occupied.
                let weight = weight / (end - start + 1) as f32;
                position[i] = Some(intervals.len());
                owners.push(Owner::Whole(reg));
                intervals.push(Interval { start, end, weight, hints: [None; 2] });
                continue;
            }
            let mut rest = list.as_slice();
            while let [o, others @ ..] = rest {
                rest = others;
                if self.flat.constants.contains_key(&reg) && (o.def || self.reads_memory(spilled, reg, o.at))
                {
                    continue;
                }
                if !o.def
                    && self.reads_memory(spilled, reg, o.at)
                    && others.first().is_none_or(|n| n.at != o.at)
                {
                    continue;
                }
                let start = 2 * o.at + usize::from(o.def && !o.early);
                let mut end = 2 * o.at + usize::from(o.def);
                if let [next, others @ ..] = rest
                    && next.at == o.at
                {
                    rest = others;
                    end = 2 * o.at + 1;
                }
                owners.push(Owner::Brief(reg, o.at));
                intervals.push(Interval { start, end, weight: f32::INFINITY, hints: [None; 2] });
            }
        }
        for (at, node) in self.flat.nodes.iter().enumerate() {
            let Node::Inst(inst, dst) = node else { continue };
            let needs = needs(inst, class_of_first(self.flat, inst), self.tier);
            for _ in 0..if self.in_masks { needs.masks } else { needs.vectors } {
                owners.push(Owner::Temporary(at));
                intervals.push(Interval {
                    start: 2 * at,
                    end: 2 * at + 1,
                    weight: f32::INFINITY,
                    hints: [None; 2],
                });
            }
            if let Some(to) = dst.and_then(|d| position[d.0 as usize]) {
                let hints = match inst {
                    Inst::Fma { a, c, .. } => [Some(*c), Some(*a)],
                    Inst::Copy { a, .. } | Inst::LoadGuarded { otherwise: a, .. } => [Some(*a), None],
                    _ => [None; 2],
                };
                if intervals[to].hints == [None; 2] {
                    intervals[to].hints = hints.map(|h| h.and_then(|r| position[r.0 as usize]));
                }
            }
        }
        (owners, intervals)
    }

    /// Whether a node reads this register, which has no machine register, from memory.
    fn reads_memory(&self, spilled: &FastSet<Reg>, reg: Reg, at: usize) -> bool {
        self.flat.memory_operand(at, |r| spilled.contains(&r)) == Some(reg)
    }
}

impl Flat<'_> {
    /// The operand that a node reads from memory: a folded load, else the first that is not in a register.
    pub fn memory_operand(&self, at: usize, spilled: impl Fn(Reg) -> bool) -> Option<Reg> {
        let Node::Inst(inst, dst) = self.nodes[at] else { return None };
        let candidates = memory_operands(self.kernel, inst);
        let folded = candidates.iter().find(|r| self.folded.contains_key(r));
        // A load again only of a whole register.
        let whole = |r: &Reg| {
            self.reloadable.get(r).is_none_or(|a| a.stride == ELEMENT && a.lanes == self.kernel.lanes)
        };
        folded.or_else(|| candidates.iter().find(|r| Some(**r) != dst && spilled(**r) && whole(r))).copied()
    }
}

/// Gives registers that live on the stack a slot each; those that are not needed at once share.
fn assign_slots(flat: &Flat<'_>, spilled: &FastSet<Reg>, allocation: &mut Allocation) {
    let mut regs: Vec<(usize, usize, Reg)> = spilled
        .iter()
        .filter(|r| !flat.can_be_remade(**r))
        .filter_map(|r| allocation.intervals[r.0 as usize].map(|(start, end)| (start, end, *r)))
        .collect();
    regs.sort_unstable();
    let mut ends: Vec<usize> = Vec::new();
    for (start, end, reg) in regs {
        let slot = ends.iter().position(|e| *e < start).unwrap_or_else(|| {
            ends.push(0);
            ends.len() - 1
        });
        ends[slot] = end;
        allocation.slots.insert(reg, slot);
    }
    allocation.slot_count = ends.len();
}
