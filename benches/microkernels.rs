//! Register tiles of matrix products, compiled like any nest, against the machine's multiply-add rate:
//! `cargo bench --bench microkernels`. One tile is multiplied again and again, its operands in the caches. And what it
//! costs to run a nest on several threads.

use std::time::{Duration, Instant};

use nestjit::codegen::{CodegenOptions, NestCode, Segment, compile};
use nestjit::ir::LoopKind::{Unrolled, Vector};
use nestjit::ir::parse::parse;
use nestjit::ir::{Buffer, DType, Expr, Layout, NestBuilder, Program, ReduceOp, Role, Var};
use nestjit::machine::{Isa, MachineModel};
use nestjit::runtime::measure;
use nestjit::unit::Unit;
use nestjit::{Compiler, TensorView};

/// How often a call multiplies the tile.
const REPEATS: usize = 200;
/// The extent of the reduction: operands of the largest tile fit the second-level cache, of most the first.
const DEPTH: usize = 192;
const BUDGET: Duration = Duration::from_millis(300);

/// A nest that multiplies one register tile [`REPEATS`] times.
fn tile(rows: usize, columns: usize) -> Program {
    let mut p = Program::default();
    let x = p.add_buffer(Buffer::new("x", DType::F32, &[rows, DEPTH], Role::In));
    let w = p.add_buffer(Buffer::new("w", DType::F32, &[DEPTH, columns], Role::Const));
    let y = p.add_buffer(Buffer::new("y", DType::F32, &[rows, columns], Role::Out));
    p.buf_mut(w).layout = Layout { panel: Some((1, columns)), ..Layout::row_major(2) };
    let mut b = NestBuilder::new(&mut p, "tile");
    b.for_("r", REPEATS, |b, _| {
        let acc = b.temp("acc", DType::F32, &[rows, columns]);
        let each = |b: &mut NestBuilder<'_>, f: &dyn Fn(&mut NestBuilder<'_>, Var, Var)| {
            b.for_kind("i", rows, Unrolled, |b, i| b.for_kind("j", columns, Vector, |b, j| f(b, i, j)));
        };
        each(b, &|b, i, j| b.store(acc, [i, j], Expr::f32(0.0)));
        b.for_("k", DEPTH, |b, k| {
            each(b, &|b, i, j| {
                b.reduce(ReduceOp::Add, acc, [i, j], Expr::load(x, [i, k]) * Expr::load(w, [k, j]));
            });
        });
        each(b, &|b, i, j| b.store(y, [i, j], Expr::load(acc, [i, j]).relu()));
    });
    b.finish();
    p
}

/// The shortest time of a call, in seconds.
fn best_seconds(nest: &NestCode, pointers: &[*mut u8], scratch: &mut [u64]) -> f64 {
    let all = |segment: &Segment| segment.loops.iter().map(|l| [0, l.extent as i64]).collect::<Vec<_>>();
    let ranges: Vec<Vec<[i64; 2]>> = nest.segments.iter().map(all).collect();
    let begin = Instant::now();
    let mut best = f64::INFINITY;
    while begin.elapsed() < BUDGET {
        let start = Instant::now();
        for (segment, ranges) in nest.segments.iter().zip(&ranges) {
            // SAFETY: the pointers are those of buffers of the sizes that the program declares.
            let status =
                unsafe { (segment.entry)(pointers.as_ptr(), scratch.as_mut_ptr().cast(), ranges.as_ptr()) };
            assert_eq!(status, 0, "no index is checked");
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn measure(target: &MachineModel, peak: f64, rows: usize, columns: usize) {
    let program = tile(rows, columns);
    let mut memory: Vec<Vec<f32>> = program.buffers.iter().map(|b| vec![0.5; b.storage_len() + 16]).collect();
    let unit = Unit { program, ..Unit::default() };
    let options =
        CodegenOptions { keep_text: std::env::args().any(|a| a == "--text"), ..CodegenOptions::default() };
    let code = compile(&unit, target, &options).expect("the tile compiles");
    if options.keep_text {
        println!("{}", code.disassembly(0));
    }
    let nest = &code.nests()[0];
    let pointers: Vec<*mut u8> = nest
        .params
        .iter()
        .map(|b| {
            let memory = memory[b.0 as usize].as_mut_ptr().cast::<u8>();
            // Aligned to 64: the vectors have room for it.
            memory.wrapping_add(memory.align_offset(64))
        })
        .collect();
    let mut scratch = vec![0u64; nest.scratch_bytes / 8 + 8];
    let seconds = best_seconds(nest, &pointers, &mut scratch);
    let gflops = (2 * rows * columns * DEPTH * REPEATS) as f64 / seconds / 1e9;
    println!(
        "{:8} {rows:2} x {columns:2}  {gflops:7.1} GFLOP/s  {:5.1} % of the peak",
        target.isa.name(),
        100.0 * gflops / peak
    );
}

/// How long a run of one nest takes that does next to nothing, but on several threads.
fn measure_dispatch(threads: usize) {
    let text =
        format!("nest @one(out %y: f32[{threads}]) {{ for n < {threads} parallel {{ %y[n] = 1.0 }} }}");
    let unit = Unit::from_program(parse(&text).expect("it parses"), []).expect("it is complete");
    let executable = Compiler::new().threads(threads).compile_unit("dispatch", unit).expect("it compiles");
    let mut outputs = executable.allocate_outputs().expect("memory");
    let mut times: Vec<Duration> = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < BUDGET {
        let start = Instant::now();
        executable.run_into(&[] as &[TensorView<'_>], &mut outputs).expect("it runs");
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let [best, median] = [times[0], times[times.len() / 2]];
    println!("one nest on {threads} threads: {best:?} at best, median {median:?}");
}

fn main() {
    measure_dispatch(2);
    let tiles: [(Isa, &[(usize, usize)]); 3] = [
        (Isa::Avx512, &[(14, 32), (12, 32), (8, 48), (6, 64), (7, 32), (28, 16)]),
        (Isa::Avx2, &[(6, 16), (4, 24), (12, 8)]),
        (Isa::Simd128, &[(6, 8), (4, 12)]),
    ];
    for (isa, tiles) in tiles {
        let Ok(target) = MachineModel::host(Some(isa)) else { continue };
        if target.isa != isa {
            continue;
        }
        let peak = measure::measure(isa, target.l3_bytes(), 1).rates.peak_gflops;
        println!("{:8} multiply-add peak {peak:.1} GFLOP/s", isa.name());
        for &(rows, columns) in tiles {
            measure(&target, peak, rows, columns);
        }
    }
}
