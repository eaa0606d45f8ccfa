//! The frame of the function and loops.

use iced_x86::{Code, Register};

use super::Tier;
use super::assembler::{Assembler, Jump, Label, Place};
use super::codes::{self, INTEGERS, VOLATILE, mask};
use super::flatten::{Flat, Node};
use super::liveness::{Allocation, allocate};
use super::needs::{lane_masks, working_bytes};
use super::operands::MASKS;
use super::pointers::{Count, Home, Integers};
use crate::codegen::vcode::{Bound, Inst, Kernel, Operands, Reg};

/// Holds the table of arguments throughout.
pub(super) const TABLE: Register = Register::RDI;
/// For addresses; free between instructions.
pub(super) const SCRATCH: Register = Register::RAX;
/// Its low half.
pub(super) const SCRATCH_LOW: Register = Register::EAX;
/// For integer arithmetic; free between instructions.
pub(super) const SCRATCH_2: Register = Register::RCX;
/// Its low half.
pub(super) const SCRATCH_2_LOW: Register = Register::ECX;

const PAGE: usize = 4096;

pub(super) fn emit(kernel: &Kernel, tier: Tier, keep_text: bool) -> Result<(Vec<u8>, String), String> {
    let flat = Flat::new(kernel, tier);
    let masks = if tier.is_512() { MASKS } else { 0 };
    let allocation = allocate(&flat, tier, tier.registers(), masks);
    let integers = Integers::new(&flat, &allocation, INTEGERS.len());
    let vector = tier.lanes() * 4;
    let working = allocation.slot_count * vector;
    let integer_slots = working + working_bytes(&flat, tier);
    let frame = (integer_slots + 8 * integers.slot_count).next_multiple_of(64);
    let used = |register: &Register| {
        integers
            .values
            .iter()
            .any(|h| matches!(h, Home::Register(r) if INTEGERS[usize::from(*r)] == *register))
    };
    let mut emitter = Emitter {
        saved: INTEGERS[VOLATILE..].iter().copied().filter(used).collect(),
        lane_masks: if tier.is_512() { lane_masks(&flat, tier) } else { Vec::new() },
        asm: Assembler::new(keep_text),
        flat: &flat,
        tier,
        allocation,
        integers,
        working,
        integer_slots,
        frame,
        at: 0,
        moved: false,
        open: Vec::new(),
    };
    emitter.function()?;
    emitter.asm.finish()
}

/// What is open at a position: a loop's head and end, or the end of a conditional part.
enum Open {
    Loop(Label, Option<Label>),
    If(Label),
}

pub(super) struct Emitter<'a, 'k> {
    pub asm: Assembler,
    pub flat: &'a Flat<'k>,
    pub tier: Tier,
    pub allocation: Allocation,
    pub integers: Integers,
    /// Registers that the caller keeps values in.
    saved: Vec<Register>,
    /// The lanes of the masks that instructions use, the most important first.
    pub lane_masks: Vec<usize>,
    /// Offsets in the frame: of the memory that instructions work with, and of integer slots. Slots of
    /// vector registers are at its start.
    pub working: usize,
    pub integer_slots: usize,
    frame: usize,
    /// The position of the current node.
    pub at: usize,
    /// Whether what is accessed is as many bytes further on as [`SCRATCH_2`] says.
    pub moved: bool,
    open: Vec<Open>,
}

