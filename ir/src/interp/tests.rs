//! Whole programs; single operations are tested in `scalar`.

use super::*;
use crate::{BinOp, Buffer, Expr, NestBuilder, ReduceOp, SCALAR, Var};

fn buf(p: &mut Program, name: &str, dtype: DType, shape: &[usize], role: Role) -> BufId {
    p.add_buffer(Buffer::new(name, dtype, shape, role))
}

fn f32s(shape: &[usize], elements: &[f32]) -> Value {
    Value::new(shape, elements.to_vec()).expect("as many as the shape says")
}

/// `y[i] = body(i)` for one input and one output of the given shapes.
fn map1(
    x: (&[usize], DType),
    y: (&[usize], DType),
    body: impl FnOnce(BufId, &[Var]) -> Expr,
) -> (Program, BufId, BufId) {
    let mut p = Program::default();
    let xb = buf(&mut p, "x", x.1, x.0, Role::In);
    let yb = buf(&mut p, "y", y.1, y.0, Role::Out);
    let mut b = NestBuilder::new(&mut p, "f");
    b.for_each("i", y.0, |b, v| {
        let value = body(xb, v);
        b.store(yb, v, value);
    });
    b.finish();
    (p, xb, yb)
}

fn run1(p: &Program, x: BufId, value: Value, y: BufId, mode: Mode) -> Result<Value, InterpError> {
    Ok(interpret(p, &HashMap::from([(x, value)]), mode, &no_calls)?.remove(&y).expect("an output"))
}

fn dense() -> (Program, BufId, BufId, BufId) {
    let mut p = Program::default();
    let x = buf(&mut p, "x", DType::F32, &[2, 3], Role::In);
    let w = buf(&mut p, "w", DType::F32, &[3, 2], Role::Const);
    let y = buf(&mut p, "y", DType::F32, &[2, 2], Role::Out);
    let mut b = NestBuilder::new(&mut p, "dense");
    b.for_each("i", &[2, 2], |b, v| {
        let t = b.temp("t", DType::F32, &[]);
        b.store(t, SCALAR, Expr::f32(0.0));
        b.for_("k", 3, |b, k| {
            b.reduce(ReduceOp::Add, t, SCALAR, Expr::load(x, [v[0], k]) * Expr::load(w, [k, v[1]]));
        });
        b.store(y, v, Expr::load(t, SCALAR).relu());
    });
    b.finish();
    (p, x, w, y)
}

#[test]
fn dense_with_relu() {
    let (p, x, w, y) = dense();
    let inputs = HashMap::from([
        (x, f32s(&[2, 3], &[1.0, 2.0, 3.0, -1.0, -2.0, -3.0])),
        (w, f32s(&[3, 2], &[1.0, 0.5, 1.0, -1.0, 1.0, 2.0])),
    ]);
    for mode in [Mode::Exact, Mode::F64] {
        let out = interpret(&p, &inputs, mode, &no_calls).expect("runs");
        assert_eq!(out.len(), 1);
        assert_eq!(out[&y].to_f64(), [6.0, 4.5, 0.0, 0.0]);
        assert_eq!(out[&y].dtype(), mode.held(DType::F32));
    }
}

#[test]
fn the_reference_does_not_round_to_f32() {
    let f = |x, v: &[Var]| (Expr::load(x, v) + Expr::f32(1e8)) - Expr::f32(1e8);
    let (p, x, y) = map1((&[1], DType::F32), (&[1], DType::F32), f);
    let run = |mode| run1(&p, x, f32s(&[1], &[1.25]), y, mode).expect("runs").to_f64();
    assert_eq!(run(Mode::Exact), [0.0]);
    assert_eq!(run(Mode::F64), [1.25]);
}

#[test]
fn padding_yields_otherwise() {
    let (p, x, y) =
        map1((&[3], DType::F32), (&[5], DType::F32), |x, v| Expr::load_or(x, [v[0] - 1], Expr::f32(9.0)));
    let out = run1(&p, x, f32s(&[3], &[1.0, 2.0, 3.0]), y, Mode::Exact).expect("runs");
    assert_eq!(out.to_f64(), [9.0, 1.0, 2.0, 3.0, 9.0]);
}

