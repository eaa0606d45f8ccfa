//! The instructions that are used, jumps apart, each with its encoding: lines read like those of the manuals.

use iced_x86::Code;

use super::{Encoding, Form, Prefix};

const NP: u8 = 0;
const P66: u8 = 1;
const PF3: u8 = 2;
const PF2: u8 = 3;
const ONE: u8 = 0;
const M0F: u8 = 1;
const M0F38: u8 = 2;
const M0F3A: u8 = 3;
const L128: u8 = 0;
const L256: u8 = 1;
const L512: u8 = 2;

const fn legacy(map: u8, opcode: u8, form: Form) -> Encoding {
    Encoding { prefix: Prefix::Legacy, ..vex(L128, NP, map, opcode, form) }
}

const fn vex(length: u8, mandatory: u8, map: u8, opcode: u8, form: Form) -> Encoding {
    let prefix = Prefix::Vex;
    let (wide, immediate, unit, broadcast_unit) = (false, 0, 1, 1);
    Encoding { prefix, map, mandatory, wide, length, opcode, form, immediate, unit, broadcast_unit }
}

const fn evex(length: u8, mandatory: u8, map: u8, opcode: u8, form: Form) -> Encoding {
    Encoding { prefix: Prefix::Evex, ..vex(length, mandatory, map, opcode, form) }
}

impl Encoding {
    const fn w(self) -> Encoding {
        Encoding { wide: true, ..self }
    }

    const fn imm(self, bytes: u8) -> Encoding {
        Encoding { immediate: bytes, ..self }
    }

    const fn by(self, unit: u8) -> Encoding {
        Encoding { unit, broadcast_unit: unit, ..self }
    }

    const fn by_or(self, unit: u8, broadcast_unit: u8) -> Encoding {
        Encoding { unit, broadcast_unit, ..self }
    }
}

macro_rules! table {
    ($($code:ident = $encoding:expr;)*) => {
        /// All instructions but jumps.
        pub(in super::super) const TABLE: &[(Code, Encoding)] = &[$((Code::$code, $encoding)),*];
    };
}

