//! A model: what the compiler takes, whatever it was made from.

use super::Graph;

/// A model, ready to be compiled.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its operations.
    pub graph: Graph,
}

impl From<Graph> for Model {
    fn from(graph: Graph) -> Model {
        Model { graph }
    }
}
