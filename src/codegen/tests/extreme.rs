//! Indices with coefficients and constants at the limits of 64 bits: what the verifier accepts stays inside its buffers
//! and computes what the interpreter computes.

use nestjit_ir::verify::{Stage, verify};
use nestjit_ir::{
    Affine, BufId, Buffer, DType, Expr, Index, Layout, LoopKind, NestBuilder, Program, Role, Scalar, Var,
};
use proptest::prelude::*;

use super::harness::{Choices, check, check_with, inputs, targets};
use crate::codegen::module::{CodegenOptions, compile};
use crate::error::ErrorKind;
use crate::unit::Unit;

/// Magnitudes around all limits that matter somewhere: lanes, displacements, strides, the verifier's, `i64`.
const MAGNITUDES: [i64; 18] = [
    1,
    1,
    2,
    3,
    (1 << 24) - 1,
    1 << 24,
    1 << 28,
    (1 << 31) - 1,
    1 << 31,
    1 << 33,
    1 << 40,
    1 << 46,
    (1 << 50) - 1,
    1 << 50,
    1 << 52,
    1 << 61,
    1 << 62,
    i64::MAX,
];

impl Choices {
    fn magnitude(&mut self) -> i64 {
        // Most programs are to be accepted.
        let limit = self.of(&[4, 10, 14, 14, MAGNITUDES.len()]);
        let magnitude = MAGNITUDES[self.below(limit)];
        if self.below(2) == 0 { magnitude } else { -magnitude }
    }

    /// Some coefficients, and a constant that brings the sum near 0 for some iteration.
    fn index(&mut self, vars: &[(Var, usize)]) -> Affine {
        let mut sum = Affine::constant(self.below(4) as i64 - 1);
        for &(v, n) in vars {
            if self.below(3) == 0 {
                continue;
            }
            let c = self.magnitude();
            let iteration = self.below(n.max(1) + 1) as i64;
            sum = sum + Affine::term(v, c) + c.saturating_mul(-iteration);
        }
        if self.below(8) == 0 { sum + self.magnitude() } else { sum }
    }

    fn layout(&mut self, rank: usize) -> Layout {
        let mut layout = Layout::row_major(rank);
        if self.below(3) == 0 {
            layout.order.reverse();
        }
        layout.panel = (self.below(3) == 0).then(|| (self.below(rank), 1 + self.below(5)));
        let free = (0..rank).find(|&d| layout.panel.is_none_or(|p| p.0 != d));
        layout.interleave = free.filter(|_| self.below(4) == 0).map(|d| (d, 1 + self.below(5)));
        layout
    }
}

fn random_program(seed: u64) -> Program {
    let mut c = Choices(seed | 1);
    let mut p = Program::default();
    let mut readable: Vec<(BufId, usize)> = Vec::new();
    for i in 0..2 {
        let shape = [1 + c.below(5), 1 + c.below(20)];
        let mut x = Buffer::new(format!("x{i}"), DType::F32, &shape, Role::In);
        x.layout = c.layout(2);
        if c.below(2) == 0 {
            x.halo = vec![(c.below(3), c.below(3)), (c.below(4), c.below(4))];
            x.halo_fill = Scalar::F32(c.of(&[0.0, 1.5]));
        }
        readable.push((p.add_buffer(x), 2));
    }
    let extents = [1 + c.below(4), c.of(&[1, 2, 5, 8, 16, 17, 40]), c.of(&[0, 1, 2, 7, 16])];
    let mut y = Buffer::new("y", DType::F32, &extents[..2], Role::Out);
    y.layout = c.layout(2);
    let y = p.add_buffer(y);
    let kinds = [LoopKind::Serial, LoopKind::Unrolled, LoopKind::Vector, LoopKind::Vector];
    let (inner, along) = (c.of(&kinds), c.of(&kinds));
    let mut b = NestBuilder::new(&mut p, "extreme");
    b.for_kind("n", extents[0], c.of(&[LoopKind::Serial, LoopKind::Parallel(None)]), |b, n| {
        let row = b.temp("row", DType::F32, &[extents[1]]);
        b.for_kind("r", extents[1], inner, |b, r| {
            let value = load(&mut c, &readable, &[(n, extents[0]), (r, extents[1])]);
            b.store(row, [r], value);
        });
        readable.push((row, 1));
        let sum = b.temp("sum", DType::F32, &[]);
        b.for_("i", extents[1], |b, i| {
            b.store(sum, nestjit_ir::SCALAR, Expr::f32(0.25));
            b.for_kind("k", extents[2], along, |b, k| {
                let vars = [(n, extents[0]), (i, extents[1]), (k, extents[2])];
                let value = load(&mut c, &readable, &vars);
                b.reduce(nestjit_ir::ReduceOp::Add, sum, nestjit_ir::SCALAR, value);
            });
            let value = load(&mut c, &readable, &[(n, extents[0]), (i, extents[1])]);
            b.store(y, [n, i], value + Expr::load(sum, nestjit_ir::SCALAR));
        });
    });
    b.finish();
    p
}

