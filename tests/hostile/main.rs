//! Models that are damaged, contradict themselves or ask for too much: each is an error that says what is wrong and
//! where, and nothing panics, hangs or takes memory without bound.

mod allocator;
#[path = "../common/mod.rs"]
mod common;
mod harness;
mod mutate;
mod mutations;
mod seeds;
