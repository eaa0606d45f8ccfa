//! Values that come with the run and must lie in a range, and what an error says of one that does not.

use std::sync::Arc;

use crate::nest::Expr;

/// A value that comes with the run (an index, a length), and the range that it must lie in. It is checked wherever
/// it is computed, also where a surrounding [`Expr::Select`] does not choose it.
#[derive(Clone, PartialEq, Debug)]
pub struct Check {
    /// The value; `i64`.
    pub value: Expr,
    /// The least value allowed.
    pub low: i64,
    /// One more than the largest value allowed.
    pub high: i64,
    /// Where the value comes from, for the error.
    pub site: Arc<Site>,
}

/// What an error of a [`Check`] names: the model's operator and what of it is wrong.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Site {
    /// The name of the model's node.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// The name of the input that holds the value.
    pub input: String,
    /// What the value is.
    pub kind: CheckKind,
}

/// What a checked value is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CheckKind {
    /// An index into a dimension.
    Index,
    /// An index into a dimension; negative ones were counted from its end, and are non-negative where they are
    /// checked against `0..extent`.
    IndexFromEnd,
    /// A number of elements.
    Length,
    /// A place in a sequence.
    Position,
    /// A category that must be known: one that is not is outside every range, what is known has the least value.
    Category,
}

impl CheckKind {
    /// Every kind.
    pub const ALL: [CheckKind; 5] = [
        CheckKind::Index,
        CheckKind::IndexFromEnd,
        CheckKind::Length,
        CheckKind::Position,
        CheckKind::Category,
    ];

    /// The keyword of the textual IR.
    pub const fn name(self) -> &'static str {
        match self {
            CheckKind::Index => "index",
            CheckKind::IndexFromEnd => "index_from_end",
            CheckKind::Length => "length",
            CheckKind::Position => "position",
            CheckKind::Category => "category",
        }
    }
}

impl CheckKind {
    /// What is wrong with `value`, an element of `input` that is outside `low..high`. An index that was counted from the
    /// end is shown as it was given.
    pub fn message(self, input: &str, value: i64, low: i64, high: i64) -> String {
        let input = input.escape_debug();
        if (low, high) == (0, i64::MAX) {
            let what = match self {
                CheckKind::Index | CheckKind::IndexFromEnd => "index",
                CheckKind::Length => "length",
                CheckKind::Position => "position",
                CheckKind::Category => "category",
            };
            return format!("the {what} {value} in '{input}' is negative");
        }
        match self {
            CheckKind::Index => format!("the index {value} in '{input}' is outside {low}..{high}"),
            CheckKind::IndexFromEnd => {
                let given = if value < 0 { value.saturating_sub(high) } else { value };
                let least = high.saturating_neg();
                format!(
                    "the index {given} in '{input}' is outside 0..{high} (or {least}..0, counted from the end)"
                )
            }
            CheckKind::Length => {
                let most = high.saturating_sub(1);
                format!("the length {value} in '{input}' is outside {low}..={most}")
            }
            CheckKind::Position => format!("the position {value} in '{input}' is outside {low}..{high}"),
            CheckKind::Category => {
                format!("the category {value} in '{input}' is none of those that are known")
            }
        }
    }
}

impl Site {
    /// What is wrong with `value`, which is outside `low..high`, without the node: see [`CheckKind::message`].
    pub fn message(&self, value: i64, low: i64, high: i64) -> String {
        self.kind.message(&self.input, value, low, high)
    }
}
