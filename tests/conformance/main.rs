//! The ONNX conformance suite, run with crash isolation and held against the list of what does not pass.
//!
//! ```text
//! cargo test --test conformance -- --suite DIR [--filter TEXT]... [--bless] [--workers N] [--timeout SECONDS]
//!     [--configurations N]
//! ```
//!
//! `DIR` has the cases of the package that `suite.txt` pins; `fetch` makes it. Every case runs fused and unfused, and in
//! N (1) other configurations on two numbers of threads, which must agree; what does not pass our own gate must be in
//! `expected.txt`, and what is there must not pass. `--bless` rewrites that file. Without `--suite` the runner tests
//! itself, on a suite that it makes up.

mod class;
mod compare;
#[path = "../common/configurations.rs"]
#[allow(dead_code, reason = "shared by several tests")]
mod configurations;
mod expect;
mod pool;
mod selftest;
mod suite;
mod summary;
mod verdict;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use expect::Expectations;

/// What a command line asks for.
struct Arguments {
    suite: PathBuf,
    filters: Vec<String>,
    bless: bool,
    limits: pool::Limits,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == pool::WORKER) {
        return worker::serve();
    }
    if !arguments.iter().any(|a| a == "--suite") {
        return selftest::run(&arguments);
    }
    match parse(&arguments).and_then(|arguments| run(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("conformance: {message}");
            ExitCode::from(2)
        }
    }
}

fn parse(arguments: &[String]) -> Result<Arguments, String> {
    let mut suite = None;
    let (mut filters, mut bless, mut limits) = (Vec::new(), false, pool::Limits::default());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().cloned().ok_or_else(|| format!("{argument} needs a value"));
        let number = |text: String| {
            text.parse::<usize>()
                .ok()
                .filter(|n| *n > 0)
                .ok_or_else(|| format!("{argument} {text}: a number"))
        };
        match argument.as_str() {
            "--suite" => suite = Some(PathBuf::from(value()?)),
            "--filter" => filters.push(value()?),
            "--bless" => bless = true,
            "--workers" => limits.workers = number(value()?)?,
            "--configurations" => limits.configurations = number(value()?)?,
            "--timeout" => limits.timeout = Duration::from_secs(number(value()?)? as u64),
            other => return Err(format!("there is no option {other}")),
        }
    }
    if bless && !filters.is_empty() {
        return Err("--bless needs the results of all cases: leave out --filter".into());
    }
    Ok(Arguments { suite: suite.ok_or("--suite is missing")?, filters, bless, limits })
}

/// Whether everything came out as expected.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let start = Instant::now();
    let mut cases = suite::find(&arguments.suite)?;
    let total = cases.len();
    let asked =
        |name: &str| arguments.filters.is_empty() || arguments.filters.iter().any(|f| name.contains(f));
    cases.retain(|case| asked(&case.name));
    let reports = pool::run(&cases, &arguments.limits)?;
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/expected.txt");
    let expected = Expectations::read(&path)?;
    let results = expect::results(&cases, reports);
    print!("{}", summary::table(&results));
    println!("{} of {total} cases in {:.1} s", results.len(), start.elapsed().as_secs_f64());
    if arguments.bless {
        expected.blessed(&results).write(&path)?;
        println!("wrote {}", path.display());
        return Ok(true);
    }
    let surprises = expected.surprises(&results, arguments.filters.is_empty());
    for surprise in &surprises {
        println!("UNEXPECTED {surprise}");
    }
    match surprises.len() {
        0 => println!("PASSED: every case came out as tests/conformance/expected.txt says"),
        n => println!("FAILED: {n} cases came out otherwise than tests/conformance/expected.txt says"),
    }
    Ok(surprises.is_empty())
}
