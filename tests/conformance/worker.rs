//! The process in which cases run: it reads requests, a line each, and answers with a line for each mode.

use std::any::Any;
use std::io::{BufRead, Write, stdin, stdout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use nestjit::onnx::OnnxModel;
use nestjit::{Compiler, Error, ErrorKind, Item, Session};
use serde::{Deserialize, Serialize};

use super::compare::{self, Closeness};
use super::configurations;
use super::suite;
use super::verdict::{Mode, Outcome, Verdict};

/// What a worker is asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// To run a model in these modes, and in a sample of this many configurations.
    Case { model: PathBuf, modes: Vec<Mode>, configurations: usize },
    /// To misbehave, for the runner's own tests.
    Misbehave(Misbehaviour),
}

/// A way to die or not to answer.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Misbehaviour {
    Panic,
    Abort,
    Overflow,
    Hang,
    Memory,
}

/// Where the last panic was and what it said.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Answers requests until there are none.
pub fn serve() -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut last) = PANIC.lock() {
            *last = info.to_string();
        }
    }));
    for line in stdin().lock().lines() {
        let Ok(line) = line else { return ExitCode::FAILURE };
        match serde_json::from_str(&line) {
            Ok(Request::Case { model, modes, configurations }) => case(&model, &modes, configurations),
            Ok(Request::Misbehave(how)) => answer(&catch(|| misbehave(how)).unwrap_or_else(|v| v)),
            Err(e) => {
                eprintln!("not a request: {e}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn answer(verdict: &Verdict) {
    let line = serde_json::to_string(verdict).expect("a verdict is plain data");
    let mut out = stdout().lock();
    // The runner that no longer listens has given this worker up.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The result, or a panic as a verdict.
fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Verdict> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|_: Box<dyn Any + Send>| {
        let message = PANIC.lock().map(|last| last.clone()).unwrap_or_default();
        Verdict::new(Outcome::Crash, message)
    })
}

fn case(model: &Path, modes: &[Mode], configurations: usize) {
    let mut before: Option<Vec<Vec<Item>>> = None;
    for mode in modes {
        match catch(|| run(model, *mode)) {
            Err(verdict) => answer(&verdict),
            Ok((mut verdict, outputs)) => {
                if let (Some(outputs), Some(before)) = (&outputs, &before) {
                    verdict.same_bits = Some(outputs == before);
                    let mut pairs = before.iter().zip(outputs);
                    if let Some(reason) = pairs.find_map(|(a, b)| compare::difference(a, b)) {
                        verdict.outcome = verdict.outcome.max(Outcome::Mismatch);
                        verdict.reason = format!("against the mode before: {reason}");
                    }
                }
                if let (Mode::Unfused, Some(outputs)) = (mode, &outputs)
                    && verdict.outcome <= Outcome::Loose
                    && let Some(reason) = catch(|| elsewhere(model, outputs, configurations))
                        .unwrap_or_else(|crash| Some(format!("panicked: {}", crash.reason)))
                {
                    verdict.outcome = Outcome::Mismatch;
                    verdict.reason = reason;
                }
                answer(&verdict);
                before = outputs.or(before);
            }
        }
    }
}

/// How the outputs in a sample of configurations differ from these, or with the number of threads, if they do.
fn elsewhere(model: &Path, expected: &[Vec<Item>], configurations: usize) -> Option<String> {
    // The last two folders: the name of the case, wherever the suite is.
    let name = model.iter().rev().take(3).map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
    let threads = configurations::two_numbers_of_threads(&name);
    configurations::some(&name, configurations).into_iter().find_map(|configuration| {
        let mut bits: Option<Vec<Vec<Item>>> = None;
        for threads in threads {
            let outputs = outputs(model, configuration.compiler(threads));
            let reason = match outputs {
                Err(e) => Some(e.to_string()),
                Ok(outputs) => {
                    let mut pairs = expected.iter().zip(&outputs);
                    let apart = pairs.find_map(|(a, b)| compare::difference(a, b));
                    let other_bits = bits.get_or_insert_with(|| outputs.clone()) != &outputs;
                    apart.or(other_bits.then(|| format!("other bits than with {} thread", threads.min(1))))
                }
            };
            if let Some(reason) = reason {
                return Some(format!("{configuration:?}, {threads} threads: {reason}"));
            }
        }
        None
    })
}

/// The outputs for each data set.
fn outputs(model: &Path, compiler: Compiler) -> nestjit::Result<Vec<Vec<Item>>> {
    let session = Session::new(OnnxModel::from_path(model)?, compiler);
    suite::data(model)?.iter().map(|set| Ok(session.call_items(&set.inputs)?.outputs)).collect()
}

/// The verdict on a model, and the outputs of each data set if there are any.
fn run(model: &Path, mode: Mode) -> (Verdict, Option<Vec<Vec<Item>>>) {
    let refused = |e: Error| {
        let outcome = match e.kind() {
            ErrorKind::Unsupported => Outcome::Unsupported,
            _ => Outcome::Invalid,
        };
        (Verdict::new(outcome, e.to_string()), None)
    };
    let session = match OnnxModel::from_path(model) {
        Ok(parsed) => Session::new(parsed, compiler(mode)),
        Err(e) => return refused(e),
    };
    let sets = match suite::data(model) {
        Ok(sets) => sets,
        Err(e) => return refused(e),
    };
    let (mut verdict, mut all) = (Verdict::new(Outcome::Pass, ""), Vec::new());
    for set in sets {
        let outputs = match session.call_items(&set.inputs) {
            Ok(call) => call.outputs,
            Err(e) => return refused(e),
        };
        let closeness = match compare::outputs(&outputs, &set.outputs) {
            Closeness::Strict => Verdict::new(Outcome::Pass, ""),
            Closeness::Official(reason) => Verdict::new(Outcome::Loose, reason),
            Closeness::Apart(reason) => Verdict::new(Outcome::Mismatch, reason),
        };
        if closeness.outcome > verdict.outcome {
            verdict = closeness;
        }
        all.push(outputs);
    }
    (verdict, Some(all))
}

fn compiler(mode: Mode) -> Compiler {
    // The workers use the cores already.
    let compiler = Compiler::new().threads(1);
    match mode {
        Mode::Fused => compiler,
        Mode::Unfused => compiler.disable_pass("OpFusion"),
    }
}

#[allow(unconditional_recursion, reason = "that is what is asked for")]
fn overflow(depth: usize) -> usize {
    let frame = [depth; 64];
    std::hint::black_box(overflow(depth + 1)) + std::hint::black_box(frame)[depth % 64]
}

fn misbehave(how: Misbehaviour) -> Verdict {
    match how {
        Misbehaviour::Panic => panic!("as asked for"),
        Misbehaviour::Abort => std::process::abort(),
        Misbehaviour::Overflow => Verdict::new(Outcome::Pass, overflow(0).to_string()),
        Misbehaviour::Hang => loop {
            std::thread::park();
        },
        Misbehaviour::Memory => {
            let block = std::hint::black_box(vec![1u8; 1 << 40]);
            Verdict::new(Outcome::Pass, block.len().to_string())
        }
    }
}
