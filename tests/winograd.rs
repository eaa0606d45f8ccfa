//! Convolutions computed by minimal filtering, compiled: against the direct convolution, for ragged shapes, every
//! vector tier of the machine and several threads.

use nestjit::ir::parse::parse;
use nestjit::machine::Isa;
use nestjit::unit::Unit;
use nestjit::{Compiler, DType, Executable, Options, Tensor};

/// A padded convolution of images with a bias, a residual input and a ReLU; all images have their channels innermost,
/// or all outermost.
fn text(h: usize, w: usize, ci: usize, co: usize, first: bool) -> String {
    let [x, y] = [ci, co].map(|c| if first { format!("{c},{h},{w}") } else { format!("{h},{w},{c}") });
    let at = |pixel: &str, c: &str| if first { format!("{c},{pixel}") } else { format!("{pixel},{c}") };
    let (load, store) = (at("oh+kh-1,ow+kw-1", "ci"), at("oh,ow", "co"));
    format!(
        "nest @conv(in %x: f32[{x}], const %w: f32[{co},{ci},3,3], const %b: f32[{co}], \
         in %r: f32[{y}], out %y: f32[{y}]) {{
          for oh < {h} {{ for ow < {w} {{ for co < {co} {{
            temp %acc: f32
            %acc = 0.0
            for ci < {ci} {{ for kh < 3 {{ for kw < 3 {{
              %acc += (%x[{load}] else 0.0) * %w[co,ci,kh,kw]
            }} }} }}
            %y[{store}] = max(%acc + %b[co] + %r[{store}], 0.0)
          }} }} }}
        }}"
    )
}

fn compile(text: &str, shape: [usize; 4], compiler: &Compiler) -> Executable {
    let [_, _, ci, co] = shape;
    let constants = [
        ("w", Tensor::random(DType::F32, &[co, ci, 3, 3], 1).unwrap()),
        ("b", Tensor::random(DType::F32, &[co], 2).unwrap()),
    ];
    compiler.compile_unit("conv", Unit::from_program(parse(text).unwrap(), constants).unwrap()).unwrap()
}

#[test]
fn compiled_code_agrees_with_the_direct_convolution() {
    // Sizes that 4 and 2 divide and do not, channels that vectors divide and do not.
    let shapes = [[24, 24, 32, 32], [23, 21, 48, 40], [14, 14, 64, 72], [9, 30, 33, 65]];
    for (shape, first) in shapes.into_iter().flat_map(|s| [(s, false), (s, true)]) {
        let [h, w, ci, co] = shape;
        let text = text(h, w, ci, co, first);
        let inputs = [
            Tensor::random(DType::F32, &if first { [ci, h, w] } else { [h, w, ci] }, 3).unwrap(),
            Tensor::random(DType::F32, &if first { [co, h, w] } else { [h, w, co] }, 4).unwrap(),
        ];
        for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512] {
            if isa > Isa::host().min(Isa::WIDEST_EMITTED) {
                continue;
            }
            let compiler = Compiler::with_options(Options::default()).isa(isa);
            let direct = compile(&text, shape, &compiler.clone().threads(1).disable_pass("Winograd"));
            let expected = direct.run(&inputs).unwrap();
            let expected = expected[0].values::<f32>().unwrap();
            let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
            let one = compile(&text, shape, &compiler.clone().threads(1));
            assert!(one.program().to_string().contains("winograd"), "not rewritten: {shape:?}, {isa:?}");
            let found = one.run(&inputs).unwrap();
            for (a, b) in found[0].values::<f32>().unwrap().iter().zip(expected) {
                assert!((a - b).abs() <= 5e-6 * largest, "{a} instead of {b}: {shape:?}, {isa:?}");
            }
            let two = compile(&text, shape, &compiler.threads(2)).run(&inputs).unwrap();
            assert_eq!(two, found, "{shape:?}, {isa:?}, 2 threads");
        }
    }
}
