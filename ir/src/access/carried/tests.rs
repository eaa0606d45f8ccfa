//! Loops written by hand, and small ones at random against the elements that they touch.

use super::super::reach::touched;
use super::super::{Reductions, accesses, carried_by};
use super::*;
use crate::{Buffer, DType, NestBuilder, Program, ReduceOp, Role, SCALAR};

fn f32_buf(p: &mut Program, name: &str, shape: &[usize], role: Role) -> BufId {
    p.add_buffer(Buffer::new(name, DType::F32, shape, role))
}

#[test]
fn what_loops_carry() {
    let mut p = Program::default();
    let x = f32_buf(&mut p, "x", &[8, 6], Role::In);
    let y = f32_buf(&mut p, "y", &[8], Role::Out);
    let mut b = NestBuilder::new(&mut p, "sum");
    b.for_("o", 4, |b, o| {
        b.for_("i", 2, |b, i| {
            let t = b.temp("t", DType::F32, &[]);
            b.store(t, SCALAR, Expr::f32(0.0));
            b.for_("k", 6, |b, k| {
                b.reduce(ReduceOp::Add, t, SCALAR, Expr::load(x, [o * 2 + i, k.into()]));
            });
            b.store(y, [o * 2 + i], Expr::load(t, SCALAR));
        });
    });
    b.finish();
    let Stmt::For(o) = &p.nests[0].body[0] else { panic!("a loop") };
    let Stmt::For(i) = &o.body[0] else { panic!("a loop") };
    let Stmt::For(k) = &i.body[2] else { panic!("a loop") };
    assert_eq!(carried(o, &Extents::default()), Carried::Nothing);
    assert_eq!(carried(i, &Extents::default()), Carried::Nothing);
    assert_eq!(carried(k, &Extents::default()), Carried::Reductions(declared_temps(&i.body)));
}

#[test]
fn a_recurrence_is_not_independent() {
    let mut p = Program::default();
    let y = f32_buf(&mut p, "y", &[8], Role::Out);
    let mut b = NestBuilder::new(&mut p, "scan");
    b.for_("i", 7, |b, i| b.store(y, [i + 1], Expr::load(y, [i])));
    b.for_("j", 4, |b, j| b.store(y, [j * 2], Expr::load(y, [j * 2 + 1])));
    b.finish();
    let Stmt::For(i) = &p.nests[0].body[0] else { panic!("a loop") };
    let Stmt::For(j) = &p.nests[0].body[1] else { panic!("a loop") };
    assert_eq!(carried(i, &Extents::default()), Carried::Other);
    assert_eq!(carried(j, &Extents::default()), Carried::Nothing);
}

#[test]
fn parts_of_a_buffer_are_as_good_as_two_buffers() {
    let mut p = Program::default();
    let y = f32_buf(&mut p, "y", &[12, 8], Role::Out);
    let mut b = NestBuilder::new(&mut p, "parts");
    // Rows 4 to 7 are written; rows 8 to 11, 7 to 10, 0 to 3 or 1 to 4 are read, another column for each.
    for first in [8, 7, 0, 1] {
        b.for_("o", 4, |b, o| {
            b.for_("i", 6, |b, i| {
                b.for_("k", 4, |b, k| {
                    b.store(y, [o + 4, i.into()], Expr::load(y, [k + first, i + 1]));
                });
            });
        });
    }
    b.finish();
    let all = Extents::of(&p.nests[0].body);
    for (at, apart) in [(0, true), (1, false), (2, true), (3, false)] {
        let Stmt::For(o) = &p.nests[0].body[at] else { panic!("a loop") };
        let Stmt::For(i) = &o.body[0] else { panic!("a loop") };
        assert_eq!(independent(i, &all), apart, "{at}");
        // Without the loop around it the rows that are written are not known.
        assert!(!independent(i, &Extents::default()), "{at}");
        let mut loads = Vec::new();
        walk_exprs(&o.body, &mut |e| {
            loads.extend(if let Expr::Load(l) = e { Some(l.clone()) } else { None })
        });
        assert_eq!(loads.iter().any(|l| overwrites(&all, &o.body, l)), !apart, "{at}");
    }
}

/// A loop over `v` in one over `o`, with accesses in it and in two loops inside: what tests compare answers with.
struct Small {
    program: Program,
    /// The variables and extents of `o` and `v`.
    around: [(Var, usize); 2],
}

/// An element that an iteration touches, and how.
type Touched = (BufId, Vec<i64>, AccessKind);

/// Numbers that look random, always the same.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

