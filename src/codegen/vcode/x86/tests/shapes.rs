//! Accesses of every number of lanes, stride and guard, at both ends of their buffers.

use nestjit_ir::{Affine, BufId};

use super::{Input, check, tiers};
use crate::codegen::vcode::{Access, Address, Arg, ArgId, Class, Guard, Inst, Int, Kernel, Reg};

fn pointer(buf: u32) -> Arg {
    Arg::Pointer(BufId(buf), Affine::constant(0))
}

fn access(base: u32, offset: i64, stride: i64, lanes: usize) -> Access {
    let address = Address { base: ArgId(base), terms: [].into(), offset };
    Access { address, stride, lanes, buf: BufId(base) }
}

#[test]
fn every_number_of_lanes_and_stride_touches_nothing_else() {
    for tier in tiers() {
        for lanes in 1..=tier.lanes() {
            for step in [1i64, 0, 2, 3, 5, -1, -3] {
                let lanes = if step == 0 { 1 } else { lanes };
                let reach = step * (lanes as i64 - 1);
                let elements = reach.unsigned_abs() as usize + 1;
                let first = 4 * (-reach).max(0);
                let read = access(0, first, 4 * step, lanes);
                let write = access(1, first, 4 * step, lanes);
                let all = access(2, 0, 4, tier.lanes());
                let kernel = Kernel {
                    lanes: tier.lanes(),
                    args: vec![pointer(0), pointer(1), pointer(2)],
                    regs: vec![Class::F32],
                    body: vec![
                        Inst::Load { dst: Reg(0), from: read },
                        Inst::Store { src: Reg(0), to: write },
                        Inst::Store { src: Reg(0), to: all },
                    ],
                    ..Kernel::default()
                };
                let x: Vec<f32> = (0..elements).map(|i| i as f32 + 0.5).collect();
                let buffers = vec![x, vec![-1.0; elements], vec![-1.0; tier.lanes()]];
                check(&kernel, tier, &Input { buffers, int: 0, range: (0, 1) });
            }
        }
    }
}

#[test]
fn guards_at_both_edges_keep_loads_inside() {
    for tier in tiers() {
        for lanes in 1..=tier.lanes() {
            for step in [1i64, 2, -1] {
                for offset in -36i64..40 {
                    const LEN: i64 = 21;
                    let value = Int { arg: Some(ArgId(2)), terms: [].into(), offset };
                    let guards = vec![Guard { value, step, lo: 0, hi: LEN - 1 }];
                    let kernel = Kernel {
                        lanes: tier.lanes(),
                        args: vec![pointer(0), pointer(1), Arg::Int(Affine::constant(0))],
                        regs: vec![Class::F32; 2],
                        body: vec![
                            Inst::Const { dst: Reg(0), bits: 7f32.to_bits() },
                            Inst::LoadGuarded {
                                dst: Reg(1),
                                from: access(0, 4 * offset, 4 * step, lanes),
                                guards,
                                otherwise: Reg(0),
                            },
                            Inst::Store { src: Reg(1), to: access(1, 0, 4, lanes) },
                        ],
                        ..Kernel::default()
                    };
                    let x: Vec<f32> = (0..LEN).map(|i| i as f32 + 0.5).collect();
                    let buffers = vec![x, vec![-1.0; tier.lanes()]];
                    check(&kernel, tier, &Input { buffers, int: 0, range: (0, 1) });
                }
            }
        }
    }
}
