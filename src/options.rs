//! All options of a compilation, and the only place that reads the environment.
//!
//! What an API call sets wins over the environment, except that passes switched off by either stay off. What
//! the options mean is up to those who read them: the pass manager, the target, the runtime.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::machine::Isa;

/// An environment variable that nestjit reads.
#[derive(Clone, Copy, Debug)]
pub struct EnvVar {
    /// Its name.
    pub name: &'static str,
    /// The values it may have.
    pub values: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// Every environment variable that nestjit reads. An empty value counts as unset.
pub const ENVIRONMENT: &[EnvVar] = &[
    EnvVar {
        name: THREADS,
        values: "1..=1024",
        doc: "threads of a run, and of compiling (default: the physical cores)",
    },
    EnvVar { name: DISABLE_PASS, values: "NAME[,NAME]...", doc: "passes to switch off" },
    EnvVar {
        name: ISA,
        values: "simd128|sse|avx2|avx512",
        doc: "the widest vector instructions to use; the CPU must have them (sse is simd128)",
    },
    EnvVar {
        name: MACHINE,
        values: "NAME|FILE",
        doc: "the machine to plan for, by its name (`nestjit machine --list`) or as a file (default: this one)",
    },
    EnvVar {
        name: VNNI,
        values: "0|1",
        doc: "use dot products of bytes where the vector instructions have them (default: 1)",
    },
    EnvVar {
        name: AMX,
        values: "0|1",
        doc: "use matrix tiles (AMX) where the CPU and the system have them (default: 1)",
    },
    EnvVar {
        name: PRECISION,
        values: "f32|bf16|f16",
        doc: "what contractions of f32 may compute in, where that is faster (default: f32; fp16 is f16)",
    },
    EnvVar {
        name: VERIFY,
        values: "0|1",
        doc: "verify the program after each pass (default: 1 in debug builds)",
    },
    EnvVar {
        name: CHECK,
        values: "0|1",
        doc: "after each nest pass, interpret the program before and after on random inputs and compare (slow)",
    },
    EnvVar {
        name: MEMORY,
        values: "BYTES",
        doc: "memory that this process may take for models (default: what the system has available)",
    },
    EnvVar { name: DUMP, values: "DIR", doc: "write the program after each pass that changed it into DIR" },
];

const THREADS: &str = "NESTJIT_THREADS";
pub(crate) const DISABLE_PASS: &str = "NESTJIT_DISABLE_PASS";
pub(crate) const ISA: &str = "NESTJIT_ISA";
/// The variable that names the machine to plan for.
pub const MACHINE: &str = "NESTJIT_MACHINE";
const VNNI: &str = "NESTJIT_VNNI";
const AMX: &str = "NESTJIT_AMX";
const PRECISION: &str = "NESTJIT_PRECISION";
const VERIFY: &str = "NESTJIT_VERIFY";
const CHECK: &str = "NESTJIT_CHECK";
const MEMORY: &str = "NESTJIT_MEMORY";
const DUMP: &str = "NESTJIT_DUMP";

/// The most threads that can be asked for.
pub const MAX_THREADS: usize = 1024;

/// How far OpFusion goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Fusion {
    /// Everything that is legal and pays.
    #[default]
    Full,
    /// Only elementwise operations behind what they read, as pattern-based compilers do: for comparison.
    Epilogue,
}

/// Whether nests of which one reads windows of rows of the other share a ring of rows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum RowRings {
    /// Where it pays.
    #[default]
    Auto,
    /// Wherever it is legal.
    On,
    /// Nowhere.
    Off,
}

/// What the contractions (matrix products, convolutions) of `f32` tensors compute in.
///
/// A lower precision is allowed, not forced: a contraction takes it only where the machine is faster at it, and the report
/// says which nests do. Sums are `f32` in any case, as is everything that is not a contraction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Precision {
    /// `f32` throughout.
    #[default]
    F32,
    /// Both operands may be rounded to `bf16` (8 significant bits; nearest, ties to even). Products of two are exact, pairs of
    /// them are added to a sum of `f32`. Sums round to nearest even, and denormal numbers count as 0.
    Bf16,
    /// Both operands may be rounded to `f16`. No code for it exists, so everything computes in `f32`; the report says so.
    F16,
}

