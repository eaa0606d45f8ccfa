//! Products and convolutions of bytes as they occur in quantised networks, against the rate at which this machine
//! multiplies bytes and against `f32` on the same shapes, on one thread: `cargo bench --bench quantized
//! [-- PART_OF_A_NAME] [--text]`; with `--text`, the code is printed.
//!
//! A case is one nest: `u8` activations with the channels last, constant `i8` weights, and the epilogue that makes `u8`
//! of the sums. What is compared takes turns, and so does the measurement of the peak. Figures are the medians of all
//! rounds, and `best` are the shortest runs of all, which mean something on a machine that is busy. The `f32` nests are
//! direct sums without Winograd, with an epilogue of their own. Then products with weights of four bits: see [`packed`].

#[path = "quantized/packed.rs"]
mod packed;

use std::time::{Duration, Instant};

use nestjit::ir::parse::parse;
use nestjit::machine::MachineModel;
use nestjit::runtime::measure;
use nestjit::unit::Unit;
use nestjit::{Compiler, Executable, Result, Tensor, TensorView};

const ROUNDS: usize = 15;

/// How long a round of one side takes.
const ROUND: Duration = Duration::from_millis(20);

/// What is multiplied.
#[derive(Clone, Copy)]
enum Shape {
    /// `rows x depth` by `depth x columns`.
    Product { rows: usize, columns: usize, depth: usize },
    /// A window of `kernel x kernel` over an image of `inputs` channels with its border, to `size x size` pixels of
    /// `outputs` channels.
    Convolution { size: usize, inputs: usize, outputs: usize, kernel: usize, stride: usize },
    /// The same with one channel each.
    Depthwise { size: usize, channels: usize, kernel: usize },
}

impl Shape {
    fn name(self) -> String {
        match self {
            Shape::Product { rows, columns, depth } => format!("{rows}x{depth} by {depth}x{columns}"),
            Shape::Convolution { size, inputs, outputs, kernel, stride } => {
                let step = if stride > 1 { format!(" / {stride}") } else { String::new() };
                format!("{kernel}x{kernel}{step}, {size}x{size}, {inputs} to {outputs}")
            }
            Shape::Depthwise { size, channels, kernel } => {
                format!("depthwise {kernel}x{kernel}, {size}x{size}, {channels}")
            }
        }
    }

    /// Two operations for each product.
    fn operations(self) -> usize {
        match self {
            Shape::Product { rows, columns, depth } => 2 * rows * columns * depth,
            Shape::Convolution { size, inputs, outputs, kernel, .. } => {
                2 * size * size * inputs * outputs * kernel * kernel
            }
            Shape::Depthwise { size, channels, kernel } => 2 * size * size * channels * kernel * kernel,
        }
    }

