//! Sessions: models whose shapes, or what is computed at all, are known only when they run.

mod build;
mod control;
mod data;
mod errors;
