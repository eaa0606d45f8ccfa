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

/// Convolutions of a part of `%x`, whose other elements are NaN, and which may be followed by rows that the same nest writes:
/// the last tiles reach beyond the part, but nothing of that may get into results.
#[test]
fn what_lies_beside_the_part_that_is_read_does_not_matter() {
    let [h, w, c] = [9usize, 11, 32];
    let part = format!(
        "nest @conv(in %x: f32[{},{},{c}], const %w: f32[{c},{c},3,3], const %b: f32[{c}], out %y: f32[{h},{w},{c}]) {{
          for oh < {h} {{ for ow < {w} {{ for co < {c} {{
            temp %acc: f32
            %acc = 0.0
            for ci < {c} {{ for kh < 3 {{ for kw < 3 {{
              %acc += %x[oh+kh+2,ow+kw+3,ci] * %w[co,ci,kh,kw]
            }} }} }}
            %y[oh,ow,co] = %acc + %b[co]
          }} }} }}
        }}",
        h + 8,
        w + 8
    );
    // Rows up to h are read, those from h + 2 on are written: each buffer starts with what the run before left there.
    let rows = format!(
        "nest @fill(in %x: f32[{r},{v},{c}], temp %t: f32[{all},{v},{c}]) {{
          for i < {r} {{ for j < {v} {{ for k < {c} {{ %t[i,j,k] = %x[i,j,k] }} }} }}
        }}
        nest @conv(const %w: f32[{c},{c},3,3], const %b: f32[{c}], temp %t: f32[{all},{v},{c}]) {{
          for oh < {h} {{ for ow < {w} {{ for co < {c} {{
            temp %acc: f32
            %acc = 0.0
            for ci < {c} {{ for kh < 3 {{ for kw < 3 {{
              %acc += %t[oh+kh,ow+kw,ci] * %w[co,ci,kh,kw]
            }} }} }}
            %t[oh+{r},ow,co] = %acc + %b[co]
          }} }} }}
        }}
        nest @take(temp %t: f32[{all},{v},{c}], out %y: f32[{h},{w},{c}]) {{
          for i < {h} {{ for j < {w} {{ for k < {c} {{ %y[i,j,k] = %t[i+{r},j,k] }} }} }}
        }}",
        r = h + 2,
        v = w + 2,
        all = 2 * h + 2,
    );
    let shape = [h, w, c, c];
    let value = |i: usize| ((i * 37 % 101) as f32 - 50.0) / 50.0;
    let beside = |i: usize| {
        let (row, column) = (i / c / (w + 8), i / c % (w + 8));
        let inside = (2..h + 4).contains(&row) && (3..w + 5).contains(&column);
        if inside { value(i) } else { f32::NAN }
    };
    let of = |shape: [usize; 3], f: &dyn Fn(usize) -> f32| {
        Tensor::from_vec(&shape, (0..shape.iter().product()).map(f).collect::<Vec<f32>>()).unwrap()
    };
    let inputs = [
        (part, [of([h + 8, w + 8, c], &beside), of([h + 8, w + 8, c], &beside)]),
        (rows, [of([h + 2, w + 2, c], &|_| 3e38), of([h + 2, w + 2, c], &value)]),
    ];
    for (text, [before, input]) in inputs {
        for isa in [Isa::Simd128, Isa::Avx2, Isa::Avx512] {
            if isa > Isa::host().min(Isa::WIDEST_EMITTED) {
                continue;
            }
            let compiler = Compiler::with_options(Options::default()).isa(isa).disable_pass("OpFusion");
            let direct = compile(&text, shape, &compiler.clone().threads(1).disable_pass("Winograd"));
            let expected = direct.run(std::slice::from_ref(&input)).unwrap();
            for threads in [1, 3] {
                let found = compile(&text, shape, &compiler.clone().threads(threads));
                assert!(found.program().to_string().contains("winograd"), "not rewritten: {isa:?}");
                found.run(std::slice::from_ref(&before)).unwrap();
                let found = found.run(std::slice::from_ref(&input)).unwrap();
                let pairs =
                    found[0].values::<f32>().unwrap().iter().zip(expected[0].values::<f32>().unwrap());
                for (a, b) in pairs {
                    assert!((a - b).abs() <= 1e-4, "{a} instead of {b}: {isa:?}, {threads} threads");
                }
            }
        }
    }
}
