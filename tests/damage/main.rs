//! Damaged model files and nests, as many as are asked for: no crash, no hang, no access outside a buffer.
//!
//! ```text
//! cargo test --release --test damage                      2,000 of them
//! cargo test --release --test damage -- 1000000 [FIRST]   so many, from a number on
//! cargo test --release --test damage -- --only 4711       one of them, in this process
//! ```
//!
//! Every number is a file: the same at every run. They are tried in worker processes, so that one that ends its process
//! (or never ends) is found, reported and gone round.

#[path = "../hostile/allocator.rs"]
mod allocator;
#[path = "../common/mod.rs"]
mod common;
mod draw;
#[path = "../hostile/harness.rs"]
mod harness;
#[path = "../hostile/mutate.rs"]
mod mutate;
mod nests;
#[path = "../hostile/seeds.rs"]
mod seeds;
mod workers;

use std::process::ExitCode;

use common::cases::op_cases;
use draw::Seeds;
use harness::{Outcome, attempt};
use mutate::Random;
use nestjit::Model;
use nestjit::onnx::OnnxModel;
use nestjit::onnx::proto::ModelProto;
use prost::Message;

/// How many are tried if nobody says.
const DEFAULT: usize = 2_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().ok();
    match arguments.as_slice() {
        ["--worker", rest @ ..] => {
            let [Some(first), Some(end), Some(step)] = [0, 1, 2].map(|i| rest.get(i).and_then(|t| number(t)))
            else {
                return ExitCode::FAILURE;
            };
            workers::work(&Damage::new(), (first..end).step_by(step));
            ExitCode::SUCCESS
        }
        ["--only", rest @ ..] => match rest.first().and_then(|t| number(t)) {
            None => ExitCode::FAILURE,
            Some(number) => {
                let damage = Damage::new();
                println!("{}: {:?}", damage.describe(number), damage.attempt(number));
                ExitCode::SUCCESS
            }
        },
        // What `cargo test` passes on to every test: `--list`, or names of tests of other files.
        [first, ..] if number(first).is_none() && !"damage".contains(first) => ExitCode::SUCCESS,
        rest => {
            let numbers: Vec<usize> = rest.iter().filter_map(|t| number(t)).collect();
            let first = numbers.get(1).copied().unwrap_or(0);
            workers::run_all(first..first + numbers.first().copied().unwrap_or(DEFAULT))
        }
    }
}

/// What there is to be damaged.
struct Damage {
    models: Seeds<(ModelProto, Vec<u8>)>,
    operators: Seeds<ModelProto>,
    nests: Seeds<String>,
}

/// What becomes of a number.
enum Kind {
    Bytes,
    Messages,
    Operator,
    Nest,
}

impl Damage {
    fn new() -> Damage {
        let models = seeds::all().into_iter().map(|(name, model)| {
            let bytes = model.encode_to_vec();
            (name.to_owned(), (model, bytes))
        });
        let operators = op_cases().into_iter().filter_map(|case| {
            let bytes = Model::from(case.graph).to_onnx().ok()?;
            Some((case.name, ModelProto::decode(bytes.as_slice()).ok()?))
        });
        Damage {
            models: Seeds::new(models),
            operators: Seeds::new(operators),
            nests: Seeds::new(nests::seeds()),
        }
    }

    /// The kind of damage, what is damaged, and what the damage is drawn from.
    fn of(number: usize) -> (Kind, u64, Random) {
        let mut random = Random(number as u64);
        let kind = match random.below(8) {
            0 => Kind::Bytes,
            1 | 2 => Kind::Messages,
            3 | 4 => Kind::Operator,
            _ => Kind::Nest,
        };
        (kind, random.next(), random)
    }

    fn describe(&self, number: usize) -> String {
        let (kind, which, mut random) = Damage::of(number);
        match kind {
            Kind::Bytes => format!("bytes of '{}'", self.models.draw(which).name),
            Kind::Messages => format!("messages of '{}'", self.models.draw(which).name),
            Kind::Operator => format!("messages of '{}'", self.operators.draw(which).name),
            Kind::Nest => nests::damage(&self.nests.draw(which).value, &mut random),
        }
    }

    /// Tries one. `Err` is a defect.
    fn attempt(&self, number: usize) -> Result<Outcome, String> {
        let (kind, which, mut random) = Damage::of(number);
        match kind {
            Kind::Bytes => {
                let damaged = mutate::bytes(&self.models.draw(which).value.1, &mut random);
                attempt(OnnxModel::from_bytes(&damaged), random.below(10) == 0)
            }
            Kind::Messages => {
                let damaged = mutate::messages(&self.models.draw(which).value.0, &mut random);
                attempt(OnnxModel::from_proto(damaged), random.below(3) == 0)
            }
            Kind::Operator => {
                let damaged = mutate::messages(&self.operators.draw(which).value, &mut random);
                attempt(OnnxModel::from_proto(damaged), random.below(3) == 0)
            }
            Kind::Nest => nests::attempt(&nests::damage(&self.nests.draw(which).value, &mut random)),
        }
    }
}