#[test]
fn an_index_out_of_bounds_is_an_error() {
    let (p, x, y) =
        map1((&[2, 3], DType::F32), (&[2, 3], DType::F32), |x, v| Expr::load(x, [v[0].into(), v[1] + 1]));
    let error = run1(&p, x, Value::from_fn(DType::F32, &[2, 3], |i| i as f64), y, Mode::Exact);
    assert_eq!(error.unwrap_err().to_string(), "nest @f: index [0, 3] is outside %x of shape [2, 3]");
}

#[test]
fn gather_by_loaded_indices() {
    let mut p = Program::default();
    let x = buf(&mut p, "x", DType::F32, &[4], Role::In);
    let at = buf(&mut p, "at", DType::I64, &[3], Role::In);
    let y = buf(&mut p, "y", DType::F32, &[3], Role::Out);
    let mut b = NestBuilder::new(&mut p, "gather");
    b.for_("i", 3, |b, i| b.store(y, [i], Expr::load(x, [Expr::load(at, [i])])));
    b.finish();
    let run = |indices: &[i64]| {
        let inputs = HashMap::from([
            (x, f32s(&[4], &[0.0, 10.0, 20.0, 30.0])),
            (at, Value::new(&[3], indices.to_vec()).expect("3 elements")),
        ]);
        interpret(&p, &inputs, Mode::Exact, &no_calls)
    };
    assert_eq!(run(&[3, 0, 1]).expect("runs")[&y].to_f64(), [30.0, 0.0, 10.0]);
    assert_eq!(
        run(&[3, -1, 1]).unwrap_err().to_string(),
        "nest @gather: index [-1] is outside %x of shape [4]"
    );
}

#[test]
fn locals_are_undefined_again_in_each_iteration() {
    let mut p = Program::default();
    let y = buf(&mut p, "y", DType::F32, &[2], Role::Out);
    let z = buf(&mut p, "z", DType::F32, &[2], Role::Temp);
    let mut b = NestBuilder::new(&mut p, "f");
    b.for_("i", 2, |b, i| {
        let t = b.temp("t", DType::F32, &[]);
        b.store(y, [i], Expr::load(t, SCALAR));
        b.store(t, SCALAR, Expr::f32(1.0));
        b.store(z, [i], Expr::load(t, SCALAR));
    });
    b.finish();
    let out = interpret_with_temps(&p, &HashMap::new(), Mode::Exact, &no_calls).expect("runs");
    assert!(out[&y].to_f64().iter().all(|v| v.is_nan()));
    assert_eq!(out[&z].to_f64(), [1.0, 1.0]);
}

#[test]
fn every_reduction() {
    for (op, expected) in
        [(ReduceOp::Add, 2.0), (ReduceOp::Mul, -12.0), (ReduceOp::Max, 3.0), (ReduceOp::Min, -2.0)]
    {
        for dtype in [DType::F32, DType::F64, DType::I64, DType::I32, DType::I8] {
            let mut p = Program::default();
            let x = buf(&mut p, "x", dtype, &[4], Role::In);
            let y = buf(&mut p, "y", dtype, &[], Role::Out);
            let mut b = NestBuilder::new(&mut p, "r");
            b.store(y, SCALAR, op.identity(dtype).into());
            b.for_("i", 4, |b, i| b.reduce(op, y, SCALAR, Expr::load(x, [i])));
            b.finish();
            // A prefix of 1, -2, 3, 2 whose sum is 2 needs a 0 for the sum only.
            let elements = if op == ReduceOp::Add { [1.0, -2.0, 3.0, 0.0] } else { [1.0, -2.0, 3.0, 2.0] };
            let out =
                run1(&p, x, Value::from_fn(dtype, &[4], |i| elements[i]), y, Mode::Exact).expect("runs");
            assert_eq!(out.to_f64(), [expected], "{op:?} on {dtype}");
        }
    }
}

