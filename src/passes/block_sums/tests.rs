//! Sums are cut into blocks, mean the same, and others stay as they are.

use nestjit_ir::interp::Mode;
use nestjit_ir::verify::Stage;
use nestjit_ir::visit::walk_loops;

use super::*;
use crate::machine::{Isa, MachineModel};
use crate::passes::testing::{results, unit};

/// Runs the pass on a program; whether it changed anything.
fn run_on(unit: &mut Unit) -> bool {
    let target = MachineModel::plain(Isa::Avx2, [32 << 10, 1 << 20, 8 << 20], 2);
    let ctx = PassContext::new(&crate::options::Options::default(), &target, 2);
    let mut remarks = Vec::new();
    let changed = run(unit, &ctx, &mut remarks).expect("runs");
    assert_eq!(changed, !remarks.is_empty());
    crate::passes::verify(unit, Stage::Scheduled).expect("verifies");
    changed
}

/// The most additions to one element in sequence.
fn longest(unit: &Unit) -> usize {
    let mut most = 0;
    for nest in &unit.program.nests {
        let extents = Extents::of(&nest.body);
        let mut of_nest = 0;
        walk_loops(&nest.body, &mut |l| {
            let steps = sums(&unit.program, &extents, l).into_iter().map(|s| s.steps * l.extent);
            of_nest = of_nest.max(steps.max().unwrap_or(0));
        });
        assert!(find::most_additions(&nest.body) >= of_nest, "the quick answer is an upper bound");
        most = most.max(of_nest);
    }
    most
}

/// Checks that a program adds up in blocks after the pass, and still means the same.
fn check(text: &str, before: usize) -> String {
    let mut unit = unit(text);
    assert_eq!(longest(&unit), before);
    let expected = results(&unit, Mode::F64);
    assert!(run_on(&mut unit));
    assert!(longest(&unit) <= LONGEST, "{}", longest(&unit));
    for (buf, found) in results(&unit, Mode::F64) {
        for (f, e) in found.to_f64().into_iter().zip(expected[&buf].to_f64()) {
            assert!((f - e).abs() <= 1e-9 * (1.0 + e.abs()), "{f} instead of {e}");
        }
    }
    let once = unit.program.to_string();
    assert!(!run_on(&mut unit), "what is in blocks stays:\n{once}");
    once
}

#[test]
fn a_sum_of_one_loop_or_several() {
    for (h, w) in [(1, 4096), (1, 4999), (1, 2561), (3, 1999), (64, 64), (5, 3001), (2053, 2), (300, 700)] {
        let text = format!(
            "nest @s(in %x: f32[3,{h},{w}], out %y: f32[3]) {{ for n < 3 {{
               temp %t: f32
               %t = 0.0
               for h < {h} {{ for w < {w} {{ %t += %x[n,h,w] * %x[n,h,w] }} }}
               %y[n] = %t
             }} }}"
        );
        check(&text, h * w);
    }
}

#[test]
fn the_accumulators_of_a_tile_and_of_lanes() {
    let once = check(
        "nest @m(in %x: f32[3,9000], in %w: f32[9000,16], out %y: f32[3,16]) {
           for no < 1 {
             temp %t: f32[3,16]
             for i < 3 unrolled { for j < 16 vector { %t[i,j] = 0.0 } }
             for ko < 2250 { for ku < 4 unrolled { for i < 3 unrolled { for j < 16 vector {
               %t[i,j] += %x[i,4*ko+ku] * %w[4*ko+ku,j]
             } } } }
             for i < 3 unrolled { for j < 16 vector { %y[i,j] = %t[i,j] } }
           }
         }",
        9000,
    );
    // 125 iterations of four steps divide the loop; lanes stay what they are.
    assert!(once.contains("for kob < 18 {") && once.contains("for ko < 125 {"), "{once}");
    assert!(once.contains("temp %t.block: f32[3,16]"), "{once}");
    check(
        "nest @l(in %x: f32[70,300], out %y: f32[1]) {
           temp %t: f32[64]
           for u < 8 unrolled { for l < 8 vector { %t[8*u+l] = 0.0 } }
           for h < 70 {
             for o < 30 { for l < 8 vector { %t[l] += %x[h,8*o+l] } }
             for u < 4 unrolled { for l < 8 vector { %t[8*u+l] += %x[h,8*u+l+240] } }
             for l < 8 vector { %t[8*l] += 1.0 }
             for l < 8 vector { %t[l+56] += 1.0 }
           }
           %y[0] = 0.0
           for l < 64 vector { %y[0] += %t[l] }
         }",
        70 * (30 + 1),
    );
}

#[test]
fn sums_into_buffers_of_the_program_and_sums_of_blocks() {
    check(
        "nest @s(in %x: f32[5000,6], out %y: f32[2,6]) {
           for r < 2 { for c < 6 { %y[r,c] = 0.0 } }
           for r < 2 { for k < 5000 { for c < 6 vector { %y[r,c] += %x[k,c] } } }
         }",
        5000,
    );
    // A sum in each lane.
    check(
        "nest @s(in %x: f32[5000,6], out %y: f32[6]) {
           for c < 6 vector {
             temp %t: f32
             %t = 0.0
             for k < 5000 { %t += %x[k,c] }
             %y[c] = %t
           }
         }",
        5000,
    );
    // More than 2,048 blocks.
    let mut unit = unit(
        "nest @s(in %x: f32[3000000], out %y: f32[1]) {
           %y[0] = 0.0
           for k < 3000000 { %y[0] += %x[k] }
         }",
    );
    assert!(run_on(&mut unit));
    assert!(longest(&unit) <= LONGEST, "{}", longest(&unit));
}

#[test]
fn what_is_read_in_between_or_short_or_full_of_gaps_stays() {
    for text in [
        "nest @s(in %x: f32[5000], out %y: f32[1]) {
           %y[0] = 0.0
           for k < 2048 { %y[0] += %x[k] }
           for k < 5000 { %y[0] max= %x[k] }
         }",
        "nest @s(in %x: f32[5000], out %y: f32[1], out %z: f32[5000]) {
           %y[0] = 0.0
           for k < 5000 { %y[0] += %x[k] %z[k] = %y[0] }
         }",
        "nest @s(in %x: f32[5000], out %y: f32[9]) {
           for i < 9 { %y[i] = 0.0 }
           for k < 5000 { for i < 3 { %y[3*i] += %x[k] } }
         }",
        "nest @s(in %x: f32[5000], out %y: f32[5000]) { for k < 5000 { %y[k] = 0.0 %y[k] += %x[k] } }",
    ] {
        let mut unit = unit(text);
        assert!(!run_on(&mut unit), "{}", unit.program);
    }
}
