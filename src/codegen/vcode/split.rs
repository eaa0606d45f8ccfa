//! Splits what loops compute from what is done with it afterwards: a variable that a loop assigns is copied
//! behind the loop, and code from there on uses the copy.
//!
//! An emitter that gives each register one place then keeps accumulators in machine registers throughout the
//! loop even if the code behind it needs some of these for other values.

use super::{Class, Inst, Kernel, Reg};

/// Splits in every block of a kernel.
pub(super) fn split(kernel: &mut Kernel) {
    let registers = kernel.regs.len();
    let mut splitter = Splitter {
        regs: &mut kernel.regs,
        total: vec![0; registers],
        here: vec![Uses::default(); registers],
        touched: Vec::new(),
        names: vec![None; registers],
    };
    count(&kernel.body, &mut splitter.total);
    splitter.block(&mut kernel.body);
}

/// How often each register occurs.
fn count(body: &[Inst], counts: &mut [u32]) {
    for inst in body {
        let mut add = |reg: Reg| counts[reg.0 as usize] += 1;
        inst.each_operand(&mut add);
        inst.dst().into_iter().for_each(add);
        if let Inst::Loop { body, .. } | Inst::IfAny { body, .. } = inst {
            count(body, counts);
        }
    }
}

/// The occurrences of a register in a block.
#[derive(Clone, Copy, Default)]
struct Uses {
    count: u32,
    /// Whether the first occurrence is an instruction of the block itself that only writes.
    begins_with_def: bool,
    /// The positions of the last instructions that write and read it.
    last_def: Option<u32>,
    last_use: Option<u32>,
}

/// The registers that occur in a block and outside it too.
type Shared = Vec<(Reg, Uses)>;

/// Tables have an entry for each register that the kernel had at first: copies are not split again.
struct Splitter<'a> {
    regs: &'a mut Vec<Class>,
    /// How often each register occurs in the kernel.
    total: Vec<u32>,
    /// The occurrences in the block at hand, and the registers that have some.
    here: Vec<Uses>,
    touched: Vec<Reg>,
    /// What the block at hand calls a register from some place on.
    names: Vec<Option<Reg>>,
}

