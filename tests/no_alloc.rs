//! A warm run allocates nothing, and dropping an executable gives its memory back. Alone in its file, since
//! it counts what the whole process allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};
use std::time::Duration;

use nestjit::ir::parse::parse;
use nestjit::passes::PIPELINE;
use nestjit::unit::Unit;
use nestjit::{Compiler, Executable, Options, Tensor, TensorView};

/// The system's allocator, counted.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LIVE_BYTES: AtomicIsize = AtomicIsize::new(0);

// SAFETY: forwards to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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
nest @first(in %x: f32[256,1024], temp %t: f32[256,1024]) {
  for n < 256 parallel { for c < 1024 { %t[n,c] = %x[n,c] * 2.0 } }
}
nest @second(temp %t: f32[256,1024], out %y: f32[1024]) {
  for c < 1024 parallel {
    %y[c] = 0.0
    for n < 256 { %y[c] += %t[n,c] }
  }
}
";

fn compile(threads: usize) -> Executable {
    let fusion = PIPELINE.iter().map(|pass| pass.name).filter(|name| *name == "OpFusion");
    let unit = Unit::from_program(parse(PROGRAM).unwrap(), []).unwrap();
    let compiler = Compiler::with_options(Options::default()).threads(threads).disable_passes(fusion);
    compiler.compile_unit("two", unit).unwrap()
}

/// One test, so that no other disturbs the counts.
#[test]
fn memory() {
    a_warm_run_allocates_nothing();
    dropping_an_executable_frees_its_memory();
}

fn a_warm_run_allocates_nothing() {
    let x = Tensor::new(&[256, 1024], &vec![1.0f32; 256 * 1024]).unwrap();
    for threads in [1, 2, 3] {
        let executable = compile(threads);
        let mut outputs = executable.allocate_outputs().unwrap();
        let inputs = [TensorView::from(&x)];
        executable.run_into(&inputs, &mut outputs).unwrap();
        // Threads that are still starting allocate.
        std::thread::sleep(Duration::from_millis(100));
        executable.run_into(&inputs, &mut outputs).unwrap();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..50 {
            executable.run_into(&inputs, &mut outputs).unwrap();
        }
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "{threads} threads");
        assert_eq!(outputs[0].values::<f32>().unwrap()[7], 512.0);
    }
}

fn dropping_an_executable_frees_its_memory() {
    // The arena alone has this size.
    const ARENA: isize = 256 * 1024 * 4;
    drop(compile(2));
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    for _ in 0..20 {
        let executable = compile(2);
        assert!(executable.temp_bytes() as isize >= ARENA);
        assert!(LIVE_BYTES.load(Ordering::Relaxed) - before >= ARENA);
    }
    let leaked = LIVE_BYTES.load(Ordering::Relaxed) - before;
    assert!(leaked < ARENA / 4, "{leaked} bytes");
}
