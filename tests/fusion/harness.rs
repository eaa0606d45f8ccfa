//! Runs the fusion passes on a graph, verifies what they leave, and compares it with what they were given.

use std::path::Path;

use nestjit::graph::{Graph, GraphBuilder, ValueId};
use nestjit::interpret::interpret;
use nestjit::ir::interp::Mode;
use nestjit::ir::verify::Stage;
use nestjit::lower::lower;
use nestjit::machine::{Isa, MachineModel};
use nestjit::passes::{self, PIPELINE, PassContext, Run};
use nestjit::remark::Remark;
use nestjit::unit::Unit;
use nestjit::{Compiler, DType, Tensor};

/// Nest passes up to and including ContractTemps, in the order of the pipeline.
const PASSES: [&str; 3] = ["SimplifyNests", "OpFusion", "ContractTemps"];

/// A program before and after fusion.
pub struct Fused {
    pub before: Unit,
    pub after: Unit,
    pub remarks: Vec<Remark>,
}

/// The machine that the tests fuse for, whatever they run on.
pub fn target() -> MachineModel {
    MachineModel::plain(Isa::Simd128, [32 << 10, 1 << 20, 32 << 20], 2)
}

/// Lowers and fuses; every pass must leave a valid program.
pub fn fuse(graph: &Graph) -> Fused {
    fuse_unit(lower(graph).expect("the graph is valid"))
}

/// Fuses a lowered program.
pub fn fuse_unit(before: Unit) -> Fused {
    let mut after = before.clone();
    let mut remarks = Vec::new();
    let target = target();
    for name in PASSES {
        run_pass(name, &mut after, &target, &mut remarks);
    }
    Fused { before, after, remarks }
}

/// Runs one nest pass.
pub fn run_pass(name: &str, unit: &mut Unit, target: &MachineModel, remarks: &mut Vec<Remark>) {
    let context = PassContext::new(&nestjit::options::Options::default(), target, 1);
    for pass in PIPELINE.iter().filter(|p| p.name == name) {
        let Run::Nest(run, _) = pass.run else { continue };
        let text = unit.program.to_string();
        run(unit, &context, remarks).expect("fusion passes do not fail");
        if let Err(e) = passes::verify(unit, Stage::Fused) {
            panic!("{name} leaves an invalid program: {e}\n{text}\nbecame\n{}", unit.program);
        }
    }
}

impl Fused {
    /// The number of nests after fusion.
    pub fn nests(&self) -> usize {
        self.after.program.nests.len()
    }

    /// The program after fusion.
    pub fn text(&self) -> String {
        self.after.program.to_string()
    }

    /// The codes of the merges that were not made.
    pub fn refusals(&self) -> Vec<&'static str> {
        self.remarks.iter().filter(|r| r.pass() == "OpFusion" && !r.applied()).map(Remark::code).collect()
    }

    /// The codes of the merges that were made.
    pub fn merges(&self) -> Vec<&'static str> {
        self.remarks.iter().filter(|r| r.pass() == "OpFusion" && r.applied()).map(Remark::code).collect()
    }

    /// Checks the number of nests, and that the results are the same bits.
    #[track_caller]
    pub fn expect(&self, nests: usize) -> &Fused {
        assert_eq!(self.nests(), nests, "{}\n{:#?}", self.text(), self.remarks);
        self.same_bits();
        self.compiled_agrees();
        self
    }

    /// Checks that the compiled model computes what the program computes before fusion, up to rounding.
    #[track_caller]
    pub fn compiled_agrees(&self) {
        let inputs = self.inputs();
        let expected = interpret(&self.before, &inputs, Mode::F64).expect("the program runs");
        let compiler = Compiler::new().threads(2);
        let executable = compiler.compile_unit("net", self.before.clone()).expect("it compiles");
        let found = executable.run(&inputs).expect("it runs");
        for (e, f) in expected.iter().zip(&found) {
            let (Ok(e), Ok(f)) = (e.values::<f64>(), f.values::<f32>()) else { continue };
            for (i, (e, f)) in e.iter().zip(f).enumerate() {
                let f = f64::from(*f);
                let same = (e - f).abs() <= 1e-4 * (1.0 + e.abs()) || e.is_nan() && f.is_nan();
                // Values that leave the range of f32 are judged by the interpreter alone.
                let judged = e.abs() < 1e30;
                assert!(same || !judged, "element {i}: {f} instead of {e}\n{}", self.text());
            }
        }
    }

    fn inputs(&self) -> Vec<Tensor> {
        self.before
            .inputs
            .iter()
            .enumerate()
            .map(|(i, id)| {
                let buffer = self.before.program.buf(*id);
                data(buffer.dtype, &buffer.shape, i + 1)
            })
            .collect()
    }

    /// Checks that both programs compute the same bits in the interpreter.
    #[track_caller]
    pub fn same_bits(&self) {
        let inputs = self.inputs();
        let run = |unit: &Unit| interpret(unit, &inputs, Mode::Exact).map_err(|e| e.to_string());
        let (before, after) = (run(&self.before), run(&self.after));
        let bits = |t: &Tensor| format!("{:?}", t.dtype()) + &values(t);
        match (before, after) {
            (Ok(before), Ok(after)) => {
                for (b, a) in before.iter().zip(&after) {
                    assert_eq!(bits(b), bits(a), "{}\nbecame\n{}", self.before.program, self.text());
                }
            }
            (before, after) => {
                panic!("{before:?}\n{after:?}\n{}\nbecame\n{}", self.before.program, self.text())
            }
        }
    }
}

