//! Splits what loops compute from what is done with it afterwards: a variable that a loop assigns is copied
//! behind the loop, and code from there on uses the copy.
//!
//! An emitter that gives each register one place then keeps accumulators in machine registers throughout the
//! loop even if the code behind it needs some of these for other values.

use super::{Inst, Kernel, Reg};
use crate::codegen::hash::FastMap;

/// Splits in every block of a kernel.
pub(super) fn split(kernel: &mut Kernel) {
    let mut total = vec![0; kernel.regs.len()];
    count(&kernel.body, &mut total);
    let body = std::mem::take(&mut kernel.body);
    kernel.body = block(kernel, body, &total);
}

/// How often each register occurs.
fn count(body: &[Inst], counts: &mut [u32]) {
    for inst in body {
        for reg in inst.operands().into_iter().chain(inst.dst()) {
            counts[reg.0 as usize] += 1;
        }
        if let Inst::Loop { body, .. } | Inst::IfAny { body, .. } = inst {
            count(body, counts);
        }
    }
}

fn block(kernel: &mut Kernel, mut body: Vec<Inst>, total: &[u32]) -> Vec<Inst> {
    for inst in &mut body {
        if let Inst::Loop { body, .. } | Inst::IfAny { body, .. } = inst {
            *body = block(kernel, std::mem::take(body), total);
        }
    }
    if !body.iter().any(|i| matches!(i, Inst::Loop { .. })) {
        return body;
    }
    let mut here: FastMap<Reg, Uses> = FastMap::default();
    for (at, inst) in body.iter().enumerate() {
        let nested = matches!(inst, Inst::Loop { .. } | Inst::IfAny { .. });
        survey(inst, at, nested, &mut here);
    }
    // The copies behind each instruction, in the order of the registers, so that code does not depend on chance.
    let mut copies: Vec<Vec<(Reg, Reg)>> = vec![Vec::new(); body.len()];
    let mut regs: Vec<Reg> = here.keys().copied().collect();
    regs.sort_unstable();
    for reg in regs {
        let uses = &here[&reg];
        // All of it happens in this block, and each time anew.
        let private = total.get(reg.0 as usize) == Some(&uses.count) && uses.begins_with_def;
        if private && uses.last_def < uses.last_use && matches!(body[uses.last_def], Inst::Loop { .. }) {
            kernel.regs.push(kernel.class(reg));
            copies[uses.last_def].push((reg, Reg(kernel.regs.len() as u32 - 1)));
        }
    }
    let mut renamed: FastMap<Reg, Reg> = FastMap::default();
    let mut result = Vec::with_capacity(body.len());
    for (mut inst, copies) in body.into_iter().zip(copies) {
        if !renamed.is_empty() {
            rename(&mut inst, &renamed);
        }
        result.push(inst);
        for (a, dst) in copies {
            result.push(Inst::Copy { dst, a });
            renamed.insert(a, dst);
        }
    }
    result
}

/// The occurrences of a register in a block.
#[derive(Default)]
struct Uses {
    count: u32,
    /// Whether the first occurrence is an instruction of the block itself that only writes.
    begins_with_def: bool,
    /// The positions of the last instructions that write and read it.
    last_def: usize,
    last_use: usize,
}

fn survey(inst: &Inst, at: usize, nested: bool, uses: &mut FastMap<Reg, Uses>) {
    for reg in inst.operands() {
        let uses = uses.entry(reg).or_default();
        uses.count += 1;
        uses.last_use = at;
    }
    if let Some(reg) = inst.dst() {
        let uses = uses.entry(reg).or_insert_with(|| Uses { begins_with_def: !nested, ..Uses::default() });
        uses.count += 1;
        uses.last_def = at;
    }
    if let Inst::Loop { body, .. } | Inst::IfAny { body, .. } = inst {
        body.iter().for_each(|i| survey(i, at, true, uses));
    }
}

/// Replaces the registers that an instruction and its inner ones read.
fn rename(inst: &mut Inst, names: &FastMap<Reg, Reg>) {
    inst.operands_mut(&mut |reg| {
        if let Some(name) = names.get(reg) {
            *reg = *name;
        }
    });
    if let Inst::Loop { body, .. } | Inst::IfAny { body, .. } = inst {
        body.iter_mut().for_each(|i| rename(i, names));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::vcode::{Bound, Class, Counter};

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
