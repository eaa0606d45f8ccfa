//! Building kernels: instructions are appended to the open block, and what the block has computed before is
//! used again.
//!
//! Values are registers that are assigned once; *variables* (accumulators, local buffers) are registers that
//! [`Builder::assign`] changes. Reuse is per straight-line block and knows about both.

mod dot;
mod gather;
mod machine;

use nestjit_ir::BufId;

use super::hoist::hoist;
use super::select::Machine;
use super::split::split;
use super::tiles::{TileInst, settle};
use super::{
    Access, Arg, ArgId, BinaryOp, Bound, Class, Cmp, Combine, Counter, DotKind, Guard, Inst, Int, Kernel,
    Narrowing, Reg, ShiftOp, Shuffle, Terms, UnaryOp, Widening,
};
use crate::codegen::hash::FastMap;

/// A register and how often it had been assigned.
type Version = (Reg, u32);

/// What identifies a computed value within a block.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Const(Class, u64),
    Load(Access),
    /// Rare and large.
    Guarded(Box<(Access, Vec<Guard>, Version)>),
    Unary(UnaryOp, Version),
    Binary(BinaryOp, Version, Version),
    Shift(ShiftOp, Version, u8),
    Shuffle(Shuffle, Version, Version),
    Fma(Version, Version, Version),
    AndOr(Version, Version, Version),
    Dot(DotKind, Version, Version, Version),
    Lookup(Box<Access>, Version),
    Gather(Box<Access>, Version, Option<usize>),
    Widen(Widening, Version, bool),
    Narrow(Narrowing, Version, Version),
    Compare(Cmp, Version, Version),
    Select(Version, Version, Version),
    Iota(Int, i64),
}

/// A value that is known.
struct Known {
    reg: Reg,
    /// The instructions there were when it was last used.
    used: u32,
    /// When it was computed.
    made: u32,
}

/// A block that is open.
#[derive(Default)]
struct Block {
    insts: Vec<Inst>,
    /// What has been computed in it.
    known: FastMap<Key, Known>,
    /// When its last loop ended. A constant from before would occupy a register throughout that loop.
    loop_end: u32,
}

/// After how many instructions what was loaded is loaded again instead of being kept in a register: longer than
/// one step of a register tile, shorter than two. The broadcasts of overlapping windows, each kept until the
/// next step that reads it, would drive the accumulators out of the registers.
const KEPT: u32 = 40;

/// Room for the instructions of most blocks.
const ROOM: usize = 32;

/// A map of known values with room for as many as many blocks have.
fn values() -> FastMap<Key, Known> {
    FastMap::with_capacity_and_hasher(100, Default::default())
}

/// Builds one kernel.
pub(in crate::codegen) struct Builder {
    kernel: Kernel,
    /// Whether the machine has fused multiply-add.
    fma: bool,
    /// Whether it has [`BinaryOp::Scale`].
    scale: bool,
    /// Whether it has [`Inst::AndOr`].
    ternary: bool,
    /// Whether it has [`DotKind::Bytes`].
    dot: bool,
    /// Whether it has [`DotKind::Bf16`].
    bf16: bool,
    /// Whether it has matrix tiles, and whether these may multiply `bf16`.
    tiles: bool,
    bf16_tiles: bool,
    /// Whether what is loaded is kept in a register as long as it holds: see [`Builder::keep_loads`].
    keeps: bool,
    /// The open blocks, innermost last.
    blocks: Vec<Block>,
    /// Empty maps that have grown for blocks which are closed.
    spare: Vec<FastMap<Key, Known>>,
    /// How often each register has been assigned again.
    versions: Vec<u32>,
    /// Instructions so far, and those together with the ones that were dropped again: the time, which never goes back.
    count: u32,
    now: u32,
    /// When each buffer of [`Kernel::written`] was last stored to.
    stored: Vec<u32>,
    /// Terms of addresses, the latest last.
    terms: Vec<Terms>,
}

/// How many of the last terms are searched for equal ones.
const RECENT_TERMS: usize = 8;

impl Builder {
    pub fn new(machine: Machine) -> Builder {
        Builder {
            kernel: Kernel { lanes: machine.lanes, ..Kernel::default() },
            fma: machine.fma,
            scale: machine.scale,
            ternary: machine.ternary,
            dot: machine.dot,
            bf16: machine.bf16,
            tiles: machine.tiles,
            bf16_tiles: machine.bf16_tiles,
            keeps: false,
            blocks: vec![Block { known: values(), ..Block::default() }],
            spare: Vec::new(),
            versions: Vec::new(),
            count: 0,
            now: 0,
            stored: Vec::new(),
            terms: Vec::new(),
        }
    }

    pub fn lanes(&self) -> usize {
        self.kernel.lanes
    }

    pub fn class(&self, reg: Reg) -> Class {
        self.kernel.class(reg)
    }

