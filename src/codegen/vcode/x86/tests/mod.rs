//! Kernels as machine code against an interpreter of them, with memory that ends at inaccessible pages.

mod encodings;
mod generate;
mod interpreter;
mod memory;
mod operations;
mod random;
mod shapes;
mod values;

use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Module, default_libcall_names};

use nestjit_ir::{Affine, BufId, bf16, f16};

use self::interpreter::Machine;
use self::memory::Guarded;
use super::{ALIGN, Tier, emit};
use crate::codegen::tests::harness::target;
use crate::codegen::vcode::{Access, Address, Arg, ArgId, DotKind, Kernel, MemType, Terms};
use crate::machine::{Isa, MachineModel};

/// The tiers that this machine can execute.
fn tiers() -> Vec<Tier> {
    let mut tiers = Vec::new();
    for isa in [Isa::Avx2, Isa::Avx512].into_iter().filter(|isa| *isa <= Isa::host()) {
        let plain = MachineModel { isa, ..target() };
        let with_vnni = MachineModel { vnni: isa.host_has_vnni(), ..plain.clone() };
        let with_bf16 = MachineModel { bf16: isa.host_has_fast_bf16(), ..with_vnni.clone() };
        for target in [plain, with_vnni, with_bf16] {
            let tier = Tier::of(&target).expect("emitted here");
            if !tiers.contains(&tier) {
                tiers.push(tier);
            }
        }
    }
    tiers
}

/// Those with dot products of a kind.
fn with_dots(kind: DotKind) -> impl Iterator<Item = Tier> {
    tiers().into_iter().filter(move |t| t.has_dot(kind))
}

/// Those that differ in more than dot products.
fn widths() -> Vec<Tier> {
    tiers().into_iter().filter(|t| !t.has_dot(DotKind::Bytes)).collect()
}

#[test]
fn wide_code_is_for_the_tiers_that_have_it() {
    for vnni in [false, true] {
        let of = |isa| Tier::of(&MachineModel { isa, vnni, bf16: true, ..target() });
        assert_eq!(of(Isa::Simd128), None);
        for isa in [Isa::Avx2, Isa::Avx512] {
            let machine = of(isa).expect("emitted here").machine();
            assert_eq!((machine.lanes, machine.dot), (isa.f32_lanes(), vnni));
            assert_eq!(machine.bf16, isa == Isa::Avx512);
        }
    }
    let tier = Tier::of(&MachineModel { isa: Isa::Avx2, ..target() }).expect("emitted here");
    let machine = tier.machine();
    assert_eq!((machine.lanes, machine.registers, machine.scale), (8, 16, false));
    let kernel = Kernel { lanes: 16, ..Kernel::default() };
    assert!(emit(&kernel, tier, false).is_err(), "16 lanes are not 256 bits");
}

/// What a buffer holds.
#[derive(Clone)]
struct Contents {
    ty: MemType,
    bytes: Vec<u8>,
}

impl Contents {
    /// Of the low bits of these.
    fn new(ty: MemType, elements: impl IntoIterator<Item = u64>) -> Contents {
        let size = ty.bytes() as usize;
        let bytes = elements.into_iter().flat_map(|e| e.to_le_bytes().into_iter().take(size)).collect();
        Contents { ty, bytes }
    }

    fn zeros(ty: MemType, len: usize) -> Contents {
        Contents::new(ty, vec![0; len])
    }
}

/// Elements of memory, as the low bits.
fn elements(ty: MemType, bytes: &[u8]) -> Vec<u64> {
    let element = |e: &[u8]| e.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    bytes.chunks(ty.bytes() as usize).map(element).collect()
}

/// An argument that is a buffer.
fn pointer(buf: u32) -> Arg {
    Arg::Pointer(BufId(buf), Affine::constant(0))
}

