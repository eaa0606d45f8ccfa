//! The error type of the library: what is wrong, and where in the model.

use std::fmt;

/// What kind of thing went wrong; stable, for programs that react to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The model contradicts itself or its format's specification.
    Invalid,
    /// The model is valid but uses something that nestjit does not implement.
    Unsupported,
    /// Shapes or types do not fit, in the model or in the inputs of a run.
    Shape,
    /// A size exceeds what can be addressed or what a limit allows.
    Limit,
    /// A file could not be read or written.
    Io,
    /// A name (of a pass, a model, an input) that does not exist, or an option that makes no sense.
    Usage,
    /// A run-time index (gather, scatter) was outside its dimension.
    Index,
    /// The call was cancelled by its caller.
    Cancelled,
    /// The call was not finished by its deadline.
    DeadlineExceeded,
    /// A defect in nestjit itself.
    Internal,
}

/// An error: a kind, a message, and the place in the model, if there is one.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub struct Error {
    kind: ErrorKind,
    /// The node's name and operation.
    node: Option<(String, String)>,
    message: String,
}

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a place.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, node: None, message: message.into() }
    }

    /// [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, message)
    }

    /// [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unsupported, message)
    }

    /// [`ErrorKind::Shape`].
    pub fn shape(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Shape, message)
    }

    /// [`ErrorKind::Usage`].
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Usage, message)
    }

    /// [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Internal, message)
    }

    /// The same error with a place, unless it has one already.
    pub fn at(mut self, node: &str, op: &str) -> Error {
        self.node.get_or_insert_with(|| (node.to_owned(), op.to_owned()));
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The name of the node at fault, if there is one.
    pub fn node(&self) -> Option<&str> {
        self.node.as_ref().map(|n| n.0.as_str())
    }

    /// The operation of the node at fault, if there is one.
    pub fn op(&self) -> Option<&str> {
        self.node.as_ref().map(|n| n.1.as_str())
    }

    /// The cause, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((node, op)) = &self.node {
            write!(f, "node '{}' ({}): ", node.escape_debug(), op.escape_debug())?;
        }
        if self.kind == ErrorKind::Internal {
            f.write_str("internal error: ")?;
        }
        f.write_str(&self.message)
    }
}