impl<'k> Emitter<'_, 'k> {
    fn function(&mut self) -> Result<(), String> {
        let framed = self.frame > 0;
        if framed {
            self.asm.op(Code::Push_r64, &[Register::RBP.into()]);
            self.asm.op(Code::Mov_r64_rm64, &[Register::RBP.into(), Register::RSP.into()]);
        }
        for register in self.saved.clone() {
            self.asm.op(Code::Push_r64, &[register.into()]);
        }
        if framed {
            // Touches every page, so that a full stack ends at its guard page.
            for page in 1..=self.frame / PAGE {
                let place = Place::Slot(Register::RSP, -((page * PAGE) as i32));
                self.asm.op(Code::Test_rm32_r32, &[place.into(), Register::EAX.into()]);
            }
            self.asm.op(Code::Sub_rm64_imm32, &[Register::RSP.into(), (self.frame as i32).into()]);
            self.asm.op(Code::And_rm64_imm8, &[Register::RSP.into(), (-64i32).into()]);
        }
        for i in 0..self.integers.roots.len() {
            let (arg, value) = self.integers.roots[i];
            if let Home::Register(r) = self.integers.values[value] {
                self.load_arg(INTEGERS[usize::from(r)], arg);
            }
        }
        self.set_lane_masks();
        for at in 0..self.flat.nodes.len() {
            self.at = at;
            self.node(self.flat.nodes[at])?;
        }
        self.asm.op(Code::VEX_Vzeroupper, &[]);
        if framed {
            let saved = Place::Slot(Register::RBP, -8 * self.saved.len() as i32);
            self.asm.op(Code::Lea_r64_m, &[Register::RSP.into(), saved.into()]);
        }
        for register in self.saved.clone().into_iter().rev() {
            self.asm.op(Code::Pop_r64, &[register.into()]);
        }
        if framed {
            self.asm.op(Code::Pop_r64, &[Register::RBP.into()]);
        }
        self.asm.op(Code::Retnq, &[]);
        Ok(())
    }

    fn node(&mut self, node: Node<'k>) -> Result<(), String> {
        match node {
            Node::Gone => Ok(()),
            Node::Inst(inst, dst) => self.placed_inst(inst, dst),
            Node::IfBegin(mask) => self.if_begin(mask),
            Node::IfEnd => match self.open.pop() {
                Some(Open::If(end)) => {
                    self.asm.bind(end);
                    Ok(())
                }
                _ => Err("a conditional part that was not begun".into()),
            },
            Node::LoopBegin(number) => {
                self.loop_begin(number);
                Ok(())
            }
            Node::LoopEnd(number) => match self.open.pop() {
                Some(Open::Loop(head, end)) => {
                    self.loop_end(number, head, end);
                    Ok(())
                }
                _ => Err("a loop that was not begun".into()),
            },
        }
    }

    /// An instruction; its operands on the stack are loaded before it, its result is stored after it.
    fn placed_inst(&mut self, inst: &'k Inst, dst: Option<Reg>) -> Result<(), String> {
        let at = self.at;
        let mut loaded = Operands::new();
        for reg in inst.operands() {
            if !loaded.contains(&reg) && self.allocation.is_brief(reg, at) {
                loaded.push(reg);
                self.reload(reg)?;
            }
        }
        let gone =
            dst.is_some_and(|d| self.flat.can_be_remade(d) && self.allocation.whole[d.0 as usize].is_none());
        if gone {
            return Ok(());
        }
        self.inst(inst, dst)?;
        if let Some(dst) = dst
            && self.allocation.is_brief(dst, at)
            && let Some(&slot) = self.allocation.slots.get(&dst)
        {
            let place = self.vector_slot(slot);
            let register = self.number(dst)?;
            if self.in_mask_register(dst) {
                self.asm.op(Code::VEX_Kmovw_m16_kr, &[place.into(), mask(register).into()]);
            } else {
                self.asm.op(codes::STORE.of(self.tier), &[place.into(), self.v(register).into()]);
            }
        }
        Ok(())
    }

    /// Loads a register that lives on the stack or is made again.
    fn reload(&mut self, reg: Reg) -> Result<(), String> {
        let register = self.number(reg)?;
        if let Some(bits) = self.flat.constant(reg) {
            self.constant(reg, register, bits);
        } else if let Some(access) = self.flat.reloadable(reg) {
            self.load(register, access)?;
        } else if let Some(&slot) = self.allocation.slots.get(&reg) {
            let place = self.vector_slot(slot);
            if self.in_mask_register(reg) {
                self.asm.op(Code::VEX_Kmovw_kr_km16, &[mask(register).into(), place.into()]);
            } else {
                self.asm.op(codes::LOAD.of(self.tier), &[self.v(register).into(), place.into()]);
            }
        } else {
            return Err(format!("{reg} is nowhere"));
        }
        Ok(())
    }

    fn if_begin(&mut self, reg: Reg) -> Result<(), String> {
        if self.allocation.is_brief(reg, self.at) {
            self.reload(reg)?;
        }
        let number = self.number(reg)?;
        if self.tier.is_512() {
            self.asm.op(Code::VEX_Kortestw_kr_kr, &[mask(number).into(), mask(number).into()]);
        } else {
            self.asm.op(Code::VEX_Vmovmskps_r32_ymm, &[Register::EAX.into(), self.v(number).into()]);
            self.asm.op(Code::Test_rm32_r32, &[Register::EAX.into(), Register::EAX.into()]);
        }
        let end = self.asm.label();
        self.asm.jump(Jump::Zero, end);
        self.open.push(Open::If(end));
        Ok(())
    }

    fn loop_begin(&mut self, number: usize) {
        let (begin, end) = (self.flat.loops[number].begin, self.flat.loops[number].end);
        let innermost = self.flat.loops[number].innermost;
        let trips = self.flat.loops[number].trips();
        // A loop of constant extent runs at least once; another one is guarded.
        let done = trips.is_none().then(|| {
            self.bound(SCRATCH, begin);
            self.bound(SCRATCH_2, end);
            self.asm.op(Code::Cmp_r64_rm64, &[SCRATCH.into(), SCRATCH_2.into()]);
            let done = self.asm.label();
            self.asm.jump(Jump::GreaterEqual, done);
            done
        });
        match self.integers.loops[number].count {
            Count::None => {}
            Count::Up(value) => {
                self.bound(SCRATCH, begin);
                self.store_integer(value, SCRATCH);
            }
            Count::Down(value) => {
                match trips {
                    Some(trips) => self.set_constant(SCRATCH, trips),
                    None => {
                        // SCRATCH_2 holds the end, SCRATCH the beginning.
                        self.asm.op(Code::Sub_r64_rm64, &[SCRATCH_2.into(), SCRATCH.into()]);
                        self.asm.op(Code::Mov_r64_rm64, &[SCRATCH.into(), SCRATCH_2.into()]);
                    }
                }
                self.store_integer(value, SCRATCH);
            }
        }
        for i in 0..self.integers.loops[number].steps.len() {
            let step = self.integers.loops[number].steps[i];
            let register = match self.integers.values[step.pointer] {
                Home::Register(r) => INTEGERS[usize::from(r)],
                _ => SCRATCH,
            };
            self.load_integer(register, self.integers.values[step.from]);
            match begin {
                Bound::Const(0) => {}
                Bound::Const(begin) => self.add_constant(register, begin.wrapping_mul(step.bytes)),
                Bound::Arg(arg) => {
                    self.load_arg(SCRATCH_2, arg);
                    self.multiply(SCRATCH_2, step.bytes);
                    self.asm.op(Code::Add_r64_rm64, &[register.into(), SCRATCH_2.into()]);
                }
            }
            if register == SCRATCH {
                self.store_integer(step.pointer, SCRATCH);
            }
        }
        if innermost && trips != Some(1) {
            self.asm.align(64);
        }
        let head = self.asm.label();
        self.asm.bind(head);
        self.open.push(Open::Loop(head, done));
    }

    fn loop_end(&mut self, number: usize, head: Label, done: Option<Label>) {
        let trips = self.flat.loops[number].trips();
        if trips != Some(1) {
            for i in 0..self.integers.loops[number].steps.len() {
                let step = self.integers.loops[number].steps[i];
                match self.integers.values[step.pointer] {
                    Home::Register(r) => self.add_constant(INTEGERS[usize::from(r)], step.bytes),
                    home => {
                        self.load_integer(SCRATCH, home);
                        self.add_constant(SCRATCH, step.bytes);
                        self.store_integer(step.pointer, SCRATCH);
                    }
                }
            }
            match self.integers.loops[number].count {
                Count::None => {}
                Count::Down(value) => {
                    match self.integers.values[value] {
                        Home::Register(r) => {
                            let register = INTEGERS[usize::from(r)];
                            self.asm.op(Code::Sub_rm64_imm8, &[register.into(), 1i32.into()]);
                        }
                        home => {
                            let slot = self.integer_place(home);
                            self.asm.op(Code::Sub_rm64_imm8, &[slot.into(), 1i32.into()]);
                        }
                    }
                    self.asm.jump(Jump::NotZero, head);
                }
                Count::Up(value) => {
                    self.load_integer(SCRATCH, self.integers.values[value]);
                    self.add_constant(SCRATCH, 1);
                    self.store_integer(value, SCRATCH);
                    self.bound(SCRATCH_2, self.flat.loops[number].end);
                    self.asm.op(Code::Cmp_r64_rm64, &[SCRATCH.into(), SCRATCH_2.into()]);
                    self.asm.jump(Jump::Less, head);
                }
            }
        }
        if let Some(done) = done {
            self.asm.bind(done);
        }
    }

    fn bound(&mut self, register: Register, bound: Bound) {
        match bound {
            Bound::Const(value) => self.set_constant(register, value),
            Bound::Arg(arg) => self.load_arg(register, arg),
        }
    }
}
