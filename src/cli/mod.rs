//! The command `nestjit`: from arguments to text and an exit code.
//!
//! A file per subcommand; each returns its whole output, so that nothing half-done is printed. The exit code is 0
//! for success, 1 for failure and 2 for wrong usage (of the command line, the environment, and what they name); an error is
//! one line on standard error.

mod args;
mod bench;
mod check;
mod compare;
mod compiler;
mod export;
mod files;
mod info;
mod ir;
mod machine;
mod model;
mod npy;
mod progress;
mod rates;
mod report;
mod run;
mod shell;
mod tensors;
mod verdicts;
mod zoo;

use std::io::{self, Write};
use std::panic;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use nestjit::{Error, ErrorKind, Result};

use args::{Cli, Command};

/// What a subcommand has to say.
pub(crate) struct Outcome {
    /// The text for standard output.
    pub(crate) text: String,
    /// Whether what was asked for holds; only `check` can fail without an error.
    pub(crate) passed: bool,
}

impl From<String> for Outcome {
    fn from(text: String) -> Outcome {
        Outcome { text, passed: true }
    }
}

/// Parses the arguments, executes the command, prints its output.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() => return fail(&usage_line(&e.to_string(), &help()), 2),
        // `--help` and `--version`.
        Err(e) => return print(&e.to_string().into()),
    };
    progress::set_up(cli.quiet);
    // A panic is a defect of nestjit; it is reported like any other error.
    panic::set_hook(Box::new(|info| complain(&format!("internal error, please report it: {info}"))));
    match panic::catch_unwind(|| execute(&cli.command)) {
        Ok(Ok(outcome)) => print(&outcome),
        Ok(Err(e)) => fail(&e.to_string(), exit_code(&e)),
        Err(_) => ExitCode::from(1),
    }
}

fn execute(command: &Command) -> Result<Outcome> {
    match command {
        Command::Bench(args) => bench::execute(args),
        Command::Info(args) => info::execute(args),
        Command::Run(args) => run::execute(args),
        Command::Check(args) => check::execute(args),
        Command::Report(args) => report::execute(args),
        Command::Ir(args) => ir::execute(args),
        Command::Machine(args) => machine::execute(args),
        Command::Zoo(args) => zoo::execute(args),
        Command::Export(args) => export::execute(args),
        Command::Completions(args) => shell::completions(args),
        Command::Man => shell::man(),
    }
}

fn exit_code(error: &Error) -> u8 {
    if error.kind() == ErrorKind::Usage { 2 } else { 1 }
}

/// The command that explains the options of the one that was given.
fn help() -> String {
    let (given, cli) = (std::env::args().nth(1), Cli::command());
    match given.as_deref().and_then(|name| cli.find_subcommand(name)) {
        Some(command) => format!("nestjit {} --help", command.get_name()),
        None => "nestjit --help".to_owned(),
    }
}

/// The part of clap's message that states the error, in one line, and where the options are explained.
fn usage_line(message: &str, help: &str) -> String {
    let is_cause = |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more information");
    let lines = message.lines().take_while(is_cause);
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    let line = words.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line).replace(" tip: ", "; tip: ");
    format!("{line}; see `{help}`")
}

fn fail(message: &str, code: u8) -> ExitCode {
    complain(message);
    ExitCode::from(code)
}

/// Writes one line to standard error; that it cannot be written is nobody's concern.
pub(crate) fn complain(message: &str) {
    let mut line = String::new();
    for part in message.split('\n').map(str::trim).filter(|part| !part.is_empty()) {
        // What follows a heading belongs to it; other lines are things of their own.
        line += if line.is_empty() {
            ""
        } else if line.ends_with(':') {
            " "
        } else {
            "; "
        };
        line += part;
    }
    let _ = writeln!(io::stderr(), "nestjit: {line}");
}

/// Writes to standard output. A reader that has seen enough (`| head`) is not an error.
fn print(outcome: &Outcome) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(outcome.text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            fail(&format!("cannot write to standard output: {e}"), 1)
        }
        _ => ExitCode::from(u8::from(!outcome.passed)),
    }
}
