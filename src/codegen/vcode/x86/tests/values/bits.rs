//! Operations on the bits of three registers.

use super::super::widths;
use super::{A, B, C, DST, bytes, check_pairs};
use crate::codegen::vcode::{Class, Inst};

#[test]
fn bits_that_two_have_in_common_and_those_of_a_third() {
    let (class, values) = (Class::I32, bytes());
    for tier in widths().into_iter().filter(|t| t.machine().ternary) {
        let and_or = |dst, a, b, c| Inst::AndOr { dst, a, b, c };
        let check = |body: &[Inst]| check_pairs(tier, class, &values, &[class], body);
        check(&[and_or(DST, A, B, C)]);
        // The result in place of each operand, and of several.
        check(&[Inst::Copy { dst: DST, a: A }, and_or(DST, DST, B, C)]);
        check(&[Inst::Copy { dst: DST, a: A }, and_or(DST, B, DST, C)]);
        check(&[Inst::Copy { dst: DST, a: A }, and_or(DST, B, C, DST)]);
        check(&[Inst::Copy { dst: DST, a: A }, and_or(DST, DST, B, DST)]);
        check(&[Inst::Copy { dst: DST, a: A }, and_or(DST, B, DST, DST)]);
        check(&[and_or(DST, A, A, A)]);
        // An operand that is a constant.
        for (a, b, c) in [(DST, A, B), (A, DST, B), (A, B, DST)] {
            let constant = Inst::Const { dst: DST, bits: 0xff00_ff0f };
            check(&[constant, and_or(C, a, b, c), Inst::Copy { dst: DST, a: C }]);
        }
    }
}