/// An access whose offset, terms and stride are in elements. Argument and buffer have the same number.
fn access(ty: MemType, base: u32, offset: i64, terms: &Terms, step: i64, lanes: usize) -> Access {
    let bytes = ty.bytes();
    let terms = terms.iter().map(|(counter, c)| (*counter, c * bytes)).collect();
    let address = Address { base: ArgId(base), terms, offset: offset * bytes };
    Access { address, stride: step * bytes, ty, lanes, buf: BufId(base) }
}

/// Every type of elements.
const TYPES: [MemType; 11] = [
    MemType::F32,
    MemType::F64,
    MemType::I32,
    MemType::I64,
    MemType::I8,
    MemType::U8,
    MemType::I16,
    MemType::U16,
    MemType::F16,
    MemType::BF16,
    MemType::Bool,
];

/// The contents of each buffer, and the values of arguments that are integers.
#[derive(Clone)]
struct Input {
    buffers: Vec<Contents>,
    int: i64,
    range: (i64, i64),
}

impl Input {
    fn int_arg(&self, arg: &Arg) -> i64 {
        match arg {
            Arg::Int(_) => self.int,
            Arg::Begin(_) => self.range.0,
            Arg::End(_) => self.range.1,
            Arg::Pointer(..) | Arg::Element(..) | Arg::Scratch => panic!("not an integer"),
        }
    }
}

/// Executes a kernel; every buffer lies between two inaccessible pages, and touches the one behind it, or
/// the one before.
fn execute(kernel: &Kernel, tier: Tier, input: &Input, at_end: bool) -> (Vec<Vec<u8>>, String) {
    let (bytes, text) = emit(kernel, tier, true).expect("the kernel is emitted");
    let mut module = JITModule::new(JITBuilder::new(default_libcall_names()).expect("a JIT"));
    let signature = module.make_signature();
    let id = module.declare_anonymous_function(&signature).expect("declared");
    module.define_function_bytes(id, ALIGN, &bytes, &[]).expect("defined");
    module.finalize_definitions().expect("placed");
    let buffers: Vec<Guarded> = input.buffers.iter().map(|b| Guarded::new(&b.bytes, at_end)).collect();
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
            let ty = expected.ty;
            let (expected, found) = (elements(ty, &expected.bytes), elements(ty, found));
            for (i, (e, f)) in expected.into_iter().zip(found).enumerate() {
                assert!(
                    e == f || (is_nan(ty, e) && is_nan(ty, f)),
                    "{tier:?}, buffer {b}, element {i}: expected {e:#x}, found {f:#x}\n{kernel}\n{text}"
                );
            }
        }
    }
}

fn is_nan(ty: MemType, bits: u64) -> bool {
    match ty {
        MemType::F32 => f32::from_bits(bits as u32).is_nan(),
        MemType::F64 => f64::from_bits(bits).is_nan(),
        MemType::F16 => f16::from_bits(bits as u16).is_nan(),
        MemType::BF16 => bf16::from_bits(bits as u16).is_nan(),
        MemType::I32
        | MemType::I64
        | MemType::I8
        | MemType::U8
        | MemType::SaturatedU8
        | MemType::I16
        | MemType::U16
        | MemType::Bool => false,
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

    /// The bits of an element.
    fn element(&mut self, ty: MemType) -> u64 {
        match ty {
            MemType::F32 => u64::from(self.float().to_bits()),
            MemType::F64 => (f64::from(self.float()) * if self.chance(20) { 1e300 } else { 1.1 }).to_bits(),
            MemType::F16 if self.chance(80) => u64::from(f16::from_f32(self.float()).to_bits()),
            MemType::BF16 if self.chance(80) => u64::from(bf16::from_f32(self.float()).to_bits()),
            MemType::F16 | MemType::BF16 => self.bits(),
            MemType::Bool => self.pick(&[0, 0, 0, 1, 1, 7]),
            MemType::I32 | MemType::I64 | MemType::I8 | MemType::U8 | MemType::I16 | MemType::U16 => {
                self.bits()
            }
            MemType::SaturatedU8 => self.bits(),
        }
    }

    /// Any 64 bits.
    fn bits(&mut self) -> u64 {
        self.next() << 32 ^ self.next()
    }
}