table! {
    Add_r64_rm64 = legacy(ONE, 0x03, Form::Rm).w();
    Add_rm64_imm32 = legacy(ONE, 0x81, Form::M(0)).w().imm(4);
    Add_rm64_imm8 = legacy(ONE, 0x83, Form::M(0)).w().imm(1);
    And_rm32_imm8 = legacy(ONE, 0x83, Form::M(4)).imm(1);
    And_rm64_imm8 = legacy(ONE, 0x83, Form::M(4)).w().imm(1);
    Bt_rm32_imm8 = legacy(M0F, 0xba, Form::M(4)).imm(1);
    Call_rm64 = legacy(ONE, 0xff, Form::M(2));
    Cmovg_r64_rm64 = legacy(M0F, 0x4f, Form::Rm).w();
    Cmovl_r64_rm64 = legacy(M0F, 0x4c, Form::Rm).w();
    Cmp_r64_rm64 = legacy(ONE, 0x3b, Form::Rm).w();
    Cmp_rm32_imm32 = legacy(ONE, 0x81, Form::M(7)).imm(4);
    Cmp_rm64_imm32 = legacy(ONE, 0x81, Form::M(7)).w().imm(4);
    Imul_r64_rm64 = legacy(M0F, 0xaf, Form::Rm).w();
    Imul_r64_rm64_imm32 = legacy(ONE, 0x69, Form::Rm).w().imm(4);
    Lea_r64_m = legacy(ONE, 0x8d, Form::Rm).w();
    Mov_r32_imm32 = legacy(ONE, 0xb8, Form::O).imm(4);
    Mov_r32_rm32 = legacy(ONE, 0x8b, Form::Rm);
    Mov_r64_imm64 = legacy(ONE, 0xb8, Form::O).w().imm(8);
    Mov_r64_rm64 = legacy(ONE, 0x8b, Form::Rm).w();
    Mov_rm32_r32 = legacy(ONE, 0x89, Form::Mr);
    Mov_rm64_imm32 = legacy(ONE, 0xc7, Form::M(0)).w().imm(4);
    Mov_rm64_r64 = legacy(ONE, 0x89, Form::Mr).w();
    Mov_rm8_r8 = legacy(ONE, 0x88, Form::Mr);
    Movsx_r32_rm16 = legacy(M0F, 0xbf, Form::Rm);
    Movsx_r32_rm8 = legacy(M0F, 0xbe, Form::Rm);
    Movzx_r32_rm16 = legacy(M0F, 0xb7, Form::Rm);
    Movzx_r32_rm8 = legacy(M0F, 0xb6, Form::Rm);
    Neg_rm32 = legacy(ONE, 0xf7, Form::M(3));
    Pop_r64 = legacy(ONE, 0x58, Form::O);
    Prefetcht0_m8 = legacy(M0F, 0x18, Form::M(1));
    Prefetcht1_m8 = legacy(M0F, 0x18, Form::M(2));
    Push_r64 = legacy(ONE, 0x50, Form::O);
    Retnq = legacy(ONE, 0xc3, Form::Alone);
    Sbb_rm32_r32 = legacy(ONE, 0x19, Form::Mr);
    Shl_rm32_imm8 = legacy(ONE, 0xc1, Form::M(4)).imm(1);
    Sub_r64_rm64 = legacy(ONE, 0x2b, Form::Rm).w();
    Sub_rm64_imm32 = legacy(ONE, 0x81, Form::M(5)).w().imm(4);
    Sub_rm64_imm8 = legacy(ONE, 0x83, Form::M(5)).w().imm(1);
    Test_rm32_r32 = legacy(ONE, 0x85, Form::Mr);

    VEX_Kandnw_kr_kr_kr = vex(L256, NP, M0F, 0x42, Form::Rvm);
    VEX_Kandw_kr_kr_kr = vex(L256, NP, M0F, 0x41, Form::Rvm);
    VEX_Kmovw_kr_km16 = vex(L128, NP, M0F, 0x90, Form::Rm);
    VEX_Kmovw_kr_r32 = vex(L128, NP, M0F, 0x92, Form::Rm);
    VEX_Kmovw_m16_kr = vex(L128, NP, M0F, 0x91, Form::Mr);
    VEX_Kmovw_r32_kr = vex(L128, NP, M0F, 0x93, Form::Rm);
    VEX_Knotw_kr_kr = vex(L128, NP, M0F, 0x44, Form::Rm);
    VEX_Kortestw_kr_kr = vex(L128, NP, M0F, 0x98, Form::Rm);
    VEX_Korw_kr_kr_kr = vex(L256, NP, M0F, 0x45, Form::Rvm);
    VEX_Kshiftrw_kr_kr_imm8 = vex(L128, P66, M0F3A, 0x30, Form::Rm).w().imm(1);
    VEX_Kunpckbw_kr_kr_kr = vex(L256, P66, M0F, 0x4b, Form::Rvm);
    VEX_Kxnorw_kr_kr_kr = vex(L256, NP, M0F, 0x46, Form::Rvm);
    VEX_Kxorw_kr_kr_kr = vex(L256, NP, M0F, 0x47, Form::Rvm);
    VEX_Ldtilecfg_m512 = vex(L128, NP, M0F38, 0x49, Form::M(0));
    VEX_Tdpbf16ps_tmm_tmm_tmm = vex(L128, PF3, M0F38, 0x5c, Form::Rmv);
    VEX_Tdpbsud_tmm_tmm_tmm = vex(L128, PF3, M0F38, 0x5e, Form::Rmv);
    VEX_Tdpbusd_tmm_tmm_tmm = vex(L128, P66, M0F38, 0x5e, Form::Rmv);
    VEX_Tileloadd_tmm_sibmem = vex(L128, PF2, M0F38, 0x4b, Form::Rm);
    VEX_Tilerelease = vex(L128, NP, M0F38, 0x49, Form::Fixed(0xc0));
    VEX_Tilestored_sibmem_tmm = vex(L128, PF3, M0F38, 0x4b, Form::Mr);
    VEX_Vaddpd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0x58, Form::Rvm);
    VEX_Vaddps_xmm_xmm_xmmm128 = vex(L128, NP, M0F, 0x58, Form::Rvm);
    VEX_Vaddps_ymm_ymm_ymmm256 = vex(L256, NP, M0F, 0x58, Form::Rvm);
    VEX_Vandpd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0x54, Form::Rvm);
    VEX_Vandps_ymm_ymm_ymmm256 = vex(L256, NP, M0F, 0x54, Form::Rvm);
    VEX_Vblendvpd_ymm_ymm_ymmm256_ymm = vex(L256, P66, M0F3A, 0x4b, Form::Rvmr);
    VEX_Vblendvps_ymm_ymm_ymmm256_ymm = vex(L256, P66, M0F3A, 0x4a, Form::Rvmr);
    VEX_Vbroadcastsd_ymm_m64 = vex(L256, P66, M0F38, 0x19, Form::Rm);
    VEX_Vbroadcastsd_ymm_xmm = vex(L256, P66, M0F38, 0x19, Form::Rm);
    VEX_Vbroadcastss_ymm_m32 = vex(L256, P66, M0F38, 0x18, Form::Rm);
    VEX_Vbroadcastss_ymm_xmm = vex(L256, P66, M0F38, 0x18, Form::Rm);
    VEX_Vcmppd_ymm_ymm_ymmm256_imm8 = vex(L256, P66, M0F, 0xc2, Form::Rvm).imm(1);
    VEX_Vcmpps_ymm_ymm_ymmm256_imm8 = vex(L256, NP, M0F, 0xc2, Form::Rvm).imm(1);
    VEX_Vcvtdq2pd_ymm_xmmm128 = vex(L256, PF3, M0F, 0xe6, Form::Rm);
    VEX_Vcvtdq2ps_ymm_ymmm256 = vex(L256, NP, M0F, 0x5b, Form::Rm);
    VEX_Vcvtpd2ps_xmm_ymmm256 = vex(L256, P66, M0F, 0x5a, Form::Rm);
    VEX_Vcvtph2ps_xmm_xmmm64 = vex(L128, P66, M0F38, 0x13, Form::Rm);
    VEX_Vcvtph2ps_ymm_xmmm128 = vex(L256, P66, M0F38, 0x13, Form::Rm);
    VEX_Vcvtps2dq_ymm_ymmm256 = vex(L256, P66, M0F, 0x5b, Form::Rm);
    VEX_Vcvtps2pd_ymm_xmmm128 = vex(L256, NP, M0F, 0x5a, Form::Rm);
    VEX_Vcvtps2ph_xmmm128_ymm_imm8 = vex(L256, P66, M0F3A, 0x1d, Form::Mr).imm(1);
    VEX_Vcvtps2ph_xmmm64_xmm_imm8 = vex(L128, P66, M0F3A, 0x1d, Form::Mr).imm(1);
    VEX_Vcvtsi2ss_xmm_xmm_rm64 = vex(L128, PF3, M0F, 0x2a, Form::Rvm).w();
    VEX_Vcvttpd2dq_xmm_ymmm256 = vex(L256, P66, M0F, 0xe6, Form::Rm);
    VEX_Vcvttps2dq_ymm_ymmm256 = vex(L256, PF3, M0F, 0x5b, Form::Rm);
    VEX_Vcvttsd2si_r64_xmmm64 = vex(L128, PF2, M0F, 0x2c, Form::Rm).w();
    VEX_Vdivpd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0x5e, Form::Rvm);
    VEX_Vdivps_ymm_ymm_ymmm256 = vex(L256, NP, M0F, 0x5e, Form::Rvm);
    VEX_Vextractf128_xmmm128_ymm_imm8 = vex(L256, P66, M0F3A, 0x19, Form::Mr).imm(1);
    VEX_Vextracti128_xmmm128_ymm_imm8 = vex(L256, P66, M0F3A, 0x39, Form::Mr).imm(1);
    VEX_Vextractps_rm32_xmm_imm8 = vex(L128, P66, M0F3A, 0x17, Form::Mr).imm(1);
    VEX_Vfmadd132pd_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x98, Form::Rvm).w();
    VEX_Vfmadd132ps_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x98, Form::Rvm);
    VEX_Vfmadd213pd_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0xa8, Form::Rvm).w();
    VEX_Vfmadd213ps_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0xa8, Form::Rvm);
    VEX_Vfmadd231pd_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0xb8, Form::Rvm).w();
    VEX_Vfmadd231ps_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0xb8, Form::Rvm);
    VEX_Vinsertf128_ymm_ymm_xmmm128_imm8 = vex(L256, P66, M0F3A, 0x18, Form::Rvm).imm(1);
    VEX_Vinsertps_xmm_xmm_xmmm32_imm8 = vex(L128, P66, M0F3A, 0x21, Form::Rvm).imm(1);
    VEX_Vmaskmovpd_ymm_ymm_m256 = vex(L256, P66, M0F38, 0x2d, Form::Rvm);
    VEX_Vmaskmovps_ymm_ymm_m256 = vex(L256, P66, M0F38, 0x2c, Form::Rvm);
    VEX_Vmaxpd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0x5f, Form::Rvm);
    VEX_Vmaxps_xmm_xmm_xmmm128 = vex(L128, NP, M0F, 0x5f, Form::Rvm);
    VEX_Vmaxps_ymm_ymm_ymmm256 = vex(L256, NP, M0F, 0x5f, Form::Rvm);
    VEX_Vminpd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0x5d, Form::Rvm);
    VEX_Vminps_xmm_xmm_xmmm128 = vex(L128, NP, M0F, 0x5d, Form::Rvm);
    VEX_Vminps_ymm_ymm_ymmm256 = vex(L256, NP, M0F, 0x5d, Form::Rvm);
    VEX_Vmovaps_ymm_ymmm256 = vex(L256, NP, M0F, 0x28, Form::Rm);
    VEX_Vmovd_rm32_xmm = vex(L128, P66, M0F, 0x7e, Form::Mr);
    VEX_Vmovd_xmm_rm32 = vex(L128, P66, M0F, 0x6e, Form::Rm);
    VEX_Vmovhps_m64_xmm = vex(L128, NP, M0F, 0x17, Form::Mr);
    VEX_Vmovhps_xmm_xmm_m64 = vex(L128, NP, M0F, 0x16, Form::Rvm);
    VEX_Vmovlps_m64_xmm = vex(L128, NP, M0F, 0x13, Form::Mr);
    VEX_Vmovmskps_r32_ymm = vex(L256, NP, M0F, 0x50, Form::Rm);
    VEX_Vmovq_xmm_rm64 = vex(L128, P66, M0F, 0x6e, Form::Rm).w();
    VEX_Vmovsd_m64_xmm = vex(L128, PF2, M0F, 0x11, Form::Mr);
    VEX_Vmovsd_xmm_m64 = vex(L128, PF2, M0F, 0x10, Form::Rm);
    VEX_Vmovss_m32_xmm = vex(L128, PF3, M0F, 0x11, Form::Mr);
    VEX_Vmovss_xmm_m32 = vex(L128, PF3, M0F, 0x10, Form::Rm);
    VEX_Vmovupd_ymm_ymmm256 = vex(L256, P66, M0F, 0x10, Form::Rm);
    VEX_Vmovupd_ymmm256_ymm = vex(L256, P66, M0F, 0x11, Form::Mr);
    VEX_Vmovups_xmm_xmmm128 = vex(L128, NP, M0F, 0x10, Form::Rm);
    VEX_Vmovups_xmmm128_xmm = vex(L128, NP, M0F, 0x11, Form::Mr);
    VEX_Vmovups_ymm_ymmm256 = vex(L256, NP, M0F, 0x10, Form::Rm);
    VEX_Vmovups_ymmm256_ymm = vex(L256, NP, M0F, 0x11, Form::Mr);
    VEX_Vmulpd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0x59, Form::Rvm);
    VEX_Vmulps_xmm_xmm_xmmm128 = vex(L128, NP, M0F, 0x59, Form::Rvm);
    VEX_Vmulps_ymm_ymm_ymmm256 = vex(L256, NP, M0F, 0x59, Form::Rvm);
    VEX_Vorpd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0x56, Form::Rvm);
    VEX_Vorps_ymm_ymm_ymmm256 = vex(L256, NP, M0F, 0x56, Form::Rvm);
    VEX_Vpabsb_xmm_xmmm128 = vex(L128, P66, M0F38, 0x1c, Form::Rm);
    VEX_Vpackssdw_xmm_xmm_xmmm128 = vex(L128, P66, M0F, 0x6b, Form::Rvm);
    VEX_Vpacksswb_xmm_xmm_xmmm128 = vex(L128, P66, M0F, 0x63, Form::Rvm);
    VEX_Vpaddd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0xfe, Form::Rvm);
    VEX_Vpaddq_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0xd4, Form::Rvm);
    VEX_Vpblendd_ymm_ymm_ymmm256_imm8 = vex(L256, P66, M0F3A, 0x02, Form::Rvm).imm(1);
    VEX_Vpbroadcastd_ymm_xmmm32 = vex(L256, P66, M0F38, 0x58, Form::Rm);
    VEX_Vpbroadcastw_xmm_xmmm16 = vex(L128, P66, M0F38, 0x79, Form::Rm);
    VEX_Vpbroadcastw_ymm_xmmm16 = vex(L256, P66, M0F38, 0x79, Form::Rm);
    VEX_Vpcmpeqd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0x76, Form::Rvm);
    VEX_Vpcmpeqq_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x29, Form::Rvm);
    VEX_Vpcmpgtd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0x66, Form::Rvm);
    VEX_Vpcmpgtq_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x37, Form::Rvm);
    VEX_Vpdpbusd_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x50, Form::Rvm);
    VEX_Vperm2f128_ymm_ymm_ymmm256_imm8 = vex(L256, P66, M0F3A, 0x06, Form::Rvm).imm(1);
    VEX_Vpermd_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x36, Form::Rvm);
    VEX_Vpermilpd_ymm_ymmm256_imm8 = vex(L256, P66, M0F3A, 0x05, Form::Rm).imm(1);
    VEX_Vpermilps_xmm_xmmm128_imm8 = vex(L128, P66, M0F3A, 0x04, Form::Rm).imm(1);
    VEX_Vpermilps_ymm_ymmm256_imm8 = vex(L256, P66, M0F3A, 0x04, Form::Rm).imm(1);
    VEX_Vpermq_ymm_ymmm256_imm8 = vex(L256, P66, M0F3A, 0x00, Form::Rm).w().imm(1);
    VEX_Vpextrb_r32m8_xmm_imm8 = vex(L128, P66, M0F3A, 0x14, Form::Mr).imm(1);
    VEX_Vpextrw_r32m16_xmm_imm8 = vex(L128, P66, M0F3A, 0x15, Form::Mr).imm(1);
    VEX_Vpinsrb_xmm_xmm_r32m8_imm8 = vex(L128, P66, M0F3A, 0x20, Form::Rvm).imm(1);
    VEX_Vpinsrd_xmm_xmm_rm32_imm8 = vex(L128, P66, M0F3A, 0x22, Form::Rvm).imm(1);
    VEX_Vpinsrq_xmm_xmm_rm64_imm8 = vex(L128, P66, M0F3A, 0x22, Form::Rvm).w().imm(1);
    VEX_Vpinsrw_xmm_xmm_r32m16_imm8 = vex(L128, P66, M0F, 0xc4, Form::Rvm).imm(1);
    VEX_Vpmaddwd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0xf5, Form::Rvm);
    VEX_Vpmaxsd_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x3d, Form::Rvm);
    VEX_Vpminsd_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x39, Form::Rvm);
    VEX_Vpminud_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x3b, Form::Rvm);
    VEX_Vpmovsxbd_xmm_xmmm32 = vex(L128, P66, M0F38, 0x21, Form::Rm);
    VEX_Vpmovsxbd_ymm_xmmm64 = vex(L256, P66, M0F38, 0x21, Form::Rm);
    VEX_Vpmovsxdq_ymm_xmmm128 = vex(L256, P66, M0F38, 0x25, Form::Rm);
    VEX_Vpmovsxwd_xmm_xmmm64 = vex(L128, P66, M0F38, 0x23, Form::Rm);
    VEX_Vpmovsxwd_ymm_xmmm128 = vex(L256, P66, M0F38, 0x23, Form::Rm);
    VEX_Vpmovzxbd_xmm_xmmm32 = vex(L128, P66, M0F38, 0x31, Form::Rm);
    VEX_Vpmovzxbd_ymm_xmmm64 = vex(L256, P66, M0F38, 0x31, Form::Rm);
    VEX_Vpmovzxdq_ymm_xmmm128 = vex(L256, P66, M0F38, 0x35, Form::Rm);
    VEX_Vpmovzxwd_xmm_xmmm64 = vex(L128, P66, M0F38, 0x33, Form::Rm);
    VEX_Vpmovzxwd_ymm_xmmm128 = vex(L256, P66, M0F38, 0x33, Form::Rm);
    VEX_Vpmulld_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x40, Form::Rvm);
    VEX_Vpmuludq_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0xf4, Form::Rvm);
    VEX_Vpshufb_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x00, Form::Rvm);
    VEX_Vpshufd_ymm_ymmm256_imm8 = vex(L256, P66, M0F, 0x70, Form::Rm).imm(1);
    VEX_Vpslld_ymm_ymm_imm8 = vex(L256, P66, M0F, 0x72, Form::Vm(6)).imm(1);
    VEX_Vpsllq_ymm_ymm_imm8 = vex(L256, P66, M0F, 0x73, Form::Vm(6)).imm(1);
    VEX_Vpsllvd_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x47, Form::Rvm);
    VEX_Vpsllvq_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x47, Form::Rvm).w();
    VEX_Vpsllw_ymm_ymm_imm8 = vex(L256, P66, M0F, 0x71, Form::Vm(6)).imm(1);
    VEX_Vpsrad_ymm_ymm_imm8 = vex(L256, P66, M0F, 0x72, Form::Vm(4)).imm(1);
    VEX_Vpsravd_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x46, Form::Rvm);
    VEX_Vpsraw_ymm_ymm_imm8 = vex(L256, P66, M0F, 0x71, Form::Vm(4)).imm(1);
    VEX_Vpsrld_ymm_ymm_imm8 = vex(L256, P66, M0F, 0x72, Form::Vm(2)).imm(1);
    VEX_Vpsrlq_ymm_ymm_imm8 = vex(L256, P66, M0F, 0x73, Form::Vm(2)).imm(1);
    VEX_Vpsrlvd_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x45, Form::Rvm);
    VEX_Vpsrlvq_ymm_ymm_ymmm256 = vex(L256, P66, M0F38, 0x45, Form::Rvm).w();
    VEX_Vpsrlw_ymm_ymm_imm8 = vex(L256, P66, M0F, 0x71, Form::Vm(2)).imm(1);
    VEX_Vpsubd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0xfa, Form::Rvm);
    VEX_Vpsubq_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0xfb, Form::Rvm);
    VEX_Vpunpckldq_xmm_xmm_xmmm128 = vex(L128, P66, M0F, 0x62, Form::Rvm);
    VEX_Vroundpd_ymm_ymmm256_imm8 = vex(L256, P66, M0F3A, 0x09, Form::Rm).imm(1);
    VEX_Vroundps_ymm_ymmm256_imm8 = vex(L256, P66, M0F3A, 0x08, Form::Rm).imm(1);
    VEX_Vshufps_ymm_ymm_ymmm256_imm8 = vex(L256, NP, M0F, 0xc6, Form::Rvm).imm(1);
    VEX_Vsqrtpd_ymm_ymmm256 = vex(L256, P66, M0F, 0x51, Form::Rm);
    VEX_Vsqrtps_ymm_ymmm256 = vex(L256, NP, M0F, 0x51, Form::Rm);
    VEX_Vsubpd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0x5c, Form::Rvm);
    VEX_Vsubps_ymm_ymm_ymmm256 = vex(L256, NP, M0F, 0x5c, Form::Rvm);
    VEX_Vunpckhpd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0x15, Form::Rvm);
    VEX_Vunpckhps_ymm_ymm_ymmm256 = vex(L256, NP, M0F, 0x15, Form::Rvm);
    VEX_Vunpcklpd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0x14, Form::Rvm);
    VEX_Vunpcklps_ymm_ymm_ymmm256 = vex(L256, NP, M0F, 0x14, Form::Rvm);
    VEX_Vxorpd_ymm_ymm_ymmm256 = vex(L256, P66, M0F, 0x57, Form::Rvm);
    VEX_Vxorps_xmm_xmm_xmmm128 = vex(L128, NP, M0F, 0x57, Form::Rvm);
    VEX_Vxorps_ymm_ymm_ymmm256 = vex(L256, NP, M0F, 0x57, Form::Rvm);
    VEX_Vzeroupper = vex(L128, NP, M0F, 0x77, Form::Alone);

    EVEX_Vaddpd_zmm_k1z_zmm_zmmm512b64_er = evex(L512, P66, M0F, 0x58, Form::Rvm).w().by_or(64, 8);
    EVEX_Vaddps_xmm_k1z_xmm_xmmm128b32 = evex(L128, NP, M0F, 0x58, Form::Rvm).by_or(16, 4);
    EVEX_Vaddps_ymm_k1z_ymm_ymmm256b32 = evex(L256, NP, M0F, 0x58, Form::Rvm).by_or(32, 4);
    EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er = evex(L512, NP, M0F, 0x58, Form::Rvm).by_or(64, 4);
    EVEX_Vandpd_zmm_k1z_zmm_zmmm512b64 = evex(L512, P66, M0F, 0x54, Form::Rvm).w().by_or(64, 8);
    EVEX_Vandps_zmm_k1z_zmm_zmmm512b32 = evex(L512, NP, M0F, 0x54, Form::Rvm).by_or(64, 4);
    EVEX_Vblendmpd_zmm_k1z_zmm_zmmm512b64 = evex(L512, P66, M0F38, 0x65, Form::Rvm).w().by_or(64, 8);
    EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32 = evex(L512, P66, M0F38, 0x65, Form::Rvm).by_or(64, 4);
    EVEX_Vbroadcastsd_zmm_k1z_xmmm64 = evex(L512, P66, M0F38, 0x19, Form::Rm).w().by(8);
    EVEX_Vbroadcastss_zmm_k1z_xmmm32 = evex(L512, P66, M0F38, 0x18, Form::Rm).by(4);
    EVEX_Vcmppd_kr_k1_zmm_zmmm512b64_imm8_sae = evex(L512, P66, M0F, 0xc2, Form::Rvm).w().imm(1).by_or(64, 8);
    EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae = evex(L512, NP, M0F, 0xc2, Form::Rvm).imm(1).by_or(64, 4);
    EVEX_Vcvtdq2pd_zmm_k1z_ymmm256b32_er = evex(L512, PF3, M0F, 0xe6, Form::Rm).by_or(32, 4);
    EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er = evex(L512, NP, M0F, 0x5b, Form::Rm).by_or(64, 4);
    EVEX_Vcvtpd2ps_ymm_k1z_zmmm512b64_er = evex(L512, P66, M0F, 0x5a, Form::Rm).w().by_or(64, 8);
    EVEX_Vcvtph2ps_xmm_k1z_xmmm64 = evex(L128, P66, M0F38, 0x13, Form::Rm).by(8);
    EVEX_Vcvtph2ps_ymm_k1z_xmmm128 = evex(L256, P66, M0F38, 0x13, Form::Rm).by(16);
    EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae = evex(L512, P66, M0F38, 0x13, Form::Rm).by(32);
    EVEX_Vcvtps2dq_zmm_k1z_zmmm512b32_er = evex(L512, P66, M0F, 0x5b, Form::Rm).by_or(64, 4);
    EVEX_Vcvtps2pd_zmm_k1z_ymmm256b32_sae = evex(L512, NP, M0F, 0x5a, Form::Rm).by_or(32, 4);
    EVEX_Vcvtps2ph_xmmm128_k1z_ymm_imm8 = evex(L256, P66, M0F3A, 0x1d, Form::Mr).imm(1).by(16);
    EVEX_Vcvtps2ph_xmmm64_k1z_xmm_imm8 = evex(L128, P66, M0F3A, 0x1d, Form::Mr).imm(1).by(8);
    EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae = evex(L512, P66, M0F3A, 0x1d, Form::Mr).imm(1).by(32);
    EVEX_Vcvtqq2pd_zmm_k1z_zmmm512b64_er = evex(L512, PF3, M0F, 0xe6, Form::Rm).w().by_or(64, 8);
    EVEX_Vcvtqq2ps_ymm_k1z_zmmm512b64_er = evex(L512, NP, M0F, 0x5b, Form::Rm).w().by_or(64, 8);
    EVEX_Vcvttpd2dq_ymm_k1z_zmmm512b64_sae = evex(L512, P66, M0F, 0xe6, Form::Rm).w().by_or(64, 8);
    EVEX_Vcvttpd2qq_zmm_k1z_zmmm512b64_sae = evex(L512, P66, M0F, 0x7a, Form::Rm).w().by_or(64, 8);
    EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae = evex(L512, PF3, M0F, 0x5b, Form::Rm).by_or(64, 4);
    EVEX_Vdivpd_zmm_k1z_zmm_zmmm512b64_er = evex(L512, P66, M0F, 0x5e, Form::Rvm).w().by_or(64, 8);
    EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er = evex(L512, NP, M0F, 0x5e, Form::Rvm).by_or(64, 4);
    EVEX_Vdpbf16ps_zmm_k1z_zmm_zmmm512b32 = evex(L512, PF3, M0F38, 0x52, Form::Rvm).by_or(64, 4);
    EVEX_Vextractf32x4_xmmm128_k1z_ymm_imm8 = evex(L256, P66, M0F3A, 0x19, Form::Mr).imm(1).by(16);
    EVEX_Vextractf32x4_xmmm128_k1z_zmm_imm8 = evex(L512, P66, M0F3A, 0x19, Form::Mr).imm(1).by(16);
    EVEX_Vextractf64x4_ymmm256_k1z_zmm_imm8 = evex(L512, P66, M0F3A, 0x1b, Form::Mr).w().imm(1).by(32);
    EVEX_Vextracti32x4_xmmm128_k1z_ymm_imm8 = evex(L256, P66, M0F3A, 0x39, Form::Mr).imm(1).by(16);
    EVEX_Vextractps_rm32_xmm_imm8 = evex(L128, P66, M0F3A, 0x17, Form::Mr).imm(1).by(4);
    EVEX_Vfmadd132pd_zmm_k1z_zmm_zmmm512b64_er = evex(L512, P66, M0F38, 0x98, Form::Rvm).w().by_or(64, 8);
    EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er = evex(L512, P66, M0F38, 0x98, Form::Rvm).by_or(64, 4);
    EVEX_Vfmadd213pd_zmm_k1z_zmm_zmmm512b64_er = evex(L512, P66, M0F38, 0xa8, Form::Rvm).w().by_or(64, 8);
    EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er = evex(L512, P66, M0F38, 0xa8, Form::Rvm).by_or(64, 4);
    EVEX_Vfmadd231pd_zmm_k1z_zmm_zmmm512b64_er = evex(L512, P66, M0F38, 0xb8, Form::Rvm).w().by_or(64, 8);
    EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er = evex(L512, P66, M0F38, 0xb8, Form::Rvm).by_or(64, 4);
    EVEX_Vinsertf32x4_zmm_k1z_zmm_xmmm128_imm8 = evex(L512, P66, M0F3A, 0x18, Form::Rvm).imm(1).by(16);
    EVEX_Vinsertf64x4_zmm_k1z_zmm_ymmm256_imm8 = evex(L512, P66, M0F3A, 0x1a, Form::Rvm).w().imm(1).by(32);
    EVEX_Vinserti32x4_ymm_k1z_ymm_xmmm128_imm8 = evex(L256, P66, M0F3A, 0x38, Form::Rvm).imm(1).by(16);
    EVEX_Vinsertps_xmm_xmm_xmmm32_imm8 = evex(L128, P66, M0F3A, 0x21, Form::Rvm).imm(1).by(4);
    EVEX_Vmaxpd_zmm_k1z_zmm_zmmm512b64_sae = evex(L512, P66, M0F, 0x5f, Form::Rvm).w().by_or(64, 8);
    EVEX_Vmaxps_xmm_k1z_xmm_xmmm128b32 = evex(L128, NP, M0F, 0x5f, Form::Rvm).by_or(16, 4);
    EVEX_Vmaxps_ymm_k1z_ymm_ymmm256b32 = evex(L256, NP, M0F, 0x5f, Form::Rvm).by_or(32, 4);
    EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae = evex(L512, NP, M0F, 0x5f, Form::Rvm).by_or(64, 4);
    EVEX_Vminpd_zmm_k1z_zmm_zmmm512b64_sae = evex(L512, P66, M0F, 0x5d, Form::Rvm).w().by_or(64, 8);
    EVEX_Vminps_xmm_k1z_xmm_xmmm128b32 = evex(L128, NP, M0F, 0x5d, Form::Rvm).by_or(16, 4);
    EVEX_Vminps_ymm_k1z_ymm_ymmm256b32 = evex(L256, NP, M0F, 0x5d, Form::Rvm).by_or(32, 4);
    EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae = evex(L512, NP, M0F, 0x5d, Form::Rvm).by_or(64, 4);
    EVEX_Vmovaps_zmm_k1z_zmmm512 = evex(L512, NP, M0F, 0x28, Form::Rm).by(64);
    EVEX_Vmovd_rm32_xmm = evex(L128, P66, M0F, 0x7e, Form::Mr).by(4);
    EVEX_Vmovd_xmm_rm32 = evex(L128, P66, M0F, 0x6e, Form::Rm).by(4);
    EVEX_Vmovdqu8_xmm_k1z_xmmm128 = evex(L128, PF2, M0F, 0x6f, Form::Rm).by(16);
    EVEX_Vmovdqu8_xmmm128_k1z_xmm = evex(L128, PF2, M0F, 0x7f, Form::Mr).by(16);
    EVEX_Vmovhps_m64_xmm = evex(L128, NP, M0F, 0x17, Form::Mr).by(8);
    EVEX_Vmovhps_xmm_xmm_m64 = evex(L128, NP, M0F, 0x16, Form::Rvm).by(8);
    EVEX_Vmovlps_m64_xmm = evex(L128, NP, M0F, 0x13, Form::Mr).by(8);
    EVEX_Vmovsd_xmm_k1z_m64 = evex(L128, PF2, M0F, 0x10, Form::Rm).w().by(8);
    EVEX_Vmovss_m32_k1_xmm = evex(L128, PF3, M0F, 0x11, Form::Mr).by(4);
    EVEX_Vmovss_xmm_k1z_m32 = evex(L128, PF3, M0F, 0x10, Form::Rm).by(4);
    EVEX_Vmovupd_zmm_k1z_zmmm512 = evex(L512, P66, M0F, 0x10, Form::Rm).w().by(64);
    EVEX_Vmovupd_zmmm512_k1z_zmm = evex(L512, P66, M0F, 0x11, Form::Mr).w().by(64);
    EVEX_Vmovups_xmm_k1z_xmmm128 = evex(L128, NP, M0F, 0x10, Form::Rm).by(16);
    EVEX_Vmovups_xmmm128_k1z_xmm = evex(L128, NP, M0F, 0x11, Form::Mr).by(16);
    EVEX_Vmovups_ymm_k1z_ymmm256 = evex(L256, NP, M0F, 0x10, Form::Rm).by(32);
    EVEX_Vmovups_ymmm256_k1z_ymm = evex(L256, NP, M0F, 0x11, Form::Mr).by(32);
    EVEX_Vmovups_zmm_k1z_zmmm512 = evex(L512, NP, M0F, 0x10, Form::Rm).by(64);
    EVEX_Vmovups_zmmm512_k1z_zmm = evex(L512, NP, M0F, 0x11, Form::Mr).by(64);
    EVEX_Vmulpd_zmm_k1z_zmm_zmmm512b64_er = evex(L512, P66, M0F, 0x59, Form::Rvm).w().by_or(64, 8);
    EVEX_Vmulps_xmm_k1z_xmm_xmmm128b32 = evex(L128, NP, M0F, 0x59, Form::Rvm).by_or(16, 4);
    EVEX_Vmulps_ymm_k1z_ymm_ymmm256b32 = evex(L256, NP, M0F, 0x59, Form::Rvm).by_or(32, 4);
    EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er = evex(L512, NP, M0F, 0x59, Form::Rvm).by_or(64, 4);
    EVEX_Vorpd_zmm_k1z_zmm_zmmm512b64 = evex(L512, P66, M0F, 0x56, Form::Rvm).w().by_or(64, 8);
    EVEX_Vorps_zmm_k1z_zmm_zmmm512b32 = evex(L512, NP, M0F, 0x56, Form::Rvm).by_or(64, 4);
    EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32 = evex(L512, P66, M0F, 0xfe, Form::Rvm).by_or(64, 4);
    EVEX_Vpaddq_zmm_k1z_zmm_zmmm512b64 = evex(L512, P66, M0F, 0xd4, Form::Rvm).w().by_or(64, 8);
    EVEX_Vpbroadcastb_xmm_k1z_xmmm8 = evex(L128, P66, M0F38, 0x78, Form::Rm).by(1);
    EVEX_Vpbroadcastd_zmm_k1z_r32 = evex(L512, P66, M0F38, 0x7c, Form::Rm).by(1);
    EVEX_Vpbroadcastw_ymm_k1z_xmmm16 = evex(L256, P66, M0F38, 0x79, Form::Rm).by(2);
    EVEX_Vpbroadcastw_zmm_k1z_xmmm16 = evex(L512, P66, M0F38, 0x79, Form::Rm).by(2);
    EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8 = evex(L512, P66, M0F3A, 0x1f, Form::Rvm).imm(1).by_or(64, 4);
    EVEX_Vpcmpq_kr_k1_zmm_zmmm512b64_imm8 = evex(L512, P66, M0F3A, 0x1f, Form::Rvm).w().imm(1).by_or(64, 8);
    EVEX_Vpcmpub_kr_k1_xmm_xmmm128_imm8 = evex(L128, P66, M0F3A, 0x3e, Form::Rvm).imm(1).by(16);
    EVEX_Vpcmpud_kr_k1_zmm_zmmm512b32_imm8 = evex(L512, P66, M0F3A, 0x1e, Form::Rvm).imm(1).by_or(64, 4);
    EVEX_Vpdpbusd_zmm_k1z_zmm_zmmm512b32 = evex(L512, P66, M0F38, 0x50, Form::Rvm).by_or(64, 4);
    EVEX_Vpermi2d_zmm_k1z_zmm_zmmm512b32 = evex(L512, P66, M0F38, 0x76, Form::Rvm).by_or(64, 4);
    EVEX_Vpermilpd_zmm_k1z_zmmm512b64_imm8 = evex(L512, P66, M0F3A, 0x05, Form::Rm).w().imm(1).by_or(64, 8);
    EVEX_Vpermilps_xmm_k1z_xmmm128b32_imm8 = evex(L128, P66, M0F3A, 0x04, Form::Rm).imm(1).by_or(16, 4);
    EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8 = evex(L512, P66, M0F3A, 0x04, Form::Rm).imm(1).by_or(64, 4);
    EVEX_Vpermt2d_zmm_k1z_zmm_zmmm512b32 = evex(L512, P66, M0F38, 0x7e, Form::Rvm).by_or(64, 4);
    EVEX_Vpextrb_r32m8_xmm_imm8 = evex(L128, P66, M0F3A, 0x14, Form::Mr).imm(1).by(1);
    EVEX_Vpextrw_r32m16_xmm_imm8 = evex(L128, P66, M0F3A, 0x15, Form::Mr).imm(1).by(2);
    EVEX_Vpinsrb_xmm_xmm_r32m8_imm8 = evex(L128, P66, M0F3A, 0x20, Form::Rvm).imm(1).by(1);
    EVEX_Vpinsrw_xmm_xmm_r32m16_imm8 = evex(L128, P66, M0F, 0xc4, Form::Rvm).imm(1).by(2);
    EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512 = evex(L512, P66, M0F, 0xf5, Form::Rvm).by(64);
    EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32 = evex(L512, P66, M0F38, 0x3d, Form::Rvm).by_or(64, 4);
    EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32 = evex(L512, P66, M0F38, 0x39, Form::Rvm).by_or(64, 4);
    EVEX_Vpmovd2m_kr_zmm = evex(L512, PF3, M0F38, 0x39, Form::Rm).by(1);
    EVEX_Vpmovdb_xmmm128_k1z_zmm = evex(L512, PF3, M0F38, 0x31, Form::Mr).by(16);
    EVEX_Vpmovdb_xmmm32_k1z_xmm = evex(L128, PF3, M0F38, 0x31, Form::Mr).by(4);
    EVEX_Vpmovdb_xmmm64_k1z_ymm = evex(L256, PF3, M0F38, 0x31, Form::Mr).by(8);
    EVEX_Vpmovdw_xmmm128_k1z_ymm = evex(L256, PF3, M0F38, 0x33, Form::Mr).by(16);
    EVEX_Vpmovdw_xmmm64_k1z_xmm = evex(L128, PF3, M0F38, 0x33, Form::Mr).by(8);
    EVEX_Vpmovdw_ymmm256_k1z_zmm = evex(L512, PF3, M0F38, 0x33, Form::Mr).by(32);
    EVEX_Vpmovm2d_zmm_kr = evex(L512, PF3, M0F38, 0x38, Form::Rm).by(1);
    EVEX_Vpmovsxbd_xmm_k1z_xmmm32 = evex(L128, P66, M0F38, 0x21, Form::Rm).by(4);
    EVEX_Vpmovsxbd_ymm_k1z_xmmm64 = evex(L256, P66, M0F38, 0x21, Form::Rm).by(8);
    EVEX_Vpmovsxbd_zmm_k1z_xmmm128 = evex(L512, P66, M0F38, 0x21, Form::Rm).by(16);
    EVEX_Vpmovsxdq_zmm_k1z_ymmm256 = evex(L512, P66, M0F38, 0x25, Form::Rm).by(32);
    EVEX_Vpmovsxwd_xmm_k1z_xmmm64 = evex(L128, P66, M0F38, 0x23, Form::Rm).by(8);
    EVEX_Vpmovsxwd_ymm_k1z_xmmm128 = evex(L256, P66, M0F38, 0x23, Form::Rm).by(16);
    EVEX_Vpmovsxwd_zmm_k1z_ymmm256 = evex(L512, P66, M0F38, 0x23, Form::Rm).by(32);
    EVEX_Vpmovusdb_xmmm128_k1z_zmm = evex(L512, PF3, M0F38, 0x11, Form::Mr).by(16);
    EVEX_Vpmovusdb_xmmm32_k1z_xmm = evex(L128, PF3, M0F38, 0x11, Form::Mr).by(4);
    EVEX_Vpmovusdb_xmmm64_k1z_ymm = evex(L256, PF3, M0F38, 0x11, Form::Mr).by(8);
    EVEX_Vpmovzxbd_xmm_k1z_xmmm32 = evex(L128, P66, M0F38, 0x31, Form::Rm).by(4);
    EVEX_Vpmovzxbd_ymm_k1z_xmmm64 = evex(L256, P66, M0F38, 0x31, Form::Rm).by(8);
    EVEX_Vpmovzxbd_zmm_k1z_xmmm128 = evex(L512, P66, M0F38, 0x31, Form::Rm).by(16);
    EVEX_Vpmovzxdq_zmm_k1z_ymmm256 = evex(L512, P66, M0F38, 0x35, Form::Rm).by(32);
    EVEX_Vpmovzxwd_xmm_k1z_xmmm64 = evex(L128, P66, M0F38, 0x33, Form::Rm).by(8);
    EVEX_Vpmovzxwd_ymm_k1z_xmmm128 = evex(L256, P66, M0F38, 0x33, Form::Rm).by(16);
    EVEX_Vpmovzxwd_zmm_k1z_ymmm256 = evex(L512, P66, M0F38, 0x33, Form::Rm).by(32);
    EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32 = evex(L512, P66, M0F38, 0x40, Form::Rvm).by_or(64, 4);
    EVEX_Vpmullq_zmm_k1z_zmm_zmmm512b64 = evex(L512, P66, M0F38, 0x40, Form::Rvm).w().by_or(64, 8);
    EVEX_Vprorvd_zmm_k1z_zmm_zmmm512b32 = evex(L512, P66, M0F38, 0x14, Form::Rvm).by_or(64, 4);
    EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8 = evex(L512, P66, M0F, 0x72, Form::Vm(6)).imm(1).by_or(64, 4);
    EVEX_Vpsllq_zmm_k1z_zmmm512b64_imm8 = evex(L512, P66, M0F, 0x73, Form::Vm(6)).w().imm(1).by_or(64, 8);
    EVEX_Vpsllvd_zmm_k1z_zmm_zmmm512b32 = evex(L512, P66, M0F38, 0x47, Form::Rvm).by_or(64, 4);
    EVEX_Vpsllvq_zmm_k1z_zmm_zmmm512b64 = evex(L512, P66, M0F38, 0x47, Form::Rvm).w().by_or(64, 8);
    EVEX_Vpsllw_zmm_k1z_zmmm512_imm8 = evex(L512, P66, M0F, 0x71, Form::Vm(6)).imm(1).by(64);
    EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8 = evex(L512, P66, M0F, 0x72, Form::Vm(4)).imm(1).by_or(64, 4);
    EVEX_Vpsravd_zmm_k1z_zmm_zmmm512b32 = evex(L512, P66, M0F38, 0x46, Form::Rvm).by_or(64, 4);
    EVEX_Vpsraw_zmm_k1z_zmmm512_imm8 = evex(L512, P66, M0F, 0x71, Form::Vm(4)).imm(1).by(64);
    EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8 = evex(L512, P66, M0F, 0x72, Form::Vm(2)).imm(1).by_or(64, 4);
    EVEX_Vpsrlq_zmm_k1z_zmmm512b64_imm8 = evex(L512, P66, M0F, 0x73, Form::Vm(2)).w().imm(1).by_or(64, 8);
    EVEX_Vpsrlvd_zmm_k1z_zmm_zmmm512b32 = evex(L512, P66, M0F38, 0x45, Form::Rvm).by_or(64, 4);
    EVEX_Vpsrlvq_zmm_k1z_zmm_zmmm512b64 = evex(L512, P66, M0F38, 0x45, Form::Rvm).w().by_or(64, 8);
    EVEX_Vpsrlw_zmm_k1z_zmmm512_imm8 = evex(L512, P66, M0F, 0x71, Form::Vm(2)).imm(1).by(64);
    EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32 = evex(L512, P66, M0F, 0xfa, Form::Rvm).by_or(64, 4);
    EVEX_Vpsubq_zmm_k1z_zmm_zmmm512b64 = evex(L512, P66, M0F, 0xfb, Form::Rvm).w().by_or(64, 8);
    EVEX_Vpternlogd_zmm_k1z_zmm_zmmm512b32_imm8 = evex(L512, P66, M0F3A, 0x25, Form::Rvm).imm(1).by_or(64, 4);
    EVEX_Vptestmb_kr_k1_xmm_xmmm128 = evex(L128, P66, M0F38, 0x26, Form::Rvm).by(16);
    EVEX_Vptestmd_kr_k1_zmm_zmmm512b32 = evex(L512, P66, M0F38, 0x27, Form::Rvm).by_or(64, 4);
    EVEX_Vrndscalepd_zmm_k1z_zmmm512b64_imm8_sae = evex(L512, P66, M0F3A, 0x09, Form::Rm).w().imm(1).by_or(64, 8);
    EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae = evex(L512, P66, M0F3A, 0x08, Form::Rm).imm(1).by_or(64, 4);
    EVEX_Vscalefpd_zmm_k1z_zmm_zmmm512b64_er = evex(L512, P66, M0F38, 0x2c, Form::Rvm).w().by_or(64, 8);
    EVEX_Vscalefps_zmm_k1z_zmm_zmmm512b32_er = evex(L512, P66, M0F38, 0x2c, Form::Rvm).by_or(64, 4);
    EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8 = evex(L512, P66, M0F3A, 0x23, Form::Rvm).imm(1).by_or(64, 4);
    EVEX_Vsqrtpd_zmm_k1z_zmmm512b64_er = evex(L512, P66, M0F, 0x51, Form::Rm).w().by_or(64, 8);
    EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er = evex(L512, NP, M0F, 0x51, Form::Rm).by_or(64, 4);
    EVEX_Vsubpd_zmm_k1z_zmm_zmmm512b64_er = evex(L512, P66, M0F, 0x5c, Form::Rvm).w().by_or(64, 8);
    EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er = evex(L512, NP, M0F, 0x5c, Form::Rvm).by_or(64, 4);
    EVEX_Vunpckhpd_zmm_k1z_zmm_zmmm512b64 = evex(L512, P66, M0F, 0x15, Form::Rvm).w().by_or(64, 8);
    EVEX_Vunpckhps_zmm_k1z_zmm_zmmm512b32 = evex(L512, NP, M0F, 0x15, Form::Rvm).by_or(64, 4);
    EVEX_Vunpcklpd_zmm_k1z_zmm_zmmm512b64 = evex(L512, P66, M0F, 0x14, Form::Rvm).w().by_or(64, 8);
    EVEX_Vunpcklps_zmm_k1z_zmm_zmmm512b32 = evex(L512, NP, M0F, 0x14, Form::Rvm).by_or(64, 4);
    EVEX_Vxorpd_zmm_k1z_zmm_zmmm512b64 = evex(L512, P66, M0F, 0x57, Form::Rvm).w().by_or(64, 8);
    EVEX_Vxorps_xmm_k1z_xmm_xmmm128b32 = evex(L128, NP, M0F, 0x57, Form::Rvm).by_or(16, 4);
    EVEX_Vxorps_zmm_k1z_zmm_zmmm512b32 = evex(L512, NP, M0F, 0x57, Form::Rvm).by_or(64, 4);
}
