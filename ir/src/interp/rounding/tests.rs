//! Radii of small programs: what is certain has none, what rounding decides has that of the jump, sums have what other
//! orders may yield.

use std::collections::HashMap;

use half::f16;

use super::{Rounded, interpret_rounded};
use crate::interp::{Data, Value, no_calls};
use crate::{BufId, Program, Role};

/// Interprets a nest of this head and body on `f32` values of %x; the output %y.
fn run(head: &str, body: &str, x: &[f32]) -> Rounded {
    let n = x.len();
    run_on(&format!("in %x: f32[{n}], {head}"), body, &[("x", Value::new(&[n], x.to_vec()).unwrap())])
}

fn run_on(head: &str, body: &str, inputs: &[(&str, Value)]) -> Rounded {
    let program: Program = format!("nest @n({head}) {{ {body} }}").parse().unwrap();
    let named = |name: &str| program.buf_ids().find(|id| program.buf(*id).name == name).unwrap();
    let values: HashMap<BufId, Value> =
        inputs.iter().map(|(name, value)| (named(name), value.clone())).collect();
    let mut results = interpret_rounded(&program, &values, &no_calls).unwrap();
    let out = program.buf_ids().find(|id| program.buf(*id).role == Role::Out).unwrap();
    results.remove(&out).unwrap()
}

fn radii(of: &Rounded) -> Vec<f32> {
    if of.radius.is_empty() { vec![0.0; of.value.len()] } else { of.radius.clone() }
}

/// One operation on each element of %x, to `f32`.
fn each(expr: &str, x: &[f32]) -> Vec<f32> {
    let n = x.len();
    radii(&run(&format!("out %y: f32[{n}]"), &format!("for i < {n} {{ %y[i] = {expr} }}"), x))
}

#[test]
fn exact_operations_have_no_radius() {
    let x = [1.0, -3.0, 0.5, 0.0];
    for expr in
        ["%x[i]", "%x[i] * 2.0", "%x[i] + 1.0", "floor(%x[i])", "max(%x[i], 0.0)", "-%x[i]", "%x[i] / 4.0"]
    {
        assert_eq!(each(expr, &x), [0.0; 4], "{expr}");
    }
    // Sums of integers are exact in any order.
    let sum = run("out %y: f32", "%y = 0.0 for i < 4 { %y += %x[i] * 3.0 }", &x);
    assert_eq!(radii(&sum), [0.0]);
}

#[test]
fn rounding_is_relative_to_the_result() {
    // 1e-8: not less than a rounding.
    for (expr, x) in [("%x[i] * 0.1", 3.0), ("exp(%x[i])", 1.0), ("%x[i] / 3.0", 1.0), ("tanh(%x[i])", 0.3)] {
        let r = each(expr, &[x])[0];
        assert!(r > 1e-8 * x && r < 1e-5 * x.exp(), "{expr}: {r}");
    }
}

#[test]
fn steps_are_open_near_their_thresholds_only() {
    // 0.35 * 0.3 / 0.03 may be rounded to either side of 3.5; one operation alone rounds the same everywhere.
    let r = each("round(%x[i] * 0.3 / 0.03)", &[0.35, 0.32, 0.0]);
    assert_eq!(r, [1.0, 0.0, 0.0]);
    let r = each("round(%x[i] / 0.1)", &[0.35, 0.32, 0.0]);
    assert_eq!(r, [0.0, 0.0, 0.0]);
    let body = "for i < 3 { %y[i] = u8(round(%x[i] * 0.3 / 0.03)) }";
    assert_eq!(radii(&run("out %y: u8[3]", body, &[0.35, 0.32, 400.0])), [1.0, 0.0, 0.0]);
    let r = radii(&run("out %y: bool[2]", "for i < 2 { %y[i] = %x[i] * 0.1 + 0.3 > 0.6 }", &[3.0, 3.1]));
    assert_eq!(r, [1.0, 0.0]);
    let r = each("select(%x[i] * 0.1 + 0.3 > 0.6, 5.0, 1.0)", &[3.0, 3.1]);
    assert_eq!(r, [4.0, 0.0]);
}

#[test]
fn a_rounding_that_may_be_left_out_is_remembered_in_memory() {
    // Stored, read and added: a fused program contracts the product.
    let body = "for i < 2 { %t[i] = %x[i] * 0.1 } for i < 2 { %y[i] = floor(%t[i] - 0.3) }";
    let y = run("temp %t: f32[2], out %y: f32[2]", body, &[3.0, 3.1]);
    assert_eq!(radii(&y), [1.0, 0.0], "{y:?}");
    let body = "for i < 2 { %t[i] = %x[i] * 0.1 } for i < 2 { %y[i] = floor(%t[i]) }";
    assert_eq!(radii(&run("temp %t: f32[2], out %y: f32[2]", body, &[30.0, 3.1])), [0.0, 0.0]);
}