impl Small {
    fn new(numbers: &mut Numbers) -> Small {
        let mut program = Program::default();
        let bufs = ["x", "y"].map(|name| f32_buf(&mut program, name, &[64, 64], Role::Temp));
        let mut around = [(Var(0), 0); 2];
        let extents = [2, 3, 4].map(|most| 1 + numbers.below(most));
        let mut b = NestBuilder::new(&mut program, "small");
        b.for_("o", extents[0], |b, o| {
            b.for_("v", extents[1] + 1, |b, v| {
                around = [(o, extents[0]), (v, extents[1] + 1)];
                let t = b.temp("t", DType::F32, &[]);
                // Most accesses differ by a few elements only: these are what answers depend on.
                let common = [0, 1].map(|_| [0, 1, 2].map(|_| numbers.of(&[0, 0, 1, 1, 2, 3, -1])));
                for place in 0..3 {
                    let extent = if place == 0 { 1 } else { extents[2] };
                    let accesses = numbers.below(if place == 0 { 3 } else { 2 }) + usize::from(place == 0);
                    let mut write = |b: &mut NestBuilder<'_>, i: Option<Var>| {
                        for _ in 0..accesses {
                            let index = common.map(|mut own: [i64; 3]| {
                                if numbers.below(4) == 0 {
                                    own = own.map(|_| numbers.of(&[0, 1, 2, -1]));
                                }
                                let mut a = Affine::constant(numbers.of(&[0, 0, 0, 1, 2, 4, 6, -1]));
                                a.add_term(o, own[0]);
                                a.add_term(v, own[1]);
                                i.into_iter().for_each(|i| a.add_term(i, own[2]));
                                a
                            });
                            let buf = numbers.of(&[bufs[0], bufs[0], bufs[1]]);
                            match numbers.below(5) {
                                0 | 1 => b.store(t, SCALAR, Expr::load(buf, index)),
                                2 => b.store(buf, index, Expr::f32(1.0)),
                                3 => b.reduce(ReduceOp::Add, buf, index, Expr::f32(1.0)),
                                _ => b.reduce(
                                    numbers.of(&[ReduceOp::Add, ReduceOp::Max]),
                                    buf,
                                    index,
                                    Expr::f32(1.0),
                                ),
                            }
                        }
                    };
                    if place == 0 {
                        write(b, None);
                    } else {
                        b.for_("i", extent, |b, i| write(b, Some(i)));
                    }
                }
            });
        });
        b.finish();
        Small { program, around }
    }

    /// The loop over `v`.
    fn inner(&self) -> &For {
        let Stmt::For(o) = &self.program.nests[0].body[0] else { panic!("a loop") };
        let Stmt::For(v) = &o.body[0] else { panic!("a loop") };
        v
    }

    /// What every iteration of `v` touches, within each iteration of `o`.
    fn touched(&self) -> Vec<Vec<Vec<Touched>>> {
        let [(o, outer), (v, inner)] = self.around;
        let iteration = |at: [i64; 2]| touched_by(&self.inner().body, &mut vec![(o, at[0]), (v, at[1])]);
        let of_outer = |a| (0..inner as i64).map(|b| iteration([a, b])).collect();
        (0..outer as i64).map(of_outer).collect()
    }
}

/// The elements that statements touch, locals aside, where these variables have these values: by running the loops.
fn touched_by(body: &[Stmt], values: &mut Vec<(Var, i64)>) -> Vec<Touched> {
    let mut found = Vec::new();
    for stmt in body {
        if let Stmt::For(l) = stmt {
            for i in 0..l.extent as i64 {
                values.push((l.var, i));
                found.extend(touched_by(&l.body, values));
                values.pop();
            }
            continue;
        }
        let known: Vec<(Var, i64)> = values.clone();
        let value = |var: Var| known.iter().find(|v| v.0 == var).map_or(0, |v| v.1);
        for access in accesses(std::slice::from_ref(stmt)) {
            let index = access.index.unwrap_or_default();
            let element = index.iter().filter_map(Index::as_affine).map(|a| a.eval(value)).collect();
            if !index.is_empty() {
                found.push((access.buf, element, access.kind));
            }
        }
    }
    found
}

/// The kinds of every two accesses of one element in different iterations, at least one of which writes.
fn conflicts(iterations: &[Vec<Touched>]) -> Vec<(BufId, [AccessKind; 2])> {
    let mut found = Vec::new();
    for (at, first) in iterations.iter().enumerate() {
        for (a, b) in iterations[at + 1..].iter().flatten().flat_map(|b| first.iter().map(move |a| (a, b))) {
            let writes = a.2 != AccessKind::Read || b.2 != AccessKind::Read;
            if writes && a.0 == b.0 && a.1 == b.1 {
                found.push((a.0, [a.2, b.2]));
            }
        }
    }
    found
}

