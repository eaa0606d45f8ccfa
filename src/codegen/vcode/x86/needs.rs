//! What instructions need besides their operands: temporary registers, lane masks, stack memory.

use std::collections::BTreeMap;

use super::Tier;
use super::flatten::{Flat, Node};
use crate::codegen::vcode::{Access, BinaryOp, Class, Combine, Guard, Inst};

/// Temporaries of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Needs {
    pub vectors: usize,
    /// Mask registers, where there are some.
    pub masks: usize,
    /// Whether the result is written before all operands are read.
    pub early: bool,
}

/// Bytes of an element.
pub(super) const ELEMENT: i64 = 4;
/// Lanes of a 128-bit register.
pub(super) const QUARTER: usize = 4;

/// Whether the elements of an access are neither one nor adjacent.
pub(super) fn is_strided(access: &Access) -> bool {
    access.stride != 0 && access.stride != ELEMENT && access.lanes > 1
}

/// Whether the guards differ between lanes.
pub(super) fn by_lane(guards: &[Guard]) -> bool {
    guards.iter().any(|g| g.step != 0)
}

/// Whether the lanes of a contiguous access are as many as a move of its own has.
pub(super) fn has_own_move(lanes: usize, tier: Tier) -> bool {
    lanes == tier.lanes() || matches!(lanes, 1 | 2 | 4) || (tier.is_512() && lanes == 8)
}

/// What an instruction needs.
pub(super) fn needs(inst: &Inst, class_of_a: Option<Class>, tier: Tier) -> Needs {
    let wide = tier.is_512();
    let strided = |a: &Access| usize::from(is_strided(a) && a.lanes > QUARTER);
    match inst {
        Inst::Load { from, .. } => Needs { vectors: strided(from), ..Needs::default() },
        Inst::Store { to, .. } => {
            let high = !wide && to.stride == ELEMENT && to.lanes > QUARTER && to.lanes < tier.lanes();
            Needs { vectors: strided(to).max(usize::from(high)), ..Needs::default() }
        }
        Inst::LoadGuarded { guards, .. } if by_lane(guards) => {
            Needs { vectors: if wide { 1 } else { 3 }, masks: 1, early: true }
        }
        Inst::LoadGuarded { from, .. } => Needs { vectors: strided(from), masks: 0, early: true },
        Inst::Reduce { op, .. } => {
            Needs { vectors: 2, masks: usize::from(matches!(op, Combine::Max | Combine::Min)), early: true }
        }
        Inst::Select { .. } if class_of_a == Some(Class::Mask) => {
            Needs { vectors: usize::from(!wide), masks: 1, early: false }
        }
        _ => Needs::default(),
    }
}

/// Bytes of stack memory that instructions use while they execute.
pub(super) fn working_bytes(flat: &Flat<'_>, tier: Tier) -> usize {
    let vector = tier.lanes() * 4;
    flat.nodes
        .iter()
        .map(|node| match node {
            // The operands and the result; live vector registers; masks; integer registers.
            Node::Inst(Inst::Call { args, .. }, _) => (args.len() + 1 + tier.registers()) * vector + 64 + 128,
            Node::Inst(Inst::LoadGuarded { from, guards, .. }, _) if by_lane(guards) && is_strided(from) => {
                vector + 8
            }
            _ => 0,
        })
        .max()
        .unwrap_or(0)
}

/// How many lanes the masks have that instructions need, the most important first.
pub(super) fn lane_masks(flat: &Flat<'_>, tier: Tier) -> Vec<usize> {
    let mut weights: BTreeMap<usize, f32> = BTreeMap::new();
    for (at, node) in flat.nodes.iter().enumerate() {
        let Node::Inst(inst, _) = node else { continue };
        let lanes = match inst {
            Inst::Load { from: a, .. } | Inst::Store { to: a, .. } if a.stride == ELEMENT => a.lanes,
            Inst::LoadGuarded { from, guards, .. } if from.stride == ELEMENT || by_lane(guards) => from.lanes,
            Inst::Reduce { lanes, .. } => *lanes,
            _ => continue,
        };
        if lanes < tier.lanes() {
            *weights.entry(lanes).or_default() += flat.weight(at);
        }
    }
    let mut lanes: Vec<(usize, f32)> = weights.into_iter().collect();
    lanes.sort_by(|a, b| b.1.total_cmp(&a.1));
    lanes.into_iter().map(|l| l.0).collect()
}

/// Whether the operands of an operation can be exchanged.
pub(super) fn commutes(op: BinaryOp) -> bool {
    !matches!(
        op,
        BinaryOp::Sub | BinaryOp::Div | BinaryOp::Max | BinaryOp::Min | BinaryOp::Scale | BinaryOp::IntSub
    )
}
