//! What may happen to a process: it forks, and there are fewer threads, smaller stacks and less memory than is asked for.
#![cfg(unix)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nestjit::ir::parse::parse;
use nestjit::unit::Unit;
use nestjit::{
    Compiler, DType, Error, ErrorKind, Executable, GraphBuilder, Model, RunOptions, Session, Tensor,
};

/// Two parallel nests with a temporary between them.
const SUMS: &str = "
nest @sums(in %x: f32[64,8], temp %t: f32[64]) {
  for n < 64 parallel {
    temp %s: f32[]
    %s = 0.0
    for c < 8 { %s += %x[n,c] }
    %t[n] = %s
  }
}
nest @scale(in %x: f32[64,8], temp %t: f32[64], out %y: f32[64,8]) {
  for n < 64 parallel { for c < 8 { %y[n,c] = %x[n,c] + %t[n] } }
}
";

fn compile(text: &str, threads: usize) -> Result<Executable, Error> {
    let unit = Unit::from_program(parse(text).expect("it parses"), [])?;
    Compiler::new().threads(threads).compile_unit("processes", unit)
}

fn run(executable: &Executable) -> Result<Vec<f32>, Error> {
    let x: Vec<f32> = (0..512).map(|i| i as f32).collect();
    Ok(executable.run(&[Tensor::new(&[64, 8], &x)?])?[0].values::<f32>()?.to_vec())
}

/// Calls `f` in a child and says how it ended: 0 if `f` returned true, 1 if false, 2 if it panicked, and a negative number
/// if a signal ended it, as one does after two minutes.
fn in_child(f: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child uses what is its own: this thread, memory, and new threads; `fork` of the C library sees to the
    // allocator. It ends without running what the parent would at its end.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no child");
    if child == 0 {
        // SAFETY: it has no preconditions.
        unsafe { libc::alarm(120) };
        let code = catch_unwind(AssertUnwindSafe(f)).map_or(2, |right| i32::from(!right));
        // SAFETY: ends this process, and touches nothing of the parent's.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: the status is written to a place of its type.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
}

#[test]
fn a_child_of_fork_runs_compiles_and_drops() {
    let executable = compile(SUMS, 3).unwrap();
    let expected = run(&executable).unwrap();
    let child = || {
        let mine = executable.clone();
        let again = |e: &Executable| (0..50).all(|_| run(e).is_ok_and(|y| y == expected));
        let fine = again(&mine) && again(&compile(SUMS, 3).unwrap());
        // And its own child.
        fine && in_child(|| again(&mine)) == 0
    };
    assert_eq!(in_child(child), 0);
    let dropped = compile(SUMS, 4).unwrap();
    run(&dropped).unwrap();
    let mut slot = Some(dropped);
    assert_eq!(in_child(|| slot.take().is_some()), 0);
    drop(slot);
    assert_eq!(run(&executable).unwrap(), expected);
}

#[test]
fn a_fork_while_the_workers_are_busy_is_fine() {
    let executable = compile(SUMS, 2).unwrap();
    // Of the same pool.
    let busy = compile(SUMS, 2).unwrap();
    let expected = run(&executable).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                run(&busy).unwrap();
            }
        });
        let codes: Vec<i32> =
            (0..10).map(|_| in_child(|| run(&executable).is_ok_and(|y| y == expected))).collect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(codes, [0; 10]);
    });
}

#[test]
fn a_child_of_fork_calls_a_session_that_other_threads_were_calling() {
    let mut g = GraphBuilder::new("g");
    let x = g.input("x", DType::F32, &[64]);
    let (y, z) = (g.relu(x), g.sigmoid(x));
    g.output("y", y);
    g.output("z", z);
    let session = Session::new(Model::from(g.build().unwrap()), Compiler::new().threads(2));
    let x = Tensor::new(&[64], &[-1.0f32; 64]).unwrap();
    let zeros = Tensor::new(&[64], &[0.0f32; 64]).unwrap();
    let right = |options: &RunOptions| session.run_with(&[&x], options).is_ok_and(|all| all[0] == zeros);
    let calls = || right(&RunOptions::new()) && right(&RunOptions::new().outputs(["y"]));
    assert!(calls());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert!(calls() && session.timings().calls > 0);
                }
            });
        }
        // In some of them, a program is being compiled by a thread that the child does not have.
        let compiling = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let mut g = GraphBuilder::new("other");
                let x = g.input("x", DType::F32, &[8, 64]);
                let y = g.softmax(x, 1);
                g.output("y", y);
                let other = Session::new(Model::from(g.build().unwrap()), Compiler::new().threads(2));
                other.run(&[Tensor::zeros(DType::F32, &[8, 64]).unwrap()]).unwrap();
            }
        });
        let codes: Vec<i32> = (0..40).map(|_| in_child(|| (0..5).all(|_| calls()))).collect();
        stop.store(true, Ordering::Relaxed);
        compiling.join().unwrap();
        assert_eq!(codes, [0; 40]);
    });
}

