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

/// The encodings for lanes of 32 bits, and of 64.
#[derive(Clone, Copy)]
pub(super) struct Widths(pub Pair, pub Pair);

impl Widths {
    pub fn of(self, tier: Tier, wide: bool) -> Code {
        if wide { self.1.of(tier) } else { self.0.of(tier) }
    }
}

macro_rules! pairs {
    ($($(#[$doc:meta])* $name:ident = $v:ident $e:ident;)*) => {
        $($(#[$doc])* pub(super) const $name: Pair = Pair(Code::$v, Code::$e);)*
    };
}

/// An encoding that there is not is invalid.
macro_rules! widths {
    ($($(#[$doc:meta])* $name:ident = $v:ident $e:ident, $w:ident $f:ident;)*) => {
        $(
            $(#[$doc])*
            pub(super) const $name: Widths =
                Widths(Pair(Code::$v, Code::$e), Pair(Code::$w, Code::$f));
        )*
    };
}

pairs! {
    MOVE = VEX_Vmovaps_ymm_ymmm256 EVEX_Vmovaps_zmm_k1z_zmmm512;
    LOAD = VEX_Vmovups_ymm_ymmm256 EVEX_Vmovups_zmm_k1z_zmmm512;
    STORE = VEX_Vmovups_ymmm256_ymm EVEX_Vmovups_zmmm512_k1z_zmm;
    LOAD_X = VEX_Vmovups_xmm_xmmm128 EVEX_Vmovups_xmm_k1z_xmmm128;
    STORE_X = VEX_Vmovups_xmmm128_xmm EVEX_Vmovups_xmmm128_k1z_xmm;
    /// 8 bytes; the others become 0.
    LOAD_8 = VEX_Vmovsd_xmm_m64 EVEX_Vmovsd_xmm_k1z_m64;
    STORE_8 = VEX_Vmovlps_m64_xmm EVEX_Vmovlps_m64_xmm;
    /// 4 bytes; the others become 0.
    LOAD_4 = VEX_Vmovss_xmm_m32 EVEX_Vmovss_xmm_k1z_m32;
    STORE_4 = VEX_Vmovss_m32_xmm EVEX_Vmovss_m32_k1_xmm;
    INSERT_4 = VEX_Vinsertps_xmm_xmm_xmmm32_imm8 EVEX_Vinsertps_xmm_xmm_xmmm32_imm8;
    EXTRACT_4 = VEX_Vextractps_rm32_xmm_imm8 EVEX_Vextractps_rm32_xmm_imm8;
    INSERT_2 = VEX_Vpinsrw_xmm_xmm_r32m16_imm8 EVEX_Vpinsrw_xmm_xmm_r32m16_imm8;
    EXTRACT_2 = VEX_Vpextrw_r32m16_xmm_imm8 EVEX_Vpextrw_r32m16_xmm_imm8;
    INSERT_1 = VEX_Vpinsrb_xmm_xmm_r32m8_imm8 EVEX_Vpinsrb_xmm_xmm_r32m8_imm8;
    EXTRACT_1 = VEX_Vpextrb_r32m8_xmm_imm8 EVEX_Vpextrb_r32m8_xmm_imm8;
    /// The upper 8 bytes of 16.
    LOAD_UPPER = VEX_Vmovhps_xmm_xmm_m64 EVEX_Vmovhps_xmm_xmm_m64;
    STORE_UPPER = VEX_Vmovhps_m64_xmm EVEX_Vmovhps_m64_xmm;
    /// A quarter of a register, for 512 bits; a half for 256.
    INSERT_X = VEX_Vinsertf128_ymm_ymm_xmmm128_imm8 EVEX_Vinsertf32x4_zmm_k1z_zmm_xmmm128_imm8;
    EXTRACT_X = VEX_Vextractf128_xmmm128_ymm_imm8 EVEX_Vextractf32x4_xmmm128_k1z_zmm_imm8;
    SHUFFLE_X = VEX_Vpermilps_xmm_xmmm128_imm8 EVEX_Vpermilps_xmm_k1z_xmmm128b32_imm8;
    XOR_X = VEX_Vxorps_xmm_xmm_xmmm128 EVEX_Vxorps_xmm_k1z_xmm_xmmm128b32;
    /// From an integer register of 32 bits; the other lanes become 0.
    FROM_INTEGER = VEX_Vmovd_xmm_rm32 EVEX_Vmovd_xmm_rm32;
    /// Exchanges quarters (halves) of a register.
    SHUFFLE_QUARTERS = VEX_Vperm2f128_ymm_ymm_ymmm256_imm8 EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8;
    /// A half of a register becomes a whole one.
    FLOAT_TO_DOUBLE = VEX_Vcvtps2pd_ymm_xmmm128 EVEX_Vcvtps2pd_zmm_k1z_ymmm256b32_sae;
    INT_TO_DOUBLE = VEX_Vcvtdq2pd_ymm_xmmm128 EVEX_Vcvtdq2pd_zmm_k1z_ymmm256b32_er;
    EXTEND_SIGNED = VEX_Vpmovsxdq_ymm_xmmm128 EVEX_Vpmovsxdq_zmm_k1z_ymmm256;
    EXTEND_UNSIGNED = VEX_Vpmovzxdq_ymm_xmmm128 EVEX_Vpmovzxdq_zmm_k1z_ymmm256;
    /// A whole register becomes half of one.
    DOUBLE_TO_FLOAT = VEX_Vcvtpd2ps_xmm_ymmm256 EVEX_Vcvtpd2ps_ymm_k1z_zmmm512b64_er;
    DOUBLE_TO_INT = VEX_Vcvttpd2dq_xmm_ymmm256 EVEX_Vcvttpd2dq_ymm_k1z_zmmm512b64_sae;
    HALF_TO_FLOAT = VEX_Vcvtph2ps_ymm_xmmm128 EVEX_Vcvtph2ps_zmm_k1z_ymmm256_sae;
    FLOAT_TO_HALF = VEX_Vcvtps2ph_xmmm128_ymm_imm8 EVEX_Vcvtps2ph_ymmm256_k1z_zmm_imm8_sae;
    /// 4 lanes.
    HALF_TO_FLOAT_X = VEX_Vcvtph2ps_xmm_xmmm64 EVEX_Vcvtph2ps_xmm_k1z_xmmm64;
    FLOAT_TO_HALF_X = VEX_Vcvtps2ph_xmmm64_xmm_imm8 EVEX_Vcvtps2ph_xmmm64_k1z_xmm_imm8;
    /// The first lane, to an integer register.
    TO_INTEGER = VEX_Vmovd_rm32_xmm EVEX_Vmovd_rm32_xmm;
    ROUND_TO_INT = VEX_Vcvtps2dq_ymm_ymmm256 EVEX_Vcvtps2dq_zmm_k1z_zmmm512b32_er;
    DOT = VEX_Vpdpbusd_ymm_ymm_ymmm256 EVEX_Vpdpbusd_zmm_k1z_zmm_zmmm512b32;
    DOT_BF16 = INVALID EVEX_Vdpbf16ps_zmm_k1z_zmm_zmmm512b32;
    SHIFT_LEFT_16 = VEX_Vpsllw_ymm_ymm_imm8 EVEX_Vpsllw_zmm_k1z_zmmm512_imm8;
    SHIFT_RIGHT_16 = VEX_Vpsrlw_ymm_ymm_imm8 EVEX_Vpsrlw_zmm_k1z_zmmm512_imm8;
    SHIFT_RIGHT_SIGNED_16 = VEX_Vpsraw_ymm_ymm_imm8 EVEX_Vpsraw_zmm_k1z_zmmm512_imm8;
}

widths! {
    /// Whole registers, or the lanes of a mask.
    LOAD_LANES = VEX_Vmovups_ymm_ymmm256 EVEX_Vmovups_zmm_k1z_zmmm512,
        VEX_Vmovupd_ymm_ymmm256 EVEX_Vmovupd_zmm_k1z_zmmm512;
    STORE_LANES = VEX_Vmovups_ymmm256_ymm EVEX_Vmovups_zmmm512_k1z_zmm,
        VEX_Vmovupd_ymmm256_ymm EVEX_Vmovupd_zmmm512_k1z_zmm;
    BROADCAST = VEX_Vbroadcastss_ymm_m32 EVEX_Vbroadcastss_zmm_k1z_xmmm32,
        VEX_Vbroadcastsd_ymm_m64 EVEX_Vbroadcastsd_zmm_k1z_xmmm64;
    BROADCAST_X = VEX_Vbroadcastss_ymm_xmm EVEX_Vbroadcastss_zmm_k1z_xmmm32,
        VEX_Vbroadcastsd_ymm_xmm EVEX_Vbroadcastsd_zmm_k1z_xmmm64;
    ADD = VEX_Vaddps_ymm_ymm_ymmm256 EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er,
        VEX_Vaddpd_ymm_ymm_ymmm256 EVEX_Vaddpd_zmm_k1z_zmm_zmmm512b64_er;
    SUB = VEX_Vsubps_ymm_ymm_ymmm256 EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er,
        VEX_Vsubpd_ymm_ymm_ymmm256 EVEX_Vsubpd_zmm_k1z_zmm_zmmm512b64_er;
    MUL = VEX_Vmulps_ymm_ymm_ymmm256 EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er,
        VEX_Vmulpd_ymm_ymm_ymmm256 EVEX_Vmulpd_zmm_k1z_zmm_zmmm512b64_er;
    DIV = VEX_Vdivps_ymm_ymm_ymmm256 EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er,
        VEX_Vdivpd_ymm_ymm_ymmm256 EVEX_Vdivpd_zmm_k1z_zmm_zmmm512b64_er;
    MAX = VEX_Vmaxps_ymm_ymm_ymmm256 EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae,
        VEX_Vmaxpd_ymm_ymm_ymmm256 EVEX_Vmaxpd_zmm_k1z_zmm_zmmm512b64_sae;
    MIN = VEX_Vminps_ymm_ymm_ymmm256 EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae,
        VEX_Vminpd_ymm_ymm_ymmm256 EVEX_Vminpd_zmm_k1z_zmm_zmmm512b64_sae;
    SCALE = INVALID EVEX_Vscalefps_zmm_k1z_zmm_zmmm512b32_er,
        INVALID EVEX_Vscalefpd_zmm_k1z_zmm_zmmm512b64_er;
    ADD_INT = VEX_Vpaddd_ymm_ymm_ymmm256 EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32,
        VEX_Vpaddq_ymm_ymm_ymmm256 EVEX_Vpaddq_zmm_k1z_zmm_zmmm512b64;
    SUB_INT = VEX_Vpsubd_ymm_ymm_ymmm256 EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32,
        VEX_Vpsubq_ymm_ymm_ymmm256 EVEX_Vpsubq_zmm_k1z_zmm_zmmm512b64;
    MUL_INT = VEX_Vpmulld_ymm_ymm_ymmm256 EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32,
        INVALID EVEX_Vpmullq_zmm_k1z_zmm_zmmm512b64;
    PAIR_DOT = VEX_Vpmaddwd_ymm_ymm_ymmm256 EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512, INVALID INVALID;
    MAX_INT = VEX_Vpmaxsd_ymm_ymm_ymmm256 EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32, INVALID INVALID;
    MIN_INT = VEX_Vpminsd_ymm_ymm_ymmm256 EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32, INVALID INVALID;
    SHIFT_LEFT = VEX_Vpslld_ymm_ymm_imm8 EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8,
        VEX_Vpsllq_ymm_ymm_imm8 EVEX_Vpsllq_zmm_k1z_zmmm512b64_imm8;
    SHIFT_RIGHT = VEX_Vpsrld_ymm_ymm_imm8 EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8,
        VEX_Vpsrlq_ymm_ymm_imm8 EVEX_Vpsrlq_zmm_k1z_zmmm512b64_imm8;
    SHIFT_RIGHT_SIGNED = VEX_Vpsrad_ymm_ymm_imm8 EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8, INVALID INVALID;
    SHIFT_LEFT_BY = VEX_Vpsllvd_ymm_ymm_ymmm256 EVEX_Vpsllvd_zmm_k1z_zmm_zmmm512b32,
        VEX_Vpsllvq_ymm_ymm_ymmm256 EVEX_Vpsllvq_zmm_k1z_zmm_zmmm512b64;
    SHIFT_RIGHT_BY = VEX_Vpsrlvd_ymm_ymm_ymmm256 EVEX_Vpsrlvd_zmm_k1z_zmm_zmmm512b32,
        VEX_Vpsrlvq_ymm_ymm_ymmm256 EVEX_Vpsrlvq_zmm_k1z_zmm_zmmm512b64;
    SHIFT_RIGHT_SIGNED_BY = VEX_Vpsravd_ymm_ymm_ymmm256 EVEX_Vpsravd_zmm_k1z_zmm_zmmm512b32, INVALID INVALID;
    AND = VEX_Vandps_ymm_ymm_ymmm256 EVEX_Vandps_zmm_k1z_zmm_zmmm512b32,
        VEX_Vandpd_ymm_ymm_ymmm256 EVEX_Vandpd_zmm_k1z_zmm_zmmm512b64;
    OR = VEX_Vorps_ymm_ymm_ymmm256 EVEX_Vorps_zmm_k1z_zmm_zmmm512b32,
        VEX_Vorpd_ymm_ymm_ymmm256 EVEX_Vorpd_zmm_k1z_zmm_zmmm512b64;
    XOR = VEX_Vxorps_ymm_ymm_ymmm256 EVEX_Vxorps_zmm_k1z_zmm_zmmm512b32,
        VEX_Vxorpd_ymm_ymm_ymmm256 EVEX_Vxorpd_zmm_k1z_zmm_zmmm512b64;
    SQRT = VEX_Vsqrtps_ymm_ymmm256 EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er,
        VEX_Vsqrtpd_ymm_ymmm256 EVEX_Vsqrtpd_zmm_k1z_zmmm512b64_er;
    ROUND = VEX_Vroundps_ymm_ymmm256_imm8 EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae,
        VEX_Vroundpd_ymm_ymmm256_imm8 EVEX_Vrndscalepd_zmm_k1z_zmmm512b64_imm8_sae;
    TO_FLOAT = VEX_Vcvtdq2ps_ymm_ymmm256 EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er,
        INVALID EVEX_Vcvtqq2pd_zmm_k1z_zmmm512b64_er;
    TO_INT = VEX_Vcvttps2dq_ymm_ymmm256 EVEX_Vcvttps2dq_zmm_k1z_zmmm512b32_sae,
        INVALID EVEX_Vcvttpd2qq_zmm_k1z_zmmm512b64_sae;
    COMPARE = VEX_Vcmpps_ymm_ymm_ymmm256_imm8 EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae,
        VEX_Vcmppd_ymm_ymm_ymmm256_imm8 EVEX_Vcmppd_kr_k1_zmm_zmmm512b64_imm8_sae;
    /// On 512 bits any comparison of integers, on 256 whether they are equal.
    COMPARE_INT = VEX_Vpcmpeqd_ymm_ymm_ymmm256 EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8,
        VEX_Vpcmpeqq_ymm_ymm_ymmm256 EVEX_Vpcmpq_kr_k1_zmm_zmmm512b64_imm8;
    /// Chooses by a mask on 512 bits, by signs on 256.
    BLEND = VEX_Vblendvps_ymm_ymm_ymmm256_ymm EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32,
        VEX_Vblendvpd_ymm_ymm_ymmm256_ymm EVEX_Vblendmpd_zmm_k1z_zmm_zmmm512b64;
    /// Within quarters (halves) of a register.
    PERMUTE = VEX_Vpermilps_ymm_ymmm256_imm8 EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8,
        VEX_Vpermilpd_ymm_ymmm256_imm8 EVEX_Vpermilpd_zmm_k1z_zmmm512b64_imm8;
    FMA_132 = VEX_Vfmadd132ps_ymm_ymm_ymmm256 EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er,
        VEX_Vfmadd132pd_ymm_ymm_ymmm256 EVEX_Vfmadd132pd_zmm_k1z_zmm_zmmm512b64_er;
    FMA_213 = VEX_Vfmadd213ps_ymm_ymm_ymmm256 EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er,
        VEX_Vfmadd213pd_ymm_ymm_ymmm256 EVEX_Vfmadd213pd_zmm_k1z_zmm_zmmm512b64_er;
    FMA_231 = VEX_Vfmadd231ps_ymm_ymm_ymmm256 EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er,
        VEX_Vfmadd231pd_ymm_ymm_ymmm256 EVEX_Vfmadd231pd_zmm_k1z_zmm_zmmm512b64_er;
}

/// An operation on whole registers; `None` if there is no instruction for it.
pub(super) fn binary(op: BinaryOp, tier: Tier, wide: bool) -> Option<Code> {
    let widths = match op {
        BinaryOp::Add => ADD,
        BinaryOp::Sub => SUB,
        BinaryOp::Mul => MUL,
        BinaryOp::Div => DIV,
        BinaryOp::Max => MAX,
        BinaryOp::Min => MIN,
        BinaryOp::Scale => SCALE,
        BinaryOp::IntAdd => ADD_INT,
        BinaryOp::IntSub => SUB_INT,
        BinaryOp::IntMul => MUL_INT,
        BinaryOp::PairDot => PAIR_DOT,
        BinaryOp::ShiftLeft => SHIFT_LEFT_BY,
        BinaryOp::ShiftRight => SHIFT_RIGHT_BY,
        BinaryOp::And => AND,
        BinaryOp::Or => OR,
        BinaryOp::Xor => XOR,
        BinaryOp::IntMax => MAX_INT,
        BinaryOp::IntMin => MIN_INT,
        BinaryOp::ShiftRightSigned => SHIFT_RIGHT_SIGNED_BY,
    };
    Some(widths.of(tier, wide)).filter(|code| *code != Code::INVALID)
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

/// A shift of integers by a constant; `None` if there is no instruction for it.
pub(super) fn shift(op: ShiftOp, tier: Tier, wide: bool) -> Option<Code> {
    let widths = match op {
        ShiftOp::Left => SHIFT_LEFT,
        ShiftOp::UnsignedRight => SHIFT_RIGHT,
        ShiftOp::SignedRight => SHIFT_RIGHT_SIGNED,
    };
    Some(widths.of(tier, wide)).filter(|code| *code != Code::INVALID)
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
        Shuffle::Blocks { .. } => SHUFFLE_QUARTERS,
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
