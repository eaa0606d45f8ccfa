//! Worker processes: cases are dealt out to them; what kills one, or keeps it busy for too long, is that case's
//! result, and the rest goes on in a new one.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::suite::Case;
use super::verdict::{Mode, Outcome, Report, Verdict};
use super::worker::Request;

/// The argument that makes this program a worker.
pub const WORKER: &str = "--conformance-worker";

/// The address space of a worker.
const MEMORY_BYTES: usize = 8 << 30;

/// What the workers may use.
#[derive(Clone, Copy)]
pub struct Limits {
    /// How many there are.
    pub workers: usize,
    /// How long one mode of a case may take.
    pub timeout: Duration,
    /// In how many configurations a case runs besides.
    pub configurations: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        Limits { workers, timeout: Duration::from_secs(300), configurations: 1 }
    }
}

/// The reports on cases, in their order.
pub fn run(cases: &[Case], limits: &Limits) -> Result<Vec<Report>, String> {
    let next = AtomicUsize::new(0);
    let deal = || -> Result<Vec<(usize, Report)>, String> {
        let mut place = Place::new(limits);
        let mut reports = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(i) else { return Ok(reports) };
            reports.push((i, place.case(case)?));
        }
    };
    let mut all: Vec<(usize, Report)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..limits.workers).map(|_| scope.spawn(deal)).collect();
        let results = threads.into_iter().map(|t| t.join().map_err(|_| "a thread panicked".to_owned())?);
        results.collect::<Result<Vec<_>, String>>()
    })?
    .into_iter()
    .flatten()
    .collect();
    all.sort_by_key(|(i, _)| *i);
    Ok(all.into_iter().map(|(_, report)| report).collect())
}

/// A place for a worker, which may be empty.
pub struct Place {
    worker: Option<Worker>,
    timeout: Duration,
    configurations: usize,
}

impl Place {
    /// An empty place.
    pub fn new(limits: &Limits) -> Place {
        Place { worker: None, timeout: limits.timeout, configurations: limits.configurations }
    }

    /// Runs a case in both modes.
    fn case(&mut self, case: &Case) -> Result<Report, String> {
        let mut verdicts: Vec<Verdict> = Vec::new();
        while verdicts.len() < Mode::ALL.len() {
            let modes = Mode::ALL[verdicts.len()..].to_vec();
            let count = modes.len();
            let request =
                Request::Case { model: case.model.clone(), modes, configurations: self.configurations };
            verdicts.extend(self.ask(&request, count)?);
        }
        let mut verdicts = verdicts.into_iter();
        match (verdicts.next(), verdicts.next()) {
            (Some(fused), Some(unfused)) => Ok(Report { fused, unfused }),
            _ => Err("a worker did not answer".into()),
        }
    }

    /// The answers to a request: as many as there should be, or fewer, of which the last says how the worker ended.
    pub fn ask(&mut self, request: &Request, answers: usize) -> Result<Vec<Verdict>, String> {
        let mut worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start()?,
        };
        let line = serde_json::to_string(request).map_err(|e| e.to_string())?;
        // A worker that cannot be written to has died, and is found dead when it is listened to.
        let _ = writeln!(worker.requests, "{line}").and_then(|()| worker.requests.flush());
        let mut verdicts = Vec::new();
        while verdicts.len() < answers {
            match worker.answers.recv_timeout(self.timeout) {
                Ok(line) => verdicts.push(serde_json::from_str(&line).map_err(|e| format!("{line}: {e}"))?),
                Err(RecvTimeoutError::Timeout) => {
                    let message = format!("no answer within {} s", self.timeout.as_secs_f64());
                    verdicts.push(Verdict::new(Outcome::Timeout, message));
                    drop(worker);
                    return Ok(verdicts);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    verdicts.push(Verdict::new(Outcome::Crash, worker.end()));
                    return Ok(verdicts);
                }
            }
        }
        self.worker = Some(worker);
        Ok(verdicts)
    }
}

/// A worker process.
struct Worker {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
    /// The last line that it wrote to standard error.
    complaint: Arc<Mutex<String>>,
    listener: Option<thread::JoinHandle<()>>,
}

impl Worker {
    fn start() -> Result<Worker, String> {
        let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
        let mut command = if cfg!(unix) {
            let mut shell = Command::new("sh");
            let kilobytes = MEMORY_BYTES >> 10;
            let script = format!("ulimit -v {kilobytes} 2>/dev/null; ulimit -c 0; exec \"$0\" \"$@\"");
            shell.arg("-c").arg(script).arg(program);
            shell
        } else {
            Command::new(program)
        };
        let command = command.arg(WORKER).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("cannot start a worker: {e}"))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(requests), Some(out), Some(err)) = pipes else {
            return Err("a worker has no pipes".into());
        };
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let complaint = Arc::new(Mutex::new(String::new()));
        let last = Arc::clone(&complaint);
        let listener = thread::spawn(move || {
            for line in BufReader::new(err).lines().map_while(Result::ok) {
                if let (false, Ok(mut last)) = (line.trim().is_empty(), last.lock()) {
                    *last = line;
                }
            }
        });
        Ok(Worker { child, requests, answers, complaint, listener: Some(listener) })
    }

    /// How a process that no longer answers ended, in words.
    fn end(mut self) -> String {
        let status = self.child.wait().map_or("no status".to_owned(), |s| s.to_string());
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        let complaint = self.complaint.lock().map(|c| c.clone()).unwrap_or_default();
        if complaint.is_empty() { status } else { format!("{status}: {complaint}") }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
