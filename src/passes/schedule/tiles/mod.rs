//! Tiles of contractions: finding contractions and what their loops are for (`leaf`), which products dot products add up
//! (`dot`), how large tiles are best (`choose`, by the estimates of `model` and `matrix`), in which order loops stand
//! around them (`order`), and which operands can be laid out for them (`relayout`).
//!
//! Only questions are answered here; Tile makes the tiles.

pub mod choose;
pub mod dot;
pub mod leaf;
pub mod machine;
mod matrix;
mod model;
pub mod order;
pub mod relayout;
