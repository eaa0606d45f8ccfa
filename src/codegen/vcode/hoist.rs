//! Moves what does not change out of innermost loops: constants, loads and arithmetic on them.
//!
//! Only out of innermost loops, and only as much as fits beside the loop's own registers; further out it
//! would keep registers busy across inner loops. What is loaded as it is can become a memory operand where it does not fit
//! after all; what is converted on the way would be converted for each use, so that there has to be room for it beside all
//! that an iteration converts.

use nestjit_ir::BufId;

use super::tiles::TileInst;
use super::{Bound, Counter, Inst, Reg};
use crate::codegen::hash::FastMap;

/// Hoists in every innermost loop of a block that uses registers with numbers below `count`, for a machine with this
/// many vector registers.
pub(super) fn hoist(body: &mut Vec<Inst>, count: usize, registers: usize) {
    let marks = vec![Mark::default(); count];
    Hoister { registers, marks, touched: Vec::new(), variables: 0, written: Vec::new() }.block(body);
}

/// What a loop does with a register.
#[derive(Clone, Copy, Default)]
struct Mark {
    /// Assigns it.
    assigned: bool,
    /// Assigns it more than once, or from itself.
    variable: bool,
}

struct Hoister {
    registers: usize,
    /// What the loop at hand does with each register, and the registers that it assigns.
    marks: Vec<Mark>,
    touched: Vec<Reg>,
    /// How many of them are variables.
    variables: usize,
    /// The buffers that the loop at hand writes.
    written: Vec<BufId>,
}

impl Hoister {
    fn block(&mut self, body: &mut Vec<Inst>) {
        // What moves in front of the loop at a position.
        let mut moved: Vec<(usize, Vec<Inst>)> = Vec::new();
        for (at, inst) in body.iter_mut().enumerate() {
            let Inst::Loop { counter, begin, end, body } = inst else { continue };
            self.block(body);
            let innermost = !body.iter().any(|i| matches!(i, Inst::Loop { .. }));
            // A loop of constant extent runs at least once, so what it loads exists.
            let runs = matches!((*begin, *end), (Bound::Const(b), Bound::Const(e)) if b < e);
            if innermost {
                let before = self.hoist_loop(body, *counter, runs);
                if !before.is_empty() {
                    moved.push((at, before));
                }
            }
        }
        if moved.is_empty() {
            return;
        }
        let more: usize = moved.iter().map(|m| m.1.len()).sum();
        let old = std::mem::replace(body, Vec::with_capacity(body.len() + more));
        let mut moved = moved.into_iter().peekable();
        for (at, inst) in old.into_iter().enumerate() {
            if let Some((_, before)) = moved.next_if(|m| m.0 == at) {
                body.extend(before);
            }
            body.push(inst);
        }
    }

    /// Takes the invariant instructions out of a loop.
    fn hoist_loop(&mut self, body: &mut Vec<Inst>, counter: Counter, runs: bool) -> Vec<Inst> {
        self.survey(body);
        // A few registers are for what an iteration computes.
        let mut room = self.registers.saturating_sub(4).saturating_sub(self.variables);
        let same = body.iter().filter(|inst| self.is_invariant(inst, counter, runs)).count();
        let conversions_fit = same + self.converted(body, counter, runs) <= room;
        let invariant = body.extract_if(.., |inst| {
            let fits = room > 0 && (conversions_fit || !is_converted(inst));
            let moves = fits && self.is_invariant(inst, counter, runs);
            if moves && let Some(dst) = inst.dst() {
                room -= 1;
                self.marks[dst.0 as usize].assigned = false;
            }
            moves
        });
        let invariant = invariant.collect();
        for reg in self.touched.drain(..) {
            self.marks[reg.0 as usize] = Mark::default();
        }
        self.variables = 0;
        self.written.clear();
        invariant
    }

    /// How many values that are converted when they are loaded an iteration has at once, those aside that are the same in
    /// every iteration.
    fn converted(&self, body: &[Inst], counter: Counter, runs: bool) -> usize {
        let mut intervals: FastMap<Reg, (usize, usize)> = FastMap::default();
        for (at, inst) in body.iter().enumerate() {
            each_use(inst, &mut |reg| {
                if let Some((_, last)) = intervals.get_mut(&reg) {
                    *last = at;
                }
            });
            if let Some(dst) = inst.dst()
                && is_converted(inst)
                && !self.is_invariant(inst, counter, runs)
            {
                intervals.insert(dst, (at, at));
            }
        }
        let mut ends: Vec<(usize, bool)> =
            intervals.values().flat_map(|(first, last)| [(*first, true), (*last, false)]).collect();
        // A value that is used for the last time makes room for the one that is loaded next.
        ends.sort_unstable();
        let (mut now, mut most) = (0usize, 0);
        for (_, begins) in ends {
            now = if begins { now + 1 } else { now.saturating_sub(1) };
            most = most.max(now);
        }
        most
    }

