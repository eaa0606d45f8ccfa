//! Why the import of a node ended without results. Whoever asked for the import decides what follows from that.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind};
use crate::graph::ValueId;

/// What takes the place of a node's results.
#[derive(Debug)]
pub(super) enum Halt {
    /// The node is wrong, or uses something that is not supported.
    Wrong(Error),
    /// It depends on something that is reported already.
    Broken,
    /// It can be imported once the values of these inputs of the graph, given by their numbers, are known.
    NeedsInputs(BTreeSet<usize>),
    /// It cannot be part of a compiled program, or not until a value is known.
    Host {
        /// A sentence.
        why: String,
        /// What must be known for the node to be imported after all.
        value: Option<ValueId>,
    },
}

/// The result of importing something.
pub(super) type Result<T, E = Halt> = std::result::Result<T, E>;

impl From<Error> for Halt {
    fn from(error: Error) -> Halt {
        Halt::Wrong(error)
    }
}

impl Halt {
    /// [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Halt {
        Error::invalid(message).into()
    }

    /// [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Halt {
        Error::unsupported(message).into()
    }

    /// [`ErrorKind::Shape`].
    pub fn shape(message: impl Into<String>) -> Halt {
        Error::shape(message).into()
    }

    /// [`ErrorKind::Limit`].
    pub fn limit(message: impl Into<String>) -> Halt {
        Error::new(ErrorKind::Limit, message).into()
    }

    /// [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Halt {
        Error::internal(message).into()
    }

    /// The node works with something else than tensors.
    pub fn items() -> Halt {
        Halt::host("it works with a sequence or an optional value")
    }

    /// The node is the host's, whatever its operands are.
    pub fn host(why: impl Into<String>) -> Halt {
        Halt::Host { why: why.into(), value: None }
    }
}

/// All values; or, if some are missing for want of inputs only, all the inputs that are needed.
pub(super) fn all<T, const N: usize>(results: [Result<T>; N]) -> Result<[T; N]> {
    let mut needs = BTreeSet::new();
    let mut values = Vec::with_capacity(N);
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(Halt::NeedsInputs(inputs)) => needs.extend(inputs),
            Err(halt) => return Err(halt),
        }
    }
    values.try_into().map_err(|_| Halt::NeedsInputs(needs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_reported_together() {
        let needs = |input| Err(Halt::NeedsInputs(BTreeSet::from([input])));
        assert!(matches!(all([Ok(1), Ok(2)]), Ok([1, 2])));
        let Err(Halt::NeedsInputs(inputs)) = all([needs(3), Ok(0), needs(1)]) else { panic!() };
        assert_eq!(inputs, BTreeSet::from([1, 3]));
        assert!(matches!(all([needs(3), Err(Halt::Broken), Ok(0)]), Err(Halt::Broken)));
    }
}
