//! Texts that parse, and texts that must not.

use super::*;
use crate::{Affine, BinOp, Expr};

/// Parses, prints, and parses again.
fn round_trip(text: &str) -> Program {
    let p = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let printed = p.to_string();
    assert_eq!(parse(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}")), p);
    p
}

/// The value stored by `%y = {expr}` in a loop over `i` and `j`.
fn value(expr: &str) -> Result<Expr, ParseError> {
    let text = format!(
        "nest @f(in %x: f32[8,8], in %k: i64[8], in %m: bool, out %y: f32[8]) {{ for i < 8 {{ for j < 8 {{ %y[i] = {expr} }} }} }}"
    );
    let p = parse(&text)?;
    assert_eq!(parse(&p.to_string()).as_ref(), Ok(&p), "{p}");
    let mut found = Expr::bool(false);
    crate::visit::walk_stmts(&p.nests[0].body, &mut |s| {
        if let Stmt::Store(s) = s {
            found = s.value.clone();
        }
    });
    Ok(found)
}

#[test]
fn the_printed_form_of_everything_comes_back_unchanged() {
    let text = r#"buffer in %idle: i64

nest @dense0(in %x: f32[64,512], const %w: f32[512,512] layout(1,0) panel(1,64) interleave(0,4), out %y: f32[64,512] halo(0:0,1:2 = -inf)) ops("Gemm", "Relu \"0\"\\\n\u{7f}é") {
  for n < 64 parallel {
    for m < 512 vector {
      temp %t: f32
      %t = 0.0
      for k < 512 unrolled {
        %t += %x[n,k] * %w[k,m]
      }
      temp %"a b": f32[2]
      %"a b"[1] max= %t
      %y[n,m] = max(%t, (%x[n-1,-3*n+2*m+1] else 0.5))
    }
  }
}

nest @"topk/0"(in %x: f32[64,512], temp %i: i64[4]) {
  call topk(%x) -> (%i, %i) attrs(1,-9223372036854775808)
  for k < 4 {
    %i[(%i[k])] = idx(k+1)
  }
  for k_1 < 4 in 3 parallel {
    %i[k_1] min= 3i64
  }
}
"#;
    assert_eq!(round_trip(text).to_string(), text);
}

#[test]
fn spacing_comments_and_repeated_names_do_not_matter() {
    let p = round_trip(
        "// first\nnest@f(out%y:f32[3]){for i<3{%y[ i*1 + 0 ]=1.0}// then\nfor i<3{temp %t:f32 %t=2.0 %y[1+i-1]+=%t}}",
    );
    let text = "nest @f(out %y: f32[3]) {\n  for i < 3 {\n    %y[i] = 1.0\n  }\n  for i_1 < 3 {\n    temp %t: f32\n    \
                %t = 2.0\n    %y[i_1] += %t\n  }\n}\n";
    assert_eq!(p.to_string(), text);
    assert_eq!(parse(""), Ok(Program::default()));
}

#[test]
fn operators_bind_as_documented() {
    let one = || Expr::f32(1.0);
    assert_eq!(value("1.0 - 1.0 - 1.0 * 1.0").unwrap(), one() - one() - one() * one());
    assert_eq!(value("1.0 - (1.0 - 1.0)").unwrap(), one() - (one() - one()));
    assert_eq!(value("-%x[i,j]").unwrap(), value("neg(%x[i,j])").unwrap());
    let (lt, ge) = (one().lt(one() + one()), one().ge(one()));
    assert_eq!(value("1.0 < 1.0 + 1.0 & 1.0 >= 1.0").unwrap(), lt.binary(BinOp::And, ge));
    assert_eq!(
        value("%k[i] << 1i64 | 2i64 ^ 3i64").unwrap().to_owned(),
        value("(%k[i] << 1i64) | (2i64 ^ 3i64)").unwrap()
    );
    let Expr::Load(l) = value("(%x[i,(%k[j])] else 1.0)").unwrap() else { panic!("a load") };
    assert!(l.otherwise == Some(Box::new(one())) && l.index[1].as_affine().is_none());
    assert_eq!(value("idx(3-2*j+j)").unwrap(), Expr::Index(Affine::term(Var(1), -1).plus(3)));
    assert_eq!(value("select(%m, f32(%k[i]), pow(1.0, 1.0))").unwrap().to_owned(), {
        let k = Expr::load(BufId(1), [Var(0)]).cast(DType::F32);
        Expr::load(BufId(2), crate::SCALAR).select(k, one().pow(one()))
    });
}

#[test]
fn literals_keep_every_bit() {
    let bits = |text: &str| value(text).unwrap().as_const().map(|s| (s.dtype(), s.to_bits()));
    assert_eq!(bits("-0.0"), Some((DType::F32, 0x8000_0000)));
    assert_eq!(bits("1e-45"), Some((DType::F32, 1)));
    assert_eq!(bits("bits_f32(0xffc00001)"), Some((DType::F32, 0xffc0_0001)));
    assert_eq!(bits("bits_f64(0xfff8000000000001)"), Some((DType::F64, 0xfff8_0000_0000_0001)));
    assert_eq!(bits("-inf_f64"), Some((DType::F64, f64::NEG_INFINITY.to_bits())));
    assert_eq!(bits("1e300f64"), Some((DType::F64, 1e300f64.to_bits())));
    assert_eq!(bits("0.1f16"), Some((DType::F16, 0x2e66)));
    assert_eq!(bits("-0.099975586f16"), Some((DType::F16, 0xae66)));
    assert_eq!(bits("-inf_f16"), Some((DType::F16, 0xfc00)));
    assert_eq!(bits("bits_f16(0xfe01)"), Some((DType::F16, 0xfe01)));
    assert_eq!(bits("1.00025555e30bf16"), Some((DType::BF16, 0x714a)));
    assert_eq!(bits("bits_bf16(0x7fc1)"), Some((DType::BF16, 0x7fc1)));
    assert_eq!(bits("5f32"), Some((DType::F32, 5f32.to_bits().into())));
    assert_eq!(bits("-9223372036854775808i64"), Some((DType::I64, 1 << 63)));
    assert_eq!(bits("-128i8"), Some((DType::I8, 128)));
    assert_eq!(bits("255u8"), Some((DType::U8, 255)));
    assert_eq!(bits("true"), Some((DType::Bool, 1)));
}

#[test]
fn wrong_expressions() {
    // The expression begins at column 104.
    let error = |text: &str| {
        let e = value(text).unwrap_err();
        assert_eq!(e.line, 1);
        (e.column as i64 - 103, e.message)
    };
    let cases: &[(&str, i64, &str)] = &[
        ("1", 1, "the literal 1 needs a fraction or a type, such as 1i64"),
        ("300u8", 1, "300 is not a value of type u8"),
        ("-1u8", 2, "-1 is not a value of type u8"),
        ("1.5i64", 1, "1.5 is not a value of type i64"),
        ("1f8", 1, "there is no literal of type 'f8'"),
        ("bits_f16(0x10000)", 10, "these are not the bits of an f16"),
        ("%x[i]] ", 6, "expected a statement or '}', found ']'"),
        ("%x[i,q]", 6, "no loop around this binds 'q'"),
        (
            "%x[i,%k[i]]",
            6,
            "expected an index: a number, a loop variable, or an expression in parentheses, found '%k'",
        ),
        ("%x[i,9223372036854775808]", 6, "9223372036854775808 is too large"),
        ("%x[i,99999999999999999999]", 6, "99999999999999999999 is too large"),
        ("%z", 1, "%z is neither in the nest's signature nor a temp in scope"),
        ("foo(1.0)", 1, "there is no function 'foo'"),
        ("max(1.0)", 8, "expected ',', found ')'"),
        ("exp 1.0", 5, "expected '(', found '1.0'"),
        ("1.0 < 2.0 < 3.0", 11, "comparisons do not associate: use parentheses"),
        ("(1.0 else 2.0)", 6, "only a load can have an 'else', and only one"),
        ("((%x[i,j] else 2.0) else 3.0)", 21, "only a load can have an 'else', and only one"),
        ("(1.0", 6, "expected ')', found '}'"),
        ("1.0 +", 7, "expected an expression, found '}'"),
        ("bits_f32(0x100000000)", 10, "these are not the bits of an f32"),
        ("bits_f32(1.0)", 10, "these are not the bits of an f32"),
        ("1.0 $ 2.0", 5, "unexpected character '$'"),
    ];
    for (text, column, message) in cases {
        assert_eq!(error(text), (*column, (*message).to_owned()), "{text}");
    }
}

#[test]
fn wrong_programs() {
    let cases: &[(&str, &str)] = &[
        ("nest", "1:5: expected a nest's name, such as @dense, found the end of the text"),
        ("loop", "1:1: expected 'nest' or 'buffer', found 'loop'"),
        ("nest @f() {", "1:12: expected a statement or '}', found the end of the text"),
        ("nest @f() {}\nnest @f() {}", "2:6: there is already a nest @f"),
        ("nest @f(%x: f32) {}", "1:9: expected one of 'in', 'out', 'const' and 'temp', found '%x'"),
        ("nest @f(in x: f32) {}", "1:12: expected a buffer, such as %x, found 'x'"),
        ("nest @f(in %x: f8) {}", "1:16: expected an element type, such as f32, found 'f8'"),
        ("nest @f(in %x: f32[-1]) {}", "1:20: expected a whole number, found '-'"),
        ("nest @f(in %x: f32[2 3]) {}", "1:22: expected ']', found '3'"),
        ("nest @f(in %x: f32, in %x: f32) {}", "1:21: %x is listed twice"),
        (
            "nest @f(in %x: f32[2]) {}\nnest @g(in %x: f32[3]) {}",
            "2:12: this differs from the earlier declaration 'in %x: f32[2]'",
        ),
        ("nest @f(in %x: f32[2] halo(1:1 = )) {}", "1:34: expected a literal, found ')'"),
        ("nest @f() ops(Relu) {}", "1:15: expected a string, found 'Relu'"),
        ("nest @f() { for i < 2 { for i < 2 {} } }", "1:29: a loop around this one already binds 'i'"),
        (
            "nest @f() { for i < 2 simd {} }",
            "1:23: expected '{', 'parallel', 'vector' or 'unrolled', found 'simd'",
        ),
        ("nest @f() { for i < 2 in {} }", "1:26: expected a whole number, found '{'"),
        ("nest @f() { for i < 2 in 2 vector {} }", "1:28: expected 'parallel', found 'vector'"),
        ("nest @f() { for i < 2 in 0 parallel {} }", "1:26: a loop is cut into 1 to 4294967295 parts"),
        (
            "nest @f() { for i < 2 in 4294967296 parallel {} }",
            "1:26: a loop is cut into 1 to 4294967295 parts",
        ),
        ("nest @f() { for i < 1.5 {} }", "1:21: expected a whole number, found '1.5'"),
        (
            "nest @f() {\n  for i < 2 { temp %t: f32 }\n  %t = 0.0\n}",
            "3:3: %t is neither in the nest's signature nor a temp in scope",
        ),
        ("nest @f() { temp %t: f32 temp %t: f32 }", "1:31: %t is already declared"),
        (
            "nest @f(out %y: f32) { %y -= 1.0 }",
            "1:27: expected one of '=', '+=', '*=', 'max=' and 'min=', found '-'",
        ),
        ("nest @f() { call 3() -> () }", "1:18: expected a function's name, found '3'"),
        ("nest @f() { call g() () }", "1:22: expected '->', found '('"),
        ("nest @\"f", "1:7: this string has no closing '\"'"),
        ("nest @\"a\\x\"", "1:10: expected one of the escapes \\\", \\\\, \\n and \\u{..}"),
        ("nest @\"\\u{d800}\"", "1:10: expected a character's number, such as {7f}"),
        ("nest @ f", "1:7: expected a name"),
        (
            "nest @f(out %y: i64) { %y = check(1i64, 0, 3, place, \"n\", \"o\", \"i\") }",
            "1:47: expected what is checked: index, index_from_end, length or position, found 'place'",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(parse(text).unwrap_err().to_string(), *message, "{text}");
    }
}

#[test]
fn nesting_without_end_is_an_error() {
    let deep = |open: &str, n: usize| value(&open.repeat(n)).unwrap_err().message;
    for open in ["(", "-", "exp(", "%x[i,(", "max(1.0, ", "select(true, 1.0, ", "(%x[i,j] else "] {
        assert_eq!(deep(open, 100_000), "loops and expressions are nested more than 1000 deep", "{open}");
    }
    assert_eq!(deep("1.0 + ", 100_000), "this expression is more than 1000 operations deep");
    let loops: String = (0..100_000).map(|i| format!("for i{i} < 1 {{")).collect();
    let error = parse(&format!("nest @f() {{{loops}")).unwrap_err();
    assert_eq!(error.message, "loops and expressions are nested more than 1000 deep");
    assert!(value(&format!("{}1.0", "1.0 + ".repeat(900))).is_ok());
    assert!(value(&format!("{}1.0{}", "exp(".repeat(900), ")".repeat(900))).is_ok());
}

#[test]
fn inputs_and_outputs_are_in_the_order_of_the_text() {
    let text = "buffer in %third: f32
        nest @f(in %b: f32, out %z: f32, in %a: f32, out %y: f32) { %y = %a %z = %a - %b }";
    let p = parse(text).unwrap();
    let names: Vec<&str> = p.buffers.iter().map(|b| b.name.as_str()).collect();
    let of =
        |role| p.buffers.iter().filter(move |b| b.role == role).map(|b| b.name.as_str()).collect::<Vec<_>>();
    assert_eq!(
        (of(crate::Role::In), of(crate::Role::Out)),
        (vec!["third", "b", "a"], vec!["z", "y"]),
        "{names:?}"
    );
    assert_eq!(parse(&p.to_string()), Ok(p));
}