#[test]
fn select_compare_cast_and_index_values() {
    let (p, x, y) = map1((&[4], DType::I64), (&[4], DType::F64), |x, v| {
        let even = Expr::load(x, v).binary(BinOp::Mod, Expr::i64(2)).equals(Expr::i64(0));
        even.select(Expr::load(x, v), Expr::index(v[0] * -10)).cast(DType::F64)
    });
    let out =
        run1(&p, x, Value::from_fn(DType::I64, &[4], |i| i as f64 + 4.0), y, Mode::Exact).expect("runs");
    assert_eq!(out.to_f64(), [4.0, -10.0, 6.0, -30.0]);
}

#[test]
fn calls_see_and_give_whole_buffers() {
    let mut p = Program::default();
    let x = buf(&mut p, "x", DType::F32, &[3], Role::In);
    let y = buf(&mut p, "y", DType::F32, &[3], Role::Out);
    let mut b = NestBuilder::new(&mut p, "sort");
    b.call("sort", &[x], &[y], &[1]);
    b.finish();
    let inputs = HashMap::from([(x, f32s(&[3], &[2.0, 3.0, 1.0]))]);
    let sort = |call: &Call, inputs: &[&Value]| {
        assert_eq!((call.function.as_str(), call.attrs.as_slice()), ("sort", &[1][..]));
        let mut v = inputs[0].to_f64();
        v.sort_by(f64::total_cmp);
        Ok(vec![Value::from_fn(DType::F32, &[3], |i| v[i])])
    };
    for mode in [Mode::Exact, Mode::F64] {
        let out = interpret(&p, &inputs, mode, &sort).expect("runs");
        assert_eq!((out[&y].to_f64(), out[&y].dtype()), (vec![1.0, 2.0, 3.0], mode.held(DType::F32)));
    }
    let error = interpret(&p, &inputs, Mode::Exact, &no_calls).unwrap_err();
    assert_eq!(error.to_string(), "nest @sort: call of 'sort' failed: there is no function 'sort'");
    let error = interpret(&p, &inputs, Mode::Exact, &|_, _| Ok(vec![f32s(&[1], &[0.0])])).unwrap_err();
    assert_eq!(error.to_string(), "nest @sort: call of 'sort' failed: output %y is f32[1] instead of f32[3]");
}

#[test]
fn wrong_inputs_and_malformed_programs_are_errors() {
    let (p, x, y) = map1((&[2], DType::F32), (&[2], DType::F32), |x, v| Expr::load(x, v));
    let error = interpret(&p, &HashMap::new(), Mode::Exact, &no_calls).unwrap_err();
    assert_eq!(error.to_string(), "no value given for %x");
    let error = run1(&p, x, f32s(&[3], &[0.0; 3]), y, Mode::Exact).unwrap_err();
    assert_eq!(error.to_string(), "%x is f32[2], but the value given is f32[3] with 3 elements");

    let message = |body: fn(BufId, &[Var]) -> Expr| {
        let (p, x, y) = map1((&[2], DType::F32), (&[2], DType::F32), body);
        run1(&p, x, f32s(&[2], &[0.0; 2]), y, Mode::Exact).unwrap_err().to_string()
    };
    assert_eq!(message(|_, _| Expr::i64(0)), "nest @f: a value of type i64 is stored into %y of type f32");
    assert_eq!(message(|_, _| Expr::load(BufId(9), SCALAR)), "nest @f: buffer 9 does not exist");
    assert_eq!(
        message(|x, _| Expr::load(x, SCALAR)),
        "nest @f: %x has 1 dimensions but is accessed with 0 indices"
    );
    assert_eq!(
        message(|x, v| Expr::load(x, v).unary(crate::UnOp::Not)),
        "nest @f: 'not' is not defined on f32"
    );
    assert_eq!(message(|x, _| Expr::load(x, [Var(7)])), "nest @f: variable 7 is not bound by a loop");
    assert_eq!(
        message(|x, v| Expr::load(x, v) + Expr::f64(0.0)),
        "nest @f: an operand of type f64 where f32 is needed"
    );
}

