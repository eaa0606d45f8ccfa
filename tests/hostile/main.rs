//! Models that are damaged, contradict themselves or ask for too much: each is an error that says what is wrong and
//! where, and nothing panics, hangs or takes memory without bound.

mod allocator;
mod attributes;
mod chains;
#[path = "../common/mod.rs"]
mod common;
mod external;
mod files;
mod harness;
mod indices;
mod mutate;
mod mutations;
mod names;
mod run_time;
mod seeds;
mod sizes;
mod structure;