fn values(t: &Tensor) -> String {
    match t.dtype() {
        DType::F32 => {
            format!("{:?}", t.values::<f32>().map(|v| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>()))
        }
        DType::I64 => format!("{:?}", t.values::<i64>()),
        other @ (DType::F64
        | DType::F16
        | DType::BF16
        | DType::I32
        | DType::I16
        | DType::I8
        | DType::U64
        | DType::U32
        | DType::U16
        | DType::U8
        | DType::Bool) => {
            panic!("the tests compare no {other}")
        }
    }
}

/// Compares a text with a file of `tests/fusion`; `NESTJIT_BLESS=1` rewrites the file.
#[track_caller]
pub fn golden(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fusion").join(file);
    if std::env::var_os("NESTJIT_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&path, text).expect("the file can be written");
    }
    let expected = std::fs::read_to_string(&path).expect("the file exists");
    let first = text.lines().zip(expected.lines()).position(|(a, b)| a != b);
    assert!(text == expected, "{} is different from line {first:?} on", path.display());
}

/// Values that differ from each other, of both signs, around 1 in size.
pub fn data(dtype: DType, shape: &[usize], seed: usize) -> Tensor {
    let n: usize = shape.iter().product();
    let value = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0;
    match dtype {
        DType::F32 => Tensor::new(shape, &(0..n).map(value).collect::<Vec<f32>>()).expect("sizes agree"),
        DType::I64 => {
            Tensor::new(shape, &(0..n).map(|i| (i % 3) as i64).collect::<Vec<i64>>()).expect("sizes agree")
        }
        other @ (DType::F64
        | DType::F16
        | DType::BF16
        | DType::I32
        | DType::I16
        | DType::I8
        | DType::U64
        | DType::U32
        | DType::U16
        | DType::U8
        | DType::Bool) => {
            panic!("the tests use no {other}")
        }
    }
}

/// A builder and a source of constants.
pub struct Net {
    pub g: GraphBuilder,
    constants: usize,
}

impl Net {
    pub fn new() -> Net {
        Net { g: GraphBuilder::new("net"), constants: 0 }
    }

    pub fn input(&mut self, shape: &[usize]) -> ValueId {
        let name = format!("x{}", self.constants);
        self.constants += 1;
        self.g.input(&name, DType::F32, shape)
    }

    pub fn constant(&mut self, shape: &[usize]) -> ValueId {
        self.constants += 1;
        self.g.constant(&format!("w{}", self.constants), data(DType::F32, shape, self.constants))
    }

    /// Positive constants: variances.
    pub fn positive(&mut self, shape: &[usize]) -> ValueId {
        self.constants += 1;
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| 0.5 + (i % 7) as f32 / 7.0).collect();
        let tensor = Tensor::new(shape, &values).expect("sizes agree");
        self.g.constant(&format!("w{}", self.constants), tensor)
    }

    pub fn batch_norm(&mut self, x: ValueId, channels: usize) -> ValueId {
        let parameters = [
            self.positive(&[channels]),
            self.constant(&[channels]),
            self.constant(&[channels]),
            self.positive(&[channels]),
        ];
        self.g.batch_norm(x, parameters, 1e-5, Default::default())
    }

    pub fn fuse(mut self, outputs: &[ValueId]) -> Fused {
        for (i, y) in outputs.iter().enumerate() {
            self.g.output(&format!("y{i}"), *y);
        }
        fuse(&self.g.build().expect("a valid graph"))
    }
}