    /// Instructions so far.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// The kernel, for a machine with this many vector registers.
    pub fn finish(mut self, scratch_bytes: usize, registers: usize) -> Kernel {
        self.kernel.scratch_bytes = scratch_bytes;
        self.kernel.body = self.close();
        hoist(&mut self.kernel.body, self.kernel.regs.len(), registers);
        split(&mut self.kernel);
        settle(&mut self.kernel.body);
        self.kernel
    }

    /// The position of an argument, which is added if it is new.
    pub fn arg(&mut self, arg: Arg) -> ArgId {
        let args = &mut self.kernel.args;
        let position = args.iter().position(|a| *a == arg).unwrap_or_else(|| {
            args.push(arg);
            args.len() - 1
        });
        ArgId(position as u32)
    }

    /// The terms of an address; they are shared with equal ones of late.
    pub fn terms(&mut self, terms: &[(Counter, i64)]) -> Terms {
        if let Some(known) = self.terms.iter().rev().take(RECENT_TERMS).find(|t| ***t == *terms) {
            return known.clone();
        }
        let new: Terms = terms.into();
        self.terms.push(new.clone());
        new
    }

    pub fn new_counter(&mut self) -> Counter {
        self.kernel.counters += 1;
        Counter(self.kernel.counters - 1)
    }

    /// A register to be assigned later.
    pub fn variable(&mut self, class: Class) -> Reg {
        self.kernel.regs.push(class);
        self.versions.push(0);
        Reg(self.kernel.regs.len() as u32 - 1)
    }

    fn push(&mut self, inst: Inst) {
        self.count += 1;
        self.now += 1;
        if let Some(block) = self.blocks.last_mut() {
            block.insts.push(inst);
        }
    }

    fn version(&self, reg: Reg) -> Version {
        (reg, self.versions[reg.0 as usize])
    }

    fn changed(&mut self, reg: Reg) {
        self.versions[reg.0 as usize] += 1;
    }

    fn value(&mut self, class: Class, key: Key, make: impl FnOnce(Reg) -> Inst) -> Reg {
        let (count, now, keeps) = (self.count, self.now, self.keeps);
        // The time since which what is known still holds.
        let since = match &key {
            Key::Const(..) => self.blocks.last().map_or(0, |b| b.loop_end),
            Key::Load(a) => self.last_store(a.buf),
            Key::Guarded(g) => self.last_store(g.0.buf),
            Key::Gather(a, ..) => self.last_store(a.buf),
            _ => 0,
        };
        if let Some(known) = self.blocks.last_mut().and_then(|b| b.known.get_mut(&key))
            && known.made >= since
            && (keeps || count - known.used <= KEPT || !matches!(key, Key::Load(_)))
        {
            known.used = count;
            return known.reg;
        }
        let dst = self.variable(class);
        self.push(make(dst));
        if let Some(block) = self.blocks.last_mut() {
            block.known.insert(key, Known { reg: dst, used: count, made: now });
        }
        dst
    }

    /// From here on, what has been loaded in the block is used again however long ago that was, or only for a while: what
    /// is computed from it many times pays for the register.
    pub fn keep_loads(&mut self, keeps: bool) {
        self.keeps = keeps;
    }

    /// When there had last been a store to a buffer.
    fn last_store(&self, buf: BufId) -> u32 {
        self.kernel.written.iter().position(|b| *b == buf).map_or(0, |at| self.stored[at])
    }

    /// A constant: its low 32 bits unless lanes are wide, and for masks all ones or none.
    pub fn constant(&mut self, class: Class, bits: impl Into<u64>) -> Reg {
        let bits = bits.into();
        self.value(class, Key::Const(class, bits), |dst| Inst::Const { dst, bits })
    }

    pub fn load(&mut self, from: Access) -> Reg {
        self.value(from.ty.class(), Key::Load(from.clone()), |dst| Inst::Load { dst, from })
    }

    pub fn load_guarded(&mut self, from: Access, guards: Vec<Guard>, otherwise: Reg) -> Reg {
        let key = Key::Guarded(Box::new((from.clone(), guards.clone(), self.version(otherwise))));
        self.value(from.ty.class(), key, |dst| Inst::LoadGuarded { dst, from, guards, otherwise })
    }

    pub fn store(&mut self, src: Reg, to: Access) {
        let buf = to.buf;
        self.push(Inst::Store { src, to });
        self.written(buf);
    }

    /// Appends an instruction on matrix tiles.
    pub fn tile(&mut self, inst: TileInst) {
        let stored = if let TileInst::Store { to, .. } = &inst { Some(to.buf) } else { None };
        self.push(Inst::Tile(inst));
        stored.into_iter().for_each(|buf| self.written(buf));
    }

