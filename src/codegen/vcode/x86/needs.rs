//! What instructions need besides their operands: temporary registers, lane masks, stack memory.

use std::collections::BTreeMap;

use super::Tier;
use super::flatten::{Flat, Node};
use super::lookup;
use crate::codegen::vcode::{
    Access, BinaryOp, Class, Combine, Guard, Inst, Kernel, MemType, Narrowing, Reg, UnaryOp,
};

/// Temporaries of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Needs {
    pub vectors: usize,
    /// Mask registers, where there are some.
    pub masks: usize,
    /// Whether the result is written before all operands are read.
    pub early: bool,
}

/// Bytes of a register of 128 bits.
pub(super) const X_BYTES: i64 = 16;

/// Lanes of a register of this class, in kernels of `lanes` lanes of 32 bits.
fn class_lanes(class: Class, lanes: usize) -> usize {
    if class.is_wide() { lanes / 2 } else { lanes }
}

/// Whether an access is the content of a whole register as it is.
pub(super) fn is_whole(access: &Access, lanes: usize) -> bool {
    access.is_contiguous() && access.ty.is_plain() && access.lanes == class_lanes(access.ty.class(), lanes)
}

/// Whether the elements of an access are neither one nor adjacent.
pub(super) fn is_strided(access: &Access) -> bool {
    access.stride != 0 && !access.is_contiguous() && access.lanes > 1
}

/// Whether the guards differ between lanes.
pub(super) fn by_lane(guards: &[Guard]) -> bool {
    guards.iter().any(|g| g.step != 0)
}

/// Whether a store of [`MemType::F16`] is one instruction, which converts.
pub(super) fn is_converted_store(to: &Access, tier: Tier) -> bool {
    let adjacent = to.stride != 0 && to.lanes > 1 && !is_strided(to);
    adjacent && (tier.is_512() || matches!(to.lanes, 4 | 8))
}

/// How many lanes the mask has with which 512-bit code does an access, if it needs one: there are moves for some
/// numbers of bytes.
pub(super) fn masked_lanes(access: &Access, store: bool) -> Option<usize> {
    let lanes = access.lanes;
    let has_own_move = match access.ty {
        MemType::F32 | MemType::I32 => matches!(lanes, 1 | 2 | 4 | 8 | 16),
        MemType::F64 | MemType::I64 => matches!(lanes, 1 | 2 | 4 | 8),
        MemType::I8 | MemType::U8 | MemType::I16 | MemType::U16 => matches!(lanes, 1 | 4 | 8 | 16),
        MemType::F16 | MemType::BF16 | MemType::SaturatedU8 => matches!(lanes, 1 | 4 | 8 | 16),
        MemType::Bool if store => matches!(lanes, 1 | 4 | 8 | 16),
        MemType::Bool => lanes == 16,
    };
    (access.stride != 0 && !is_strided(access) && !has_own_move).then_some(lanes)
}

/// What an instruction needs that writes `dst`.
pub(super) fn needs(kernel: &Kernel, inst: &Inst, dst: Option<Reg>, tier: Tier) -> Needs {
    let wide = tier.is_512();
    let vectors = |vectors: usize| Needs { vectors, ..Needs::default() };
    match inst {
        Inst::Load { from, .. } => vectors(to_load(from, tier)),
        Inst::Store { to, .. } => vectors(to_store(to, tier)),
        Inst::LoadGuarded { guards, .. } if by_lane(guards) => {
            Needs { vectors: if wide { 1 } else { 3 }, masks: 1, early: true }
        }
        Inst::LoadGuarded { from, .. } => Needs { vectors: to_load(from, tier), masks: 0, early: true },
        Inst::Reduce { op, .. } => {
            Needs { vectors: 2, masks: usize::from(matches!(op, Combine::Max | Combine::Min)), early: true }
        }
        Inst::Select { a, .. } if kernel.class(*a).is_mask() => {
            Needs { masks: usize::from(wide), ..Needs::default() }
        }
        Inst::Unary { op: UnaryOp::ToFloat | UnaryOp::ToInt, a, .. }
            if kernel.class(*a).is_wide() && !wide =>
        {
            vectors(1)
        }
        Inst::Binary { op: BinaryOp::IntMul, a, .. } if kernel.class(*a).is_wide() && !wide => vectors(2),
        Inst::Narrow { op, .. } => vectors(match op {
            Narrowing::Float | Narrowing::ToInt => 1,
            Narrowing::Int => usize::from(wide),
            Narrowing::ToFloat if wide => 1,
            Narrowing::ToFloat => 2,
            Narrowing::Mask => 0,
        }),
        Inst::Lookup { .. } => {
            Needs { vectors: lookup::temporaries(tier), masks: usize::from(wide), early: true }
        }
        Inst::Gather { from, first: None, .. } => vectors(to_load(from, tier)),
        // A part of the result, a part of the offsets, and what becomes a mask register.
        Inst::Gather { from, first: Some(_), .. } => {
            let to_mask = from.ty == MemType::Bool && wide;
            Needs { vectors: 2 + usize::from(to_mask), masks: 0, early: true }
        }
        Inst::Dot { a, b, c, .. } => {
            let accumulates = dst == Some(*c) && a != c && b != c;
            vectors(usize::from(!accumulates))
        }
        _ => Needs::default(),
    }
}