/// What is said to be independent touches no element twice, which the thorough analysis finds as well; and that one misses
/// nothing.
#[test]
fn answers_agree_with_the_elements_that_are_touched() {
    let mut numbers = Numbers(1);
    let (mut independent, mut reductions, mut other) = (0, 0, 0);
    for _ in 0..20_000 {
        let small = Small::new(&mut numbers);
        let found: Vec<_> = small.touched().iter().flat_map(|of_outer| conflicts(of_outer)).collect();
        let all = Extents::of(&small.program.nests[0].body);
        let text = &small.program;
        for around in [&Extents::default(), &all] {
            match carried(small.inner(), around) {
                Carried::Nothing => {
                    independent += 1;
                    assert_eq!(found, [], "{text}");
                }
                Carried::Reductions(bufs) => {
                    reductions += 1;
                    let fine = |(buf, [a, b]): &(BufId, [AccessKind; 2])| {
                        bufs.contains(buf) && a == b && matches!(a, AccessKind::Update(_))
                    };
                    assert!(found.iter().all(fine), "{found:?}\n{text}");
                }
                Carried::Other => other += 1,
            }
        }
        let thorough = carried_by(text, small.inner(), &all, Reductions::Conflict);
        if carried(small.inner(), &all) == Carried::Nothing {
            assert_eq!(thorough, Ok(()), "{text}");
        }
        assert!(thorough.is_err() || found.is_empty(), "{found:?}\n{text}");
    }
    assert!(independent > 2000 && reductions > 500 && other > 2000, "{independent} {reductions} {other}");
}

/// What is said not to be overwritten is not, in any iteration of any loop.
#[test]
fn what_is_overwritten_is_found() {
    let mut numbers = Numbers(2);
    let (mut kept, mut found) = (0, 0);
    for _ in 0..10_000 {
        let small = Small::new(&mut numbers);
        let body = &small.program.nests[0].body;
        let (extents, all) = (Extents::of(body), small.touched().concat().concat());
        let written: Vec<_> = all.iter().filter(|t| t.2 != AccessKind::Read).map(|t| (t.0, &t.1)).collect();
        let mut loads = Vec::new();
        walk_exprs(body, &mut |e| loads.extend(if let Expr::Load(l) = e { Some(l.clone()) } else { None }));
        for load in loads {
            if overwrites(&extents, body, &load) {
                found += 1;
                continue;
            }
            kept += 1;
            let [(o, outer), (v, inner)] = small.around;
            // All values of the inner loop's variable too, which runs at most four times.
            let last = load.index.iter().filter_map(Index::as_affine).flat_map(Affine::vars);
            let i = last.into_iter().find(|var| ![o, v].contains(var));
            for (a, b, c) in (0..outer * inner * 4).map(|n| (n % outer, n / outer % inner, n / outer / inner))
            {
                let value = |var: Var| match var {
                    var if var == o => a as i64,
                    var if var == v => b as i64,
                    var => c.min(i.and_then(|_| extents.get(var)).unwrap_or(1) - 1) as i64,
                };
                let at: Vec<i64> =
                    load.index.iter().filter_map(Index::as_affine).map(|a| a.eval(value)).collect();
                assert!(!written.contains(&(load.buf, &at)), "{at:?}\n{}", small.program);
            }
        }
    }
    assert!(kept > 500 && found > 500, "{kept} {found}");
}

/// The parts that statements are said to touch hold all that they touch.
#[test]
fn parts_hold_what_is_touched() {
    let mut numbers = Numbers(3);
    let (mut apart, mut meet) = (0, 0);
    for _ in 0..5_000 {
        // The variables have the same numbers, the buffers too.
        let [a, b] = [(); 2].map(|()| Small::new(&mut numbers));
        let [first, second] = [&a, &b].map(|small| touched(&small.program.nests[0].body));
        let [of_first, of_second] = [&a, &b].map(|small| small.touched().concat().concat());
        let common = |x: &Touched, y: &Touched| x.0 == y.0 && x.1 == y.1;
        for x in of_first.iter().filter(|x| x.2 != AccessKind::Write) {
            let written = |y: &&Touched| y.2 != AccessKind::Read && common(x, y);
            let Some(y) = of_second.iter().find(written) else { continue };
            assert!(first.0.meets(&second.1) && first.0.meet_in(&second.1, x.0), "{x:?} {y:?}");
        }
        let inside = |x: &&Touched| x.1.iter().all(|i| (0..64).contains(i));
        for buf in a.program.buf_ids().take(2) {
            let shared: BTreeSet<&Vec<i64>> = of_first
                .iter()
                .filter(inside)
                .filter(|x| x.0 == buf && x.2 != AccessKind::Write)
                .filter(|x| of_second.iter().any(|y| y.2 != AccessKind::Read && common(x, y)))
                .map(|x| &x.1)
                .collect();
            let bytes = first.0.shared_bytes(&second.1, &a.program, buf);
            assert!(shared.len() * 4 <= bytes, "{bytes}: {shared:?}\n{}{}", a.program, b.program);
        }
        *(if first.0.meets(&second.1) { &mut meet } else { &mut apart }) += 1;
    }
    assert!(apart > 200 && meet > 200, "{apart} {meet}");
}
