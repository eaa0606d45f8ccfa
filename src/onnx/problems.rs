//! What is wrong with a model: all of it, in one error.

use crate::error::{Error, ErrorKind, Result};

/// The most problems that are listed one by one.
const LISTED: usize = 100;

/// A list of problems.
#[derive(Debug, Default)]
pub(super) struct Problems {
    errors: Vec<Error>,
}

impl Problems {
    pub fn push(&mut self, error: Error) {
        self.errors.push(error);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.errors.len()
    }

    /// Forgets all but the first `count`: those of an attempt that something else is tried for.
    pub fn truncate(&mut self, count: usize) {
        self.errors.truncate(count);
    }

    /// The value, or `None` and one more problem.
    pub fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.push(e)).ok()
    }

    /// `Ok` if there is no problem. Otherwise one error with a line for each; an invalid model is invalid even
    /// if it also uses something that is not supported.
    pub fn finish(self) -> Result<()> {
        match self.errors.as_slice() {
            [] => Ok(()),
            [_] => Err(self.errors.into_iter().next().unwrap_or_else(|| Error::internal("no error"))),
            errors => {
                let kind = errors.iter().map(Error::kind).find(|k| *k != ErrorKind::Unsupported);
                let mut message = format!("{} problems:", errors.len());
                for error in errors.iter().take(LISTED) {
                    message.push_str(&format!("\n  {error}"));
                }
                if errors.len() > LISTED {
                    message.push_str(&format!("\n  and {} more", errors.len() - LISTED));
                }
                Err(Error::new(kind.unwrap_or(ErrorKind::Unsupported), message))
            }
        }
    }
}
