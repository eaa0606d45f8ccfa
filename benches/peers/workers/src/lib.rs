//! A worker: loads one model, says how long that took up to the first result, and then does what its standard
//! input says, a line at a time: `run N` runs N times and prints the nanoseconds of each run as a JSON list,
//! `output FILE` writes the bytes of the first result.

use std::error::Error;
use std::fs;
use std::io::{BufRead, stdin};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

/// Any failure.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What a worker is told on its command line.
pub struct Task {
    pub model: PathBuf,
    pub threads: usize,
    /// Holds `input0.bin`, `input1.bin`, ...: the elements of the inputs, as they lie in memory.
    inputs: PathBuf,
}

impl Task {
    /// `MODEL THREADS INPUTS`.
    pub fn from_args() -> Result<Task> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let [model, threads, inputs] = args.as_slice() else {
            return Err("usage: WORKER MODEL.onnx THREADS INPUTS".into());
        };
        Ok(Task { model: model.into(), threads: threads.parse()?, inputs: inputs.into() })
    }

    /// The elements of an input.
    pub fn input(&self, i: usize) -> Result<Vec<u8>> {
        Ok(fs::read(self.inputs.join(format!("input{i}.bin")))?)
    }
}

/// A model that is ready to run.
pub trait Session {
    /// Runs once.
    fn run(&mut self) -> Result<()>;

    /// The bytes of the first result of the last run.
    fn output(&self) -> Result<Vec<u8>>;
}

/// The whole life of a worker. What goes wrong is printed as `{"error": ..}`.
pub fn serve<S: Session>(load: impl FnOnce(&Task) -> Result<S>) {
    if let Err(e) = try_serve(load) {
        println!("{}", json!({ "error": e.to_string() }));
    }
}

fn try_serve<S: Session>(load: impl FnOnce(&Task) -> Result<S>) -> Result<()> {
    let task = Task::from_args()?;
    let start = Instant::now();
    let mut session = load(&task)?;
    session.run()?;
    println!("{}", json!({ "cold_ms": start.elapsed().as_secs_f64() * 1e3 }));
    for line in stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("run", count)) => {
                let mut times = Vec::with_capacity(count.parse()?);
                for _ in 0..times.capacity() {
                    let start = Instant::now();
                    session.run()?;
                    times.push(start.elapsed().as_nanos() as u64);
                }
                println!("{}", json!(times));
            }
            Some(("output", file)) => {
                fs::write(Path::new(file), session.output()?)?;
                println!("{}", json!({ "written": file }));
            }
            _ => return Err(format!("unknown command {line:?}").into()),
        }
    }
    Ok(())
}
