//! Kernels as machine code against an interpreter of them, with memory that ends at inaccessible pages.

mod interpreter;
mod memory;
mod random;
mod shapes;

use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Module, default_libcall_names};

use self::interpreter::Machine;
use self::memory::Guarded;
use super::{ALIGN, Tier, emit};
use crate::codegen::vcode::{Arg, Kernel};
use crate::target::Isa;

/// The tiers that this machine can execute.
fn tiers() -> Vec<Tier> {
    [Isa::Avx2, Isa::Avx512].into_iter().filter(|i| *i <= Isa::host()).filter_map(Tier::of).collect()
}

#[test]
fn wide_code_is_for_the_tiers_that_have_it() {
    assert_eq!(Tier::of(Isa::Simd128), None);
    assert_eq!(Tier::of(Isa::Avx2), Some(Tier::Avx2));
    assert_eq!(Tier::of(Isa::Avx512), Some(Tier::Avx512));
    let machine = Tier::Avx2.machine();
    assert_eq!((machine.lanes, machine.registers, machine.scale), (8, 16, false));
    let kernel = Kernel { lanes: 16, ..Kernel::default() };
    assert!(emit(&kernel, Tier::Avx2, false).is_err(), "16 lanes are not 256 bits");
}

/// The contents of each buffer, and the values of arguments that are integers.
#[derive(Clone)]
struct Input {
    buffers: Vec<Vec<f32>>,
    int: i64,
    range: (i64, i64),
}

impl Input {
    fn int_arg(&self, arg: &Arg) -> i64 {
        match arg {
            Arg::Int(_) => self.int,
            Arg::Begin => self.range.0,
            Arg::End => self.range.1,
            Arg::Pointer(..) | Arg::Element(..) | Arg::Scratch => panic!("not an integer"),
        }
    }
}

/// Executes a kernel; every buffer lies between two inaccessible pages, and touches the one behind it, or
/// the one before.
fn execute(kernel: &Kernel, tier: Tier, input: &Input, at_end: bool) -> (Vec<Vec<f32>>, String) {
    let (bytes, text) = emit(kernel, tier, true).expect("the kernel is emitted");
    let mut module = JITModule::new(JITBuilder::new(default_libcall_names()).expect("a JIT"));
    let signature = module.make_signature();
    let id = module.declare_anonymous_function(&signature).expect("declared");
    module.define_function_bytes(id, ALIGN, &bytes, &[]).expect("defined");
    module.finalize_definitions().expect("placed");
    let buffers: Vec<Guarded> = input.buffers.iter().map(|b| Guarded::new(b, at_end)).collect();
    let mut scratch = vec![0u64; kernel.scratch_bytes / 8 + 16];
    let table: Vec<i64> = kernel
        .args
        .iter()
        .map(|arg| match arg {
            Arg::Pointer(buf, _) => buffers[buf.0 as usize].pointer() as i64,
            Arg::Scratch => scratch.as_mut_ptr().wrapping_add(8 - (scratch.as_ptr() as usize / 8) % 8) as i64,
            arg => input.int_arg(arg),
        })
        .collect();
    // SAFETY: the code has this signature; the kernel accesses nothing but its arguments.
    unsafe {
        let entry: extern "C" fn(*const i64) = std::mem::transmute(module.get_finalized_function(id));
        entry(table.as_ptr());
        module.free_memory();
    }
    (buffers.iter().map(|b| b.contents().to_vec()).collect(), text)
}

/// Checks a kernel's machine code, bit by bit (any NaN is as good as another).
fn check(kernel: &Kernel, tier: Tier, input: &Input) {
    let mut machine = Machine::new(kernel, input);
    machine.run();
    for at_end in [true, false] {
        let (found, text) = execute(kernel, tier, input, at_end);
        for (b, (expected, found)) in machine.buffers.iter().zip(&found).enumerate() {
            for (i, (e, f)) in expected.iter().zip(found).enumerate() {
                assert!(
                    e.to_bits() == f.to_bits() || (e.is_nan() && f.is_nan()),
                    "{tier:?}, buffer {b}, element {i}: expected {e:?}, found {f:?}\n{kernel}\n{text}"
                );
            }
        }
    }
}

/// A reproducible sequence.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn float(&mut self) -> f32 {
        if self.chance(3) {
            return self.pick(&[0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 3e38]);
        }
        self.below(4000) as f32 / 500.0 - 4.0
    }
}
