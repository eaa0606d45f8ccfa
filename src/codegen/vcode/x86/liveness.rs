//! When registers hold values that are still needed, and which machine registers they get.
//!
//! A register has one interval, from its first to its last occurrence, extended over loops that it carries a
//! value through. A register that gets no machine register lives on the stack (a constant: behind the code)
//! and has a short interval of its own at each place that uses it.

use super::Tier;
use super::flatten::{Flat, Node};
use super::needs::{is_whole, needs};
use super::regalloc::{Interval, scan};
use crate::codegen::hash::FastMap;
use crate::codegen::vcode::{Inst, Reg};

/// From when to when a register is needed, inclusive, as [`Interval`] counts.
type Lifetime = (u32, u32);

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
    intervals: Vec<Option<Lifetime>>,
}

impl Allocation {
    /// Whether a register is on the stack and has a machine register while a node uses it.
    pub fn is_brief(&self, reg: Reg, at: usize) -> bool {
        self.whole[reg.0 as usize].is_none() && self.brief.contains_key(&(reg, at))
    }

    /// The registers with a machine register that are needed after a node and were written before it.
    pub fn live_across(&self, at: usize) -> impl Iterator<Item = (Reg, u8)> + '_ {
        self.whole.iter().enumerate().filter_map(move |(reg, register)| {
            let (start, end) = self.intervals[reg]?;
            let at = at as u32;
            (start < 2 * at && end > 2 * at + 1).then_some((Reg(reg as u32), (*register)?))
        })
    }
}

/// What it costs to do without a register for a value that can be made again, compared with others.
const REMADE: f32 = 0.05;

/// An occurrence of a register.
#[derive(Clone, Copy)]
struct Occurrence {
    /// The position.
    node: u32,
    /// Written, and not read.
    def: bool,
    /// Written before the node's operands are read.
    early: bool,
}

impl Occurrence {
    fn use_at(at: usize) -> Occurrence {
        Occurrence { node: at as u32, def: false, early: false }
    }

    fn at(self) -> usize {
        self.node as usize
    }

    /// When the register is needed or written.
    fn start(self) -> u32 {
        2 * self.node + u32::from(self.def && !self.early)
    }

    /// When it has been read or written.
    fn end(self) -> u32 {
        2 * self.node + u32::from(self.def)
    }
}

/// The occurrences of all registers.
struct Occurrences {
    /// Those of one register after those of another.
    all: Vec<Occurrence>,
    /// Where those of each register begin, and the end of the last ones.
    starts: Vec<u32>,
}

impl Occurrences {
    /// Those of a register, in order.
    fn of(&self, reg: usize) -> &[Occurrence] {
        &self.all[self.starts[reg] as usize..self.starts[reg + 1] as usize]
    }

    /// The same occurrences, register by register.
    fn by_register(list: &[(Reg, Occurrence)], registers: usize) -> Occurrences {
        let mut starts = vec![0; registers + 1];
        list.iter().for_each(|(reg, _)| starts[reg.0 as usize + 1] += 1);
        (0..registers).for_each(|reg| starts[reg + 1] += starts[reg]);
        let mut next = starts.clone();
        let mut all = vec![Occurrence::use_at(0); list.len()];
        for (reg, occurrence) in list {
            let next = &mut next[reg.0 as usize];
            all[*next as usize] = *occurrence;
            *next += 1;
        }
        Occurrences { all, starts }
    }
}

/// Assigns machine registers: `vectors` vector registers and `masks` mask registers, which the 256-bit tier
/// does not have.
pub(super) fn allocate(flat: &Flat<'_>, tier: Tier, vectors: usize, masks: usize) -> Allocation {
    let occurrences = occurrences(flat, tier);
    let registers = flat.kernel.regs.len();
    let intervals: Vec<Option<Lifetime>> =
        (0..registers).map(|reg| whole_interval(flat, occurrences.of(reg))).collect();
    let mut allocation = Allocation { whole: vec![None; registers], intervals, ..Allocation::default() };
    let mut spilled = vec![false; registers];
    let pools = Pool::both(flat, tier, &occurrences, &allocation.intervals);
    for (pool, registers) in pools.into_iter().zip([vectors, masks]) {
        if registers > 0 && !(pool.candidates.is_empty() && pool.temporaries.is_empty()) {
            pool.allocate(registers, &mut spilled, &mut allocation);
        }
    }
    assign_slots(flat, &spilled, &mut allocation);
    allocation
}

