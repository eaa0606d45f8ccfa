//! What comes of a case.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What comes of a case in one mode, from best to worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Within the official tolerance and within our own gate.
    Pass,
    /// Within the official tolerance only.
    Loose,
    /// Another number of outputs, another shape, type or value.
    Mismatch,
    /// Refused with an error that says that something is not supported.
    Unsupported,
    /// Refused with any other error.
    Invalid,
    /// The process died.
    Crash,
    /// The process did not answer in time.
    Timeout,
}

impl Outcome {
    /// All, from best to worst.
    pub const ALL: [Outcome; 7] = [
        Outcome::Pass,
        Outcome::Loose,
        Outcome::Mismatch,
        Outcome::Unsupported,
        Outcome::Invalid,
        Outcome::Crash,
        Outcome::Timeout,
    ];

    /// The name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Loose => "loose",
            Outcome::Mismatch => "mismatch",
            Outcome::Unsupported => "unsupported",
            Outcome::Invalid => "invalid",
            Outcome::Crash => "crash",
            Outcome::Timeout => "timeout",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(name: &str) -> Result<Outcome, String> {
        let found = Outcome::ALL.into_iter().find(|o| o.name() == name);
        found.ok_or_else(|| format!("there is no outcome '{name}'"))
    }
}

/// How a model is compiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// With all passes.
    Fused,
    /// Without OpFusion.
    Unfused,
}

impl Mode {
    /// Both.
    pub const ALL: [Mode; 2] = [Mode::Fused, Mode::Unfused];

    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Fused => "fused",
            Mode::Unfused => "unfused",
        }
    }
}

/// The outcome in one mode and the reason for it, empty for a pass; one line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    pub outcome: Outcome,
    pub reason: String,
    /// Whether the outputs have the bits of those of the mode before, if both have any.
    pub same_bits: Option<bool>,
}

impl Verdict {
    /// A verdict without outputs.
    pub fn new(outcome: Outcome, reason: impl Into<String>) -> Verdict {
        let reason: String = reason.into();
        let lines = reason.lines().map(str::trim).filter(|line| !line.is_empty());
        let reason = lines.collect::<Vec<_>>().join("; ").replace(":; ", ": ");
        Verdict { outcome, reason, same_bits: None }
    }
}

/// Both verdicts on a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    pub fused: Verdict,
    pub unfused: Verdict,
}

impl Report {
    /// The worse of the two; a difference between them is a mismatch at least.
    pub fn verdict(&self) -> Verdict {
        if self.fused.outcome == self.unfused.outcome {
            return self.fused.clone();
        }
        let worse = self.fused.outcome.max(self.unfused.outcome).max(Outcome::Mismatch);
        let part = |mode: Mode, v: &Verdict| format!("{}: {} {}", mode.name(), v.outcome, v.reason);
        let reason = format!("{}, {}", part(Mode::Fused, &self.fused), part(Mode::Unfused, &self.unfused));
        Verdict::new(worse, reason)
    }
}
