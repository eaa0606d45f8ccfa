//! What was done to a model, as data and as text.
//!
//! Everything here reads an executable's records; nothing here decides anything.

pub mod flops;
pub mod stats;
