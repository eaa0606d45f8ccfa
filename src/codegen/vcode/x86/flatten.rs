//! Kernels as a list of nodes, so that a place in the code is a number; and the two simplifications that
//! need no registers: loads that only one instruction uses become its memory operand, and a value that is
//! only copied to a variable is computed into the variable.

use nestjit_ir::BufId;

use super::Tier;
use super::needs::{commutes, is_strided, is_whole, needs};
use crate::codegen::vcode::tiles::TileInst;
use crate::codegen::vcode::{
    Access, Arg, BinaryOp, Bound, Class, Cmp, Counter, Inst, Kernel, Operands, Reg, UnaryOp,
};
use smallvec::smallvec;

/// An element of the list.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node<'k> {
    /// An instruction without inner ones, and the register that it writes.
    Inst(&'k Inst, Option<Reg>),
    /// Nothing: the instruction became part of another one.
    Gone,
    /// The start of a loop, by number.
    LoopBegin(usize),
    LoopEnd(usize),
    /// What follows is executed if the mask is true in any lane.
    IfBegin(Reg),
    IfEnd,
}

/// A loop.
#[derive(Debug)]
pub(super) struct LoopInfo {
    pub counter: Counter,
    pub begin: Bound,
    pub end: Bound,
    pub parent: Option<usize>,
    /// Loops around it.
    pub depth: usize,
    /// Whether there are no loops in it.
    pub innermost: bool,
    /// The positions of its first and last node.
    pub first: usize,
    pub last: usize,
    /// How much an execution of its body counts.
    pub weight: f32,
}

impl LoopInfo {
    /// How often it runs, if that is known.
    pub fn trips(&self) -> Option<i64> {
        match (self.begin, self.end) {
            (Bound::Const(begin), Bound::Const(end)) => Some(end - begin),
            _ => None,
        }
    }
}

/// What surrounds a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// The innermost loop.
    pub in_loop: Option<usize>,
    /// The position where the innermost thing starts that may not be executed; 0 if there is none.
    pub conditional: usize,
}

/// Where the value of a register comes from, if that is more than an instruction that computes it.
#[derive(Clone, Copy, Debug)]
enum Source<'k> {
    Computed,
    /// A load that is a memory operand.
    Folded(&'k Access),
    /// Always the same constant: 32 bits unless lanes are wide, all ones or none for masks.
    Constant(u64),
    /// Loaded once, from memory that is not written meanwhile, and only used where the address is known: it can be
    /// loaded again instead of being kept.
    Reloadable(&'k Access),
}

/// A kernel in this form.
pub(super) struct Flat<'k> {
    pub kernel: &'k Kernel,
    pub tier: Tier,
    pub nodes: Vec<Node<'k>>,
    pub around: Vec<Around>,
    pub loops: Vec<LoopInfo>,
    /// Of each register.
    sources: Vec<Source<'k>>,
}

