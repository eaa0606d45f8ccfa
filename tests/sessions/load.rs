//! Many calls at once: what is compiled, how often, and what is kept.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use nestjit::onnx::OnnxModel;
use nestjit::{CancelHandle, Compiler, ErrorKind, RunOptions, Session, Tensor};

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

/// Programs are compiled, forgotten, run, waited for and given up, all at the same time.
#[test]
fn calls_of_all_kinds_at_once() {
    let nodes = nodes(
        "NonZero: x -> at\nTranspose: at -> places\nGatherND: x, places -> found\nAdd: found, found -> y\nNeg: x -> z",
    );
    let s = session(model(graph(&["x: f32 n"], &["y", "z"], nodes), vec![])).cache_limit(2);
    let handle = CancelHandle::new();
    handle.cancel();
    let call = |seed: usize| {
        let n = 1 + seed % 4;
        let zeros = seed / 4 % (n + 1);
        let x: Vec<f32> = (0..n).map(|i| if i < zeros { 0.0 } else { i as f32 + 1.0 }).collect();
        let y: Vec<f32> = x.iter().filter(|v| **v != 0.0).map(|v| 2.0 * v).collect();
        let z: Vec<f32> = x.iter().map(|v| -v).collect();
        let (x, y, z) = (t(&[n], &x), t(&[y.len()], &y), t(&[n], &z));
        let (options, expected) = match seed % 7 {
            0 => (RunOptions::new().cancel(&handle), vec![]),
            1 => (RunOptions::new().timeout(Duration::from_micros(seed as u64 % 3000)), vec![y, z]),
            2 => (RunOptions::new().outputs(["z"]), vec![z]),
            3 => (RunOptions::new().outputs(["z", "y"]), vec![z, y]),
            _ => (RunOptions::new(), vec![y, z]),
        };
        match s.run_with(&[("x", &x)], &options) {
            Ok(outputs) => assert_eq!(outputs, expected),
            Err(error) => match seed % 7 {
                0 => assert_eq!(error.kind(), ErrorKind::Cancelled),
                1 => assert_eq!(error.kind(), ErrorKind::DeadlineExceeded),
                _ => panic!("{error}"),
            },
        }
        match seed % 31 {
            0 => s.trim(),
            1 => drop(s.warm_up(&[("x", [n])]).unwrap()),
            _ => {}
        }
    };
    thread::scope(|scope| {
        for caller in 0..16 {
            let call = &call;
            scope.spawn(move || (0..12).for_each(|i| call((caller * 12 + i) * 2_654_435_761 % 1_000_003)));
        }
    });
    assert!(s.timings().calls >= 16 * 12 && s.cached() <= 3 * (2 + 2 * 2), "{} programs", s.cached());
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
