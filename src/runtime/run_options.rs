//! What a run is asked for besides its inputs: which outputs, and until when it may go on. Who runs looks at
//! [`RunOptions::check`] between two nests, steps or iterations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};

/// Options of one call of an [`Executable`](super::Executable) or a [`Session`](crate::Session). Without any, a call
/// gives all outputs and takes as long as it takes.
///
/// ```
/// use std::time::Duration;
/// use nestjit::{Activation, CancelHandle, Compiler, ErrorKind, RunOptions, Sequential, Tensor};
/// # fn main() -> nestjit::Result<()> {
/// let executable = Compiler::new().compile(&Sequential::new(&[1, 8]).dense(4, Activation::Relu).build()?)?;
/// let handle = CancelHandle::new();
/// let options = RunOptions::new().timeout(Duration::from_secs(10)).cancel(&handle);
/// let x = Tensor::zeros(nestjit::DType::F32, &[1, 8])?;
/// executable.run_with(&[&x], &options)?;
/// handle.cancel(); // from any thread; it ends the calls that have this handle
/// assert_eq!(executable.run_with(&[&x], &options).unwrap_err().kind(), ErrorKind::Cancelled);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    outputs: Option<Vec<String>>,
    deadline: Option<Instant>,
    cancel: Option<CancelHandle>,
}

impl RunOptions {
    /// No options.
    pub fn new() -> RunOptions {
        RunOptions::default()
    }

    /// Gives these outputs only, in this order, by their names. A session computes only what they need: it compiles
    /// each choice of outputs for itself. An executable computes all of its outputs anyway.
    #[must_use]
    pub fn outputs<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> RunOptions {
        self.outputs = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Ends the call with [`ErrorKind::DeadlineExceeded`] if it is not finished at this time.
    ///
    /// A call ends between two nests, between operations of the host and between iterations of loops, and while it
    /// waits for another one that compiles what it needs. It does not end while it compiles itself: what it has
    /// compiled is kept, so that the next call does not begin from nothing.
    #[must_use]
    pub fn deadline(mut self, at: Instant) -> RunOptions {
        self.deadline = Some(at);
        self
    }

    /// As [`RunOptions::deadline`], counted from now (and not from the start of a call).
    #[must_use]
    pub fn timeout(mut self, after: Duration) -> RunOptions {
        // A time that cannot be told never comes.
        self.deadline = Instant::now().checked_add(after);
        self
    }

    /// Ends the call with [`ErrorKind::Cancelled`] when the handle is cancelled, where a deadline would end it too.
    #[must_use]
    pub fn cancel(mut self, handle: &CancelHandle) -> RunOptions {
        self.cancel = Some(handle.clone());
        self
    }

    /// The names of the outputs that were chosen; `None` for all.
    pub fn chosen_outputs(&self) -> Option<&[String]> {
        self.outputs.as_deref()
    }

    /// Whether the call may go on.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`], [`ErrorKind::DeadlineExceeded`].
    pub(crate) fn check(&self) -> Result<()> {
        if self.cancel.as_ref().is_some_and(CancelHandle::is_cancelled) {
            return Err(Error::new(ErrorKind::Cancelled, "the call was cancelled"));
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::new(ErrorKind::DeadlineExceeded, "the call was not finished by its deadline"));
        }
        Ok(())
    }

    /// Whether [`RunOptions::check`] can fail at all.
    pub(crate) fn may_end(&self) -> bool {
        self.deadline.is_some() || self.cancel.is_some()
    }

    /// How long to wait at most before [`RunOptions::check`] is looked at again; `None` for any time. A handle does not
    /// wake who waits, so it is looked at every `interval`.
    pub(crate) fn patience(&self, interval: Duration) -> Option<Duration> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match (left, &self.cancel) {
            (left, Some(_)) => Some(left.map_or(interval, |left| left.min(interval))),
            (left, None) => left,
        }
    }
}

/// Ends calls from another thread: see [`RunOptions::cancel`]. Clones are the same handle. A handle that was cancelled
/// stays so.
#[derive(Clone, Debug, Default)]
pub struct CancelHandle(Arc<AtomicBool>);

impl CancelHandle {
    /// A handle that is not cancelled.
    pub fn new() -> CancelHandle {
        CancelHandle::default()
    }

    /// Ends the calls that have this handle, those that are going on and those to come.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_goes_on_until_it_is_cancelled_or_late() {
        let interval = Duration::from_millis(3);
        let handle = CancelHandle::new();
        let free = RunOptions::new();
        assert!(free.check().is_ok() && !free.may_end() && free.patience(interval).is_none());
        let far = RunOptions::new().timeout(Duration::MAX);
        assert!(far.check().is_ok() && !far.may_end());
        let options = RunOptions::new().timeout(Duration::from_secs(1000)).cancel(&handle);
        assert!(options.check().is_ok() && options.may_end());
        assert_eq!(options.patience(interval), Some(interval));
        handle.clone().cancel();
        assert_eq!(options.check().unwrap_err().kind(), ErrorKind::Cancelled);
        let late = RunOptions::new().deadline(Instant::now());
        assert_eq!(late.check().unwrap_err().kind(), ErrorKind::DeadlineExceeded);
        assert_eq!(late.patience(interval), Some(Duration::ZERO));
    }
}
