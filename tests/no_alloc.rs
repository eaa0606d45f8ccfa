//! A warm run allocates nothing, and dropping an executable gives its memory back. Alone in its file, since
//! it counts what the whole process allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::time::Duration;

use ndarray::Array2;
use nestjit::ir::parse::parse;
use nestjit::onnx::OnnxModel;
use nestjit::passes::PIPELINE;
use nestjit::unit::Unit;
use nestjit::{Compiler, DType, Executable, GraphBuilder, Model, Options, Session, Tensor, TensorView};

/// The system's allocator, counted.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: forwards to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        LIVE_BYTES.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PROGRAM: &str = "
nest @first(in %x: f32[ROWS,1024], temp %t: f32[ROWS,1024]) {
  for n < ROWS parallel { for c < 1024 { %t[n,c] = %x[n,c] * 2.0 } }
}
nest @second(temp %t: f32[ROWS,1024], out %y: f32[1024]) {
  for c < 1024 parallel {
    %y[c] = 0.0
    for n < ROWS { %y[c] += %t[n,c] }
  }
}
";

/// The program with a temporary of so many rows of 4 KiB.
fn compile(rows: usize, threads: usize) -> Executable {
    let fusion = PIPELINE.iter().map(|pass| pass.name).filter(|name| *name == "OpFusion");
    let unit = Unit::from_program(parse(&PROGRAM.replace("ROWS", &rows.to_string())).unwrap(), []).unwrap();
    let compiler = Compiler::with_options(Options::default()).threads(threads).disable_passes(fusion);
    compiler.compile_unit("two", unit).unwrap()
}

/// One test, so that no other disturbs the counts.
#[test]
fn memory() {
    a_warm_run_allocates_nothing();
    a_warm_call_of_a_session_allocates_next_to_nothing();
    dropping_an_executable_frees_its_memory();
    #[cfg(target_os = "linux")]
    dropping_an_executable_unmaps_its_memory();
}

fn a_warm_run_allocates_nothing() {
    let x = Tensor::new(&[256, 1024], &vec![1.0f32; 256 * 1024]).unwrap();
    for threads in [1, 2, 3] {
        let executable = compile(256, threads);
        let mut outputs = executable.allocate_outputs().unwrap();
        let inputs = [TensorView::from(&x)];
        executable.run_into(&inputs, &mut outputs).unwrap();
        let mut fifty_runs = || {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            for _ in 0..50 {
                executable.run_into(&inputs, &mut outputs).unwrap();
            }
            ALLOCATIONS.load(Ordering::Relaxed) - before
        };
        // Threads that are still starting allocate, once each; what runs allocate, they allocate every time.
        let quiet = (0..100).any(|_| {
            let allocations = fifty_runs();
            if allocations > 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
            allocations == 0
        });
        assert!(quiet, "{threads} threads: a warm run allocates");
        assert_eq!(outputs[0].values::<f32>().unwrap()[7], 512.0);
    }
}

/// Lists of inputs and values, and no tensor.
fn a_warm_call_of_a_session_allocates_next_to_nothing() {
    let mut g = GraphBuilder::new("relu");
    let x = g.input("x", DType::F32, &[64, 256]);
    let y = g.relu(x);
    g.output("y", y);
    let file = Model::from(g.build().unwrap()).to_onnx().unwrap();
    let session = Session::new(OnnxModel::from_bytes(&file).unwrap(), Compiler::new().threads(1));
    let (x, mut y) = (Array2::<f32>::ones((64, 256)), Array2::<f32>::zeros((64, 256)));
    session.warm_up(&[[64, 256]]).unwrap();
    for _ in 0..300 {
        // The last calls are listed.
        session.run_into(&[&x], &mut [&mut y]).unwrap();
    }
    let (count, bytes) = (ALLOCATIONS.load(Ordering::Relaxed), ALLOCATED.load(Ordering::Relaxed));
    for _ in 0..50 {
        session.run_into(&[&x], &mut [&mut y]).unwrap();
    }
    let count = ALLOCATIONS.load(Ordering::Relaxed) - count;
    let bytes = ALLOCATED.load(Ordering::Relaxed) - bytes;
    assert!(count <= 50 * 3 && bytes <= 50 * 4096, "{count} allocations of {bytes} bytes in 50 calls");
    assert_eq!(y, x);
}

fn dropping_an_executable_frees_its_memory() {
    // The arena alone has this size; the allocator provides it.
    const ROWS: usize = 128;
    const ARENA: isize = ROWS as isize * 1024 * 4;
    drop(compile(ROWS, 2));
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    for _ in 0..20 {
        let executable = compile(ROWS, 2);
        assert!(executable.temp_bytes() as isize >= ARENA);
        assert!(LIVE_BYTES.load(Ordering::Relaxed) - before >= ARENA);
    }
    let leaked = LIVE_BYTES.load(Ordering::Relaxed) - before;
    assert!(leaked < ARENA / 4, "{leaked} bytes");
}

/// Large memory comes from the system directly.
#[cfg(target_os = "linux")]
fn dropping_an_executable_unmaps_its_memory() {
    const ROWS: usize = 4096;
    let resident = || -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        4096 * statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap()
    };
    let x = Tensor::zeros(nestjit::DType::F32, &[ROWS, 1024]).unwrap();
    let run = || compile(ROWS, 2).run(std::slice::from_ref(&x)).unwrap();
    run();
    let before = resident();
    for _ in 0..10 {
        run();
    }
    let leaked = resident().saturating_sub(before);
    assert!(leaked < ROWS * 4096, "{leaked} bytes");
}
