//! Contractions of bytes in matrix tiles (AMX) give the same bits as in vectors: for shapes that tiles do not divide, all forms
//! of zero points, behind every epilogue, for every number of threads. Where the CPU has no tiles, they are emulated.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod emulator;
mod halves;
#[path = "../integer_contractions/maker.rs"]
#[allow(dead_code, reason = "the tests of integer contractions use the rest")]
mod maker;

use nestjit::graph::{Format, Graph, Op, Window};
use nestjit::{Compiler, DType, Executable, Options, Tensor};

use self::maker::{Form, Maker, Zero};

/// The compiler for so many threads.
pub fn compiler(threads: usize) -> Compiler {
    Compiler::with_options(Options { verify_passes: true, ..Options::default() }).threads(threads)
}

/// How many nests multiply in tiles.
fn in_tiles(executable: &Executable) -> usize {
    (0..executable.kernels()).filter(|n| executable.computes(*n).contains(&"int8 in tiles")).count()
}

/// Checks that tiles change nothing, fused or not; how many nests of the fused program use them.
fn same(name: &str, graph: &Graph, inputs: &[Tensor]) -> usize {
    let mut used = 0;
    for fused in [false, true] {
        let compile = |amx: bool, threads: usize| {
            let compiler = compiler(threads).amx(amx).disable_passes((!fused).then_some("OpFusion"));
            compiler.compile(&graph.clone().into()).unwrap()
        };
        let expected = compile(false, 1).run(inputs).unwrap();
        let tiles = compile(true, 1);
        used = in_tiles(&tiles);
        let before = emulator::products();
        assert_eq!(tiles.run(inputs).unwrap(), expected, "{name}, fused: {fused}");
        if emulator::is_emulated() {
            assert_eq!(emulator::products() > before, used > 0, "{name}: nothing was emulated");
        }
        if used > 0 {
            for threads in [2, 3] {
                assert_eq!(
                    compile(true, threads).run(inputs).unwrap(),
                    expected,
                    "{name}, {threads} threads"
                );
            }
        }
    }
    used
}

fn graph(name: &str, build: impl FnOnce(&mut Maker) -> Vec<nestjit::graph::ValueId>) -> (Graph, Vec<Tensor>) {
    let mut m = Maker::new(name);
    let outputs = build(&mut m);
    m.finish(&outputs)
}

const ROWS: [usize; 8] = [2, 15, 16, 17, 31, 33, 50, 96];

#[test]
fn ragged_products() {
    if !emulator::install() {
        return;
    }
    let mut used = 0;
    for (i, m) in ROWS.into_iter().enumerate() {
        for (k, n) in [(64, 64), (256, 33), (70, 48), (96, 17), (400, 80), (131, 16), (1024, 31)] {
            let types = if i % 2 == 0 { [DType::U8, DType::I8] } else { [DType::I8, DType::U8] };
            let name = format!("{m}x{k}x{n} {types:?}");
            let (graph, inputs) = graph(&name, |maker| {
                let x = maker.shifted(Form::of(types[0], false, Zero::None), &[m, k]);
                let w = maker.shifted(Form::of(types[1], true, Zero::None), &[k, n]);
                vec![maker.g.matmul(x, w)]
            });
            used += usize::from(same(&name, &graph, &inputs) > 0);
        }
    }
    assert!(used > 20, "{used} products used tiles");
}

#[test]
fn zero_points_of_every_form_and_epilogues() {
    if !emulator::install() {
        return;
    }
    let mut used = 0;
    let zeros = [Zero::None, Zero::Constant, Zero::Input];
    for x_zero in zeros {
        for w_zero in zeros {
            for (constant, axis) in [(true, Some(1)), (true, None), (false, None)] {
                let name = format!("{x_zero:?} {w_zero:?} {constant} {axis:?}");
                let (graph, inputs) = graph(&name, |m| {
                    let x = m.quantised(Form::of(DType::U8, false, x_zero), &[45, 136]);
                    let w = Form { axis, ..Form::of(DType::I8, constant, w_zero) };
                    let w = m.quantised(w, &[136, 72]);
                    let y = m.g.matmul(x, w);
                    let bias = m.g.constant("bias", Tensor::random(DType::F32, &[72], 4).unwrap());
                    let y = m.g.add(y, bias);
                    let relu = m.g.relu(y);
                    vec![m.requantised(relu, 3.0, 0.0, DType::U8), m.g.sigmoid(y)]
                });
                used += usize::from(same(&name, &graph, &inputs) > 0);
            }
        }
    }
    assert!(used >= 9, "{used} products used tiles");
}