#[test]
fn cancellation_keeps_the_radius_of_what_cancels() {
    let r = each("(%x[i] * 1.1) - (%x[i] * 1.1)", &[1e6])[0];
    assert!(r > 0.1 && r < 10.0, "{r}");
    // A sum in another order may round large partial sums.
    let sum = run("out %y: f32", "%y = 0.0 for i < 4 { %y += %x[i] }", &[1e8, -1e8, 0.3, 0.7]);
    assert!(radii(&sum)[0] > 10.0, "{sum:?}");
}

#[test]
fn what_leaves_the_range_in_any_case_is_certain() {
    let r = run("out %y: f32[4]", "for i < 4 { %y[i] = exp(%x[i]) }", &[100.0, 88.7, -200.0, 1.0]);
    assert_eq!(r.value.as_slice::<f32>().unwrap()[0], f32::INFINITY);
    assert_eq!(radii(&r)[0], 0.0);
    assert!(radii(&r)[1..].iter().all(|r| r.is_finite()));
    // The end of the range itself is either.
    let r = each("%x[i] * %x[i]", &[1.8446743e19, 1e19, 1e20]);
    assert_eq!((r[0], r[2]), (f32::INFINITY, 0.0));
    assert!(r[1].is_finite());
    // Sums that only grow leave it in any order, others may not.
    let sum = |x: &[f32]| radii(&run("out %y: f32", "%y = 0.0 for i < 3 { %y += %x[i] }", x))[0];
    assert_eq!(sum(&[3e38, 3e38, 1.0]), 0.0);
    assert_eq!(sum(&[3e38, 3e38, -3e38]), f32::INFINITY);
    assert_eq!(sum(&[3e38, -3e38, 3e38]), f32::INFINITY);
    let dot = |x: &[f32]| radii(&run("out %y: f32", "%y = 0.0 for i < 3 { %y += %x[i] * 1.0 }", x))[0];
    assert_eq!([dot(&[3e38, 3e38, 1.0]), dot(&[3e38, -3e38, 3e38])], [0.0, f32::INFINITY]);
    assert_eq!(dot(&[f32::INFINITY, 1.0, 2.0]), 0.0);
    assert_eq!(each("1.0 / %x[i]", &[0.0, -0.0]), [0.0, 0.0]);
    // What is added up may be a product that is not rounded, and does not leave the range.
    let sum = "%x[i] * 1e19 - 3e38";
    assert_eq!(each(sum, &[4e19, 1e19, 4e25]), [f32::INFINITY, each(sum, &[1e19])[0], f32::INFINITY]);
    assert_eq!(each("%x[i] * 1e19 + 3e38", &[4e19]), [0.0]);
    assert_eq!(each("1.0 / (%x[i] * 0.1 - 0.3)", &[3.0])[0], f32::INFINITY);
    assert_eq!(each("sqrt(%x[i] * 0.1 - 0.3)", &[3.0])[0], f32::INFINITY);
}

#[test]
fn the_shortened_sums_have_the_radii_of_the_general_ones() {
    let x: Vec<f32> = (0..200).map(|i| (f32::from(i as u8) * 0.37).sin()).collect();
    let short = run("out %y: f32", "%y = 0.0 for i < 200 { %y += %x[i] * %x[199 - i] }", &x);
    let long = run("out %y: f32", "%y = 0.0 for i < 200 { %y += %x[i] * %x[199 - i] + 0.0 }", &x);
    let (short, long) = (radii(&short)[0], radii(&long)[0]);
    assert!((short - long).abs() <= 0.2 * long, "{short} {long}");
    // A hundred times what a sum is really off by would be of no use.
    assert!(short < 1e-3, "{short}");
}

#[test]
fn writes_to_uncertain_places_may_be_in_either() {
    // Two values whose order is open, and which are written where their ranks say.
    let body = "for i < 2 { %r[i] = 0i64 for k < 2 { %r[i] += \
                select(%x[k] * 0.1 + 0.3 + %x[2] > %x[i] * 0.1 + 0.3, 1i64, 0i64) } } \
                for i < 2 { %y[(%r[i])] = %x[i] }";
    let y = run("temp %r: i64[2], out %y: f32[2]", body, &[3.0, 3.0000002, 0.0]);
    assert!(radii(&y).iter().all(|r| *r <= 1e-6), "{y:?}");
}

