//! Whatever passes are switched off, every other pass leaves a unit that verifies. No code is generated: this is about
//! what passes may rely on from each other, which is nothing but what the verifier says.

mod common;

use std::path::Path;

use common::cases::op_cases;
use nestjit::graph::Graph;
use nestjit::ir::Role;
use nestjit::ir::verify::Stage;
use nestjit::laps::Laps;
use nestjit::lower::lower;
use nestjit::machine::{Isa, MachineModel};
use nestjit::passes::{self, PIPELINE, PassManager};
use nestjit::unit::Unit;
use nestjit::{Options, RowRings, Tensor};

/// Machines like none in particular: with the shortest vectors and the longest.
fn target(isa: Isa) -> MachineModel {
    MachineModel::plain(isa, [32 << 10, 1 << 20, 32 << 20], 3)
}

/// What the passes work on.
enum Source<'a> {
    Graph(&'a Graph),
    Nests(&'a Unit),
}

/// Runs every pass but one, and verifies after each.
fn run(source: &Source<'_>, disabled: Option<&str>, isa: Isa) -> Result<(), String> {
    let target = target(isa);
    let options = Options {
        verify_passes: true,
        row_rings: RowRings::On,
        disabled_passes: disabled.into_iter().map(str::to_owned).collect(),
        ..Options::default()
    };
    let said = |e| format!("without {}, {isa:?}: {e}", disabled.unwrap_or("nothing"));
    let run = || {
        let mut manager = PassManager::new(&options, &target, 3)?;
        let (mut unit, stage) = match source {
            Source::Graph(graph) => {
                let mut graph = Graph::clone(graph);
                manager.run_graph_passes(&mut graph, &mut Laps::start())?;
                (lower(&graph)?, Stage::Lowered)
            }
            Source::Nests(unit) => (Unit::clone(unit), Stage::Scheduled),
        };
        manager.run_nest_passes(&mut unit, stage, &mut Laps::start())?;
        passes::verify(&unit, Stage::Scheduled)
    };
    run().map_err(said)
}

/// Each pass by name, and none at all.
fn subsets() -> Vec<Option<&'static str>> {
    let mut names: Vec<Option<&str>> = PIPELINE.iter().map(|pass| Some(pass.name)).collect();
    names.dedup();
    names.push(None);
    names
}

/// Runs every source in so many of the configurations, others for each.
fn check<'a>(sources: impl Iterator<Item = (String, Source<'a>)>, each: usize) {
    let subsets = subsets();
    let configurations = 2 * subsets.len();
    let each = each.min(configurations);
    let mut failures = Vec::new();
    let mut runs = 0;
    for (number, (name, source)) in sources.enumerate() {
        for i in 0..each {
            let at = (number * each + i) % configurations;
            let isa = [Isa::Simd128, Isa::Avx512][at / subsets.len()];
            runs += 1;
            failures
                .extend(run(&source, subsets[at % subsets.len()], isa).err().map(|e| format!("{name}: {e}")));
        }
    }
    println!("{runs} pipelines");
    assert!(runs > 0 && failures.is_empty(), "{} of {runs} fail:\n{}", failures.len(), failures.join("\n"));
}

fn check_operations(each: usize) {
    let cases = op_cases();
    check(cases.iter().map(|case| (case.name.clone(), Source::Graph(&case.graph))), each);
}

fn check_files(each: usize) {
    let units = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests"));
    check(units.iter().map(|(name, unit)| (name.clone(), Source::Nests(unit))), each);
}

/// The programs of the golden tests as they are before the pass.
fn files(dir: &Path) -> Vec<(String, Unit)> {
    let mut units = Vec::new();
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            units.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "nest") {
            let text = std::fs::read_to_string(&path).unwrap();
            let before = text.split("// ---\n").next().unwrap_or_default();
            units.push((path.display().to_string(), unit(before)));
        }
    }
    units
}

fn unit(text: &str) -> Unit {
    let program: nestjit::ir::Program = text.parse().unwrap();
    let consts = program.buffers.iter().filter(|b| b.role == Role::Const);
    let consts: Vec<_> =
        consts.map(|b| (b.name.clone(), Tensor::random(b.dtype, &b.shape, 1).unwrap())).collect();
    Unit::from_program(program, consts.iter().map(|(name, tensor)| (name.as_str(), tensor.clone()))).unwrap()
}

#[test]
fn operations_in_some_configurations() {
    check_operations(2);
}

#[test]
fn files_in_some_configurations() {
    check_files(8);
}

#[test]
#[ignore = "every configuration: for long runs"]
fn operations_in_every_configuration() {
    check_operations(usize::MAX);
}

#[test]
#[ignore = "every configuration: for long runs"]
fn files_in_every_configuration() {
    check_files(usize::MAX);
}
