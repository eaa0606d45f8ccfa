//! What was done to a model, as data, text, pages and graphs.
//!
//! Everything here reads an executable's records; nothing here decides anything.

pub mod compare;
pub mod flops;
pub mod format;
pub mod fusion;
pub mod page;
pub mod pattern;
pub mod programs;
pub mod refusal;
pub mod roofline;
pub mod scaling;
pub mod sentence;
pub mod stats;
#[cfg(feature = "cli")]
pub mod text;
pub mod trace;
pub mod traffic;

pub use fusion::FusionReport;
pub use roofline::Roofline;
pub use scaling::Scaling;
pub use stats::Summary;
