//! What must be reported, mostly written as text; what text cannot say is built.

use super::*;
use crate::{BufId, DType, Expr, For, Layout, LoopKind, NestBuilder, Scalar, Stmt, Store, Var, parse::parse};

fn messages(text: &str, stage: Stage) -> Vec<String> {
    let p = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    verify(&p, stage).iter().map(ToString::to_string).collect()
}

/// The mistakes in a nest over %x: f32[4,8], %i: i64[4], %m: bool[4], %y: f32[4] with this body.
fn in_nest(body: &str) -> Vec<String> {
    let signature = "in %x: f32[4,8], in %i: i64[4], in %m: bool[4], out %y: f32[4]";
    let fill = "for f < 4 { %y[f] = 0.0 }";
    messages(&format!("nest @f({signature}) {{ {fill} {body} }}"), Stage::Scheduled)
}

#[test]
fn a_sound_program_passes() {
    let none: [&str; 0] = [];
    assert_eq!(
        in_nest("for n < 4 parallel { temp %t: f32 %t = 0.0 for k < 8 vector { %t += %x[n,k] } %y[n] = %t }"),
        none
    );
    assert_eq!(in_nest("for n < 4 { %y[(%i[n])] += (%x[n-1,9*n] else 0.0) }"), none);
    assert_eq!(in_nest("for n < 0 { %y[n+100] = 0.0 }"), none);
    assert_eq!(
        in_nest("for n < 4 { %y[n] = select(%m[n] & %i[n] < idx(n), f32(%i[n]), exp(%x[n,0])) }"),
        none
    );
}

#[test]
fn mistakes_in_nests() {
    let cases = [
        ("%x[0,0] = 0.0", "%x[0,0] = ..: %x is written, but its role is 'in'"),
        ("for n < 5 { %y[n] = 0.0 }", "for n > %y[n] = ..: %y[n]: index 0 runs from 0 to 4, outside 0..4"),
        (
            "for n < 4 { %y[n] = %x[n,n-1] }",
            "for n > %y[n] = ..: %x[n,n-1]: index 1 runs from -1 to 2, outside 0..8",
        ),
        ("%y[0] = %x[0]", "%y[0] = ..: %x has 2 dimensions but is accessed with 1 indices"),
        ("%y = 0.0", "%y = ..: %y has 1 dimensions but is accessed with 0 indices"),
        ("%y[0] = 1.0f64", "%y[0] = ..: a value of type f64 is stored into %y of type f32"),
        ("%y[0] += 1i64", "%y[0] += ..: a value of type i64 is stored into %y of type f32"),
        ("%y[0] = %x[0,0] + 1.0f64", "%y[0] = ..: '+' has operands of types f32 and f64"),
        ("%y[0] = %x[0,0] & %x[0,1]", "%y[0] = ..: '&' is not defined on f32"),
        ("%y[0] = f32(exp(%i[0]))", "%y[0] = ..: 'exp' is not defined on i64"),
        ("%y[0] = select(1.0, 1.0, 2.0)", "%y[0] = ..: the condition of 'select' has type f32"),
        ("%y[0] = select(true, 1.0, true)", "%y[0] = ..: 'select' has operands of types f32 and bool"),
        ("%y[0] = %x[(%x[0,0]),0]", "%y[0] = ..: index 0 of %x has type f32 instead of i64"),
        ("%y[0] = (%x[9,0] else 1i64)", "%y[0] = ..: 'else' of type i64 for a load of type f32"),
        (
            "for n < 4 { for k < 8 parallel { %y[n] += %x[n,k] } }",
            "for n > for k: the loop cannot be 'parallel': %y[n] and %y[n]: different iterations of k may touch the same element",
        ),
        (
            "for n < 4 { for k < 8 vector { %y[n] = %x[n,k] } }",
            "for n > for k: the loop cannot be 'vector': %y[n] and %y[n]: different iterations of k may touch the same element",
        ),
        (
            "for n < 9 { for k < 9 { %y[0] = (%x[n*9223372036854775807,k] else 0.0) } }",
            "for n > for k > %y[0] = ..: %x[9223372036854775807*n,k]: index 0 overflows: it reaches further than 2^59 bytes",
        ),
        (
            "for n < 9 { %y[0] = (%x[0,4503599627370496*n-4503599627370496] else 0.0) }",
            "for n > %y[0] = ..: %x[0,4503599627370496*n-4503599627370496]: index 1 overflows: it reaches further than 2^59 bytes",
        ),
        (
            "for n < 0 { %y[0] = %x[0,n*9223372036854775807] }",
            "for n > %y[0] = ..: %x[0,9223372036854775807*n]: index 1 overflows: it reaches further than 2^59 bytes",
        ),
        (
            "for n < 1 { %y[0] = %x[n*9223372036854775807+n,0] }",
            "for n > %y[0] = ..: %x[-9223372036854775808,0]: index 0 overflows",
        ),
        (
            "for n < 2 { %y[0] = f32(idx(4611686018427387904*n)) }",
            "for n > %y[0] = ..: idx(4611686018427387904*n) overflows",
        ),
        ("call g(%y) -> (%y)", "call g: %y is an output and also something else"),
        ("call copy(%i) -> (%y)", "call copy: %i of type i64 is copied to %y of type f32"),
        ("call copy(%x) -> (%y)", "call copy: %x of 32 elements is copied to %y of 4"),
        ("call copy(%x) -> ()", "call copy: copy takes one buffer and gives one, without attributes"),
        ("call g(%y) -> (%x)", "call g: %x is written, but its role is 'in'"),
    ];
    for (body, message) in cases {
        assert_eq!(in_nest(body), [format!("nest @f: {message}")], "{body}");
    }
}