    fn written(&mut self, buf: BufId) {
        match self.kernel.written.iter().position(|b| *b == buf) {
            Some(at) => self.stored[at] = self.now,
            None => {
                self.kernel.written.push(buf);
                self.stored.push(self.now);
            }
        }
    }

    pub fn unary(&mut self, op: UnaryOp, a: Reg) -> Reg {
        let class = self.kernel.class(a);
        let class = match op {
            UnaryOp::Bits | UnaryOp::ToInt if class.is_wide() => Class::I64,
            UnaryOp::Bits | UnaryOp::ToInt | UnaryOp::RoundToInt => Class::I32,
            UnaryOp::ToFloat | UnaryOp::FromBits if class.is_wide() => Class::F64,
            UnaryOp::ToFloat | UnaryOp::FromBits => Class::F32,
            UnaryOp::Neg
            | UnaryOp::Abs
            | UnaryOp::Sqrt
            | UnaryOp::Floor
            | UnaryOp::Ceil
            | UnaryOp::Round
            | UnaryOp::Trunc
            | UnaryOp::RoundF16
            | UnaryOp::Not
            | UnaryOp::Exchange { .. }
            | UnaryOp::Bytes { .. } => class,
        };
        let key = Key::Unary(op, self.version(a));
        self.value(class, key, |dst| Inst::Unary { op, dst, a })
    }

    pub fn binary(&mut self, op: BinaryOp, a: Reg, b: Reg) -> Reg {
        let (class, key) = (self.kernel.class(a), Key::Binary(op, self.version(a), self.version(b)));
        self.value(class, key, |dst| Inst::Binary { op, dst, a, b })
    }

    pub fn shift(&mut self, op: ShiftOp, a: Reg, amount: u8) -> Reg {
        let key = Key::Shift(op, self.version(a), amount);
        self.value(self.kernel.class(a), key, |dst| Inst::Shift { op, dst, a, amount })
    }

    pub fn shuffle(&mut self, op: Shuffle, a: Reg, b: Reg) -> Reg {
        let key = Key::Shuffle(op, self.version(a), self.version(b));
        self.value(Class::F32, key, |dst| Inst::Shuffle { op, dst, a, b })
    }

    /// `a * b + c`, rounded once if the machine can, twice otherwise.
    pub fn fma(&mut self, a: Reg, b: Reg, c: Reg) -> Reg {
        if !self.fma {
            let product = self.binary(BinaryOp::Mul, a, b);
            return self.binary(BinaryOp::Add, product, c);
        }
        let key = Key::Fma(self.version(a), self.version(b), self.version(c));
        self.value(self.kernel.class(a), key, |dst| Inst::Fma { dst, a, b, c })
    }

    /// The bits of `c`, and those that `a` and `b` have in common.
    pub fn and_or(&mut self, a: Reg, b: Reg, c: Reg) -> Reg {
        let key = Key::AndOr(self.version(a), self.version(b), self.version(c));
        self.value(self.kernel.class(c), key, |dst| Inst::AndOr { dst, a, b, c })
    }

    /// Half of the lanes, twice as wide.
    pub fn widen(&mut self, op: Widening, a: Reg, upper: bool) -> Reg {
        let key = Key::Widen(op, self.version(a), upper);
        self.value(op.class(), key, |dst| Inst::Widen { op, dst, a, upper })
    }

    /// The lanes of two registers in one.
    pub fn narrow(&mut self, op: Narrowing, a: Reg, b: Reg) -> Reg {
        let key = Key::Narrow(op, self.version(a), self.version(b));
        self.value(op.class(), key, |dst| Inst::Narrow { op, dst, a, b })
    }

    pub fn compare(&mut self, op: Cmp, a: Reg, b: Reg) -> Reg {
        let key = Key::Compare(op, self.version(a), self.version(b));
        let class = if self.kernel.class(a).is_wide() { Class::Mask64 } else { Class::Mask };
        self.value(class, key, |dst| Inst::Compare { op, dst, a, b })
    }

    pub fn select(&mut self, mask: Reg, a: Reg, b: Reg) -> Reg {
        let key = Key::Select(self.version(mask), self.version(a), self.version(b));
        self.value(self.kernel.class(a), key, |dst| Inst::Select { dst, mask, a, b })
    }

    pub fn reduce(&mut self, op: Combine, a: Reg, lanes: usize) -> Reg {
        let dst = self.variable(Class::F32);
        self.push(Inst::Reduce { op, dst, a, lanes });
        dst
    }

    pub fn iota(&mut self, value: Int, step: i64) -> Reg {
        // Lanes have 32 bits, and of a step no more counts. A loop of fewer iterations than lanes may have a larger one, which
        // several lanes together would take beyond 64 bits.
        let step = i64::from(step as i32);
        self.value(Class::I32, Key::Iota(value.clone(), step), |dst| Inst::Iota { dst, value, step })
    }

