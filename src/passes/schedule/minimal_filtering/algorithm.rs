//! The algorithms of minimal filtering, and their matrices.
//!
//! `F(m, 3)` computes `m` outputs of a filter of three taps from `n = m + 2` inputs with `n` products:
//! `y = A' [(G g) * (B' d)]`. Nested with itself it gives an `m x m` tile of a 3x3 convolution from an `n x n`
//! tile of its input. Matrices as in Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015),
//! for points that round less.

/// A minimal filtering algorithm for three taps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Filtering {
    /// `F(2, 3)`: 2.25 times fewer products in two dimensions.
    F2,
    /// `F(4, 3)`: 4 times fewer products in two dimensions.
    F4,
}

/// The points of `F(4, 3)` are 0, these two and their negatives, and infinity. Results are about four times as exact
/// as with 1 and 2; all numbers in the matrices below are exact in `f32`.
const P: f64 = 11.0 / 16.0;
const Q: f64 = 11.0 / 8.0;

impl Filtering {
    /// Outputs along one dimension.
    pub fn outputs(self) -> usize {
        match self {
            Filtering::F2 => 2,
            Filtering::F4 => 4,
        }
    }

    /// Inputs, and products, along one dimension.
    pub fn inputs(self) -> usize {
        self.outputs() + 2
    }

    /// `B'`, `n x n`: what the input tile is multiplied with.
    pub fn input_matrix(self) -> &'static [&'static [f64]] {
        match self {
            Filtering::F2 => &[
                &[1.0, 0.0, -1.0, 0.0],
                &[0.0, 1.0, 1.0, 0.0],
                &[0.0, -1.0, 1.0, 0.0],
                &[0.0, 1.0, 0.0, -1.0],
            ],
            Filtering::F4 => &[
                &[P * P * Q * Q, 0.0, -(P * P + Q * Q), 0.0, 1.0, 0.0],
                &[0.0, -P * Q * Q, -Q * Q, P, 1.0, 0.0],
                &[0.0, P * Q * Q, -Q * Q, -P, 1.0, 0.0],
                &[0.0, -P * P * Q, -P * P, Q, 1.0, 0.0],
                &[0.0, P * P * Q, -P * P, -Q, 1.0, 0.0],
                &[0.0, P * P * Q * Q, 0.0, -(P * P + Q * Q), 0.0, 1.0],
            ],
        }
    }

    /// `G`, `n x 3`: what the filter is multiplied with.
    pub fn filter_matrix(self) -> &'static [[f64; 3]] {
        match self {
            Filtering::F2 => &[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]],
            Filtering::F4 => &[
                [1.0 / (P * P * Q * Q), 0.0, 0.0],
                [0.5 / (P * P * (P * P - Q * Q)), 0.5 / (P * (P * P - Q * Q)), 0.5 / (P * P - Q * Q)],
                [0.5 / (P * P * (P * P - Q * Q)), -0.5 / (P * (P * P - Q * Q)), 0.5 / (P * P - Q * Q)],
                [0.5 / (Q * Q * (Q * Q - P * P)), 0.5 / (Q * (Q * Q - P * P)), 0.5 / (Q * Q - P * P)],
                [0.5 / (Q * Q * (Q * Q - P * P)), -0.5 / (Q * (Q * Q - P * P)), 0.5 / (Q * Q - P * P)],
                [0.0, 0.0, 1.0],
            ],
        }
    }

    /// `A'`, `m x n`: what the products are multiplied with.
    pub fn output_matrix(self) -> &'static [&'static [f64]] {
        match self {
            Filtering::F2 => &[&[1.0, 1.0, 1.0, 0.0], &[0.0, 1.0, -1.0, -1.0]],
            Filtering::F4 => &[
                &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
                &[0.0, P, -P, Q, -Q, 0.0],
                &[0.0, P * P, P * P, Q * Q, Q * Q, 0.0],
                &[0.0, P * P * P, -P * P * P, Q * Q * Q, -Q * Q * Q, 1.0],
            ],
        }
    }
}