#[test]
fn what_is_read_has_been_written() {
    let cases = [
        ("temp %t: f32 %y[0] = %t", "%t is read, but nothing has been written to it"),
        ("temp %t: f32 %t += 1.0 %y[0] = %t", "%t is read, but nothing has been written to it"),
        ("temp %t: f32 for n < 4 { %y[n] = %t %t = 1.0 }", "%t is read, but nothing has been written to it"),
        ("temp %t: f32 for n < 0 { %t = 1.0 } %y[0] = %t", "%t is read, but nothing has been written to it"),
        (
            "temp %t: f32[4] for n < 4 { %t[n] = (%t[n+1] else 0.0) }",
            "%t[n+1] is read, but nothing has been written to it",
        ),
        (
            "temp %t: f32[4] for n < 4 { %y[n] = (%t[n-1] else 0.0) } for n < 4 { %t[n] = 1.0 }",
            "%t[n-1] is read, but nothing has been written to it",
        ),
        (
            "for n < 4 { temp %t: f32[4] %y[n] = (%t[n-1] else 0.0) %t[n] = 1.0 }",
            "%t[n-1] is read, but nothing has been written to it",
        ),
        (
            "temp %t: f32[4] %y[0] = (%t[(1i64)] else 1.0) for n < 4 { %t[n] = 1.0 }",
            "%t[(1i64)] is read, but nothing has been written to it",
        ),
        (
            "temp %t: f32[4] for n < 2 { %t[n] = 1.0 } %y[0] = (%t[(1i64)] else 1.0)",
            "%t[(1i64)]: index 0 can be 2, but only 0 to 1 are written",
        ),
        (
            "temp %t: f32[4] for n < 2 { %t[n] = 1.0 } %y[0] = %t[(3i64)]",
            "%t[(3i64)]: index 0 can be 3, but only 0 to 1 are written",
        ),
        ("temp %t: f32[2] for n < 2 { %t[n] *= 1.0 }", "%t[n] is read, but nothing has been written to it"),
        ("temp %t: f32[4] call copy(%t) -> (%y)", "%t is read, but nothing has been written to it"),
        (
            "temp %t: f32[4] for n < 3 { %t[n] = 1.0 } for k < 4 { %y[k] = %t[k] }",
            "%t[k]: index 0 can be 3, but only 0 to 2 are written",
        ),
        // Where the element exists, in some iteration.
        (
            "temp %t: f32[4] for n < 2 { %t[n] = 1.0 } for k < 4 { %y[k] = (%t[k-1] else 0.0) }",
            "%t[k-1]: index 0 can be 2, but only 0 to 1 are written",
        ),
        (
            "temp %t: f32[4] for n < 2 { %t[n+2] = 1.0 } for k < 4 { %y[k] = (%t[2*k-5] else 0.0) }",
            "%t[2*k-5]: index 0 can be 1, but only 2 to 3 are written",
        ),
        (
            "temp %t: f32[4] for k < 2 { for n < 4 { %y[n] = (%t[n-1] else 0.0) } for n < 4 { %t[n] = 1.0 } }",
            "%t[n-1] is read, but nothing has been written to it",
        ),
        (
            "temp %t: f32[4,4] for n < 4 { for k < 2 { %t[n,k] = 1.0 } }
             for i < 4 { for j < 4 { %y[i] = (%t[i-3,i+j-1] else 0.0) } }",
            "%t[i-3,i+j-1]: index 1 can be 2, but only 0 to 1 are written",
        ),
    ];
    for (body, message) in cases {
        assert_eq!(in_nest(body), [format!("nest @f: {message}")], "{body}");
    }
    let fine = [
        "temp %t: f32 %t = 0.0 for n < 4 { %y[n] = %t %t = 1.0 }",
        "temp %t: f32[4] for n < 3 { %t[n] = 1.0 } for n < 4 { %y[n] = (%t[2*n-9] else 0.0) }",
        "temp %t: f32[4] for n < 4 { %t[n] = (%t[n-1] else 0.0) }",
        "temp %t: f32 %y[0] = (%x[0,0] else %t)",
        "temp %t: f32[4] for n < 4 { %y[n] = (%t[n-1] else 0.0) for k < 1 { %t[n+k] = 1.0 } }",
        "temp %t: f32[4] for n < 4 { %y[n] = (%t[n+4] else 0.0) }",
        "temp %t: f32[4] for n < 4 { %t[(%i[n])] = 1.0 } for n < 4 { %y[n] = %t[n] }",
        "temp %t: f32[2] for n < 0 { %y[0] = %t[n] }",
        "temp %t: f32[4] for n < 3 { %t[n] = 1.0 } for n < 4 { %y[n] = (%t[4*n-2] else 0.0) }",
        "temp %t: f32[4] for k < 2 { for n < 4 { %y[n] = (%t[n+4*k-4] else 0.0) } for n < 4 { %t[n] = 1.0 } }",
        // Each index is that of an element that nothing writes, but only where the other is beyond the buffer.
        "temp %t: f32[4,4] for n < 3 { for k < 3 { %t[n,k] = 1.0 } }
         for n < 4 { %y[n] = (%t[n,7-n] else 0.0) }",
    ];
    for body in fine {
        assert!(in_nest(body).is_empty(), "{body}: {:?}", in_nest(body));
    }
    let partly = "nest @f(out %y: f32[4,3]) { for n < 4 { for m < 2 { %y[n,m] = 0.0 } } }";
    assert_eq!(
        messages(partly, Stage::Lowered),
        ["%y: only 0 to 1 of dimension 1 of this output are written, not all 3"]
    );
    assert_eq!(
        messages("nest @f(temp %t: f32, out %y: f32) { %y = %t %t = 1.0 }", Stage::Lowered),
        ["nest @f: %t is read, but nothing has been written to it"]
    );
    assert_eq!(
        messages("nest @f(out %y: f32) { %y += 1.0 }", Stage::Lowered),
        ["nest @f: %y is read, but nothing has been written to it", "%y: no nest writes this output"]
    );
}

