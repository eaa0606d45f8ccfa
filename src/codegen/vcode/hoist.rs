//! Moves what does not change out of innermost loops: constants, loads and arithmetic on them.
//!
//! Only out of innermost loops, and only as much as fits beside the loop's own registers; further out it
//! would keep registers busy across inner loops.

use nestjit_ir::BufId;

use super::{Bound, Counter, Inst, Reg};
use crate::codegen::hash::FastSet;

/// Hoists in every innermost loop of a block, for a machine with this many vector registers.
pub(super) fn hoist(body: Vec<Inst>, registers: usize) -> Vec<Inst> {
    let mut result = Vec::with_capacity(body.len());
    for inst in body {
        match inst {
            Inst::Loop { counter, begin, end, body } => {
                let mut body = hoist(body, registers);
                let innermost = !body.iter().any(|i| matches!(i, Inst::Loop { .. }));
                // A loop of constant extent runs at least once, so what it loads exists.
                let runs = matches!((begin, end), (Bound::Const(b), Bound::Const(e)) if b < e);
                if innermost {
                    body = hoist_loop(body, counter, runs, registers, &mut result);
                }
                result.push(Inst::Loop { counter, begin, end, body });
            }
            inst => result.push(inst),
        }
    }
    result
}

/// Moves the invariant instructions of a loop to `before`; returns the rest.
fn hoist_loop(
    body: Vec<Inst>,
    counter: Counter,
    runs: bool,
    registers: usize,
    before: &mut Vec<Inst>,
) -> Vec<Inst> {
    let mut assigned: FastSet<Reg> = FastSet::default();
    let mut variables: FastSet<Reg> = FastSet::default();
    let mut written: FastSet<BufId> = FastSet::default();
    survey(&body, &mut assigned, &mut variables, &mut written);
    // A few registers are for what an iteration computes.
    let mut room = registers.saturating_sub(4).saturating_sub(variables.len());
    let mut rest = Vec::with_capacity(body.len());
    for inst in body {
        let invariant = match &inst {
            Inst::Load { from, .. } => {
                runs && !written.contains(&from.buf) && from.address.terms.iter().all(|t| t.0 != counter)
            }
            Inst::Const { .. }
            | Inst::Unary { .. }
            | Inst::Binary { .. }
            | Inst::Shift { .. }
            | Inst::Shuffle { .. }
            | Inst::Fma { .. }
            | Inst::Compare { .. }
            | Inst::Select { .. } => true,
            _ => false,
        };
        let moves = invariant
            && room > 0
            && inst.dst().is_some_and(|d| !variables.contains(&d))
            && inst.operands().iter().all(|r| !assigned.contains(r));
        if moves {
            room -= 1;
            if let Some(dst) = inst.dst() {
                assigned.remove(&dst);
            }
            before.push(inst);
        } else {
            rest.push(inst);
        }
    }
    rest
}

/// What a loop assigns at all, more than once or from itself, and what it writes.
fn survey(
    body: &[Inst],
    assigned: &mut FastSet<Reg>,
    variables: &mut FastSet<Reg>,
    written: &mut FastSet<BufId>,
) {
    for inst in body {
        match inst {
            Inst::Store { to, .. } => {
                written.insert(to.buf);
            }
            Inst::IfAny { body, .. } | Inst::Loop { body, .. } => {
                survey(body, assigned, variables, written);
            }
            inst => {
                if let Some(dst) = inst.dst()
                    && (!assigned.insert(dst)
                        || matches!(inst, Inst::Copy { .. })
                        || inst.operands().contains(&dst))
                {
                    variables.insert(dst);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::vcode::{Access, Address, ArgId};

    #[test]
    fn invariants_move_in_front_of_the_innermost_loop_only() {
        let access = |buf: u32, terms: &[(Counter, i64)]| Access {
            address: Address { base: ArgId(0), terms: terms.into(), offset: 0 },
            stride: 4,
            lanes: 4,
            buf: BufId(buf),
        };
        let (outer, inner) = (Counter(0), Counter(1));
        let load = |dst: u32, buf, terms: &[_]| Inst::Load { dst: Reg(dst), from: access(buf, terms) };
        let inner_body = vec![
            Inst::Const { dst: Reg(0), bits: 0 },
            load(1, 0, &[(outer, 16)]),
            load(2, 1, &[(outer, 16)]),
            load(3, 0, &[(inner, 16)]),
            Inst::Store { src: Reg(3), to: access(1, &[(inner, 16)]) },
        ];
        let make = |counter, end, body| Inst::Loop { counter, begin: Bound::Const(0), end, body };
        let body = vec![make(outer, Bound::Const(4), vec![make(inner, Bound::Const(4), inner_body.clone())])];
        let hoisted = hoist(body, 16);
        let [Inst::Loop { body, .. }] = hoisted.as_slice() else { panic!("one loop: {hoisted:?}") };
        assert_eq!(body[..2], inner_body[..2]);
        assert_eq!(body[2], make(inner, Bound::Const(4), inner_body[2..].to_vec()));
        // A loop that may not run: loads stay.
        let hoisted = hoist(vec![make(inner, Bound::Arg(ArgId(0)), inner_body.clone())], 16);
        assert_eq!(hoisted[..1], inner_body[..1]);
        assert_eq!(hoisted.len(), 2);
    }
}
