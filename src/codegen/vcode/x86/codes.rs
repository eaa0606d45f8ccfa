//! The encodings that the two tiers use: VEX on 256 bits, EVEX on 512 (and EVEX on narrower registers, for
//! the registers 16 to 31).

use iced_x86::{Code, Register};

use super::Tier;
use crate::codegen::vcode::{BinaryOp, Combine, ShiftOp, Shuffle};

/// The encodings of an instruction: VEX with 256 bits, EVEX with 512.
#[derive(Clone, Copy)]
pub(super) struct Pair(pub Code, pub Code);

impl Pair {
    pub fn of(self, tier: Tier) -> Code {
        if tier.is_512() { self.1 } else { self.0 }
    }
}

macro_rules! pairs {
    ($($(#[$doc:meta])* $name:ident = $v:ident $e:ident;)*) => {
        $($(#[$doc])* pub(super) const $name: Pair = Pair(Code::$v, Code::$e);)*
    };
}

pairs! {
    MOVE = VEX_Vmovaps_ymm_ymmm256 EVEX_Vmovaps_zmm_k1z_zmmm512;
    LOAD = VEX_Vmovups_ymm_ymmm256 EVEX_Vmovups_zmm_k1z_zmmm512;
    STORE = VEX_Vmovups_ymmm256_ymm EVEX_Vmovups_zmmm512_k1z_zmm;
    LOAD_X = VEX_Vmovups_xmm_xmmm128 EVEX_Vmovups_xmm_k1z_xmmm128;
    STORE_X = VEX_Vmovups_xmmm128_xmm EVEX_Vmovups_xmmm128_k1z_xmm;
    LOAD_2 = VEX_Vmovsd_xmm_m64 EVEX_Vmovsd_xmm_k1z_m64;
    STORE_2 = VEX_Vmovlps_m64_xmm EVEX_Vmovlps_m64_xmm;
    LOAD_1 = VEX_Vmovss_xmm_m32 EVEX_Vmovss_xmm_k1z_m32;
    STORE_1 = VEX_Vmovss_m32_xmm EVEX_Vmovss_m32_k1_xmm;
    BROADCAST = VEX_Vbroadcastss_ymm_m32 EVEX_Vbroadcastss_zmm_k1z_xmmm32;
    BROADCAST_X = VEX_Vbroadcastss_ymm_xmm EVEX_Vbroadcastss_zmm_k1z_xmmm32;
    INSERT_1 = VEX_Vinsertps_xmm_xmm_xmmm32_imm8 EVEX_Vinsertps_xmm_xmm_xmmm32_imm8;
    EXTRACT_1 = VEX_Vextractps_rm32_xmm_imm8 EVEX_Vextractps_rm32_xmm_imm8;
    /// A quarter of a register, for 512 bits; a half for 256.
    INSERT_X = VEX_Vinsertf128_ymm_ymm_xmmm128_imm8 EVEX_Vinsertf32x4_zmm_k1z_zmm_xmmm128_imm8;
    EXTRACT_X = VEX_Vextractf128_xmmm128_ymm_imm8 EVEX_Vextractf32x4_xmmm128_k1z_zmm_imm8;
    SHUFFLE_X = VEX_Vpermilps_xmm_xmmm128_imm8 EVEX_Vpermilps_xmm_k1z_xmmm128b32_imm8;
    ADD_INT = VEX_Vpaddd_ymm_ymm_ymmm256 EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32;
    AND = VEX_Vandps_ymm_ymm_ymmm256 EVEX_Vandps_zmm_k1z_zmm_zmmm512b32;
    OR = VEX_Vorps_ymm_ymm_ymmm256 EVEX_Vorps_zmm_k1z_zmm_zmmm512b32;
    XOR = VEX_Vxorps_ymm_ymm_ymmm256 EVEX_Vxorps_zmm_k1z_zmm_zmmm512b32;
    SQRT = VEX_Vsqrtps_ymm_ymmm256 EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er;
    ROUND = VEX_Vroundps_ymm_ymmm256_imm8 EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae;
    TO_FLOAT = VEX_Vcvtdq2ps_ymm_ymmm256 EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er;
    COMPARE = VEX_Vcmpps_ymm_ymm_ymmm256_imm8 EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae;
    FMA_132 = VEX_Vfmadd132ps_ymm_ymm_ymmm256 EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er;
    FMA_213 = VEX_Vfmadd213ps_ymm_ymm_ymmm256 EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er;
    FMA_231 = VEX_Vfmadd231ps_ymm_ymm_ymmm256 EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er;
}

/// An operation on whole registers.
pub(super) fn binary(op: BinaryOp) -> Pair {
    match op {
        BinaryOp::Add => Pair(Code::VEX_Vaddps_ymm_ymm_ymmm256, Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er),
        BinaryOp::Sub => Pair(Code::VEX_Vsubps_ymm_ymm_ymmm256, Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er),
        BinaryOp::Mul => Pair(Code::VEX_Vmulps_ymm_ymm_ymmm256, Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er),
        BinaryOp::Div => Pair(Code::VEX_Vdivps_ymm_ymm_ymmm256, Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er),
        BinaryOp::Max => Pair(Code::VEX_Vmaxps_ymm_ymm_ymmm256, Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae),
        BinaryOp::Min => Pair(Code::VEX_Vminps_ymm_ymm_ymmm256, Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae),
        BinaryOp::Scale => Pair(Code::INVALID, Code::EVEX_Vscalefps_zmm_k1z_zmm_zmmm512b32_er),
        BinaryOp::IntAdd => ADD_INT,
        BinaryOp::IntSub => Pair(Code::VEX_Vpsubd_ymm_ymm_ymmm256, Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32),
        BinaryOp::IntMul | BinaryOp::IntMax | BinaryOp::IntMin => todo!(),
        BinaryOp::ShiftLeft | BinaryOp::ShiftRight | BinaryOp::ShiftRightSigned => todo!(),
        BinaryOp::And => AND,
        BinaryOp::Or => OR,
        BinaryOp::Xor => XOR,
    }
}

/// An operation on mask registers.
pub(super) fn mask_binary(op: BinaryOp) -> Option<Code> {
    match op {
        BinaryOp::And => Some(Code::VEX_Kandw_kr_kr_kr),
        BinaryOp::Or => Some(Code::VEX_Korw_kr_kr_kr),
        BinaryOp::Xor => Some(Code::VEX_Kxorw_kr_kr_kr),
        _ => None,
    }
}

/// A shift of integers by a constant.
pub(super) fn shift(op: ShiftOp) -> Pair {
    match op {
        ShiftOp::Left => Pair(Code::VEX_Vpslld_ymm_ymm_imm8, Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8),
        ShiftOp::UnsignedRight => todo!(),
        ShiftOp::SignedRight => {
            Pair(Code::VEX_Vpsrad_ymm_ymm_imm8, Code::EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8)
        }
    }
}

/// A shuffle of two registers, and its immediate operand if it has one.
pub(super) fn shuffle(op: Shuffle, tier: Tier) -> (Code, Option<u8>) {
    let pair = match op {
        Shuffle::Interleave { unit: 1, upper: false } => {
            Pair(Code::VEX_Vunpcklps_ymm_ymm_ymmm256, Code::EVEX_Vunpcklps_zmm_k1z_zmm_zmmm512b32)
        }
        Shuffle::Interleave { unit: 1, upper: true } => {
            Pair(Code::VEX_Vunpckhps_ymm_ymm_ymmm256, Code::EVEX_Vunpckhps_zmm_k1z_zmm_zmmm512b32)
        }
        Shuffle::Interleave { upper: false, .. } => {
            Pair(Code::VEX_Vunpcklpd_ymm_ymm_ymmm256, Code::EVEX_Vunpcklpd_zmm_k1z_zmm_zmmm512b64)
        }
        Shuffle::Interleave { upper: true, .. } => {
            Pair(Code::VEX_Vunpckhpd_ymm_ymm_ymmm256, Code::EVEX_Vunpckhpd_zmm_k1z_zmm_zmmm512b64)
        }
        Shuffle::Blocks { .. } => {
            Pair(Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8, Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8)
        }
    };
    let selector = match (op, tier.is_512()) {
        (Shuffle::Interleave { .. }, _) => None,
        (Shuffle::Blocks { odd: false }, false) => Some(0x20),
        (Shuffle::Blocks { odd: true }, false) => Some(0x31),
        (Shuffle::Blocks { odd: false }, true) => Some(0x88),
        (Shuffle::Blocks { odd: true }, true) => Some(0xdd),
    };
    (pair.of(tier), selector)
}

/// Combining registers of 128 bits, and of 256 for the 512-bit tier.
pub(super) fn combine(op: Combine, tier: Tier) -> (Code, Code) {
    match (op, tier.is_512()) {
        (Combine::Add, false) => (Code::VEX_Vaddps_xmm_xmm_xmmm128, Code::VEX_Vaddps_ymm_ymm_ymmm256),
        (Combine::Mul, false) => (Code::VEX_Vmulps_xmm_xmm_xmmm128, Code::VEX_Vmulps_ymm_ymm_ymmm256),
        (Combine::Max, false) => (Code::VEX_Vmaxps_xmm_xmm_xmmm128, Code::VEX_Vmaxps_ymm_ymm_ymmm256),
        (Combine::Min, false) => (Code::VEX_Vminps_xmm_xmm_xmmm128, Code::VEX_Vminps_ymm_ymm_ymmm256),
        (Combine::Add, true) => {
            (Code::EVEX_Vaddps_xmm_k1z_xmm_xmmm128b32, Code::EVEX_Vaddps_ymm_k1z_ymm_ymmm256b32)
        }
        (Combine::Mul, true) => {
            (Code::EVEX_Vmulps_xmm_k1z_xmm_xmmm128b32, Code::EVEX_Vmulps_ymm_k1z_ymm_ymmm256b32)
        }
        (Combine::Max, true) => {
            (Code::EVEX_Vmaxps_xmm_k1z_xmm_xmmm128b32, Code::EVEX_Vmaxps_ymm_k1z_ymm_ymmm256b32)
        }
        (Combine::Min, true) => {
            (Code::EVEX_Vminps_xmm_k1z_xmm_xmmm128b32, Code::EVEX_Vminps_ymm_k1z_ymm_ymmm256b32)
        }
    }
}

/// The register of this kind with this number.
fn numbered(first: Register, number: u8) -> Register {
    first + u32::from(number)
}

pub(super) fn xmm(number: u8) -> Register {
    numbered(Register::XMM0, number)
}

pub(super) fn ymm(number: u8) -> Register {
    numbered(Register::YMM0, number)
}

pub(super) fn zmm(number: u8) -> Register {
    numbered(Register::ZMM0, number)
}

/// A mask register.
pub(super) fn mask(number: u8) -> Register {
    numbered(Register::K0, number)
}

/// The integer registers that hold pointers and counters, by number: first those that a function may change.
pub(super) const INTEGERS: [Register; 11] = [
    Register::RDX,
    Register::RSI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::RBX,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];
/// How many of them a function may change.
pub(super) const VOLATILE: usize = 6;
