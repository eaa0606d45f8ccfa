//! The error type of the library: what is wrong, and where in the model.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

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

/// An error: a kind, a message, and the place in the model, if there is one. Two are equal if these are; what caused
/// them is not compared.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    /// The name of the file that the model was read from.
    file: Option<String>,
    /// The node's name and operation.
    node: Option<(String, String)>,
    message: String,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl PartialEq for Error {
    fn eq(&self, other: &Error) -> bool {
        (self.kind, &self.file, &self.node, &self.message)
            == (other.kind, &other.file, &other.node, &other.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

/// How much alike names are, from 0 to 1, of which one may be meant by the other.
const ALIKE: f64 = 0.85;

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a place.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, file: None, node: None, message: message.into(), source: None }
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

    /// [`ErrorKind::Usage`]: there is no `what` of this name. If the name is much like a known one, that one is proposed;
    /// the known ones are listed after `list`.
    pub fn unknown_name<'a>(
        what: &str,
        name: &str,
        list: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Error {
        let known: Vec<&str> = known.into_iter().collect();
        let alike = |other: &str| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
        let rated = known.iter().map(|other| (alike(other), other)).filter(|(rate, _)| *rate >= ALIKE);
        let best = rated.reduce(|best, other| if other.0 > best.0 { other } else { best });
        let proposal = best
            .map_or_else(String::new, |(_, other)| format!(" (did you mean '{}'?)", other.escape_debug()));
        let quoted: Vec<String> = known.iter().map(|other| format!("'{}'", other.escape_debug())).collect();
        let listed = if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") };
        Error::usage(format!("there is no {what} '{}'{proposal}; {list} {listed}", name.escape_debug()))
    }

    /// [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Internal, message)
    }

    /// The same error with what caused it, which the message should tell, too.
    pub fn caused_by(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
        self.source = Some(Arc::new(cause));
        self
    }

    /// The same error, about a part of what its message was about: `subject: message`.
    pub fn about(mut self, subject: &str) -> Error {
        self.message = format!("{subject}: {}", self.message);
        self
    }

    /// The same error with the file that the model was read from, unless it names a file already.
    pub fn in_file(mut self, path: &Path) -> Error {
        if self.kind != ErrorKind::Io {
            self.file.get_or_insert_with(|| path.display().to_string());
        }
        self
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

    /// The name of the file that the model was read from, if it is known.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
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
        if let Some(file) = &self.file {
            write!(f, "'{}': ", file.escape_debug())?;
        }
        if let Some((node, op)) = &self.node {
            write!(f, "node '{}' ({}): ", node.escape_debug(), op.escape_debug())?;
        }
        if self.kind == ErrorKind::Internal {
            f.write_str("internal error: ")?;
        }
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_its_place_once_and_keeps_its_cause() {
        let cause = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let text = cause.to_string();
        let e = Error::invalid("the length is 3").caused_by(cause).about("initializer 'w'");
        let e =
            e.at("fc", "Gemm").at("other", "Conv").in_file(Path::new("a.onnx")).in_file(Path::new("b.onnx"));
        assert_eq!(e.to_string(), "'a.onnx': node 'fc' (Gemm): initializer 'w': the length is 3");
        assert_eq!((e.file(), e.node(), e.op()), (Some("a.onnx"), Some("fc"), Some("Gemm")));
        let source = std::error::Error::source(&e).expect("a cause");
        assert_eq!(source.to_string(), text);
        assert!(source.is::<std::io::Error>());
        assert!(std::error::Error::source(&Error::shape("3 != 4")).is_none());
    }

    #[test]
    fn an_error_about_a_file_names_only_that() {
        let e = Error::new(ErrorKind::Io, "cannot read 'w.bin'").in_file(Path::new("m.onnx"));
        assert_eq!(e.to_string(), "cannot read 'w.bin'");
    }

    #[test]
    fn names_that_are_alike_are_proposed() {
        let message =
            |name| Error::unknown_name("pass", name, "the passes are", ["OpFusion", "Tile"]).message;
        let all = "the passes are 'OpFusion', 'Tile'";
        assert_eq!(
            message("OpFuson"),
            format!("there is no pass 'OpFuson' (did you mean 'OpFusion'?); {all}")
        );
        assert_eq!(
            message("opfusion"),
            format!("there is no pass 'opfusion' (did you mean 'OpFusion'?); {all}")
        );
        assert_eq!(message("tiles"), format!("there is no pass 'tiles' (did you mean 'Tile'?); {all}"));
        assert_eq!(message("Winograd"), format!("there is no pass 'Winograd'; {all}"));
        let none = Error::unknown_name("input", "x", "there is", []);
        assert_eq!(none.message, "there is no input 'x'; there is none");
    }
}