#[test]
fn what_was_picked_is_equal_to_where_it_was_picked_from() {
    // The index of the largest: it is equal to the maximum however both are rounded, others are if they are close.
    let body = "for i < 4 { %t[i] = %x[i] * 0.1 + 0.7 } \
                temp %m: f32 %m = -inf for i < 4 { %m max= %t[i] } \
                %y = 9i64 for i < 4 { %y min= select(%t[i] == %m, idx(i), 9i64) }";
    let of = |x: [f32; 4]| radii(&run("temp %t: f32[4], out %y: i64", body, &x))[0];
    assert_eq!(of([1.0, 2.0, 5.0, 3.0]), 0.0);
    assert!(of([5.0, 2.0, 5.0, 3.0]) > 0.0);
}

#[test]
fn a_half_is_certain_unless_rounding_reaches_over_the_middle_between_two() {
    let of = |x: f32| radii(&run("out %y: f16[1]", "%y[0] = f16(%x[0] * 0.1 + 0.7 - 0.7)", &[x]))[0];
    assert_eq!(of(3.0), 0.0);
    // 1 + 1/2048, the middle between 1 and the next half, is within rounding of the sum.
    let radius = of(10.0 * (1.0 + 1.0 / 2048.0));
    assert!(radius > 0.0 && radius < 1.0 / 1024.0, "{radius}");
    // What is certain stays so, however coarsely it is rounded.
    assert_eq!(radii(&run("out %y: bf16[1]", "%y[0] = bf16(%x[0] * 3.0)", &[0.1]))[0], 0.0);
}

#[test]
fn halves_may_stay_f32_between_two_operations() {
    // `x * sigmoid(x)`, rounded twice as the model says, and once as a pass makes it.
    let x: Vec<f32> = (0..256u16).map(|i| f16::from_f32(f32::from(i) * 0.05 - 6.4).to_f32()).collect();
    let run = |sigmoid: &str, as_half: &str| {
        let body = format!("for i < 256 {{ %t[i] = {sigmoid} %y[i] = {as_half}(%x[i] * %t[i]) }}");
        run(&format!("temp %t: f32[256], out %y: {as_half}[256]"), &body, &x)
    };
    let far = |a: &Rounded, b: &Rounded| {
        let values =
            |r: &Rounded| (0..256).map(|i| r.value.data.get(i).unwrap().as_f64()).collect::<Vec<_>>();
        let dtype = a.value.data.dtype();
        let share = |((a, b), radius): ((f64, f64), f32)| {
            if a == b { 0.0 } else { (a - b).abs() / super::allowed(f64::from(radius), dtype) }
        };
        let radii = radii(a);
        values(a).into_iter().zip(values(b)).zip(radii).map(share).fold(0.0, f64::max)
    };
    for half in ["f16", "bf16"] {
        let sigmoid = "1.0 / (1.0 + exp(-%x[i]))";
        let twice = run(&format!("f32({half}({sigmoid}))"), half);
        let once = run(sigmoid, half);
        assert!(far(&twice, &once) <= 1.0, "{half}: {}", far(&twice, &once));
        // What is wrong by some steps is none of the two: of the other type it would be.
        let (step, steps) = if half == "f16" { (0.001, "0.02") } else { (0.008, "0.16") };
        let wrong = run(&format!("{sigmoid} + {steps}"), half);
        assert!(far(&twice, &wrong) > 1.0, "{half}: {}", far(&twice, &wrong));
        // The bound follows the values: where the rounding between changes nothing, there is nothing to explain.
        let certain = run(&format!("f32({half}(0.5))"), half);
        assert!(radii(&certain).iter().all(|r| *r == 0.0), "{half}");
        let narrow = |i: usize, r: f32| {
            f64::from(r) <= step * (2.0 * twice.value.data.get(i).unwrap().as_f64().abs() + 0.01)
        };
        assert!(radii(&twice).iter().enumerate().all(|(i, r)| narrow(i, *r)), "{half}: {:?}", radii(&twice));
    }
}

#[test]
fn an_uncertain_index_reads_either_place() {
    let x = Value::new(&[2], vec![3.0f32, 3.1]).unwrap();
    let table = Value::new(&[3], vec![10.0f32, 20.0, 50.0]).unwrap();
    let head = "in %x: f32[2], in %t: f32[3], out %y: f32[2]";
    let body = "for i < 2 { %y[i] = %t[(i64(select(%x[i] * 0.1 + 0.3 > 0.6, 1.0, 0.0)))] }";
    let y = run_on(head, body, &[("x", x), ("t", table)]);
    let chosen = y.value.as_slice::<f32>().unwrap()[0];
    assert_eq!(radii(&y), [10.0, 0.0], "{chosen}");
    assert!(matches!(y.value.data, Data::F32(_)));
}
