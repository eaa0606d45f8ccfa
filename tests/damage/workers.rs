//! Worker processes, each of which tries every n-th number, and what watches them.

use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::Damage;
use super::harness::Outcome;

/// A worker that says nothing for so long hangs: far beyond what any attempt takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Tries numbers and says so: each before it is tried, then how it went.
pub fn work(damage: &Damage, numbers: impl Iterator<Item = usize>) {
    let mut out = std::io::stdout().lock();
    for number in numbers {
        // Nobody listens any more: there is nothing left to do.
        if writeln!(out, "try {number}").and_then(|()| out.flush()).is_err() {
            return;
        }
        let told = match damage.attempt(number) {
            Ok(Outcome::Refused) => writeln!(out, "refused"),
            Ok(Outcome::Imported) => writeln!(out, "imported"),
            Ok(Outcome::Ran) => writeln!(out, "ran"),
            Err(defect) => {
                let text: String = defect.chars().take(600).collect();
                writeln!(out, "defect {number}: {}", text.escape_debug())
            }
        };
        if told.is_err() {
            return;
        }
    }
}

/// How the attempts came out.
#[derive(Default)]
struct Tally {
    refused: usize,
    imported: usize,
    ran: usize,
    defects: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.refused += other.refused;
        self.imported += other.imported;
        self.ran += other.ran;
        self.defects.extend(other.defects);
    }
}

/// Tries all numbers of a range, on all cores.
pub fn run_all(range: Range<usize>) -> ExitCode {
    let step = std::thread::available_parallelism().map_or(1, usize::from).min(range.len().max(1));
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..step)
            .map(|i| {
                let numbers = range.start + i..range.end;
                scope.spawn(move || watch(numbers, step))
            })
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(part) => tally.add(part),
                Err(_) => tally.defects.push("the watch over a worker panicked".to_owned()),
            }
        }
    });
    let Tally { refused, imported, ran, defects } = tally;
    println!("{} tried: {refused} refused, {imported} imported, {ran} ran", range.len());
    if defects.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("{} defects:\n{}", defects.len(), defects.join("\n"));
    ExitCode::FAILURE
}

/// Has every `step`-th number tried, by another worker after each that ends early.
fn watch(mut numbers: Range<usize>, step: usize) -> Tally {
    let mut tally = Tally::default();
    while !numbers.is_empty() {
        match start(&numbers, step) {
            Ok(child) => match listen(child, &mut tally) {
                End::Done => break,
                End::Early(Some(number), why) => {
                    tally.defects.push(format!("{number}: {why}"));
                    numbers.start = number + step;
                }
                End::Early(None, why) => {
                    tally.defects.push(format!("a worker did not begin: {why}"));
                    break;
                }
            },
            Err(e) => {
                tally.defects.push(format!("a worker cannot be started: {e}"));
                break;
            }
        }
    }
    tally
}

fn start(numbers: &Range<usize>, step: usize) -> std::io::Result<Child> {
    let arguments = [numbers.start, numbers.end, step].map(|n| n.to_string());
    Command::new(std::env::current_exe()?)
        .arg("--worker")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

/// How a worker ended.
enum End {
    Done,
    /// While it tried this number, and how.
    Early(Option<usize>, String),
}

fn listen(mut child: Child, tally: &mut Tally) -> End {
    let Some(out) = child.stdout.take() else { return End::Early(None, "no output".to_owned()) };
    let (sender, lines) = channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let (mut current, mut hangs) = (None, false);
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => match line.split_once(' ').unwrap_or((&line, "")) {
                ("try", number) => current = number.parse().ok(),
                ("refused", _) => tally.refused += 1,
                ("imported", _) => tally.imported += 1,
                ("ran", _) => tally.ran += 1,
                ("defect", text) => tally.defects.push(text.to_owned()),
                _ => {}
            },
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                hangs = true;
                let _ = child.kill();
                break;
            }
        }
    }
    let status = child.wait();
    let _ = reader.join();
    match status {
        _ if hangs => End::Early(current, "no end".to_owned()),
        Ok(status) if status.success() => End::Done,
        Ok(status) => End::Early(current, format!("the process ended with {status}")),
        Err(e) => End::Early(current, e.to_string()),
    }
}