impl Precision {
    /// The name that options and reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::F16 => "f16",
        }
    }

    /// The precision of that name; `fp16` is another name of `f16`.
    pub fn from_name(name: &str) -> Option<Precision> {
        match name {
            "f32" => Some(Precision::F32),
            "bf16" => Some(Precision::Bf16),
            "f16" | "fp16" => Some(Precision::F16),
            _ => None,
        }
    }
}

/// How to compile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The threads of a run, and of compiling; `None` for as many as there are physical cores.
    pub threads: Option<usize>,
    /// The names of passes to switch off.
    pub disabled_passes: Vec<String>,
    /// The widest vector tier to use; `None` for whatever the machine has.
    pub isa: Option<Isa>,
    /// The machine to plan for, by its name in [`crate::machine::KNOWN`] or as the path of a file; `None` for the one this
    /// runs on. What is compiled for another one runs only if this one can execute it.
    pub machine: Option<String>,
    /// Whether to use dot products of bytes, VNNI, where the vector tier has them; without, products of 16-bit numbers
    /// give the same results.
    pub vnni: bool,
    /// Whether to use matrix tiles, AMX, where the CPU and the system have them.
    pub amx: bool,
    /// What contractions of `f32` may compute in.
    pub precision: Precision,
    /// Whether to verify the program after each pass.
    pub verify_passes: bool,
    /// Whether to interpret the program before and after each nest pass and compare.
    pub check_passes: bool,
    /// How much memory may be taken for models, their values and results, in bytes; `None` for what the system has
    /// available. It is a limit for the whole process: the last compilation decides.
    pub memory: Option<u64>,
    /// Where to write the program after each pass that changed it.
    pub dump: Option<PathBuf>,
    /// Whether to keep the text of the program after each pass.
    pub keep_programs: bool,
    /// Whether to keep the machine code of each nest as text.
    pub keep_code: bool,
    /// How far OpFusion goes.
    pub fusion: Fusion,
    /// Where rings of rows are made.
    pub row_rings: RowRings,
}

impl Default for Options {
    /// The defaults, whatever the environment says.
    fn default() -> Options {
        Options {
            threads: None,
            disabled_passes: Vec::new(),
            isa: None,
            machine: None,
            vnni: true,
            amx: true,
            precision: Precision::F32,
            verify_passes: cfg!(debug_assertions),
            check_passes: false,
            memory: None,
            dump: None,
            keep_programs: false,
            keep_code: false,
            fusion: Fusion::Full,
            row_rings: RowRings::Auto,
        }
    }
}

impl Options {
    /// The options that the environment asks for.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if a variable has a value that it cannot have.
    pub fn from_env() -> Result<Options> {
        Options::from_vars(&|name| std::env::var_os(name).map(|v| v.to_string_lossy().into_owned()))
    }

    fn from_vars(var: &dyn Fn(&str) -> Option<String>) -> Result<Options> {
        let mut options = Options::default();
        let get = |name| var(name).filter(|value| !value.is_empty());
        if let Some(value) = get(THREADS) {
            let threads = value.parse().ok().and_then(|threads| check_threads(threads).ok());
            options.threads = Some(threads.ok_or_else(|| bad(THREADS, &value))?);
        }
        if let Some(value) = get(DISABLE_PASS) {
            options.disabled_passes = split_names(&value);
        }
        if let Some(value) = get(ISA) {
            options.isa = Some(Isa::from_name(&value).ok_or_else(|| bad(ISA, &value))?);
        }
        options.machine = get(MACHINE);
        if let Some(value) = get(VNNI) {
            options.vnni = parse_bool(VNNI, &value)?;
        }
        if let Some(value) = get(AMX) {
            options.amx = parse_bool(AMX, &value)?;
        }
        if let Some(value) = get(PRECISION) {
            options.precision = Precision::from_name(&value).ok_or_else(|| bad(PRECISION, &value))?;
        }
        if let Some(value) = get(VERIFY) {
            options.verify_passes = parse_bool(VERIFY, &value)?;
        }
        if let Some(value) = get(CHECK) {
            options.check_passes = parse_bool(CHECK, &value)?;
        }
        if let Some(value) = get(MEMORY) {
            let bytes = value.parse().ok().filter(|bytes| *bytes > 0);
            options.memory = Some(bytes.ok_or_else(|| bad(MEMORY, &value))?);
        }
        options.dump = get(DUMP).map(PathBuf::from);
        Ok(options)
    }
}

