//! Truncated and mutated files: random, but the same at every run.

use std::path::PathBuf;

use nestjit::Model;
use nestjit::onnx::OnnxModel;
use nestjit::onnx::proto::ModelProto;
use prost::Message;

use super::common::cases::op_cases;
use super::harness::{Outcome, attempt};
use super::mutate::{self, Random};
use super::seeds;

/// The number in an environment variable, for longer runs than a test should take.
fn iterations(default: usize) -> usize {
    std::env::var("HOSTILE_ITERATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// How the attempts came out, and all defects.
#[derive(Default)]
struct Tally {
    refused: usize,
    imported: usize,
    ran: usize,
    defects: Vec<String>,
}

impl Tally {
    fn add(&mut self, what: impl FnOnce() -> String, outcome: Result<Outcome, String>) {
        match outcome {
            Ok(Outcome::Refused) => self.refused += 1,
            Ok(Outcome::Imported) => self.imported += 1,
            Ok(Outcome::Ran) => self.ran += 1,
            Err(defect) => {
                self.defects.push(format!("{}: {}", what(), defect.chars().take(600).collect::<String>()))
            }
        }
    }

    #[track_caller]
    fn finish(self) {
        println!("{} refused, {} imported, {} ran", self.refused, self.imported, self.ran);
        assert!(self.defects.is_empty(), "{} defects:\n{}", self.defects.len(), self.defects.join("\n"));
    }
}

#[test]
fn the_models_to_be_damaged_run() {
    for (name, model) in seeds::all() {
        let model = OnnxModel::from_proto(model);
        assert!(model.is_ok(), "{name}: {}", model.unwrap_err());
        let graph = model.as_ref().unwrap().graph(&nestjit::onnx::Specialization::default());
        assert!(graph.is_ok(), "{name}: {}", graph.unwrap_err());
        assert_eq!(attempt(model, true), Ok(Outcome::Ran), "{name}");
    }
}

#[test]
fn every_prefix_of_a_file() {
    let mut tally = Tally::default();
    for (name, model) in seeds::all() {
        let bytes = model.encode_to_vec();
        for length in 0..bytes.len() {
            tally.add(
                || format!("{name}, {length} of {} bytes", bytes.len()),
                attempt(OnnxModel::from_bytes(&bytes[..length]), false),
            );
        }
    }
    tally.finish();
}

#[test]
fn damaged_bytes() {
    let mut tally = Tally::default();
    for (name, model) in seeds::all() {
        let bytes = model.encode_to_vec();
        for seed in 0..iterations(800) {
            let damaged = mutate::bytes(&bytes, &mut Random(seed as u64));
            // Most damage to bytes is damage to names, weights and the framing: code is generated for a part.
            tally.add(
                || format!("{name}, seed {seed}"),
                attempt(OnnxModel::from_bytes(&damaged), seed % 10 == 0),
            );
        }
    }
    tally.finish();
}

/// Damages a model's messages.
fn damage(
    tally: &mut Tally,
    name: &str,
    model: &ModelProto,
    seeds: std::ops::Range<usize>,
    with_code: usize,
) {
    for seed in seeds {
        let damaged = mutate::messages(model, &mut Random(seed as u64));
        let attempted = attempt(OnnxModel::from_proto(damaged), seed % with_code == 0);
        tally.add(|| format!("{name}, seed {seed}"), attempted);
    }
}

#[test]
fn damaged_messages() {
    let mut tally = Tally::default();
    for (name, model) in seeds::all() {
        damage(&mut tally, name, &model, 0..iterations(600), 3);
    }
    tally.finish();
}

#[test]
fn damaged_operators() {
    let mut tally = Tally::default();
    for case in op_cases() {
        let Ok(bytes) = Model::from(case.graph).to_onnx() else { continue };
        let model = ModelProto::decode(bytes.as_slice()).unwrap();
        damage(&mut tally, &case.name, &model, 0..iterations(6), 4);
    }
    tally.finish();
}

/// As [`damaged_messages`], of every `model.onnx` below the folder `HOSTILE_CORPUS`, such as the test cases of ONNX.
#[test]
#[ignore = "needs a folder of models, HOSTILE_CORPUS"]
fn damaged_files_of_a_folder() {
    let folder = PathBuf::from(std::env::var_os("HOSTILE_CORPUS").expect("HOSTILE_CORPUS is not set"));
    let mut folders: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    let mut tally = Tally::default();
    for folder in folders {
        let Ok(bytes) = std::fs::read(folder.join("model.onnx")) else { continue };
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if std::env::var_os("HOSTILE_VERBOSE").is_some() {
            eprintln!("{name}");
        }
        let Ok(model) = ModelProto::decode(bytes.as_slice()) else { continue };
        damage(&mut tally, &name, &model, 0..iterations(20), 4);
    }
    tally.finish();
}