/// Temporary vector registers of a load.
fn to_load(from: &Access, tier: Tier) -> usize {
    // Bytes that become a mask register.
    let to_mask = from.ty == MemType::Bool && tier.is_512();
    let strided = is_strided(from) && from.lanes as i64 * from.ty.bytes() > X_BYTES;
    usize::from(to_mask || strided)
}

/// Temporary vector registers of a store.
pub(super) fn to_store(to: &Access, tier: Tier) -> usize {
    match to.ty {
        // Moved down, then stored as integers.
        MemType::BF16 => return 1 + to_store(&Access { ty: MemType::U16, ..to.clone() }, tier),
        MemType::F16 => return usize::from(!is_converted_store(to, tier)),
        MemType::F32 | MemType::F64 | MemType::I32 | MemType::I64 | MemType::Bool => {}
        MemType::I8 | MemType::U8 | MemType::SaturatedU8 | MemType::I16 | MemType::U16 => {}
    }
    let in_register = if to.ty.class().is_wide() { 8 } else { 4 };
    // Whether lanes are above the low 128 bits.
    let high = to.lanes * in_register > X_BYTES as usize;
    if to.stride == 0 || to.lanes == 1 {
        return 0;
    }
    if to.ty != MemType::Bool && (is_strided(to) || tier.is_512()) {
        return usize::from(high && is_strided(to));
    }
    match to.ty {
        MemType::F32 | MemType::F64 | MemType::I32 | MemType::I64 => {
            usize::from(high && to.lanes * in_register < 4 * tier.lanes())
        }
        MemType::I16 | MemType::U16 | MemType::F16 | MemType::BF16 => 1,
        MemType::I8 | MemType::U8 | MemType::SaturatedU8 => 1 + usize::from(high),
        // The bytes.
        MemType::Bool => 1,
    }
}

/// Bytes of stack memory that instructions use while they execute.
pub(super) fn working_bytes(flat: &Flat<'_>, tier: Tier) -> usize {
    let vector = tier.lanes() * 4;
    let is_wide = |reg: Reg| flat.kernel.class(reg).is_wide();
    flat.nodes
        .iter()
        .map(|node| match node {
            // The operands and the result; live vector registers; masks; integer registers.
            Node::Inst(Inst::Call { args, .. }, _) => (args.len() + 1 + tier.registers()) * vector + 64 + 128,
            Node::Inst(Inst::LoadGuarded { from, guards, .. }, _)
                if by_lane(guards) && lane_by_lane(from, tier) =>
            {
                vector + 8
            }
            // Two operands, or one.
            Node::Inst(Inst::Narrow { op: Narrowing::ToFloat, .. }, _) if !tier.is_512() => 2 * vector,
            Node::Inst(Inst::Unary { op: UnaryOp::ToInt, a, .. }, _) if is_wide(*a) && !tier.is_512() => {
                vector
            }
            _ => 0,
        })
        .max()
        .unwrap_or(0)
}

/// Whether a load of which some lanes may not exist is done one by one.
pub(super) fn lane_by_lane(from: &Access, tier: Tier) -> bool {
    from.stride != 0 && (is_strided(from) || (!tier.is_512() && !from.ty.is_plain()))
}

/// How many lanes the masks have that instructions need, the most important first.
pub(super) fn lane_masks(flat: &Flat<'_>, tier: Tier) -> Vec<usize> {
    let mut weights: BTreeMap<usize, f32> = BTreeMap::new();
    for (at, node) in flat.nodes.iter().enumerate() {
        let Node::Inst(inst, _) = node else { continue };
        let lanes = match inst {
            Inst::LoadGuarded { from, guards, .. } if by_lane(guards) => existing_lanes(from, tier),
            Inst::Load { from, .. } | Inst::LoadGuarded { from, .. } => masked_lanes(from, false),
            Inst::Gather { from, first: None, .. } => masked_lanes(from, false),
            Inst::Store { to, .. } => masked_lanes(to, true),
            Inst::Reduce { lanes, .. } => (*lanes < tier.lanes()).then_some(*lanes),
            _ => None,
        };
        if let Some(lanes) = lanes {
            *weights.entry(lanes).or_default() += flat.weight(at);
        }
    }
    let mut lanes: Vec<(usize, f32)> = weights.into_iter().collect();
    lanes.sort_by(|a, b| b.1.total_cmp(&a.1));
    lanes.into_iter().map(|l| l.0).collect()
}

/// How many lanes of a mask of lanes of 32 bits exist in a guarded load, if not all.
pub(super) fn existing_lanes(from: &Access, tier: Tier) -> Option<usize> {
    (from.stride != 0 && from.lanes < tier.lanes()).then_some(from.lanes)
}

/// Whether the operands of an operation can be exchanged.
pub(super) fn commutes(op: BinaryOp) -> bool {
    !matches!(
        op,
        BinaryOp::Sub
            | BinaryOp::Div
            | BinaryOp::Max
            | BinaryOp::Min
            | BinaryOp::Scale
            | BinaryOp::IntSub
            | BinaryOp::ShiftLeft
            | BinaryOp::ShiftRight
            | BinaryOp::ShiftRightSigned
    )
}
