//! Contractions of quantised tensors: all of them multiply 8-bit integers after IntegerContractions, and compute what the
//! graph without the pass does, exactly where the result is of integers.

mod between;
mod cases;
mod maker;
mod models;
mod packed;
mod refusals;

use nestjit::graph::{Graph, Node, Op, Precision, evaluate};
use nestjit::ir::Program;
use nestjit::machine::MachineModel;
use nestjit::options::Options;
use nestjit::passes::{PIPELINE, PassManager};
use nestjit::remark::Remark;
use nestjit::{Compiler, DType, Tensor};

/// The graph after the pass alone, and what it said.
pub fn rewritten(graph: &Graph) -> (Graph, Vec<Remark>) {
    let others = PIPELINE.iter().map(|p| p.name).filter(|name| *name != "IntegerContractions");
    let disabled_passes = others.map(str::to_owned).collect();
    let options = Options { disabled_passes, verify_passes: true, ..Options::default() };
    let target = MachineModel::host(None).unwrap();
    let mut manager = PassManager::new(&options, &target, 1).unwrap();
    let mut graph = graph.clone();
    manager.run_graph_passes(&mut graph, &mut nestjit::laps::Laps::start()).unwrap();
    graph.validate().unwrap();
    (graph, manager.finish().remarks)
}

/// The types of the operands of each contraction, but those that only add up windows of an operand. Of filters of one
/// channel with a zero point, numbers of `f32` stand for the bytes.
pub fn contractions(graph: &Graph) -> Vec<[DType; 2]> {
    let nodes = graph.nodes.iter().filter(|n| !n.name.contains(".window_sums"));
    let products = nodes.filter(|n| matches!(n.op, Op::MatMul | Op::Gemm { .. } | Op::Conv { .. }));
    let types = |n: &Node| match ([0, 1].map(|i| graph.value(n.inputs[i]).dtype), &n.op) {
        ([DType::F32, DType::F32], Op::Conv { groups, .. })
            if *groups > 1 && graph.value(n.inputs[1]).shape[1] == 1 && n.inputs.len() == 2 =>
        {
            [DType::U8, DType::I8]
        }
        (types, _) => types,
    };
    products.map(types).collect()
}

/// The largest difference, relative to the largest magnitude; for integers in steps.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!((a.dtype(), a.shape()), (b.dtype(), b.shape()));
    let values = |t: &Tensor| -> Vec<f64> {
        match t.dtype() {
            DType::F64 => t.values::<f64>().unwrap().to_vec(),
            DType::F32 => t.values::<f32>().unwrap().iter().map(|v| f64::from(*v)).collect(),
            DType::I32 => t.values::<i32>().unwrap().iter().map(|v| f64::from(*v)).collect(),
            DType::I8 => t.values::<i8>().unwrap().iter().map(|v| f64::from(*v)).collect(),
            DType::U8 => t.values::<u8>().unwrap().iter().map(|v| f64::from(*v)).collect(),
            other @ (DType::F16
            | DType::BF16
            | DType::I64
            | DType::I16
            | DType::U16
            | DType::U32
            | DType::U64
            | DType::Bool) => panic!("no case has outputs of {other}"),
        }
    };
    let (a, b, is_float) = (values(a), values(b), a.dtype().is_float());
    let largest = if is_float { b.iter().fold(1e-30, |m: f64, v| m.max(v.abs())) } else { 1.0 };
    a.iter().zip(&b).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f64::max)
}

/// How far the rewritten graph may be from the graph, and compiled code from it: floats by their rounding.
#[derive(Clone, Copy)]
pub enum Allowed {
    /// Integers are equal, floats equal but for rounding.
    Rounding,
    /// A quantised result may be the next integer.
    OneStep,
    /// Floats follow from quantised numbers, each of which may be the next one.
    Behind,
}

/// Checks that the pass leaves `count` contractions, all of `u8` and `i8`, and that everything computes the same.
pub fn check(name: &str, graph: &Graph, inputs: &[Tensor], count: usize, allowed: Allowed) {
    let (after, remarks) = rewritten(graph);
    let types = contractions(&after);
    let remarks: Vec<String> = remarks.iter().map(|r| r.message(&Program::default())).collect();
    assert_eq!(types, vec![[DType::U8, DType::I8]; count], "{name}: {remarks:?}\n{after}");
    let (floats, steps) = match allowed {
        Allowed::Rounding => (1e-6, 0.0),
        Allowed::OneStep => (1e-6, 1.0),
        Allowed::Behind => (2e-2, 1.0),
    };
    let expected = evaluate(graph, inputs, Precision::F64).unwrap();
    let found = evaluate(&after, inputs, Precision::F64).unwrap();
    for (expected, found) in expected.iter().zip(&found) {
        let (d, limit) = (distance(found, expected), if found.dtype().is_float() { floats } else { steps });
        assert!(d <= limit, "{name}: {d} from the graph without the pass\n{graph}\n{after}");
    }
    // In f32, what code computes is what the graph says but for the order of additions.
    let expected = evaluate(&after, inputs, Precision::F32).unwrap();
    for fused in [true, false] {
        let compiler = Compiler::with_options(Options { verify_passes: true, ..Options::default() });
        let compiler = compiler.threads(1).disable_passes((!fused).then_some("OpFusion"));
        let found = compiler.compile(&graph.clone().into()).unwrap().run(inputs).unwrap();
        for (expected, found) in expected.iter().zip(&found) {
            let limit = if found.dtype().is_float() { floats.max(1e-5) } else { steps };
            let d = distance(found, expected);
            assert!(d <= limit, "{name}, fused: {fused}: {d} from the rewritten graph");
        }
    }
}
