//! Warm runs of inverted residuals and of convolutions before pools, with row rings and without, in turns, by the
//! size of the tensor between the nests: `cargo bench --bench row_rings [-- THREADS]`.

#[path = "../tests/common/residual.rs"]
mod residual;

use std::time::{Duration, Instant};

use nestjit::{Compiler, Executable, Model, RowRings, Tensor, TensorView};
use residual::{Block, Window};

/// How long each block is measured.
const BUDGET: Duration = Duration::from_secs(2);

/// Compiled code with its buffers.
struct Subject {
    executable: Executable,
    outputs: Vec<Tensor>,
    times: Vec<f64>,
}

impl Subject {
    fn new(model: &Model, threads: usize, rings: RowRings) -> Subject {
        let compiler = Compiler::new().threads(threads).row_rings(rings);
        let executable = compiler.compile(model).expect("it compiles");
        let outputs = executable.allocate_outputs().expect("outputs are small");
        Subject { executable, outputs, times: Vec::new() }
    }

    fn run(&mut self, input: &Tensor) {
        let inputs = [TensorView::from(input)];
        let start = Instant::now();
        self.executable.run_into(&inputs, &mut self.outputs).expect("it runs");
        self.times.push(start.elapsed().as_secs_f64() * 1e3);
    }

    /// The shortest and the median time.
    fn summary(&mut self) -> (f64, f64) {
        self.times.sort_by(f64::total_cmp);
        (self.times[0], self.times[self.times.len() / 2])
    }
}

fn measure(name: &str, block: Block, threads: usize) {
    let model = Model::from(block.graph());
    let input = block.input();
    let [mut on, mut off] = [RowRings::On, RowRings::Off].map(|r| Subject::new(&model, threads, r));
    let auto = Subject::new(&model, threads, RowRings::Auto).executable.kernels() < off.executable.kernels();
    let begin = Instant::now();
    while begin.elapsed() < BUDGET {
        on.run(&input);
        off.run(&input);
    }
    let (on, off) = (on.summary(), off.summary());
    let bytes = block.size.0 * block.size.1 * block.channels[1] * size_of::<f32>();
    println!(
        "{name:<24} {:>8.2} MB {:>9.4} ms {:>9.4} ms {:>6.3}x {:>6.3}x   {}",
        bytes as f64 / 1e6,
        off.0,
        on.0,
        off.0 / on.0,
        off.1 / on.1,
        if auto { "on" } else { "off" },
    );
}

fn main() {
    let threads = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(1);
    println!("{threads} threads; shortest times, and the gains of the shortest and of the median");
    println!(
        "{:<24} {:>11} {:>12} {:>12} {:>7} {:>7}   auto",
        "block", "between", "apart", "ring", "min", "median"
    );
    // The blocks of MobileNetV2 at 224x224, and two of a larger image.
    let blocks = [
        (7, [160, 960, 160], 1),
        (14, [96, 576, 160], 2),
        (14, [96, 576, 96], 1),
        (14, [64, 384, 64], 1),
        (28, [32, 192, 64], 2),
        (28, [32, 192, 32], 1),
        (56, [24, 144, 32], 2),
        (56, [24, 144, 24], 1),
        (112, [16, 96, 24], 2),
        (112, [24, 144, 24], 1),
        (224, [16, 96, 24], 2),
    ];
    for (size, channels, stride) in blocks {
        let block =
            Block { batch: 1, size: (size, size), channels, kernel: 3, stride, window: Window::Project };
        measure(&format!("{size}x{size}x{} / {stride}", channels[1]), block, threads);
    }
    for (size, hidden) in [(28, 128), (56, 64), (112, 64), (224, 64)] {
        let block = Block {
            batch: 1,
            size: (size, size),
            channels: [16, hidden, 0],
            kernel: 3,
            stride: 2,
            window: Window::Pool,
        };
        measure(&format!("{size}x{size}x{hidden} pool"), block, threads);
    }
}