    /// Whether an instruction does the same in every iteration of the loop.
    fn is_invariant(&self, inst: &Inst, counter: Counter, runs: bool) -> bool {
        let possible = match inst {
            Inst::Load { from, .. } => {
                runs && !self.written.contains(&from.buf) && from.address.terms.iter().all(|t| t.0 != counter)
            }
            Inst::Const { .. }
            | Inst::Unary { .. }
            | Inst::Binary { .. }
            | Inst::Shift { .. }
            | Inst::Shuffle { .. }
            | Inst::Fma { .. }
            | Inst::AndOr { .. }
            | Inst::Widen { .. }
            | Inst::Narrow { .. }
            | Inst::Compare { .. }
            | Inst::Select { .. } => true,
            _ => false,
        };
        let mark = |reg: Reg| self.marks[reg.0 as usize];
        possible
            && inst.dst().is_some_and(|d| !mark(d).variable)
            && inst.operands().iter().all(|r| !mark(*r).assigned)
    }

    /// Finds what a loop assigns at all, more than once or from itself, and what it writes.
    fn survey(&mut self, body: &[Inst]) {
        for inst in body {
            match inst {
                Inst::Store { to, .. } | Inst::Tile(TileInst::Store { to, .. }) => {
                    if !self.written.contains(&to.buf) {
                        self.written.push(to.buf);
                    }
                }
                Inst::IfAny { body, .. } | Inst::Loop { body, .. } => self.survey(body),
                inst => {
                    let Some(dst) = inst.dst() else { continue };
                    let mark = &mut self.marks[dst.0 as usize];
                    let variable =
                        mark.assigned || matches!(inst, Inst::Copy { .. }) || inst.operands().contains(&dst);
                    if !mark.assigned {
                        self.touched.push(dst);
                    }
                    mark.assigned = true;
                    if variable && !mark.variable {
                        mark.variable = true;
                        self.variables += 1;
                    }
                }
            }
        }
    }
}

/// Whether an instruction loads elements that are not in memory as they are in registers.
fn is_converted(inst: &Inst) -> bool {
    matches!(inst, Inst::Load { from, .. } if !from.ty.is_plain())
}

/// The registers that an instruction and its inner ones read.
fn each_use(inst: &Inst, take: &mut impl FnMut(Reg)) {
    inst.each_operand(&mut *take);
    if let Inst::Loop { body, .. } | Inst::IfAny { body, .. } = inst {
        body.iter().for_each(|inner| each_use(inner, take));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::vcode::{Access, Address, ArgId, MemType};

    #[test]
    fn invariants_move_in_front_of_the_innermost_loop_only() {
        let access = |buf: u32, terms: &[(Counter, i64)]| Access {
            address: Address { base: ArgId(0), terms: terms.into(), offset: 0 },
            stride: 4,
            ty: MemType::F32,
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
        let body = vec![make(inner, Bound::Const(4), inner_body.clone())];
        let mut hoisted = vec![make(outer, Bound::Const(4), body)];
        hoist(&mut hoisted, 4, 16);
        let [Inst::Loop { body, .. }] = hoisted.as_slice() else { panic!("one loop: {hoisted:?}") };
        assert_eq!(body[..2], inner_body[..2]);
        assert_eq!(body[2], make(inner, Bound::Const(4), inner_body[2..].to_vec()));
        // A loop that may not run: loads stay.
        let mut hoisted = vec![make(inner, Bound::Arg(ArgId(0)), inner_body.clone())];
        hoist(&mut hoisted, 4, 16);
        assert_eq!(hoisted[..1], inner_body[..1]);
        assert_eq!(hoisted.len(), 2);
    }

    #[test]
    fn what_is_converted_moves_only_where_all_conversions_fit() {
        let counter = Counter(0);
        // A weight that is the same in every iteration, and four elements that are all needed to the end.
        let kernel = |ty: MemType| {
            let load = |dst: u32, terms: &[(Counter, i64)]| {
                let address = Address { base: ArgId(0), terms: terms.into(), offset: i64::from(dst) };
                let from = Access { address, stride: ty.bytes(), ty, lanes: 4, buf: BufId(0) };
                Inst::Load { dst: Reg(dst), from }
            };
            let fma = |b: u32| Inst::Fma { dst: Reg(5), a: Reg(0), b: Reg(b), c: Reg(5) };
            let mut body = vec![load(0, &[])];
            body.extend((1..5).map(|dst| load(dst, &[(counter, 4)])));
            body.extend((1..5).map(fma));
            vec![Inst::Loop { counter, begin: Bound::Const(0), end: Bound::Const(4), body }]
        };
        let moved = |ty: MemType, registers: usize| {
            let mut body = kernel(ty);
            hoist(&mut body, 6, registers);
            body.len() > 1
        };
        // Four registers are for what an iteration computes, one is the sum's.
        assert!(moved(MemType::U8, 10) && !moved(MemType::U8, 9));
        assert!(moved(MemType::F32, 6) && !moved(MemType::F32, 5));
    }
}