#[test]
fn empty_loops_and_empty_buffers() {
    let (p, x, y) = map1((&[0, 3], DType::F32), (&[0, 3], DType::F32), |x, v| Expr::load(x, v));
    let out = run1(&p, x, f32s(&[0, 3], &[]), y, Mode::Exact).expect("runs");
    assert!(out.is_empty() && out.shape == [0, 3]);
}

#[test]
fn values_compare_by_bits_where_asked() {
    let (a, b) = (f32s(&[2], &[0.0, f32::NAN]), f32s(&[2], &[-0.0, f32::NAN]));
    assert!(a.same_bits(&a) && !a.same_bits(&b));
    assert_eq!(Value::new(&[3], vec![0.0f32]), None);
    assert_eq!(a.cast(DType::I8).to_f64(), [0.0, 0.0]);
}

#[test]
fn a_checked_value_outside_its_range_ends_the_run() {
    use crate::{CheckKind, Site};
    let site = |kind| {
        let (node, op, input) = ("pick".into(), "Gather".into(), "i\n".into());
        std::sync::Arc::new(Site { node, op, input, kind })
    };
    let message = |kind, low: i64, high: i64, value: i64| {
        let mut p = Program::default();
        let x = p.add_buffer(Buffer::new("x", DType::I64, &[], Role::In));
        let y = p.add_buffer(Buffer::new("y", DType::I64, &[], Role::Out));
        let mut b = NestBuilder::new(&mut p, "f");
        b.store(y, SCALAR, Expr::load(x, SCALAR).checked(low, high, &site(kind)));
        b.finish();
        let text = p.to_string();
        assert_eq!(crate::parse::parse(&text).expect("reads back").to_string(), text);
        assert!(crate::verify::verify(&p, crate::verify::Stage::Lowered).is_empty());
        let given = HashMap::from([(x, Value::new(&[], vec![value]).expect("a scalar"))]);
        match interpret(&p, &given, Mode::Exact, &no_calls) {
            Ok(results) => format!("{:?}", results[&y].to_f64()),
            Err(e) => e.to_string(),
        }
    };
    assert_eq!(message(CheckKind::Length, 0, 6, 5), "[5.0]");
    let at = "node 'pick' (Gather):";
    let cases = [
        (CheckKind::Length, 0, 6, 6, "the length 6 in 'i\\n' is outside 0..=5"),
        (CheckKind::Length, 0, i64::MAX, -1, "the length -1 in 'i\\n' is negative"),
        (CheckKind::Position, 2, 4, 1, "the position 1 in 'i\\n' is outside 2..4"),
        (CheckKind::Category, 0, 1, 42, "the category 42 in 'i\\n' is none of those that are known"),
        (CheckKind::Index, 0, 3, i64::MIN, "the index -9223372036854775808 in 'i\\n' is outside 0..3"),
        // It was -5, counted from the end.
        (
            CheckKind::IndexFromEnd,
            0,
            3,
            -2,
            "the index -5 in 'i\\n' is outside 0..3 (or -3..0, counted from the end)",
        ),
    ];
    for (kind, low, high, value, text) in cases {
        assert_eq!(message(kind, low, high, value), format!("{at} {text}"));
    }
}

#[test]
fn what_nothing_was_written_to_can_be_told() {
    let text = "nest @f(in %x: f32[2], out %y: f32[2], out %z: i32[2]) {
        temp %t: f32[2]
        %t[0] = %x[0]
        for i < 2 { %y[i] = %t[i] %z[i] = i32(%t[i]) }
    }";
    let p: Program = text.parse().expect("a program");
    let inputs = [(BufId(0), Value::from_fn(DType::F32, &[2], |i| i as f64 + 3.0))].into_iter().collect();
    let run = |undefined| {
        let mut values = interpret_from(&p, &inputs, Mode::Exact, &no_calls, undefined).expect("runs");
        [1, 2].map(|b| values.remove(&BufId(b)).expect("an output").to_f64())
    };
    let ([y, z], other) = (run(Undefined::Marked), run(Undefined::Other));
    assert!(y[0] == 3.0 && y[1].is_nan() && z == [3.0, 0.0]);
    assert_eq!(other, [[3.0, 42.0], [3.0, 42.0]]);
}
