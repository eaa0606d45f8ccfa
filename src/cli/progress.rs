//! What takes longer than a second says so on standard error: what is being done, for how long, and how far it is. Only if
//! that is a terminal, and nobody asked for quiet.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes less is not worth a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often what is shown changes.
const PERIOD: Duration = Duration::from_millis(200);

static SHOWN: AtomicBool = AtomicBool::new(false);

/// Decides whether anything is shown in this process.
pub(crate) fn set_up(quiet: bool) {
    SHOWN.store(!quiet && io::stderr().is_terminal(), Ordering::Relaxed);
}

/// Does some work of unknown length.
pub(crate) fn during<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let _activity = SHOWN.load(Ordering::Relaxed).then(|| Activity::start(what)).flatten();
    work()
}

/// Work that is shown while it lasts, by a thread of its own.
struct Activity {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Activity {
    /// Nothing, if no thread can be started.
    fn start(what: &str) -> Option<Activity> {
        let what = what.to_owned();
        let (end, ended) = mpsc::channel::<()>();
        let show = move || {
            // The other side never sends: it goes away.
            if ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style("{msg} ({elapsed})"));
            bar.set_elapsed(PATIENCE);
            bar.set_message(what);
            while ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                bar.tick();
            }
            bar.finish_and_clear();
        };
        let thread = thread::Builder::new().spawn(show).ok()?;
        Some(Activity { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was reported where it happened.
            let _ = thread.join();
        }
    }
}

/// Work of so many steps, shown by whoever does it between two of them: no other thread disturbs what is measured.
pub(crate) struct Steps {
    start: Instant,
    drawn: Instant,
    bar: Option<ProgressBar>,
}

impl Steps {
    /// Work that begins now; how many steps it has may be unknown.
    pub(crate) fn new(what: &str, steps: Option<u64>) -> Steps {
        let start = Instant::now();
        let bar = SHOWN.load(Ordering::Relaxed).then(|| {
            let bar = ProgressBar::with_draw_target(steps, ProgressDrawTarget::hidden());
            let counted =
                if steps.is_some() { "{msg} {pos} of {len} ({elapsed})" } else { "{msg} {pos} ({elapsed})" };
            bar.set_style(style(counted));
            bar.set_message(what.to_owned());
            bar
        });
        Steps { start, drawn: start, bar }
    }

    /// So many steps are done.
    pub(crate) fn done(&mut self, steps: u64) {
        let Some(bar) = &self.bar else { return };
        let now = Instant::now();
        if now - self.start < PATIENCE || now - self.drawn < PERIOD {
            return;
        }
        if bar.is_hidden() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.drawn = now;
        bar.set_position(steps);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line of this form.
fn style(template: &str) -> ProgressStyle {
    // The templates are those above.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