impl<'k> Flat<'k> {
    pub fn new(kernel: &'k Kernel, tier: Tier) -> Flat<'k> {
        let mut flat = Flat {
            kernel,
            tier,
            nodes: Vec::new(),
            around: Vec::new(),
            loops: Vec::new(),
            sources: vec![Source::Computed; kernel.regs.len()],
        };
        let mut counts = vec![Count::default(); kernel.regs.len()];
        let nodes = count(&kernel.body, &mut counts);
        flat.nodes.reserve(nodes);
        flat.around.reserve(nodes);
        // Node 0 is nothing, so that position 0 means the start.
        let around = Around { in_loop: None, conditional: 0 };
        flat.push(Node::Gone, around);
        flat.block(&kernel.body, around, &counts);
        flat.fold_loads(&counts);
        flat.find_reloadable(&counts);
        flat
    }

    fn push(&mut self, node: Node<'k>, around: Around) {
        self.nodes.push(node);
        self.around.push(around);
    }

    fn block(&mut self, body: &'k [Inst], around: Around, counts: &[Count]) {
        for inst in body {
            match inst {
                Inst::Loop { counter, begin, end, body } => {
                    self.for_loop(*counter, (*begin, *end), body, around, counts);
                }
                Inst::IfAny { mask, body } => {
                    self.push(Node::IfBegin(*mask), around);
                    let inner = Around { conditional: self.nodes.len() - 1, ..around };
                    self.block(body, inner, counts);
                    self.push(Node::IfEnd, around);
                }
                Inst::Copy { dst, a } if self.computed_for(*dst, *a, counts) => {}
                inst => {
                    if let Inst::Const { dst, bits } = inst
                        && counts[dst.0 as usize].defs == 1
                    {
                        let bits = constant_bits(self.kernel.class(*dst), *bits);
                        self.sources[dst.0 as usize] = Source::Constant(bits);
                    }
                    self.push(Node::Inst(inst, inst.dst()), around);
                }
            }
        }
    }

    fn for_loop(
        &mut self,
        counter: Counter,
        (begin, end): (Bound, Bound),
        body: &'k [Inst],
        around: Around,
        counts: &[Count],
    ) {
        let number = self.loops.len();
        let depth = around.in_loop.map_or(0, |l| self.loops[l].depth + 1);
        let first = self.nodes.len();
        let info = LoopInfo {
            counter,
            begin,
            end,
            parent: around.in_loop,
            depth,
            innermost: true,
            first,
            last: first,
            weight: 8f32.powi((depth as i32 + 1).min(12)),
        };
        let trips = info.trips();
        if trips.is_some_and(|t| t <= 0) {
            return;
        }
        if let Some(parent) = around.in_loop {
            self.loops[parent].innermost = false;
        }
        self.loops.push(info);
        let conditional = if trips.is_some() { around.conditional } else { first };
        let inner = Around { in_loop: Some(number), conditional };
        self.push(Node::LoopBegin(number), inner);
        self.block(body, inner, counts);
        self.loops[number].last = self.nodes.len();
        self.push(Node::LoopEnd(number), inner);
    }

    /// Makes the instruction just before compute `variable` instead of `value`, if it does nothing else.
    fn computed_for(&mut self, variable: Reg, value: Reg, counts: &[Count]) -> bool {
        let Some(Node::Inst(inst, dst)) = self.nodes.last_mut() else { return false };
        let count = counts[value.0 as usize];
        let possible = *dst == Some(value)
            && (count.defs, count.uses) == (1, 1)
            && !matches!(inst, Inst::Const { .. })
            && (!inst.operands().contains(&variable)
                || matches!(
                    inst,
                    Inst::Binary { .. } | Inst::Fma { .. } | Inst::AndOr { .. } | Inst::Dot { .. }
                ));
        if possible {
            *dst = Some(variable);
        }
        possible
    }

    fn fold_loads(&mut self, counts: &[Count]) {
        let tier = self.tier;
        // The last load of each register, jump or label, and store to each buffer and to any local.
        let mut loads: Vec<usize> = vec![0; self.sources.len()];
        let mut stores: Vec<(BufId, usize)> = Vec::new();
        let (mut boundary, mut scratch_store) = (0, 0);
        for at in 0..self.nodes.len() {
            let Node::Inst(inst, dst) = self.nodes[at] else {
                if !matches!(self.nodes[at], Node::Gone) {
                    boundary = at;
                }
                continue;
            };
            match inst {
                Inst::Load { from, .. } => {
                    let broadcast = from.stride == 0 && from.ty.is_plain() && tier.is_512();
                    if let Some(dst) = dst
                        && (is_whole(from, self.kernel.lanes) || broadcast)
                        && (counts[dst.0 as usize].defs, counts[dst.0 as usize].uses) == (1, 1)
                    {
                        loads[dst.0 as usize] = at;
                    }
                }
                Inst::Store { to, .. } | Inst::Tile(TileInst::Store { to, .. }) => {
                    match stores.iter_mut().find(|s| s.0 == to.buf) {
                        Some(store) => store.1 = at,
                        None => stores.push((to.buf, at)),
                    }
                    if self.is_scratch(to) {
                        scratch_store = at;
                    }
                }
                inst => {
                    for operand in self.memory_operands(inst) {
                        let load = loads[operand.0 as usize];
                        if load <= boundary {
                            continue;
                        }
                        let Node::Inst(Inst::Load { from, .. }, _) = self.nodes[load] else { continue };
                        let stored = stores.iter().any(|s| s.0 == from.buf && s.1 > load)
                            || (self.is_scratch(from) && scratch_store > load);
                        let broadcast_product =
                            from.stride == 0 && matches!(inst, Inst::Fma { .. } | Inst::Dot { .. });
                        if !stored && !broadcast_product {
                            self.sources[operand.0 as usize] = Source::Folded(from);
                            self.nodes[load] = Node::Gone;
                            break;
                        }
                    }
                }
            }
        }
    }

    fn find_reloadable(&mut self, counts: &[Count]) {
        // Where there are stores, to each buffer and to any local, in ascending order.
        let (mut stores, mut local): (Vec<(BufId, Vec<usize>)>, Vec<usize>) = Default::default();
        for (at, node) in self.nodes.iter().enumerate() {
            if let Node::Inst(Inst::Store { to, .. } | Inst::Tile(TileInst::Store { to, .. }), _) = node {
                match stores.iter_mut().find(|s| s.0 == to.buf) {
                    Some((_, list)) => list.push(at),
                    None => stores.push((to.buf, vec![at])),
                }
                if self.is_scratch(to) {
                    local.push(at);
                }
            }
        }
        // What is loaded in a loop is used in it, so that what is stored outside does not matter.
        let stays = |load: usize, from: &Access| {
            let home = self.around[load].in_loop.map(|l| &self.loops[l]);
            let (first, last) = home.map_or((0, usize::MAX), |l| (l.first, l.last));
            let to_buffer = || stores.iter().find(|s| s.0 == from.buf).map(|s| &s.1);
            let list = if self.is_scratch(from) { Some(&local) } else { to_buffer() };
            list.is_none_or(|l| l.get(l.partition_point(|at| *at < first)).is_none_or(|at| *at > last))
        };
        let mut found: Vec<Option<(usize, &'k Access)>> = vec![None; self.sources.len()];
        for (at, node) in self.nodes.iter().enumerate() {
            let Node::Inst(inst, dst) = node else { continue };
            inst.each_operand(|operand| {
                // Outside the loop of the load, its pointer has moved on.
                let found = &mut found[operand.0 as usize];
                if let Some((load, _)) = *found
                    && let Some(home) = self.around[load].in_loop
                    && !(self.loops[home].first..=self.loops[home].last).contains(&at)
                {
                    *found = None;
                }
            });
            if let Inst::Load { dst: loaded, from } = inst
                && *dst == Some(*loaded)
                && counts[loaded.0 as usize].defs == 1
                && !is_strided(from)
                && needs(self.kernel, inst, *dst, self.tier).vectors == 0
                && stays(at, from)
            {
                found[loaded.0 as usize] = Some((at, from));
            }
        }
        for (source, found) in self.sources.iter_mut().zip(found) {
            if let Some((_, from)) = found {
                *source = Source::Reloadable(from);
            }
        }
    }

    /// The load that is a memory operand in place of a register.
    pub fn folded(&self, reg: Reg) -> Option<&'k Access> {
        if let Source::Folded(from) = self.sources[reg.0 as usize] { Some(from) } else { None }
    }

    /// The constant that a register always is.
    pub fn constant(&self, reg: Reg) -> Option<u64> {
        if let Source::Constant(bits) = self.sources[reg.0 as usize] { Some(bits) } else { None }
    }

    /// From where a register can be loaded again.
    pub fn reloadable(&self, reg: Reg) -> Option<&'k Access> {
        if let Source::Reloadable(from) = self.sources[reg.0 as usize] { Some(from) } else { None }
    }