fn occurrences(flat: &Flat<'_>, tier: Tier) -> Occurrences {
    let registers = flat.kernel.regs.len();
    let mut list: Vec<(Reg, Occurrence)> = Vec::with_capacity(3 * flat.nodes.len());
    // The last node at which each register occurs; at node 0 there is none.
    let mut last = vec![0; registers];
    for (at, node) in flat.nodes.iter().enumerate() {
        match node {
            Node::IfBegin(mask) => {
                list.push((*mask, Occurrence::use_at(at)));
                last[mask.0 as usize] = at;
            }
            Node::Inst(inst, dst) => {
                inst.each_operand(|operand| {
                    let last = &mut last[operand.0 as usize];
                    if *last != at && flat.folded(operand).is_none() {
                        list.push((operand, Occurrence::use_at(at)));
                        *last = at;
                    }
                });
                if let Some(dst) = dst {
                    // Read and written: the reading came first.
                    let early =
                        last[dst.0 as usize] != at && needs(flat.kernel, inst, Some(*dst), tier).early;
                    list.push((*dst, Occurrence { node: at as u32, def: true, early }));
                    last[dst.0 as usize] = at;
                }
            }
            _ => {}
        }
    }
    Occurrences::by_register(&list, registers)
}

fn whole_interval(flat: &Flat<'_>, occurrences: &[Occurrence]) -> Option<Lifetime> {
    let (first, last) = (occurrences.first()?, occurrences.last()?);
    let mut start = first.start();
    let mut end = last.end();
    // The innermost loop that contains all occurrences.
    let contains = |l: usize, at: usize| flat.loops[l].first <= at && at <= flat.loops[l].last;
    let home = flat.loops_around(first.at()).find(|&l| contains(l, last.at()));
    let of_loop = |l: usize| (2 * flat.loops[l].first as u32, 2 * flat.loops[l].last as u32 + 1);
    // Whether an occurrence certainly gives the register a new value whenever its surroundings, which start
    // at `from`, are executed.
    let defines = |o: &Occurrence, from: usize| o.def && flat.around[o.at()].conditional <= from;
    if let Some(home) = home
        && !defines(first, flat.loops[home].first)
    {
        (start, end) = of_loop(home);
    }
    let depth = home.map_or(0, |h| flat.loops[h].depth + 1);
    for o in occurrences {
        for l in flat.loops_around(o.at()).filter(|&l| flat.loops[l].depth >= depth) {
            let info = &flat.loops[l];
            if first.at() < info.first {
                // Comes from before the loop.
                end = end.max(of_loop(l).1);
            } else if !defines(first, info.first) {
                start = start.min(of_loop(l).0);
                end = end.max(of_loop(l).1);
            }
        }
    }
    Some((start, end))
}

/// One kind of machine registers.
struct Pool<'a, 'k> {
    flat: &'a Flat<'k>,
    in_masks: bool,
    occurrences: &'a Occurrences,
    /// The registers that may be in it, what it costs to do without each, and their intervals.
    candidates: Vec<(Reg, f32, Lifetime)>,
    /// The positions of nodes that need temporaries of it, once for each.
    temporaries: Vec<u32>,
    /// Registers, and those whose places they should take.
    hints: Vec<(Reg, [Option<Reg>; 2])>,
}

/// Whose interval it is.
enum Owner {
    Whole(Reg),
    /// While a node, at this position, uses it.
    Brief(Reg, u32),
    Temporary(u32),
}

impl<'a, 'k> Pool<'a, 'k> {
    /// That of vector registers, and that of mask registers, in which there is nothing if the tier has none.
    fn both(
        flat: &'a Flat<'k>,
        tier: Tier,
        occurrences: &'a Occurrences,
        whole: &[Option<Lifetime>],
    ) -> [Pool<'a, 'k>; 2] {
        let pool = |in_masks| Pool {
            flat,
            in_masks,
            occurrences,
            candidates: Vec::new(),
            temporaries: Vec::new(),
            hints: Vec::new(),
        };
        let mut pools = [false, true].map(pool);
        pools[0].candidates.reserve(whole.len());
        // The position of the pool of a register.
        let of = |reg: Reg| usize::from(flat.kernel.class(reg).is_mask() && tier.is_512());
        for (i, interval) in whole.iter().enumerate() {
            let (reg, Some((start, end))) = (Reg(i as u32), *interval) else { continue };
            let weight: f32 = occurrences.of(i).iter().map(|o| flat.weight(o.at())).sum();
            // What can be made again need not be stored, and is mostly a memory operand.
            let weight = if flat.can_be_remade(reg) { weight * REMADE } else { weight };
            // To do without a register pays the longer it would be occupied.
            pools[of(reg)].candidates.push((reg, weight / (end - start + 1) as f32, (start, end)));
        }
        for (at, node) in flat.nodes.iter().enumerate() {
            let Node::Inst(inst, dst) = node else { continue };
            let needs = needs(flat.kernel, inst, *dst, tier);
            for (pool, count) in pools.iter_mut().zip([needs.vectors, needs.masks]) {
                pool.temporaries.extend(std::iter::repeat_n(at as u32, count));
            }
            let hint = match inst {
                Inst::Fma { a, c, .. } => [Some(*c), Some(*a)],
                Inst::AndOr { a, .. } => [Some(*a), None],
                Inst::Dot { c, .. } => [Some(*c), None],
                Inst::Copy { a, .. } | Inst::LoadGuarded { otherwise: a, .. } => [Some(*a), None],
                _ => continue,
            };
            if let Some(dst) = *dst {
                pools[of(dst)].hints.push((dst, hint));
            }
        }
        pools
    }

