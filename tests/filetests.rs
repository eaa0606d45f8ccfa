//! Golden tests of passes: `tests/filetests/*/*.nest`.
//!
//! ```text
//! // test pass=OpFusion
//! // what the file is about
//! nest @a(..) { .. }          the program before, as the printer writes it
//! // ---
//! nest @b(..) { .. }          the program after the passes (several names are separated by commas)
//! // epilogue @a -> @b: ..     and what they said
//! ```
//!
//! Before and after, the program must be well-formed and compute the same. `NESTJIT_BLESS=1` rewrites the part
//! after the line `// ---`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use nestjit::interpret::interpret;
use nestjit::ir::interp::Mode;
use nestjit::ir::parse::parse;
use nestjit::ir::verify::Stage;
use nestjit::ir::{Buffer, Program, Role};
use nestjit::machine::{Isa, MachineModel};
use nestjit::passes::{self, PIPELINE, PassContext, Run};
use nestjit::remark::Remark;
use nestjit::unit::Unit;
use nestjit::{DType, Tensor};

const SEPARATOR: &str = "// ---\n";

/// A machine like none in particular, so that results do not depend on where the tests run.
fn target() -> MachineModel {
    MachineModel::plain(Isa::Simd128, [32 << 10, 1 << 20, 32 << 20], 2)
}

#[test]
fn programs_become_what_the_files_say() {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/filetests"), &mut files);
    files.sort();
    assert!(!files.is_empty(), "there are no test files");
    let bless = std::env::var_os("NESTJIT_BLESS").is_some_and(|v| v == "1");
    let failures: Vec<String> = files.iter().filter_map(|file| check(file, bless).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the directory exists") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "nest") {
            files.push(path);
        }
    }
}

/// Runs one file; with `bless`, rewrites it instead of comparing.
fn check(file: &Path, bless: bool) -> Result<(), String> {
    let fail = |what: &dyn std::fmt::Display| format!("{}: {what}", file.display());
    let text = fs::read_to_string(file).map_err(|e| fail(&e))?;
    let header = text.lines().next().unwrap_or_default();
    let names = header.strip_prefix("// test pass=").ok_or_else(|| fail(&"no line '// test pass=NAME'"))?;
    let (input, expected) = text.split_once(SEPARATOR).unwrap_or((&text, ""));
    let program = parse(input).map_err(|e| fail(&e))?;
    let before = unit(program)?;
    passes::verify(&before, Stage::Scheduled).map_err(|e| fail(&e))?;

    let (mut after, mut remarks) = (before.clone(), Vec::new());
    for name in names.split(',') {
        passes::find(name).map_err(|e| fail(&e))?;
        run(name, &mut after, &mut remarks).map_err(|e| fail(&e))?;
    }
    passes::verify(&after, Stage::Scheduled).map_err(|e| fail(&format!("{e}\n{}", after.program)))?;
    same_results(&before, &after).map_err(|e| fail(&e))?;

    let found = format!("{}{}", after.program, said(&after.program, &remarks));
    if bless {
        return fs::write(file, format!("{}\n{SEPARATOR}{found}", input.trim_end())).map_err(|e| fail(&e));
    }
    if found == expected {
        return Ok(());
    }
    Err(fail(&format!("expected\n{expected}\nfound\n{found}")))
}

fn unit(program: Program) -> Result<Unit, String> {
    let names: Vec<(String, Tensor)> = program
        .buf_ids()
        .filter(|b| program.buf(*b).role == Role::Const)
        .map(|b| Ok((program.buf(b).name.clone(), random(program.buf(b), b.0)?)))
        .collect::<Result<_, String>>()?;
    let constants = names.iter().map(|(name, tensor)| (name.as_str(), tensor.clone()));
    Unit::from_program(program, constants).map_err(|e| e.to_string())
}

/// Integers are small, so that they can be indices.
fn random(buffer: &Buffer, seed: u32) -> Result<Tensor, String> {
    let tensor = match buffer.dtype == DType::I64 {
        true => Tensor::new(&buffer.shape, &(0..buffer.len()).map(|i| (i % 2) as i64).collect::<Vec<_>>()),
        false => Tensor::random(buffer.dtype, &buffer.shape, seed.into()),
    };
    tensor.map_err(|e| e.to_string())
}

fn run(name: &str, unit: &mut Unit, remarks: &mut Vec<Remark>) -> nestjit::Result<()> {
    let target = target();
    let context = PassContext::new(
        &nestjit::options::Options {
            row_rings: nestjit::RowRings::On,
            ..nestjit::options::Options::default()
        },
        &target,
        2,
    );
    for pass in PIPELINE.iter().filter(|p| p.name == name) {
        if let Run::Nest(run, _) = pass.run {
            run(unit, &context, remarks)?;
        }
    }
    Ok(())
}

fn same_results(before: &Unit, after: &Unit) -> Result<(), String> {
    let inputs: Vec<Tensor> =
        before.inputs.iter().map(|b| random(before.program.buf(*b), b.0)).collect::<Result<_, _>>()?;
    let results = |unit| interpret(unit, &inputs, Mode::F64).map_err(|e| e.to_string());
    let (before, after) = (results(before)?, results(after)?);
    for (b, a) in before.iter().zip(&after) {
        let same = match (b.values::<f64>(), a.values::<f64>()) {
            (Ok(b), Ok(a)) => b.iter().zip(a).all(|(b, a)| b == a || (b - a).abs() <= 1e-9 * (1.0 + b.abs())),
            _ => b.bytes() == a.bytes(),
        };
        if !same {
            return Err(format!("the results differ: {b:?} and {a:?}"));
        }
    }
    Ok(())
}

fn said(program: &Program, remarks: &[Remark]) -> String {
    let mut text = String::new();
    for r in remarks {
        let consumer = r.consumer.as_ref().map(|c| format!(" -> {c}")).unwrap_or_default();
        let (code, producer, message) = (r.code(), r.producer(program), r.message(program));
        let _ = writeln!(text, "// {code} {producer}{consumer}: {message} ({} bytes)", r.bytes);
    }
    text
}