    /// Whether a register that is nowhere can be made again: a constant, or a load.
    pub fn can_be_remade(&self, reg: Reg) -> bool {
        matches!(self.sources[reg.0 as usize], Source::Constant(_) | Source::Reloadable(_))
    }

    /// The operands that an instruction can read from memory, one at a time, the best first.
    pub fn memory_operands(&self, inst: &Inst) -> Operands {
        let (kernel, wide) = (self.kernel, self.tier.is_512());
        let is_wide = |r: &Reg| kernel.class(*r).is_wide();
        match inst {
            // Its operands are seldom loads, and cannot be one element for all lanes.
            Inst::Binary { op: BinaryOp::PairDot, .. } => Operands::new(),
            // Composed of others.
            Inst::Binary { op: BinaryOp::IntMul, a, .. } if !wide && is_wide(a) => Operands::new(),
            Inst::Unary { op: UnaryOp::ToFloat | UnaryOp::ToInt, a, .. } if !wide && is_wide(a) => {
                Operands::new()
            }
            Inst::Binary { op, a, b, .. } if !kernel.class(*a).is_mask() && a != b => {
                if commutes(*op) {
                    smallvec![*b, *a]
                } else {
                    smallvec![*b]
                }
            }
            Inst::Fma { a, b, c, .. } if a != b && a != c && b != c => smallvec![*b, *a, *c],
            Inst::AndOr { a, b, c, .. } if a != b && a != c && b != c => smallvec![*c, *b],
            Inst::Dot { a, b, c, .. } if a != b && b != c => smallvec![*b],
            // Integers of 256 bits are only compared for "greater": the operands may be exchanged.
            Inst::Compare { op: Cmp::Lt | Cmp::Ge, a, b, .. }
                if a != b && matches!(kernel.class(*a), Class::I32 | Class::I64) && !wide =>
            {
                smallvec![*a]
            }
            Inst::Compare { a, b, .. } if a != b => smallvec![*b],
            Inst::Unary {
                op:
                    UnaryOp::Sqrt
                    | UnaryOp::Floor
                    | UnaryOp::Ceil
                    | UnaryOp::Round
                    | UnaryOp::Trunc
                    | UnaryOp::ToFloat
                    | UnaryOp::ToInt
                    | UnaryOp::RoundToInt,
                a,
                ..
            } => smallvec![*a],
            _ => Operands::new(),
        }
    }

