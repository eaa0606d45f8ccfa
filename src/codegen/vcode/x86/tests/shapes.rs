//! Accesses of every type, number of lanes, stride and guard, at both ends of their buffers.

use nestjit_ir::Affine;

use super::{Contents, Input, Random, TYPES, access, check, pointer, widths};
use crate::codegen::vcode::x86::Tier;
use crate::codegen::vcode::{
    Arg, ArgId, Bound, Class, Cmp, Counter, Guard, Inst, Int, Kernel, MemType, Reg, Terms,
};

/// Lanes of a register that elements are loaded into.
fn lanes(ty: MemType, tier: Tier) -> usize {
    if ty.class().is_wide() { tier.lanes() / 2 } else { tier.lanes() }
}

/// The type that shows all bits of a register's lanes.
fn plain(class: Class) -> MemType {
    match class {
        Class::F32 => MemType::F32,
        Class::F64 => MemType::F64,
        Class::I32 | Class::Mask => MemType::I32,
        Class::I64 | Class::Mask64 => MemType::I64,
    }
}

/// Appends what makes all lanes of a register visible: masks become integers.
fn visible(kernel: &mut Kernel, reg: Reg) -> Reg {
    if kernel.class(reg) != Class::Mask {
        return reg;
    }
    let mut new = || {
        kernel.regs.push(Class::I32);
        Reg(kernel.regs.len() as u32 - 1)
    };
    let (yes, no, dst) = (new(), new(), new());
    kernel.body.extend([
        Inst::Const { dst: yes, bits: 0x1234_5678 },
        Inst::Const { dst: no, bits: 0x4321 },
        Inst::Select { dst, mask: reg, a: yes, b: no },
    ]);
    dst
}

#[test]
fn every_number_of_lanes_and_stride_touches_nothing_else() {
    let none: Terms = [].into();
    let mut random = Random(0x5eed);
    for tier in widths() {
        for (ty, step) in TYPES.into_iter().flat_map(|ty| [1i64, 0, 2, 3, 5, -1, -3].map(|step| (ty, step))) {
            let all = lanes(ty, tier);
            for lanes in 1..=if step == 0 { 1 } else { all } {
                let reach = step * (lanes as i64 - 1);
                let elements = reach.unsigned_abs() as usize + 1;
                let first = (-reach).max(0);
                let shown = plain(ty.class());
                let mut kernel = Kernel {
                    lanes: tier.lanes(),
                    args: (0..5).map(pointer).collect(),
                    regs: vec![ty.class(), plain(ty.class()).class()],
                    ..Kernel::default()
                };
                // What was loaded as it is and in all lanes; what comes from any bits.
                kernel.body = vec![
                    Inst::Load { dst: Reg(0), from: access(ty, 0, first, &none, step, lanes) },
                    Inst::Store { src: Reg(0), to: access(ty, 1, first, &none, step, lanes) },
                    Inst::Load { dst: Reg(1), from: access(shown, 3, 0, &none, 1, all) },
                ];
                let mut wild = Reg(1);
                if ty == MemType::Bool {
                    kernel.regs.extend([Class::I32, Class::Mask]);
                    wild = Reg(3);
                    kernel.body.extend([
                        Inst::Const { dst: Reg(2), bits: 0 },
                        Inst::Compare { op: Cmp::Lt, dst: wild, a: Reg(1), b: Reg(2) },
                    ]);
                }
                kernel.body.push(Inst::Store { src: wild, to: access(ty, 4, first, &none, step, lanes) });
                let result = visible(&mut kernel, Reg(0));
                kernel.body.push(Inst::Store { src: result, to: access(shown, 2, 0, &none, 1, all) });
                let mut values =
                    |ty, n| Contents::new(ty, (0..n).map(|_| random.element(ty)).collect::<Vec<u64>>());
                let (x, z) = (values(ty, elements), values(shown, all));
                let written = values(ty, elements);
                let buffers = vec![x, written.clone(), Contents::zeros(shown, all), z, written];
                check(&kernel, tier, &Input { buffers, int: 0, range: (0, 1) });
            }
        }
    }
}

#[test]
fn guards_at_both_edges_keep_loads_inside() {
    const LEN: i64 = 21;
    const OFFSETS: std::ops::Range<i64> = -36..40;
    let mut random = Random(0x5eed);
    for tier in widths() {
        for (ty, step) in TYPES.into_iter().flat_map(|ty| [1i64, 2, -1, 0].map(|step| (ty, step))) {
            let all = lanes(ty, tier);
            for lanes in 1..=if step == 0 { 1 } else { all } {
                for by_lane in [true, false] {
                    let shown = plain(ty.class());
                    let terms: Terms = [(Counter(0), 1)].into();
                    let value = Int { arg: Some(ArgId(2)), terms: terms.clone(), offset: OFFSETS.start };
                    // All lanes are inside if the first one is within these.
                    let reach = step * (lanes as i64 - 1);
                    let guards = if by_lane {
                        // One element for all lanes, some of which do not ask for it.
                        let step = if step == 0 { 3 } else { step };
                        let mut guards = vec![Guard { value, step, lo: 0, hi: LEN - 1 }];
                        let value = Int { arg: None, terms: [].into(), offset: 1 };
                        if lanes % 3 == 0 {
                            guards.push(Guard { value, step: 1, lo: 2, hi: 12 });
                        }
                        guards
                    } else {
                        vec![Guard { value, step: 0, lo: (-reach).max(0), hi: LEN - 1 - reach.max(0) }]
                    };
                    let mut kernel = Kernel {
                        lanes: tier.lanes(),
                        args: vec![pointer(0), pointer(1), Arg::Int(Affine::constant(0))],
                        regs: vec![ty.class(); 2],
                        counters: 1,
                        ..Kernel::default()
                    };
                    // One element for all lanes is at the same place throughout.
                    let from = if step == 0 && by_lane {
                        access(ty, 0, LEN - 1, &[].into(), 0, 1)
                    } else {
                        access(ty, 0, OFFSETS.start, &terms, step, lanes)
                    };
                    kernel.body = vec![
                        Inst::Const { dst: Reg(0), bits: 7f32.to_bits().into() },
                        Inst::LoadGuarded { dst: Reg(1), from, guards, otherwise: Reg(0) },
                    ];
                    let result = visible(&mut kernel, Reg(1));
                    let shown_lanes = if step == 0 { all } else { lanes };
                    let at: Terms = [(Counter(0), all as i64)].into();
                    kernel
                        .body
                        .push(Inst::Store { src: result, to: access(shown, 1, 0, &at, 1, shown_lanes) });
                    let (begin, end) = (Bound::Const(0), Bound::Const(OFFSETS.end - OFFSETS.start));
                    let body = std::mem::take(&mut kernel.body);
                    kernel.body = vec![Inst::Loop { counter: Counter(0), begin, end, body }];
                    let x: Vec<u64> = (0..LEN).map(|_| random.element(ty)).collect();
                    let results = Contents::zeros(shown, all * OFFSETS.count());
                    let buffers = vec![Contents::new(ty, x), results];
                    check(&kernel, tier, &Input { buffers, int: 0, range: (0, 1) });
                }
            }
        }
    }
}