/// Leaves this process so much more address space than it uses.
#[cfg(target_os = "linux")]
fn limit_address_space(more: u64) {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    // SAFETY: `sysconf` has no preconditions, and the limit is read from a place of its type.
    unsafe {
        let bytes = pages * libc::sysconf(libc::_SC_PAGESIZE) as u64 + more;
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &limit), 0);
    }
}

/// Leaves this process without another thread; whether that was possible. The limit is for users that may not ignore it.
#[cfg(target_os = "linux")]
fn forbid_threads() -> bool {
    let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
    // SAFETY: none has preconditions, and the limit is read from a place of its type.
    unsafe {
        (libc::geteuid() != 0 || libc::setgid(65_534) == 0 && libc::setuid(65_534) == 0)
            && libc::setrlimit(libc::RLIMIT_NPROC, &limit) == 0
            && thread::Builder::new().spawn(|| {}).is_err()
    }
}

#[test]
#[cfg(target_os = "linux")]
fn threads_that_cannot_be_started_are_done_without() {
    let expected = run(&compile(SUMS, 1).unwrap()).unwrap();
    let child = || {
        if !forbid_threads() {
            eprintln!("the number of threads cannot be limited here");
            return true;
        }
        compile(SUMS, 1000).and_then(|e| run(&e)).is_ok_and(|y| y == expected)
    };
    assert_eq!(in_child(child), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn memory_that_cannot_be_had_is_a_limit() {
    let large = "nest @a(out %y: f32[805306368]) { for n < 805306368 { %y[n] = 1.0 } }";
    let shared = Tensor::zeros(nestjit::DType::F32, &[64 << 20]).unwrap();
    let child = || {
        limit_address_space(200 << 20);
        let of = |result: Result<(), Error>| result.is_err_and(|e| e.kind() == ErrorKind::Limit);
        let mut copy = shared.clone();
        of(compile(large, 1).and_then(|e| e.run::<Tensor>(&[])).map(drop))
            && of(Tensor::zeros(nestjit::DType::F32, &[64 << 20]).map(drop))
            && of(copy.bytes_mut().map(drop))
    };
    assert_eq!(in_child(child), 0);
}

/// What a model of a few bytes asks for is stated before it is taken, against a limit that is given here.
#[test]
fn memory_beyond_the_limit_is_stated() {
    let (large, more) = ("nest @a(out %y: f32[805306368]) { for n < 805306368 { %y[n] = 1.0 } }", 8u64 << 30);
    let compile = |limit: u64| {
        let unit = Unit::from_program(parse(large).expect("it parses"), [])?;
        Compiler::new().threads(1).memory_limit(limit).compile_unit("large", unit)
    };
    let child = || {
        let error = compile(1 << 30).unwrap_err();
        let expected = "a run takes 0 bytes for values between kernels, 0 for its threads, and 3221225472 for results, of \
                        which the largest is 'y' f32[805306368]: 3221225472 bytes of memory are needed, but only ";
        let stated = error.to_string().starts_with(expected) && error.kind() == ErrorKind::Limit;
        let compiled = compile(more).is_ok();
        // Tensors of the caller's count as well.
        let tensor = Compiler::new().memory_limit(1 << 20).compile_unit("small", Unit::default());
        let refused =
            Tensor::zeros(nestjit::DType::U8, &[2 << 20]).is_err_and(|e| e.kind() == ErrorKind::Limit);
        stated && compiled && tensor.is_ok() && refused
    };
    assert_eq!(in_child(child), 0);
}

/// Buffers of nests are not on the stack, however large they are.
#[test]
fn large_locals_need_no_stack() {
    let text = "
nest @local(in %x: f32[64,8], out %y: f32[64,8]) {
  for n < 64 parallel {
    temp %t: f32[4,65536]
    for c < 65536 { for r < 4 { %t[r,c] = 0.0 } }
    for c < 8 { %t[3,8000*c] = %x[n,c] }
    for c < 8 { %y[n,c] = %t[3,8000*c] + %t[2,8000*c] }
  }
}
";
    let executable = compile(text, 2).unwrap();
    let small = thread::Builder::new().stack_size(128 << 10);
    let y = small.spawn(move || run(&executable).unwrap()).unwrap().join().unwrap();
    assert_eq!(y, (0..512).map(|i| i as f32).collect::<Vec<_>>());
}