    /// A nest in these types, with the channels and the loop of an output in the epilogue.
    fn text(self, types: &Types) -> String {
        let Types { x, w, sum, y, zero, .. } = types;
        let (load, weight) = (|at: &str| types.extended("x", at), |at: &str| types.extended("w", at));
        match self {
            Shape::Product { rows, columns, depth } => format!(
                "nest @product(in %x: {x}[{rows},{depth}], const %w: {w}[{depth},{columns}],
                               const %b: {sum}[{columns}], const %s: f32[{columns}], out %y: {y}[{rows},{columns}]) {{
                   for n < {rows} {{ for f < {columns} {{
                     temp %t: {sum} %t = {zero}
                     for k < {depth} {{ %t += {} * {} }}
                     %y[n,f] = {}
                   }} }} }}",
                load("n,k"),
                weight("k,f"),
                types.epilogue()
            ),
            Shape::Convolution { size, inputs, outputs, kernel, stride } => {
                let padded = size * stride + kernel - 1;
                format!(
                    "nest @convolution(in %x: {x}[{padded},{padded},{inputs}], const %w: {w}[{outputs},{inputs},{kernel},{kernel}],
                                       const %b: {sum}[{outputs}], const %s: f32[{outputs}], out %y: {y}[{size},{size},{outputs}]) {{
                       for i < {size} {{ for j < {size} {{ for f < {outputs} {{
                         temp %t: {sum} %t = {zero}
                         for c < {inputs} {{ for u < {kernel} {{ for v < {kernel} {{ %t += {} * {} }} }} }}
                         %y[i,j,f] = {}
                       }} }} }} }}",
                    load(&format!("{stride}*i+u,{stride}*j+v,c")),
                    weight("f,c,u,v"),
                    types.epilogue()
                )
            }
            Shape::Depthwise { size, channels, kernel } => {
                let padded = size + kernel - 1;
                format!(
                    "nest @depthwise(in %x: {x}[{padded},{padded},{channels}], const %w: {w}[{channels},1,{kernel},{kernel}],
                                     const %b: {sum}[{channels}], const %s: f32[{channels}], out %y: {y}[{size},{size},{channels}]) {{
                       for i < {size} {{ for j < {size} {{ for f < {channels} {{
                         temp %t: {sum} %t = {zero}
                         for u < {kernel} {{ for v < {kernel} {{ %t += {} * {} }} }}
                         %y[i,j,f] = {}
                       }} }} }} }}",
                    load("i+u,j+v,f"),
                    weight("f,0,u,v"),
                    types.epilogue()
                )
            }
        }
    }
}

/// The types of a nest, and what follows from them.
struct Types {
    x: &'static str,
    w: &'static str,
    sum: &'static str,
    y: &'static str,
    zero: &'static str,
}

const BYTES: Types = Types { x: "u8", w: "i8", sum: "i32", y: "u8", zero: "0i32" };
const FLOATS: Types = Types { x: "f32", w: "f32", sum: "f32", y: "f32", zero: "0.0" };

impl Types {
    fn are_bytes(&self) -> bool {
        self.sum == "i32"
    }

    /// An operand as it is multiplied.
    fn extended(&self, name: &str, at: &str) -> String {
        if self.are_bytes() { format!("i32(%{name}[{at}])") } else { format!("%{name}[{at}]") }
    }

    fn epilogue(&self) -> &'static str {
        if self.are_bytes() {
            "u8(min(max(round(f32(%t + %b[f]) * %s[f]) + 128.0, 0.0), 255.0))"
        } else {
            "max(%t * %s[f] + %b[f], 0.0)"
        }
    }
}

/// A nest that is compiled, with its operands.
struct Side {
    executable: Executable,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

impl Side {
    fn new(shape: Shape, types: &Types) -> Result<Side> {
        let program = parse(&shape.text(types)).unwrap_or_else(|e| panic!("{e}: {}", shape.text(types)));
        let constants: Vec<(String, Tensor)> = program
            .buffers
            .iter()
            .filter(|b| b.role == nestjit::ir::Role::Const)
            .map(|b| Ok((b.name.clone(), Tensor::random(b.dtype, &b.shape, 1)?)))
            .collect::<Result<_>>()?;
        let unit = Unit::from_program(program, constants.iter().map(|(n, t)| (n.as_str(), t.clone())))?;
        let text = std::env::args().any(|a| a == "--text");
        let compiler = Compiler::new().threads(1).disable_pass("Winograd").keep_code(text);
        let executable = compiler.compile_unit("quantized", unit)?;
        if text {
            println!("{}", executable.machine_code(0));
        }
        let specs = executable.inputs();
        let inputs = specs.iter().map(|s| Tensor::random(s.dtype, &s.shape, 2)).collect::<Result<_>>()?;
        let outputs = executable.allocate_outputs()?;
        Ok(Side { executable, inputs, outputs })
    }

