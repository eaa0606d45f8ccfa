//! Rings of rows, compiled: against separate nests and the evaluator, for ragged shapes, both strides, every vector
//! tier of the machine, batches and several threads.

#[path = "common/residual.rs"]
mod residual;

use nestjit::graph::eval::{Precision, evaluate};
use nestjit::machine::Isa;
use nestjit::{Compiler, Model, Options, RowRings, Tensor};
use residual::{Block, Window};

const BLOCK: Block =
    Block { batch: 1, size: (24, 20), channels: [16, 96, 16], kernel: 3, stride: 1, window: Window::Project };

fn isas() -> impl Iterator<Item = Isa> {
    let widest = Isa::host().min(Isa::WIDEST_EMITTED);
    [Isa::Simd128, Isa::Avx2, Isa::Avx512].into_iter().filter(move |isa| *isa <= widest)
}

/// Checks the results of a block, and that it is this many nests; returns the ways that its rings go.
fn check(block: Block, nests: usize) -> Vec<String> {
    let graph = block.graph();
    let input = block.input();
    let expected = evaluate(&graph, std::slice::from_ref(&input), Precision::F64).expect("it evaluates");
    let expected: Vec<f64> = expected[0].values::<f64>().expect("a result").to_vec();
    let largest = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
    let model = Model::from(graph);
    let mut ways = Vec::new();
    for isa in isas() {
        let compiler = Compiler::with_options(Options::default()).isa(isa).row_rings(RowRings::On);
        let run = |threads: usize| -> Tensor {
            let executable = compiler.clone().threads(threads).compile(&model).expect("it compiles");
            assert_eq!(executable.kernels(), nests, "{block:?}\n{}", executable.program());
            let rings = executable.remarks().iter().filter(|r| r.code() == "ring");
            ways = rings.map(|r| r.message(executable.program())).collect();
            assert_eq!(ways.len(), 1, "{block:?}: {:?}", executable.remarks());
            executable.run(std::slice::from_ref(&input)).expect("it runs").remove(0)
        };
        let [one, two] = [1, 2].map(run);
        assert_eq!(one, two, "{block:?}, {isa:?}: 2 threads");
        for (found, expected) in one.values::<f32>().expect("a result").iter().zip(&expected) {
            let far = (f64::from(*found) - expected).abs();
            assert!(far <= 1e-5 * largest, "{found} instead of {expected}: {block:?}, {isa:?}");
        }
    }
    ways
}

#[test]
fn inverted_residuals_are_a_nest() {
    for stride in [1, 2] {
        for kernel in [3, 5] {
            for (size, channels) in [((24, 20), [16, 96, 16]), ((13, 17), [5, 35, 7]), ((7, 7), [8, 40, 8])] {
                check(Block { size, channels, kernel, stride, ..BLOCK }, 1);
            }
        }
    }
    check(Block { batch: 3, size: (15, 9), ..BLOCK }, 1);
    check(Block { batch: 2, stride: 2, kernel: 5, ..BLOCK }, 1);
}

#[test]
fn squeeze_and_excite_stays_with_the_windows() {
    for stride in [1, 2] {
        check(Block { window: Window::Squeeze, stride, ..BLOCK }, 2);
        check(Block { window: Window::Squeeze, stride, size: (19, 11), channels: [6, 37, 6], ..BLOCK }, 2);
    }
    // The products for the factors of several images are nests of their own.
    check(Block { window: Window::Squeeze, batch: 2, ..BLOCK }, 4);
}

#[test]
fn pools_read_rows_of_convolutions() {
    for (kernel, stride) in [(3, 2), (2, 2), (3, 1)] {
        check(Block { window: Window::Pool, kernel, stride, ..BLOCK }, 1);
    }
    check(
        Block { window: Window::Pool, stride: 2, size: (21, 9), channels: [3, 21, 0], batch: 2, ..BLOCK },
        1,
    );
}

#[test]
fn tensors_larger_than_the_cache_are_cut_into_blocks() {
    // 8 MB between the nests: no machine's second-level cache holds half a tensor of that size.
    for (size, stride) in [((113, 111), 2), ((112, 112), 1)] {
        let ways = check(Block { size, stride, channels: [4, 160, 4], ..BLOCK }, 1);
        assert!(!ways[0].contains("of 1 blocks of 1x"), "{}", ways[0]);
    }
    let large = Block { size: (112, 112), channels: [4, 160, 4], ..BLOCK };
    for (block, nests) in [
        (Block { window: Window::Squeeze, ..large }, 2),
        (Block { window: Window::Pool, stride: 2, ..large }, 1),
        (Block { batch: 2, size: (59, 56), kernel: 5, ..large }, 1),
        (Block { batch: 2, size: (61, 57), kernel: 5, stride: 2, channels: [5, 161, 7], ..large }, 1),
    ] {
        let ways = check(block, nests);
        assert!(!ways[0].contains("of 1 blocks of 1x"), "{}", ways[0]);
    }
}