    fn allocate(&self, registers: usize, spilled: &mut [bool], allocation: &mut Allocation) {
        loop {
            let (owners, intervals) = self.intervals(spilled);
            let assigned = scan(&intervals, registers);
            let mut more = false;
            for (owner, register) in owners.iter().zip(&assigned) {
                if let (Owner::Whole(reg), None) = (owner, register) {
                    spilled[reg.0 as usize] = true;
                    more = true;
                }
            }
            if more {
                continue;
            }
            for (owner, register) in owners.into_iter().zip(assigned) {
                let Some(register) = register else { continue };
                match owner {
                    Owner::Whole(reg) => allocation.whole[reg.0 as usize] = Some(register),
                    Owner::Brief(reg, at) => {
                        allocation.brief.insert((reg, at as usize), register);
                    }
                    Owner::Temporary(at) => {
                        let map = if self.in_masks {
                            &mut allocation.mask_temporaries
                        } else {
                            &mut allocation.temporaries
                        };
                        map.entry(at as usize).or_default().push(register);
                    }
                }
            }
            return;
        }
    }

    fn intervals(&self, spilled: &[bool]) -> (Vec<Owner>, Vec<Interval>) {
        let most = self.candidates.len() + self.temporaries.len();
        let (mut owners, mut intervals) = (Vec::with_capacity(most), Vec::with_capacity(most));
        let mut position: Vec<Option<u32>> = vec![None; spilled.len()];
        for &(reg, weight, (start, end)) in &self.candidates {
            if !spilled[reg.0 as usize] {
                position[reg.0 as usize] = Some(intervals.len() as u32);
                owners.push(Owner::Whole(reg));
                intervals.push(Interval { start, end, weight, hints: [None; 2] });
                continue;
            }
            let mut rest = self.occurrences.of(reg.0 as usize);
            while let [o, others @ ..] = rest {
                rest = others;
                let constant = self.flat.constant(reg).is_some();
                if constant && (o.def || self.reads_memory(spilled, reg, o.at())) {
                    continue;
                }
                if !o.def
                    && self.reads_memory(spilled, reg, o.at())
                    && others.first().is_none_or(|n| n.at() != o.at())
                {
                    continue;
                }
                let start = o.start();
                let mut end = o.end();
                if let [next, others @ ..] = rest
                    && next.at() == o.at()
                {
                    rest = others;
                    end = 2 * o.node + 1;
                }
                owners.push(Owner::Brief(reg, o.node));
                intervals.push(Interval { start, end, weight: f32::INFINITY, hints: [None; 2] });
            }
        }
        for &at in &self.temporaries {
            owners.push(Owner::Temporary(at));
            let (start, end) = (2 * at, 2 * at + 1);
            intervals.push(Interval { start, end, weight: f32::INFINITY, hints: [None; 2] });
        }
        for (reg, hints) in &self.hints {
            if let Some(to) = position[reg.0 as usize]
                && let interval = &mut intervals[to as usize]
                && interval.hints == [None; 2]
            {
                interval.hints = hints.map(|h| h.and_then(|r| position[r.0 as usize]));
            }
        }
        (owners, intervals)
    }

    /// Whether a node reads this register, which has no machine register, from memory.
    fn reads_memory(&self, spilled: &[bool], reg: Reg, at: usize) -> bool {
        self.flat.memory_operand(at, |r| spilled[r.0 as usize]) == Some(reg)
    }
}

impl Flat<'_> {
    /// The operand that a node reads from memory: a folded load, else the first that is not in a register.
    pub fn memory_operand(&self, at: usize, spilled: impl Fn(Reg) -> bool) -> Option<Reg> {
        let Node::Inst(inst, dst) = self.nodes[at] else { return None };
        let candidates = self.memory_operands(inst);
        let folded = candidates.iter().find(|r| self.folded(**r).is_some());
        // A load again only of a whole register.
        let whole = |r: &Reg| self.reloadable(*r).is_none_or(|a| is_whole(a, self.kernel.lanes));
        folded.or_else(|| candidates.iter().find(|r| Some(**r) != dst && spilled(**r) && whole(r))).copied()
    }
}

/// Gives registers that live on the stack a slot each; those that are not needed at once share.
fn assign_slots(flat: &Flat<'_>, spilled: &[bool], allocation: &mut Allocation) {
    let mut regs: Vec<(u32, u32, Reg)> = spilled
        .iter()
        .enumerate()
        .filter(|(i, spilled)| **spilled && !flat.can_be_remade(Reg(*i as u32)))
        .filter_map(|(i, _)| allocation.intervals[i].map(|(start, end)| (start, end, Reg(i as u32))))
        .collect();
    regs.sort_unstable();
    let mut ends: Vec<u32> = Vec::new();
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