    fn is_scratch(&self, access: &Access) -> bool {
        matches!(self.kernel.args.get(access.address.base.0 as usize), Some(Arg::Scratch))
    }

    /// The loops around a position, innermost first.
    pub fn loops_around(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        self.loops_from(self.around[at].in_loop)
    }

    /// A loop and the loops around it.
    pub fn loops_from(&self, innermost: Option<usize>) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(innermost, |l| self.loops[*l].parent)
    }

    /// How much an execution at this position counts.
    pub fn weight(&self, at: usize) -> f32 {
        self.around[at].in_loop.map_or(1.0, |l| self.loops[l].weight)
    }
}

/// The bits of a constant in lanes of a class.
pub(super) fn constant_bits(class: Class, bits: u64) -> u64 {
    match class {
        Class::F32 | Class::I32 => bits & u64::from(u32::MAX),
        Class::F64 | Class::I64 => bits,
        Class::Mask | Class::Mask64 if bits == 0 => 0,
        Class::Mask | Class::Mask64 => u64::MAX,
    }
}

/// How often a register occurs.
#[derive(Clone, Copy, Default)]
struct Count {
    defs: u32,
    uses: u32,
}

/// Counts; returns how many nodes these instructions are, or more.
fn count(body: &[Inst], counts: &mut [Count]) -> usize {
    let mut nodes = 1 + body.len();
    for inst in body {
        if let Some(dst) = inst.dst() {
            counts[dst.0 as usize].defs += 1;
        }
        inst.each_operand(|operand| counts[operand.0 as usize].uses += 1);
        if let Inst::Loop { body, .. } | Inst::IfAny { body, .. } = inst {
            nodes += 1 + count(body, counts);
        }
    }
    nodes
}
