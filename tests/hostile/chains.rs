//! Models that are long: every step must take time and stack in proportion at most.

use nestjit::ir::parse::parse;
use nestjit::onnx::proto::{ModelProto, NodeProto};
use nestjit::{Compiler, Executable, Tensor};

use super::common::onnx::*;

/// `nodes` nodes one after the other.
fn chain(nodes: usize, of: impl Fn(usize, &str, &str) -> NodeProto) -> ModelProto {
    let name = |i: usize| if i == 0 { "x".to_owned() } else { format!("v{i}") };
    let mut list: Vec<NodeProto> = (0..nodes).map(|i| of(i, &name(i), &name(i + 1))).collect();
    list.last_mut().unwrap().output = vec!["y".into()];
    model(&["4", "4"], list, vec![f32s("w", &[4, 4], &[0.25; 16])])
}

fn compile(m: ModelProto, fused: bool) -> Executable {
    let compiler = Compiler::new().threads(1);
    let compiler = if fused { compiler } else { compiler.disable_pass("OpFusion") };
    compiler.compile(&import(m).unwrap().into()).unwrap()
}

fn run(executable: &Executable) -> Vec<f32> {
    let x = Tensor::new(&[4, 4], &[0.5f32; 16]).unwrap();
    executable.run(&[x]).unwrap()[0].values::<f32>().unwrap().to_vec()
}

/// 10,000 elementwise operations become one expression, or a list of them; neither may be handled by recursion that is
/// as deep.
#[test]
fn expressions_do_not_overflow_the_stack() {
    let alternating = |i: usize, a: &str, b: &str| node(["Neg", "Abs", "Relu"][i % 3], &[a], &[b]);
    let growing = |_: usize, a: &str, b: &str| node("Add", &["x", a], &[b]);
    let doubling = |_: usize, a: &str, b: &str| node("Mul", &[a, a], &[b]);
    // A test's thread has 2 MB of stack, a program's main thread usually 8.
    let expected: [(&str, ModelProto, f32); 3] = [
        ("alternating", chain(10_000, alternating), -0.5),
        ("growing", chain(10_000, growing), 5000.5),
        ("doubling", chain(10_000, doubling), 0.0),
    ];
    for (what, m, value) in expected {
        let fused = compile(m, true);
        assert!(run(&fused).iter().all(|v| *v == value), "{what}: {:?}", run(&fused));
        assert!(fused.kernels() < 1000, "{what}: {} kernels", fused.kernels());
        // Printed and read back.
        assert!(parse(&fused.program().to_string()).is_ok(), "{what}");
    }
}

/// The chains whose compilation is measured, and their lengths, short and long.
const MEASURED: [(&str, usize, usize); 2] = [("MatMul", 250, 2000), ("Softmax", 100, 800)];

/// How often a chain is measured at most. Work out of proportion is that every time; what slows down processors is not.
#[cfg(unix)]
const ATTEMPTS: usize = 6;

/// Work grows in proportion to the number of nodes: eight times as many must take less than 24 times the processor's time,
/// which is that of a process of its own, at least once.
#[cfg(unix)]
#[test]
fn long_chains_take_work_in_proportion() {
    for (op, short, long) in MEASURED {
        for fused in [true, false] {
            let seconds = |nodes| processor_seconds(op, nodes, fused);
            let start = seconds(1);
            let mut measured = Vec::new();
            let mut is_proportional = || {
                let (short, long) = (seconds(short) - start, seconds(long) - start);
                measured.push((short, long));
                long < 24.0 * short.max(0.02)
            };
            let found = (0..ATTEMPTS).any(|_| is_proportional());
            assert!(found, "{op}, fused {fused}: {measured:?}");
        }
    }
}

/// Compiles the chain that the environment names; only for [`processor_seconds`], which starts it.
#[test]
#[ignore = "a part of another test"]
fn a_chain() {
    let Ok(chosen) = std::env::var(CHAIN) else { return };
    let [op, nodes, fused] = chosen.split(' ').collect::<Vec<_>>()[..] else { panic!("{chosen}") };
    let one = |_: usize, a: &str, b: &str| {
        if op == "MatMul" { node(op, &[a, "w"], &[b]) } else { node(op, &[a], &[b]) }
    };
    compile(chain(nodes.parse().unwrap(), one), fused == "true");
}

/// The variable that tells [`a_chain`] what to compile.
const CHAIN: &str = "HOSTILE_CHAIN";

/// The time in seconds that processors spend on a process that compiles a chain.
#[cfg(unix)]
fn processor_seconds(op: &str, nodes: usize, fused: bool) -> f64 {
    let output = std::process::Command::new("sh")
        .args(["-c", "\"$0\" \"$@\" >/dev/null && times"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "chains::a_chain"])
        .env(CHAIN, format!("{op} {nodes} {fused}"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    // The shell's own times, and those of its children: user and system, as in `0m1.25s 0m0.04s`.
    let children = text.lines().nth(1).unwrap_or_else(|| panic!("{text}"));
    let seconds = |time: &str| {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
        60.0 * minutes.parse::<f64>().unwrap() + seconds.replace(',', ".").parse::<f64>().unwrap()
    };
    children.split_whitespace().map(seconds).sum()
}

#[test]
fn a_hundred_thousand_nodes_are_imported() {
    let m = chain(100_000, |i, a, b| node(["Neg", "Abs", "Relu"][i % 3], &[a], &[b]));
    let graph = import(m).unwrap();
    assert_eq!((graph.nodes.len(), graph.depth()), (100_000, 100_000));
}
