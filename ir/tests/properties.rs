//! Properties that hold for all programs, tried on random ones.

mod generate;

use std::cell::Cell;
use std::collections::HashMap;

use generate::Choices;
use nestjit_ir::access::{self, Reductions};
use nestjit_ir::interp::{self, InterpError, Mode, Value};
use nestjit_ir::verify::{Stage, verify};
use nestjit_ir::visit::{self, Extents};
use nestjit_ir::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Tries `test` on streams of choices, always the same ones.
fn for_all(cases: u32, length: usize, test: impl Fn(&[u8])) {
    let mut runner = TestRunner::new_with_rng(
        Config { cases, failure_persistence: None, ..Config::default() },
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let run = |bytes: Vec<u8>| {
        test(&bytes);
        Ok(())
    };
    if let Err(e) = runner.run(&vec(any::<u8>(), 0..length), run) {
        panic!("{e}");
    }
}

/// Inputs whose elements are small and different; they depend on names, which survive renumbering.
fn inputs(p: &Program) -> HashMap<BufId, Value> {
    let is_input = |b: &BufId| matches!(p.buf(*b).role, Role::In | Role::Const);
    let value = |b: BufId| {
        let buffer = p.buf(b);
        let seed: usize = buffer.name.bytes().map(usize::from).sum();
        Value::from_fn(buffer.dtype, &buffer.shape, |i| ((i * 7 + seed) % 11) as f64 - 4.0)
    };
    p.buf_ids().filter(is_input).map(|b| (b, value(b))).collect()
}

/// Interprets with calls that fill their outputs with ones.
fn run(p: &Program) -> Result<HashMap<String, Value>, InterpError> {
    let calls = |call: &Call, _: &[&Value]| {
        let one = |b: &BufId| Value::from_fn(p.buf(*b).dtype, &p.buf(*b).shape, |_| 1.0);
        Ok(call.outputs.iter().map(one).collect())
    };
    let values = interp::interpret_with_temps(p, &inputs(p), Mode::Exact, &calls)?;
    Ok(values.into_iter().map(|(b, v)| (p.buf(b).name.clone(), v)).collect())
}

fn same(a: &Program, b: &Program) -> bool {
    let (x, y) = (run(a).expect("runs"), run(b).expect("runs"));
    x.len() == y.len() && x.iter().all(|(name, value)| value.same_bits(&y[name]))
}

#[test]
fn print_then_parse_is_identity() {
    for_all(1000, 400, |bytes| {
        let p = generate::program(&mut Choices::new(bytes));
        let text = p.to_string();
        let back = parse::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(back, p.canonical(), "{text}");
        assert_eq!(back.to_string(), text);
    });
}

#[test]
fn generated_programs_verify_and_run_the_same_after_a_round_trip() {
    let stores = Cell::new(0);
    for_all(500, 400, |bytes| {
        let p = generate::program(&mut Choices::new(bytes));
        let errors = verify(&p, Stage::Scheduled);
        assert!(errors.is_empty(), "{errors:?}\n{p}");
        stores.set(stores.get() + p.nests.iter().map(|n| access::accesses(&n.body).len()).sum::<usize>());
        let back = parse::parse(&p.to_string()).expect("printed");
        let (x, y) = (run(&p).expect("runs"), run(&back).expect("runs"));
        // The names of temps and outputs are unique already, so they stay.
        for (name, value) in &y {
            assert!(value.same_bits(&x[name]), "%{name}\n{p}");
        }
    });
    assert!(stores.get() > 2000, "the programs have something to run: {}", stores.get());
}

#[test]
fn no_text_makes_the_parser_panic() {
    const WORDS: [&str; 40] = [
        "nest", "@f", "(", ")", "{", "}", "in", "out", "temp", "%x", "%y", ":", "f32", "[", "]", "3", ",",
        "for", "i", "<", "=", "+=", "max", "min", "1.0", "1i64", "-", "*", "select", "idx", "else", "call",
        "->", "attrs", "halo", "layout", "panel", "\"s", "buffer", "0x1f",
    ];
    for_all(2000, 60, |bytes| {
        let text: String = bytes.iter().flat_map(|&b| [WORDS[usize::from(b) % WORDS.len()], " "]).collect();
        let _ = parse::parse(&text);
        let _ = parse::parse(&String::from_utf8_lossy(bytes));
        // A sound program with one byte changed or cut out.
        let mut text = generate::program(&mut Choices::new(bytes)).to_string().into_bytes();
        if let (Some(&at), Some(&by)) = (bytes.first(), bytes.last()) {
            let at = (usize::from(at) * 31 + usize::from(by)) % text.len().max(1);
            if at < text.len() {
                text[at] = by;
            }
        }
        let _ = parse::parse(&String::from_utf8_lossy(&text));
    });
}

/// The two loops of the nest that [`generate::siblings`] makes.
fn pair(p: &mut Program) -> &mut Vec<Stmt> {
    match &mut p.nests[1].body[0] {
        Stmt::For(l) => &mut l.body,
        _ => unreachable!("the nest is a loop"),
    }
}

fn loops(p: &Program) -> (&For, &For) {
    match &p.nests[1].body[0] {
        Stmt::For(l) => match &l.body[..] {
            [Stmt::For(a), Stmt::For(b)] => (a, b),
            _ => unreachable!("two loops"),
        },
        _ => unreachable!("the nest is a loop"),
    }
}

/// How often a transformation was legal, and how often illegal and indeed harmful.
#[derive(Default)]
struct Tally {
    legal: Cell<u32>,
    harmful: Cell<u32>,
    harmless: Cell<u32>,
}

impl Tally {
    fn count(&self, legal: bool, same: bool, describe: impl Fn() -> String) {
        let counter = match (legal, same) {
            (true, true) => &self.legal,
            (true, false) => panic!("called legal, but changes the result:\n{}", describe()),
            (false, false) => &self.harmful,
            (false, true) => &self.harmless,
        };
        counter.set(counter.get() + 1);
    }

    fn check(&self) {
        let (legal, harmful, harmless) = (self.legal.get(), self.harmful.get(), self.harmless.get());
        assert!(
            legal >= 100 && harmful >= 100,
            "{legal} legal, {harmful} harmful, {harmless} illegal but harmless"
        );
        assert!(harmless < harmful, "too cautious: {harmful} harmful, {harmless} illegal but harmless");
    }
}

#[test]
fn legal_fusion_keeps_the_result() {
    let tally = Tally::default();
    for_all(3000, 60, |bytes| {
        let p = generate::siblings(&mut Choices::new(bytes));
        let extents = Extents::of(&p.nests[1].body);
        let (a, b) = loops(&p);
        let legal = access::can_fuse(&p, &a.body, a.var, &b.body, b.var, &extents).is_ok();
        let mut fused = p.clone();
        let (v1, v2) = (a.var, b.var);
        let body = pair(&mut fused);
        let Some(Stmt::For(mut second)) = body.pop() else { unreachable!("a loop") };
        visit::subst_var(&mut second.body, v2, &v1.into());
        if let Stmt::For(first) = &mut body[0] {
            first.body.append(&mut second.body);
        }
        tally.count(legal, same(&p, &fused), || p.to_string());
    });
    tally.check();
}

#[test]
fn loops_that_carry_nothing_may_run_backwards() {
    let tally = Tally::default();
    for_all(3000, 60, |bytes| {
        let p = generate::siblings(&mut Choices::new(bytes));
        let extents = Extents::of(&p.nests[1].body);
        let (a, _) = loops(&p);
        let legal = access::carried_by(&p, a, &extents, Reductions::Commute).is_ok();
        let (var, extent) = (a.var, a.extent);
        let mut reversed = p.clone();
        if let Stmt::For(l) = &mut pair(&mut reversed)[0] {
            visit::subst_var(&mut l.body, var, &(var * -1 + (extent as i64 - 1)));
        }
        tally.count(legal, same(&p, &reversed), || p.to_string());
    });
    tally.check();
}

#[test]
fn what_may_be_swapped_may_be_swapped() {
    let tally = Tally::default();
    for_all(3000, 60, |bytes| {
        let p = generate::siblings(&mut Choices::new(bytes));
        let mut swapped = p.clone();
        let body = pair(&mut swapped);
        let legal = {
            let extents = Extents::of(&p.nests[1].body);
            access::can_swap(&p, &body[..1], &body[1..], &extents).is_ok()
        };
        body.swap(0, 1);
        tally.count(legal, same(&p, &swapped), || p.to_string());
    });
    tally.check();
}

#[test]
fn bounds_are_exact_for_affine_indices() {
    let (inside, outside) = (Cell::new(0), Cell::new(0));
    for_all(1000, 60, |bytes| {
        let mut c = Choices::new(bytes);
        let mut p = Program::default();
        let shape = [1 + c.below(6), 1 + c.below(6)];
        let x = p.add_buffer(Buffer::new("x", DType::F32, &shape, Role::In));
        let y = p.add_buffer(Buffer::new("y", DType::F32, &[], Role::Out));
        let extents = [1 + c.below(4), 1 + c.below(4)];
        let mut b = NestBuilder::new(&mut p, "f");
        b.for_each("i", &extents, |b, v| {
            let mut index =
                || v[0] * (c.below(3) as i64 - 1) + v[1] * (c.below(3) as i64 - 1) + c.below(4) as i64;
            let index = [index(), index()];
            b.store(y, SCALAR, Expr::load(x, index));
        });
        b.finish();
        let proved = access::check_bounds(&p, &p.nests[0].body, &Extents::default()).is_empty();
        assert_eq!(proved, run(&p).is_ok(), "{p}");
        let counter = if proved { &inside } else { &outside };
        counter.set(counter.get() + 1);
    });
    assert!(inside.get() > 100 && outside.get() > 100, "{} {}", inside.get(), outside.get());
}

#[test]
fn affine_offsets_are_addresses() {
    let (known, unknown) = (Cell::new(0), Cell::new(0));
    for_all(1000, 60, |bytes| {
        let mut c = Choices::new(bytes);
        let mut p = Program::default();
        let b = generate::buffer(&mut c, &mut p, Role::Const);
        let buffer = p.buf(b);
        let vars = [(Var(0), 3), (Var(1), 2)];
        let mut extents = Extents::default();
        vars.iter().for_each(|&(v, n)| extents.set(v, n));
        let index: Vec<Affine> =
            buffer.shape.iter().map(|&n| generate::affine_inside(&mut c, &vars, n)).collect();
        let Some(offset) = layout::offset(buffer, &index, &extents) else {
            assert!(buffer.layout.is_cut(), "only panels and groups can be crossed: {buffer:?}");
            return unknown.set(unknown.get() + 1);
        };
        known.set(known.get() + 1);
        let geometry = layout::Geometry::of(buffer);
        for i in 0..6 {
            let value = |v: Var| if v == vars[0].0 { i % 3 } else { i / 3 };
            let at: Vec<usize> = index.iter().map(|a| a.eval(value) as usize).collect();
            assert_eq!(offset.eval(value), geometry.at(&at) as i64, "{buffer:?} {index:?}");
            assert!(geometry.at(&at) < buffer.storage_len());
        }
    });
    assert!(known.get() > 300 && unknown.get() > 5, "{} {}", known.get(), unknown.get());
}
