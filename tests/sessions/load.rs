//! Many calls at once: what is compiled, how often, and what is kept.

use std::sync::Barrier;
use std::thread;

use nestjit::onnx::OnnxModel;
use nestjit::{Compiler, ErrorKind, Session, Tensor};

use super::build::{floats, graph, model, nodes, t};

const CALLERS: usize = 64;

fn scaled() -> OnnxModel {
    let nodes = nodes("MatMul: x, w -> h\nRelu: h -> r\nAdd: r, r -> y");
    model(graph(&["x: f32 n 4"], &["y"], nodes), vec![floats("w", &[4, 3], &[0.5; 12])])
}

fn session(model: OnnxModel) -> Session {
    Session::new(model, Compiler::new().threads(2))
}

/// Calls with `rows(i)` rows, all at once.
fn at_once(session: &Session, rows: impl Fn(usize) -> usize + Sync) {
    let barrier = Barrier::new(CALLERS);
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (barrier, rows) = (&barrier, &rows);
            scope.spawn(move || {
                let n = rows(caller);
                let x = Tensor::new(&[n, 4], &vec![caller as f32; n * 4]).unwrap();
                barrier.wait();
                let y = &session.run(&[x]).unwrap()[0];
                assert_eq!(y, &t(&[n, 3], &vec![4.0 * caller as f32; n * 3]));
            });
        }
    });
}

#[test]
fn first_calls_of_one_shape_compile_once() {
    let s = session(scaled());
    at_once(&s, |_| 5);
    let timings = s.timings();
    assert_eq!((timings.calls, timings.compiling_calls, timings.programs), (CALLERS as u64, 1, 1));
    assert_eq!((s.cached(), timings.recompiled, timings.remark()), (1, 0, None));
    at_once(&s, |caller| 5 + caller % 4);
    let timings = s.timings();
    assert_eq!((timings.compiling_calls, timings.programs, s.cached()), (4, 4, 4));
}

#[test]
fn all_callers_get_the_error() {
    let s = session(model(graph(&["x: f32 n 4"], &["y"], nodes("Frobnicate: x -> y")), vec![]));
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let error = s.run(&[t(&[1, 4], &[1.0f32; 4])]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            });
        }
    });
    assert_eq!((s.cached(), s.timings().calls), (0, CALLERS as u64));
}

#[test]
fn memory_of_many_runs_at_once_is_given_back() {
    let s = session(scaled());
    let x = t(&[512, 4], &[1.0f32; 2048]);
    let (executable, _) = s.executable(&[x.clone()]).unwrap();
    let before = executable.memory_bytes();
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| (0..20).for_each(|_| drop(s.run(&[x.clone()]).unwrap())));
        }
    });
    for _ in 0..1000 {
        s.run(&[x.clone()]).unwrap();
    }
    assert_eq!(executable.memory_bytes(), before, "one arena, as at first");
    s.trim();
    let trimmed = executable.memory_bytes();
    assert!(trimmed <= before);
    s.run(&[x.clone()]).unwrap();
    assert_eq!((executable.memory_bytes(), s.timings().programs), (before, 1));
}

#[test]
fn a_cache_that_is_too_small_says_so() {
    let s = session(scaled()).cache_limit(16);
    let call =
        |s: &Session, n: usize| s.call(&[Tensor::new(&[n, 4], &vec![1.0f32; n * 4]).unwrap()]).unwrap();
    let mut recompiled = 0;
    for n in (1..=17).chain(1..=17) {
        recompiled += call(&s, n).recompiled;
    }
    let timings = s.timings();
    assert_eq!((recompiled, timings.recompiled, timings.programs, s.cached()), (17, 17, 34, 16));
    let remark = timings.remark().unwrap();
    assert!(remark.starts_with("17 of 34 programs were compiled again, since 16 are kept"), "{remark}");
    assert!(remark.contains("Session::cache_limit"), "{remark}");

    // Small programs are kept without being asked for.
    let s = session(scaled());
    (1..=17).chain(1..=17).for_each(|n| drop(call(&s, n)));
    assert_eq!((s.timings().programs, s.cached(), s.timings().remark()), (17, 17, None));
    // And the memory that they take can be limited.
    let bytes = s.memory_bytes();
    let s = session(scaled()).cache_bytes(bytes / 2);
    (1..=17).for_each(|n| drop(call(&s, n)));
    assert!(s.memory_bytes() <= bytes / 2 && (4..=10).contains(&s.cached()), "{} programs", s.cached());
}