    /// Calls a function for each lane; its result is of the class of its operands.
    pub fn call(&mut self, function: usize, args: Vec<Reg>) -> Reg {
        let class = args.first().map_or(Class::F32, |a| self.kernel.class(*a));
        let dst = self.variable(class);
        self.push(Inst::Call { function, dst, args });
        dst
    }

    /// Assigns a variable.
    pub fn assign(&mut self, dst: Reg, a: Reg) {
        if dst != a {
            self.push(Inst::Copy { dst, a });
            self.changed(dst);
        }
    }

    /// `dst = a * b + dst` for a variable, rounded once if the machine can.
    pub fn multiply_accumulate(&mut self, dst: Reg, a: Reg, b: Reg) {
        if self.fma {
            self.push(Inst::Fma { dst, a, b, c: dst });
            self.changed(dst);
        } else {
            let product = self.binary(BinaryOp::Mul, a, b);
            self.update(BinaryOp::Add, dst, product);
        }
    }

    /// `dst = dst op b` for a variable.
    pub fn update(&mut self, op: BinaryOp, dst: Reg, b: Reg) {
        self.push(Inst::Binary { op, dst, a: dst, b });
        self.changed(dst);
    }

    fn open(&mut self) {
        let known = self.spare.pop().unwrap_or_else(values);
        self.blocks.push(Block { known, insts: Vec::with_capacity(ROOM), ..Block::default() });
    }

    fn close(&mut self) -> Vec<Inst> {
        let Block { insts, mut known, .. } = self.blocks.pop().unwrap_or_default();
        known.clear();
        self.spare.push(known);
        insts
    }

    /// Opens a loop's block; [`Builder::end_loop`] closes it.
    pub fn begin_loop(&mut self) {
        self.open();
    }

    /// The instructions of the open block, if there is no loop among them.
    pub fn straight_line(&self) -> Option<usize> {
        let block = &self.blocks.last()?.insts;
        (!block.iter().any(|i| matches!(i, Inst::Loop { .. } | Inst::IfAny { .. }))).then_some(block.len())
    }

    /// Drops the block that [`Builder::begin_loop`] opened.
    pub fn abandon_loop(&mut self) {
        let body = self.close();
        self.count -= body.len() as u32;
    }

    /// Closes the block that [`Builder::begin_loop`] opened.
    pub fn end_loop(&mut self, counter: Counter, begin: Bound, end: Bound) {
        let body = self.close();
        self.push(Inst::Loop { counter, begin, end, body });
        if let Some(block) = self.blocks.last_mut() {
            block.loop_end = self.now;
        }
    }

    /// What `body` appends is executed if the mask is true in any lane.
    pub fn if_any(&mut self, mask: Reg, body: impl FnOnce(&mut Builder)) {
        self.open();
        body(self);
        let body = self.close();
        self.push(Inst::IfAny { mask, body });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::vcode::{Address, MemType};

    #[test]
    fn what_is_known_holds_until_stores_loops_and_assignments() {
        let mut b = Builder::new(Machine {
            lanes: 4,
            registers: 16,
            fma: true,
            scale: false,
            ternary: false,
            dot: false,
            bf16: false,
            tiles: false,
            bf16_tiles: false,
        });
        let at = |b: &mut Builder, buf: u32| {
            let address = Address { base: ArgId(buf), terms: b.terms(&[(Counter(0), 16)]), offset: 0 };
            Access { address, stride: 4, ty: MemType::F32, lanes: 4, buf: BufId(buf) }
        };
        let (x, y) = (at(&mut b, 0), at(&mut b, 1));
        assert!(std::ptr::eq(&*x.address.terms, &*y.address.terms));
        let (one, first) = (b.constant(Class::F32, 1u64), b.load(x.clone()));
        let sum = b.binary(BinaryOp::Add, one, first);
        b.store(sum, y.clone());
        assert_eq!(b.load(x.clone()), first, "another buffer was stored to");
        let stored = b.load(y.clone());
        b.begin_loop();
        assert_ne!(b.load(x.clone()), first, "a block has its own values");
        b.store(sum, x.clone());
        b.abandon_loop();
        let second = b.load(x.clone());
        assert_ne!(second, first, "a store in an inner block counts");
        assert_eq!((b.load(x), b.load(y), b.constant(Class::F32, 1u64)), (second, stored, one));
        let counter = b.new_counter();
        b.begin_loop();
        b.end_loop(counter, Bound::Const(0), Bound::Const(2));
        assert_ne!(b.constant(Class::F32, 1u64), one, "a constant from before a loop");
        assert_eq!(b.binary(BinaryOp::Add, one, first), sum);
        b.assign(first, one);
        assert_ne!(b.binary(BinaryOp::Add, one, first), sum, "an operand was assigned");
    }
}
