//! Sessions: models whose shapes, or what is computed at all, are known only when they run.

#![allow(clippy::cloned_ref_to_slice_refs, reason = "a list of one operand is written like a longer one")]

mod build;
mod calls;
mod command;
mod control;
mod data;
mod errors;
mod graphs;
mod load;
mod weights;