    /// Seconds of a run: on average over a round, and at best.
    fn round(&mut self) -> (f64, f64) {
        let views: Vec<TensorView<'_>> = self.inputs.iter().map(TensorView::from).collect();
        let begin = Instant::now();
        let (mut runs, mut best) = (0, f64::INFINITY);
        while begin.elapsed() < ROUND {
            let start = Instant::now();
            self.executable.run_into(&views, &mut self.outputs).expect("it runs");
            best = best.min(start.elapsed().as_secs_f64());
            runs += 1;
        }
        (begin.elapsed().as_secs_f64() / f64::from(runs), best)
    }
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The rate at which the machine multiplies bytes: in matrix tiles if it has some.
fn peak(target: &MachineModel) -> f64 {
    let tiles = if target.amx { measure::tile_gops() } else { None };
    tiles.unwrap_or_else(|| measure::byte_gops(target.isa))
}

fn measure(shape: Shape, target: &MachineModel) -> Result<()> {
    let (mut bytes, mut floats) = (Side::new(shape, &BYTES)?, Side::new(shape, &FLOATS)?);
    let (mut ours, mut theirs, mut peaks, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut best = [f64::INFINITY; 2];
    bytes.round();
    floats.round();
    for _ in 0..ROUNDS {
        let (here, peak, there) = (bytes.round(), self::peak(target), floats.round());
        best = [best[0].min(here.1), best[1].min(there.1)];
        ratios.push(there.0 / here.0);
        ours.push(here.0);
        theirs.push(there.0);
        peaks.push(peak);
    }
    let peak = peaks.iter().copied().fold(0.0, f64::max);
    let gops = |seconds: f64| shape.operations() as f64 / seconds / 1e9;
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    println!(
        "{:30} {:8.1} us {:6.1} Gop/s, {:5.1} % of {:6.1}; f32 {:8.1} us, x{:4.2} | best {:8.1} us {:6.1} Gop/s, {:5.1} % of {peak:6.1}; f32 {:8.1} us, x{:4.2}",
        shape.name(),
        ours * 1e6,
        gops(ours),
        100.0 * gops(ours) / median(&mut peaks),
        median(&mut peaks),
        theirs * 1e6,
        median(&mut ratios),
        best[0] * 1e6,
        gops(best[0]),
        100.0 * gops(best[0]) / peak,
        best[1] * 1e6,
        best[1] / best[0],
    );
    Ok(())
}

fn shapes() -> Vec<Shape> {
    let product = |(rows, columns, depth)| Shape::Product { rows, columns, depth };
    let conv = |kernel, stride| {
        move |(size, inputs, outputs)| Shape::Convolution { size, inputs, outputs, kernel, stride }
    };
    let products = [
        (512, 512, 512),
        (1024, 1024, 1024),
        (128, 1536, 384),
        (64, 512, 512),
        (1, 1024, 1024),
        (1, 4096, 1024),
    ];
    let pointwise =
        [(56, 64, 256), (56, 256, 64), (28, 512, 128), (14, 1024, 256), (14, 256, 1024), (7, 2048, 512)];
    let windows = [(56, 64, 64), (28, 128, 128), (14, 256, 256), (7, 512, 512)];
    let depthwise = [(56, 144, 3), (14, 576, 3)];
    let mut all: Vec<Shape> = products.map(product).to_vec();
    all.extend(pointwise.map(conv(1, 1)));
    all.extend(windows.map(conv(3, 1)));
    all.extend([(28, 128, 128)].map(conv(3, 2)));
    all.extend([(112, 3, 64)].map(conv(7, 2)));
    all.extend(depthwise.map(|(size, channels, kernel)| Shape::Depthwise { size, channels, kernel }));
    all
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let target = MachineModel::host(None).expect("every machine has a tier");
    let tiles = if target.amx { " with matrix tiles" } else { "" };
    println!("{}{tiles}: {:.1} Gop/s at most", target.isa.name(), peak(&target));
    for shape in shapes() {
        let name = shape.name();
        if wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str())) {
            measure(shape, &target).expect("it compiles");
        }
    }
    packed::measure(&target, &wanted).expect("it compiles");
}
