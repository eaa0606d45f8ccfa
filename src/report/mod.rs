//! What was done to a model, as data and as text.
//!
//! Everything here reads an executable's records; nothing here decides anything.

pub mod flops;
pub mod format;
pub mod fusion;
pub mod stats;

pub use fusion::FusionReport;
pub use stats::Summary;