fn load(c: &mut Choices, readable: &[(BufId, usize)], vars: &[(Var, usize)]) -> Expr {
    let (buf, rank) = c.of(readable);
    let index: Vec<Index> = (0..rank)
        .map(|_| {
            let index = c.index(vars);
            if c.below(6) == 0 { Index::Value(Box::new(Expr::Index(index))) } else { index.into() }
        })
        .collect();
    let value = Expr::load_or(buf, index, Expr::f32(c.of(&[0.0, 0.0, 1.5])));
    match c.below(5) {
        0 => value + Expr::Index(c.index(vars)).cast(DType::F32).unary(nestjit_ir::UnOp::Tanh),
        _ => value,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_stays_inside(seed in any::<u64>()) {
        let p = random_program(seed);
        if verify(&p, Stage::Scheduled).is_empty() {
            check(&p, 1e-5);
        }
    }
}

/// An index that is inside in the one iteration that there is, and steps as far as 64 bits reach.
#[test]
fn a_step_that_lanes_would_take_beyond_64_bits() {
    let p = random_program(17_877_698_381_647_116_412);
    assert_eq!(verify(&p, Stage::Scheduled), []);
    check(&p, 1e-5);
}

#[test]
fn many_programs_are_accepted_and_many_are_not() {
    let accepted = (1..=300u64)
        .filter(|seed| {
            verify(&random_program(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)), Stage::Scheduled).is_empty()
        })
        .count();
    assert!((60..=240).contains(&accepted), "{accepted} of 300");
}

/// `y[n] = (x[index] else 0.0)` for `n < 16` and a buffer of 8 rows of 8 elements.
fn gather(kind: LoopKind, index: impl Fn(Var) -> [Affine; 2]) -> Program {
    let mut p = Program::default();
    let x = p.add_buffer(Buffer::new("x", DType::F32, &[8, 8], Role::In));
    let y = p.add_buffer(Buffer::new("y", DType::F32, &[16], Role::Out));
    let mut b = NestBuilder::new(&mut p, "gather");
    b.for_kind("n", 16, kind, |b, n| {
        let value = Expr::load_or(x, index(n), Expr::f32(0.0));
        b.store(y, [n], value);
    });
    b.finish();
    p
}

#[test]
fn products_beyond_64_bits_are_refused_and_never_compiled() {
    // Inside for n = 1 only, where 2^62 * 8 rows * 4 bytes is far beyond 64 bits.
    let row = |n: Var| n * (1i64 << 62) - (1i64 << 62);
    let p = gather(LoopKind::Serial, |n| [row(n), Affine::constant(3)]);
    let errors: Vec<String> = verify(&p, Stage::Scheduled).iter().map(ToString::to_string).collect();
    assert!(errors.len() == 1 && errors[0].contains("index 0 overflows"), "{errors:?}");
    let unit = Unit { program: p, ..Unit::default() };
    for target in targets() {
        let error = compile(&unit, &target, &CodegenOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    }
}

#[test]
fn guards_of_lanes_far_apart_are_compiled() {
    for kind in [LoopKind::Serial, LoopKind::Vector, LoopKind::Unrolled] {
        for c in [1 << 20, (1 << 24) - 1, 1 << 24, 1 << 31, 1 << 40] {
            for at in [0, 1, 7, 15] {
                let p = gather(kind, |n| [n * c - at * c + 2, Affine::from(n) - at]);
                assert_eq!(verify(&p, Stage::Scheduled), []);
                let inputs = inputs(&p);
                for target in targets() {
                    check_with(&p, &target, &inputs, 0.0);
                }
            }
        }
    }
}
