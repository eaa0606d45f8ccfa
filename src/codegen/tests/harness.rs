//! Runs programs natively, in memory with sentinels around every buffer, and compares with the interpreter.

use std::collections::HashMap;

use nestjit_ir::interp::{Mode, Value, interpret, no_calls};
use nestjit_ir::layout::Geometry;
use nestjit_ir::{BufId, Buffer, DType, Kind, Program, Role, Scalar, bf16, f16};

use crate::codegen::{Code, CodegenOptions, NestCode, compile};
use crate::error::Result;
use crate::machine::{Isa, MachineModel};
use crate::unit::Unit;

/// The machine that tests compile for.
pub(in crate::codegen) fn target() -> MachineModel {
    let fma = std::is_x86_feature_detected!("fma");
    MachineModel { fma, ..MachineModel::plain(Isa::Simd128, [32 << 10, 1 << 20, 8 << 20], 1) }
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

const SENTINEL: u8 = 0xa5;

/// Memory for a buffer: a line of sentinels before and after it.
struct Memory {
    lines: Vec<Line>,
    bytes: usize,
}

impl Memory {
    fn new(bytes: usize) -> Memory {
        Memory { lines: vec![Line([SENTINEL; 64]); bytes.div_ceil(64) + 2], bytes }
    }

    fn pointer(&mut self) -> *mut u8 {
        // SAFETY: there are at least two lines.
        unsafe { self.lines.as_mut_ptr().add(1).cast() }
    }

    fn all(&mut self) -> &mut [u8] {
        // SAFETY: lines are plain bytes without padding.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * 64) }
    }

    fn storage(&mut self) -> &mut [u8] {
        let bytes = self.bytes;
        &mut self.all()[64..64 + bytes]
    }

    fn untouched_around(&mut self) -> bool {
        let bytes = self.bytes;
        let all = self.all();
        all[..64].iter().chain(&all[64 + bytes..]).all(|b| *b == SENTINEL)
    }
}

/// The physical position of each logical element, in row-major order.
fn positions(buffer: &Buffer) -> Vec<usize> {
    let geometry = Geometry::of(buffer);
    (0..buffer.len())
        .map(|i| {
            let mut rest = i;
            let mut index: Vec<usize> = buffer
                .shape
                .iter()
                .rev()
                .map(|&n| {
                    let at = rest % n;
                    rest /= n;
                    at
                })
                .collect();
            index.reverse();
            geometry.at(&index)
        })
        .collect()
}

fn put(memory: &mut Memory, at: usize, value: Scalar) {
    let size = value.dtype().size();
    memory.storage()[at * size..][..size].copy_from_slice(&value.to_bits().to_le_bytes()[..size]);
}

fn get(memory: &mut Memory, at: usize, dtype: DType) -> Scalar {
    let mut bits = [0; 8];
    bits[..dtype.size()].copy_from_slice(&memory.storage()[at * dtype.size()..][..dtype.size()]);
    let bits = u64::from_le_bytes(bits);
    match dtype {
        DType::F32 => Scalar::F32(f32::from_bits(bits as u32)),
        DType::F64 => Scalar::F64(f64::from_bits(bits)),
        DType::F16 => Scalar::F16(f16::from_bits(bits as u16)),
        DType::BF16 => Scalar::BF16(bf16::from_bits(bits as u16)),
        DType::I64 => Scalar::I64(bits as i64),
        DType::I32 => Scalar::I32(bits as i32),
        DType::I8 => Scalar::I8(bits as i8),
        DType::U8 => Scalar::U8(bits as u8),
        DType::I16 => Scalar::I16(bits as i16),
        DType::U16 => Scalar::U16(bits as u16),
        DType::U32 => Scalar::U32(bits as u32),
        DType::U64 => Scalar::U64(bits),
        DType::Bool => {
            assert!(bits < 2, "a bool is {bits}");
            Scalar::Bool(bits == 1)
        }
    }
}

/// Compiles with text and verification.
pub(in crate::codegen) fn compile_program(program: &Program, target: &MachineModel) -> Result<Code> {
    let unit = Unit { program: program.clone(), ..Unit::default() };
    let code = compile(&unit, target, &CodegenOptions { threads: 2, verify: true, keep_text: true })?;
    assert_eq!(code.nests().len(), program.nests.len());
    Ok(code)
}

/// The next rectangle of iterations after these, each side of up to three; `false` if there is none.
fn next(ranges: &mut [[i64; 2]], extents: &[usize]) -> bool {
    for (range, &extent) in ranges.iter_mut().zip(extents).rev() {
        let extent = extent as i64;
        *range = [range[1], extent.min(range[1] + 3)];
        if range[0] < extent {
            return true;
        }
        *range = [0, extent.min(3)];
    }
    false
}

/// Executes one nest, parallel loops in parts of three iterations.
///
/// # Safety
/// `pointers` must be what [`NestCode::params`] asks for.
unsafe fn run_nest(nest: &NestCode, pointers: &[*mut u8]) -> Result<()> {
    let mut scratch = Memory::new(nest.scratch_bytes);
    for segment in &nest.segments {
        let extents: Vec<usize> = segment.loops.iter().map(|l| l.extent).collect();
        let mut ranges: Vec<[i64; 2]> = extents.iter().map(|&n| [0, n.min(3) as i64]).collect();
        loop {
            // SAFETY: the caller's promise; `scratch` has the size asked for and is ours alone.
            let status = unsafe { (segment.entry)(pointers.as_ptr(), scratch.pointer(), ranges.as_ptr()) };
            if status != 0 {
                // SAFETY: a check that fails leaves its value at the start of the scratch memory.
                let value = unsafe { scratch.pointer().cast::<i64>().read() };
                return Err(nest.failure(status, value));
            }
            if !next(&mut ranges, &extents) {
                break;
            }
        }
    }
    assert!(scratch.untouched_around(), "wrote outside the scratch memory");
    Ok(())
}

/// Runs a program natively: the values of its `out` buffers.
pub(in crate::codegen) fn run(
    program: &Program,
    code: &Code,
    inputs: &HashMap<BufId, Value>,
) -> Result<HashMap<BufId, Value>> {
    let mut memory: Vec<Memory> = program.buffers.iter().map(|b| Memory::new(b.storage_bytes())).collect();
    for (id, buffer) in program.buf_ids().zip(&program.buffers) {
        let memory = &mut memory[id.0 as usize];
        if !buffer.halo.is_empty() {
            for at in 0..buffer.storage_len() {
                put(memory, at, buffer.halo_fill);
            }
        }
        if let Some(value) = inputs.get(&id) {
            for (i, at) in positions(buffer).into_iter().enumerate() {
                put(memory, at, value.data.get(i).expect("a full value"));
            }
        }
    }
    for nest in code.nests() {
        let pointers: Vec<*mut u8> = nest.params.iter().map(|b| memory[b.0 as usize].pointer()).collect();
        // SAFETY: one storage per buffer, of the buffer's size.
        unsafe { run_nest(nest, &pointers)? };
    }
    let mut outputs = HashMap::new();
    for (id, buffer) in program.buf_ids().zip(&program.buffers) {
        let memory = &mut memory[id.0 as usize];
        assert!(memory.untouched_around(), "wrote outside %{}", buffer.name);
        if buffer.role == Role::Out {
            let elements: Vec<Scalar> =
                positions(buffer).into_iter().map(|at| get(memory, at, buffer.dtype)).collect();
            outputs.insert(id, value_of(buffer, &elements));
        }
    }
    Ok(outputs)
}

pub(in crate::codegen) fn value_of(buffer: &Buffer, elements: &[Scalar]) -> Value {
    macro_rules! value {
        ($($d:ident),*) => {
            match buffer.dtype {
                $(DType::$d => Value::new(
                    &buffer.shape,
                    elements.iter().map(|s| match s { Scalar::$d(v) => *v, _ => unreachable!() }).collect(),
                ),)*
            }
        };
    }
    value!(F32, F64, F16, BF16, I64, I32, I8, U8, I16, U16, U32, U64, Bool)
        .expect("as many elements as the shape says")
}

/// A source of choices that a seed determines (xorshift; 0 chooses the first of everything).
pub(in crate::codegen) struct Choices(pub u64);

impl Choices {
    /// A number below `n`, which must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % n
    }

    pub fn of<T: Copy>(&mut self, options: &[T]) -> T {
        options[self.below(options.len())]
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Deterministic inputs: small numbers of both signs for every `in` and `const` buffer.
pub(in crate::codegen) fn inputs(program: &Program) -> HashMap<BufId, Value> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    program
        .buf_ids()
        .zip(&program.buffers)
        .filter(|(_, b)| matches!(b.role, Role::In | Role::Const))
        .map(|(id, b)| {
            let value = Value::from_fn(b.dtype, &b.shape, |_| match b.dtype.kind() {
                Kind::Float => next() * 4.0 - 2.0,
                Kind::Bool => f64::from(next() < 0.5),
                Kind::Unsigned => (next() * 9.0).floor(),
                Kind::Signed => (next() * 9.0 - 4.0).floor(),
            });
            (id, value)
        })
        .collect()
}

/// Checks that native code and the interpreter agree to `tolerance` (relative, absolute below 1; 0 means
/// equal numbers, NaN where NaN).
pub(in crate::codegen) fn check_with(
    program: &Program,
    target: &MachineModel,
    inputs: &HashMap<BufId, Value>,
    tolerance: f64,
) -> Code {
    let expected = interpret(program, inputs, Mode::Exact, &no_calls).expect("a valid program");
    let code = compile_program(program, target).expect("compiles");
    let found = run(program, &code, inputs).expect("runs");
    for (id, expected) in &expected {
        let name = &program.buf(*id).name;
        let found = &found[id];
        for (i, (e, f)) in expected.to_f64().into_iter().zip(found.to_f64()).enumerate() {
            let same = e == f || (e.is_nan() && f.is_nan());
            assert!(
                same || (e - f).abs() <= tolerance * e.abs().max(1.0),
                "%{name}[{i}]: interpreter {e:e}, native {f:e}\n{}",
                (0..code.nests().len()).map(|n| code.disassembly(n)).collect::<String>()
            );
        }
    }
    code
}

/// [`check_with`] on the inputs that [`inputs`] makes, on every tier of this machine; the code for
/// [`target`].
pub(in crate::codegen) fn check(program: &Program, tolerance: f64) -> Code {
    let inputs = inputs(program);
    let mut code = None;
    for target in targets() {
        code = Some(check_with(program, &target, &inputs, tolerance));
    }
    code.expect("there is a target")
}

/// Every tier of this machine, [`target`] last.
pub(in crate::codegen) fn targets() -> Vec<MachineModel> {
    wide_targets().into_iter().chain([target()]).collect()
}

/// The tiers beyond [`target`] that this machine has and kernels are emitted for.
pub(in crate::codegen) fn wide_targets() -> Vec<MachineModel> {
    let has = Isa::host();
    [Isa::Avx2, Isa::Avx512]
        .into_iter()
        .filter(|isa| *isa <= has && *isa <= Isa::WIDEST_EMITTED)
        .map(|isa| MachineModel { isa, vnni: isa.host_has_vnni(), ..target() })
        .collect()
}