impl Splitter<'_> {
    fn block(&mut self, body: &mut Vec<Inst>) -> Shared {
        // Inner blocks first, because they share the table.
        let mut inner: Vec<Shared> = Vec::new();
        for inst in body.iter_mut() {
            if let Inst::Loop { body, .. } | Inst::IfAny { body, .. } = inst {
                inner.push(self.block(body));
            }
        }
        let mut inner = inner.into_iter();
        for (at, inst) in body.iter().enumerate() {
            self.survey(inst, at as u32);
            if matches!(inst, Inst::Loop { .. } | Inst::IfAny { .. }) {
                inner.next().unwrap_or_default().iter().for_each(|u| self.survey_inner(u, at as u32));
            }
        }
        let (mut shared, mut copies) = (Shared::new(), Vec::new());
        for reg in self.touched.drain(..) {
            let uses = std::mem::take(&mut self.here[reg.0 as usize]);
            if self.total[reg.0 as usize] > uses.count {
                shared.push((reg, uses));
            } else if let Some(def) = uses.last_def
                && uses.last_use > Some(def)
                && uses.begins_with_def
                && matches!(body[def as usize], Inst::Loop { .. })
            {
                // All of it happens in this block, and each time anew.
                copies.push((def, reg));
            }
        }
        if !copies.is_empty() {
            self.copy(body, copies);
        }
        shared
    }

    /// Copies registers behind the instructions at some positions.
    fn copy(&mut self, body: &mut Vec<Inst>, mut copies: Vec<(u32, Reg)>) {
        // New registers are numbered in the order of those that they are copies of.
        copies.sort_unstable_by_key(|c| c.1);
        let mut copies: Vec<(u32, Reg, Reg)> = copies
            .into_iter()
            .map(|(at, reg)| {
                self.regs.push(self.regs[reg.0 as usize]);
                (at, reg, Reg(self.regs.len() as u32 - 1))
            })
            .collect();
        copies.sort_unstable_by_key(|c| (c.0, c.1));
        let old = std::mem::replace(body, Vec::with_capacity(body.len() + copies.len()));
        let mut rest = copies.as_slice();
        for (at, mut inst) in old.into_iter().enumerate() {
            if rest.len() < copies.len() {
                self.rename(&mut inst);
            }
            body.push(inst);
            while let [(behind, a, dst), others @ ..] = rest
                && *behind as usize == at
            {
                body.push(Inst::Copy { dst: *dst, a: *a });
                self.names[a.0 as usize] = Some(*dst);
                rest = others;
            }
        }
        for (_, reg, _) in copies {
            self.names[reg.0 as usize] = None;
        }
    }

    /// The entry of a register that occurs here `count` times.
    fn uses(&mut self, reg: Reg, count: u32, begins_with_def: bool) -> Option<&mut Uses> {
        let uses = self.here.get_mut(reg.0 as usize)?;
        if uses.count == 0 {
            uses.begins_with_def = begins_with_def;
            self.touched.push(reg);
        }
        uses.count += count;
        Some(uses)
    }

    /// Takes note of the registers of an instruction at a position, those of inner ones aside.
    fn survey(&mut self, inst: &Inst, at: u32) {
        inst.each_operand(|reg| {
            if let Some(uses) = self.uses(reg, 1, false) {
                uses.last_use = Some(at);
            }
        });
        if let Some(reg) = inst.dst()
            && let Some(uses) = self.uses(reg, 1, true)
        {
            uses.last_def = Some(at);
        }
    }

    /// Takes note of a register of an inner block.
    fn survey_inner(&mut self, (reg, inner): &(Reg, Uses), at: u32) {
        if let Some(uses) = self.uses(*reg, inner.count, false) {
            uses.last_def = inner.last_def.map(|_| at).or(uses.last_def);
            uses.last_use = inner.last_use.map(|_| at).or(uses.last_use);
        }
    }

    /// Replaces the registers that an instruction and its inner ones read.
    fn rename(&self, inst: &mut Inst) {
        inst.operands_mut(&mut |reg| {
            if let Some(Some(name)) = self.names.get(reg.0 as usize) {
                *reg = *name;
            }
        });
        if let Inst::Loop { body, .. } | Inst::IfAny { body, .. } = inst {
            body.iter_mut().for_each(|i| self.rename(i));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::vcode::{Bound, Counter};

    fn fma(dst: u32, a: u32) -> Inst {
        Inst::Fma { dst: Reg(dst), a: Reg(a), b: Reg(a), c: Reg(dst) }
    }

    fn in_loop(counter: u32, body: Vec<Inst>) -> Inst {
        Inst::Loop { counter: Counter(counter), begin: Bound::Const(0), end: Bound::Const(4), body }
    }

    #[test]
    fn an_accumulator_is_copied_behind_its_loop_unless_it_outlives_the_block() {
        let zero = |dst: u32| Inst::Const { dst: Reg(dst), bits: 0 };
        let copy = |dst: u32, a: u32| Inst::Copy { dst: Reg(dst), a: Reg(a) };
        let inner =
            vec![zero(0), zero(2), in_loop(1, vec![fma(0, 1), fma(3, 1)]), copy(4, 0), fma(2, 3), fma(3, 0)];
        let mut kernel = Kernel {
            regs: vec![Class::F32; 5],
            counters: 2,
            body: vec![zero(1), zero(3), in_loop(0, inner)],
            ..Kernel::default()
        };
        split(&mut kernel);
        let Inst::Loop { body, .. } = &kernel.body[2] else { panic!("{kernel:?}") };
        // Register 3 lives on, from iteration to iteration; 2 is not assigned by a loop.
        assert_eq!(
            body[3..],
            [copy(5, 0), copy(4, 5), fma(2, 3), Inst::Fma { dst: Reg(3), a: Reg(5), b: Reg(5), c: Reg(3) }]
        );
        assert_eq!(kernel.regs.len(), 6);
    }
}