#[test]
fn convolutions_with_padding_and_batches_of_products() {
    if !emulator::install() {
        return;
    }
    let mut used = 0;
    let window = |size: usize, stride: usize, pad: usize| Window {
        kernel: vec![size; 2],
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        pads_begin: vec![pad; 2],
        pads_end: vec![pad; 2],
    };
    for (channels, filters, side, window) in [
        (64, 64, 20, window(3, 1, 1)),
        (64, 96, 17, window(1, 1, 0)),
        (48, 40, 33, window(3, 2, 1)),
        (128, 32, 16, window(1, 2, 0)),
    ] {
        for format in [Format::ChannelsFirst, Format::ChannelsLast] {
            let name = format!("{channels} {filters} {side} {format:?} {window:?}");
            let (graph, inputs) = graph(&name, |m| {
                let shape = match format {
                    Format::ChannelsFirst => [1, channels, side, side],
                    Format::ChannelsLast => [1, side, side, channels],
                };
                let x = m.quantised(Form::of(DType::U8, false, Zero::Constant), &shape);
                let w = Form { axis: Some(0), ..Form::of(DType::I8, true, Zero::None) };
                let w = m.quantised(w, &[&[filters, channels], &window.kernel[..]].concat());
                let bias = m.g.constant("bias", Tensor::random(DType::F32, &[filters], 3).unwrap());
                let conv = Op::Conv { window: window.clone(), groups: 1, format, pad_value: 0 };
                let y = m.one(conv, &[x, w, bias]);
                vec![m.requantised(y, 0.7, 3.0, DType::U8)]
            });
            used += usize::from(same(&name, &graph, &inputs) > 0);
        }
    }
    let (graph, inputs) = graph("batch", |m| {
        let x = m.quantised(Form::of(DType::U8, false, Zero::Constant), &[3, 40, 64]);
        let w = m.quantised(Form::of(DType::I8, false, Zero::Constant), &[3, 64, 50]);
        vec![m.g.matmul(x, w)]
    });
    used += usize::from(same("batch", &graph, &inputs) > 0);
    assert!(used > 2, "{used} used tiles");
}

/// A machine without tiles, or with tiles switched off, has none in its code.
#[test]
fn switched_off_means_off() {
    let (graph, _) = graph("off", |m| {
        let x = m.shifted(Form::of(DType::U8, false, Zero::None), &[64, 256]);
        let w = m.shifted(Form::of(DType::I8, true, Zero::None), &[256, 64]);
        vec![m.g.matmul(x, w)]
    });
    let code = |compiler: Compiler| {
        let executable = compiler.keep_code(true).compile(&graph.clone().into()).unwrap();
        assert_eq!(executable.target().amx, in_tiles(&executable) > 0);
        executable.machine_code(0).to_owned()
    };
    assert!(!code(compiler(1).amx(false)).contains("tdp"));
    assert!(!code(compiler(1).isa(nestjit::machine::Isa::Avx2)).contains("tdp"));
    if emulator::install() {
        let text = code(compiler(1));
        for what in ["ldtilecfg", "tileloadd", "tdpbusd", "tilestored", "tilerelease"] {
            assert!(text.contains(what), "no {what}: {text}");
        }
    }
}

#[test]
fn their_rate_is_measured() {
    if emulator::install() {
        let rate = nestjit::runtime::measure::tile_gops().expect("there are tiles");
        assert!(rate.is_finite() && rate > 0.0, "{rate}");
    }
}
