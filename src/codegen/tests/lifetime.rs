//! Code as a resource: sharing, threads, and memory that is never writable and executable, and freed.

use std::sync::Mutex;

use nestjit_ir::{Buffer, DType, Expr, NestBuilder, Program, Role};

use super::harness::{compile_program, inputs, run, target};
use crate::codegen::Code;

/// Tests that look at the memory map of the process must not run beside each other.
static MAPS: Mutex<()> = Mutex::new(());

/// `count` nests in a chain, each `x = x * factor(nest)`.
fn chain(count: usize, factor: impl Fn(usize) -> f32) -> Program {
    let mut p = Program::default();
    let mut x = p.add_buffer(Buffer::new("x0", DType::F32, &[100], Role::In));
    for n in 0..count {
        let role = if n + 1 == count { Role::Out } else { Role::Temp };
        let y = p.add_buffer(Buffer::new(format!("x{}", n + 1), DType::F32, &[100], role));
        let mut b = NestBuilder::new(&mut p, "scale");
        b.for_("i", 100, |b, i| b.store(y, [i], Expr::load(x, [i]) * Expr::f32(factor(n))));
        b.finish();
        x = y;
    }
    p
}

#[test]
fn code_may_be_sent_and_shared() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Code>();
}

#[test]
fn equal_nests_share_code_and_others_do_not() {
    let p = chain(6, |n| [2.0, 3.0][n % 2]);
    let code = compile_program(&p, &target()).expect("compiles");
    assert_eq!((code.stats().shared, code.stats().functions), (4, 2));
    let entry = |n: usize| code.nests()[n].segments[0].entry as usize;
    assert!(entry(0) == entry(2) && entry(1) == entry(5) && entry(0) != entry(1));
    assert_ne!(code.nests()[0].params, code.nests()[2].params);
    let given = inputs(&p);
    let found = run(&p, &code, &given).expect("runs");
    let (x, y) = (p.buf_ids().next().expect("x"), p.buf_ids().last().expect("y"));
    for (x, y) in given[&x].to_f64().into_iter().zip(found[&y].to_f64()) {
        assert!((y - x * 216.0).abs() <= 1e-3 * y.abs());
    }
}

#[test]
fn many_threads_run_the_same_code() {
    let p = chain(3, |n| n as f32 + 1.0);
    let code = compile_program(&p, &target()).expect("compiles");
    let given = inputs(&p);
    let expected = run(&p, &code, &given).expect("runs");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(run(&p, &code, &given).expect("runs"), expected);
                }
            });
        }
    });
}

#[cfg(target_os = "linux")]
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: usize = statm.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a number");
    pages * 4096
}

#[cfg(target_os = "linux")]
#[test]
fn dropping_code_frees_it() {
    let _alone = MAPS.lock();
    let p = chain(40, |n| n as f32);
    let compile = || compile_program(&p, &target()).expect("compiles");
    drop(compile());
    let address = {
        let code = compile();
        code.nests()[0].segments[0].entry as usize
    };
    let mapped = |address: usize| {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
        maps.lines().any(|l| {
            let (range, rest) = l.split_once(' ').expect("a range");
            let (from, to) = range.split_once('-').expect("two ends");
            let parse = |s| usize::from_str_radix(s, 16).expect("hexadecimal");
            (parse(from)..parse(to)).contains(&address) && rest.starts_with("r-x")
        })
    };
    assert!(!mapped(address), "the code of a dropped module is still executable");
    let before = resident_bytes();
    for _ in 0..30 {
        drop(compile());
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "30 modules left {grown} bytes behind");
}

#[cfg(target_os = "linux")]
#[test]
fn no_memory_is_writable_and_executable() {
    let _alone = MAPS.lock();
    let code = compile_program(&chain(3, |n| n as f32), &target()).expect("compiles");
    let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
    assert!(!maps.contains("rwx"), "{maps}");
    drop(code);
}