#[test]
fn stages_and_data_flow() {
    let vector = "nest @f(out %y: f32[4]) { for n < 4 vector { %y[n] = 0.0 } }";
    assert_eq!(messages(vector, Stage::Fused), ["nest @f: for n: a loop is 'vector' before scheduling"]);
    assert!(messages(vector, Stage::Scheduled).is_empty());
    assert_eq!(messages("buffer out %y: f32[4]", Stage::Lowered), ["%y: no nest writes this output"]);
    assert!(messages("buffer out %y: f32[0]", Stage::Lowered).is_empty());
    assert_eq!(
        messages("nest @f(temp %t: f32, out %y: f32) { %y = %t }", Stage::Lowered),
        ["nest @f: %t is read, but nothing has been written to it"]
    );
}

#[test]
fn mistakes_in_buffers() {
    let with = |f: &dyn Fn(&mut Buffer)| {
        let mut p = Program::default();
        let mut b = Buffer::new("x", DType::F32, &[4, 8], Role::In);
        f(&mut b);
        p.add_buffer(b);
        verify(&p, Stage::Lowered).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(with(&|_| {}), "");
    assert_eq!(
        with(&|b| b.layout.order = vec![0, 0]),
        "%x: layout [0, 0] is not a permutation of 2 dimensions"
    );
    assert_eq!(
        with(&|b| b.layout = Layout::row_major(3)),
        "%x: layout [0, 1, 2] is not a permutation of 2 dimensions"
    );
    assert_eq!(
        with(&|b| b.layout.panel = Some((2, 4))),
        "%x: there is no panel of 4 elements of dimension 2"
    );
    assert_eq!(
        with(&|b| b.layout.panel = Some((1, 0))),
        "%x: there is no panel of 0 elements of dimension 1"
    );
    assert_eq!(
        with(&|b| b.layout.interleave = Some((2, 4))),
        "%x: there is no group of 4 elements of dimension 2"
    );
    assert_eq!(
        with(&|b| b.layout.interleave = Some((0, 0))),
        "%x: there is no group of 0 elements of dimension 0"
    );
    assert_eq!(
        with(&|b| (b.layout.panel, b.layout.interleave) = (Some((1, 16)), Some((1, 4)))),
        "%x: dimension 1 has both panels and groups"
    );
    assert_eq!(with(&|b| b.halo = vec![(1, 1)]), "%x: the halo has 1 dimensions, the shape 2");
    let halo = |b: &mut Buffer| (b.halo, b.halo_fill) = (vec![(1, 1); 2], Scalar::I64(0));
    assert_eq!(with(&halo), "%x: the halo holds i64, the buffer f32");
    let halo = |b: &mut Buffer| (b.role, b.halo) = (Role::Temp, vec![(1, 1); 2]);
    assert_eq!(with(&halo), "%x: nothing fills the halo of a buffer that nests write");
    let huge = vec![0, 1 << 40, 1 << 40];
    assert_eq!(
        with(&|b| (b.shape, b.layout) = (huge.clone(), Layout::row_major(3))),
        format!("%x: shape {huge:?} is too large")
    );
    assert_eq!(
        with(&|b| (b.shape[1], b.layout.panel) = (usize::MAX, Some((1, 16)))),
        format!("%x: shape {:?} is too large", [4, usize::MAX])
    );
    assert_eq!(
        with(&|b| (b.shape[1], b.layout.interleave) = (usize::MAX, Some((1, 4)))),
        format!("%x: shape {:?} is too large", [4, usize::MAX])
    );
}

#[test]
fn mistakes_that_text_cannot_make() {
    let mut p = Program::default();
    let y = p.add_buffer(Buffer::new("y", DType::F32, &[4], Role::Out));
    let t = p.add_buffer(Buffer::new("t", DType::F32, &[], Role::Local));
    let i = p.add_var("i");
    let store = |buf, index: &[Var], value| Stmt::Store(Store { buf, index: crate::indices(index), value });
    let zero = || Expr::f32(0.0);
    let fill =
        Stmt::For(For { var: i, extent: 4, kind: LoopKind::Serial, body: vec![store(y, &[i], zero())] });
    let mut check = |body: Vec<Stmt>| {
        p.nests.clear();
        let mut b = NestBuilder::new(&mut p, "f");
        b.push(fill.clone());
        body.into_iter().for_each(|s| b.push(s));
        b.finish();
        verify(&p, Stage::Lowered).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(check(vec![Stmt::Temp(t), store(t, &[], zero())]), "");
    assert_eq!(check(vec![store(t, &[], zero())]), "nest @f: %t = ..: %t is used where no temp declares it");
    assert_eq!(check(vec![Stmt::Temp(t), Stmt::Temp(t)]), "nest @f: temp %t: %t is declared twice");
    assert_eq!(check(vec![Stmt::Temp(y)]), "nest @f: temp %y: %y is declared as a temp but its role is Out");
    assert_eq!(check(vec![Stmt::Temp(BufId(7))]), "nest @f: temp %?7: buffer 7 does not exist");
    assert_eq!(check(vec![store(BufId(7), &[], zero())]), "nest @f: %?7 = ..: buffer 7 does not exist");
    assert_eq!(check(vec![fill.clone()]), "nest @f: for i: variable 0 (i) is bound by two loops");
    assert_eq!(
        check(vec![store(y, &[i], zero())]),
        "nest @f: %y[i] = ..: variable 0 (i) is used outside its loop"
    );
    let unknown = Stmt::For(For { var: Var(9), extent: 1, kind: LoopKind::Serial, body: vec![] });
    assert_eq!(check(vec![unknown]), "nest @f: for ?: variable 9 does not exist");

    let mut p = Program::default();
    p.add_buffer(Buffer::new("x", DType::F32, &[], Role::In));
    p.add_buffer(Buffer::new("x", DType::F32, &[], Role::In));
    p.nests = vec![crate::Nest::default(), crate::Nest::default()];
    let found: Vec<String> = verify(&p, Stage::Lowered).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["%x: another buffer has this name", "another nest has this name"]);
}
