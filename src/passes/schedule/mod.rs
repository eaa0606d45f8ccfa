//! What passes on nests share: questions about loops, accesses, contractions and windows, and rewrites that several of them
//! make.
//!
//! Nothing here decides what becomes of a nest: that is the passes', which know nothing of each other.

pub mod border;
pub mod chain;
pub mod indices;
pub mod jam;
pub mod minimal_filtering;
pub mod pad;
pub mod simplify;
pub mod tiles;
pub mod window;