/// An error about a name, or one of a list of them, that an option has; it tells the environment variable if that is what says
/// so.
pub fn said_by(variable: &str, name: &str, error: Error) -> Error {
    let says = |value: std::ffi::OsString| {
        let value = value.to_string_lossy();
        value == name || split_names(&value).iter().any(|one| one == name)
    };
    if std::env::var_os(variable).is_some_and(says) { error.about(variable) } else { error }
}

/// The names in a comma-separated list.
pub fn split_names(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The number of threads, if it can be asked for.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] if there are none or absurdly many.
pub fn check_threads(threads: usize) -> Result<usize> {
    if threads == 0 || threads > MAX_THREADS {
        return Err(Error::usage(format!("{threads} threads: the number must be in 1..={MAX_THREADS}")));
    }
    Ok(threads)
}

fn parse_bool(name: &str, value: &str) -> Result<bool> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(bad(name, value)),
    }
}

fn bad(name: &str, value: &str) -> Error {
    let values = ENVIRONMENT.iter().find(|v| v.name == name).map_or("", |v| v.values);
    Error::usage(format!("{name}='{}' makes no sense; it must be {values}", value.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn with(name: &'static str, value: &'static str) -> Result<Options> {
        Options::from_vars(&|n| (n == name).then(|| value.to_owned()))
    }

    #[test]
    fn every_variable_is_read() {
        let defaults = Options::default();
        for var in ENVIRONMENT {
            let value = match var.name {
                THREADS => "3",
                DISABLE_PASS => "Tile, OpFusion",
                ISA => "sse",
                MACHINE => "zen5",
                VNNI | AMX => "0",
                PRECISION => "bf16",
                VERIFY => {
                    if defaults.verify_passes {
                        "0"
                    } else {
                        "1"
                    }
                }
                CHECK => "1",
                MEMORY => "1000000",
                DUMP => "dir",
                other => panic!("no test for {other}"),
            };
            assert_ne!(with(var.name, value).unwrap(), defaults, "{}", var.name);
            assert_eq!(with(var.name, "").unwrap(), defaults, "{}", var.name);
        }
        assert_eq!(with(DISABLE_PASS, "Tile, OpFusion,").unwrap().disabled_passes, ["Tile", "OpFusion"]);
        assert_eq!(with(PRECISION, "fp16").unwrap().precision, Precision::F16);
        assert_eq!(with(ISA, "avx2").unwrap().isa, Some(Isa::Avx2));
    }

    #[test]
    fn senseless_values_are_usage_errors_that_say_what_is_allowed() {
        for (name, value) in [
            (THREADS, "two"),
            (THREADS, "0"),
            (THREADS, "-1"),
            (THREADS, "9999"),
            (ISA, "mmx"),
            (PRECISION, "f8"),
            (AMX, "on"),
            (VERIFY, "yes"),
            (CHECK, "2"),
            (MEMORY, "1G"),
            (MEMORY, "0"),
        ] {
            assert_eq!(with(name, value).unwrap_err().kind(), ErrorKind::Usage, "{name}={value}");
        }
        let message = with(ISA, "mmx").unwrap_err().to_string();
        assert_eq!(message, "NESTJIT_ISA='mmx' makes no sense; it must be simd128|sse|avx2|avx512");
    }
}
