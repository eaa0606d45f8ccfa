//! The arguments of the command `nestjit`, as clap types.
//!
//! Only the syntax lives here; what a command does is in the module of its name.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use nestjit::options::{MAX_THREADS, check_threads};

/// What a shell gets to know.
const EXIT_CODES: &str = "Exit codes: 0 for success, 1 if something failed or did not match, 2 if the command line, the environment \
                          or what they name makes no sense (an option, a pass, a model, an input, a machine).";

/// Compiles neural-network models to fused loop nests, runs them, and shows what fusion brings.
#[derive(Parser, Debug)]
#[command(name = "nestjit", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Do not show what is being done while it takes long
    #[arg(long, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Measure a model, fused and unfused, the cold first run apart from the warm ones; says so if fusion made it slower
    Bench(BenchArgs),
    /// Tell what a model takes, returns and consists of, and which of its operators are not supported
    Info(InfoArgs),
    /// Run a model once
    Run(RunArgs),
    /// Compare fused code, unfused code, the interpreter and the graph evaluator
    Check(CheckArgs),
    /// Tell what was fused and, with reasons, what was not, and which loops are scalar code
    Report(ReportArgs),
    /// Print the loop nests of a model, after any pass
    Ir(IrArgs),
    /// Print the machine that is planned for, or measure this one
    Machine(MachineArgs),
    /// List the built-in models
    Zoo(ZooArgs),
    /// Write a model as an ONNX file
    Export(ExportArgs),
    /// Print a script that completes arguments in a shell
    Completions(CompletionsArgs),
    /// Print the manual page, for `man -l -`
    Man,
}

/// What to compile, and how.
#[derive(Args, Debug, Clone)]
pub(crate) struct ModelArgs {
    /// An ONNX file, or a built-in model (see `nestjit zoo`; networks also in another size: `resnet18@64`)
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) passes: PassArgs,
    #[command(flatten)]
    pub(crate) given: GivenArgs,
}

/// `nestjit info`.
#[derive(Args, Debug)]
pub(crate) struct InfoArgs {
    /// An ONNX file, or a built-in model
    pub(crate) model: String,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is said of a model's inputs.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct GivenArgs {
    /// The extent of an open dimension of an ONNX model, by its name or its place (`input[1]=576`); those left open are
    /// 1, or what inputs have
    #[arg(long = "dim", value_name = "NAME=N", value_parser = dimension)]
    pub(crate) dims: Vec<(String, usize)>,
    /// An input of the model; inputs not given are seeded random values
    #[arg(long = "input", value_name = "NAME=FILE.npy", value_parser = named_file)]
    pub(crate) inputs: Vec<NamedFile>,
}

/// What passes do.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct PassArgs {
    /// Passes to switch off, by name; `nestjit ir --passes` lists them
    #[arg(long = "disable-pass", value_name = "A,B", value_delimiter = ',')]
    pub(crate) disable_pass: Vec<String>,
    /// Where what reads windows of rows is computed with what makes them, strip by strip
    #[arg(long = "row-rings", value_name = "WHERE", value_enum, default_value_t = Rings::Auto)]
    pub(crate) row_rings: Rings,
    /// What matrix products and convolutions of f32 may compute in, where that is faster: both operands are rounded,
    /// sums stay f32; `nestjit report` says which nests do [default: NESTJIT_PRECISION, else f32]
    #[arg(long, value_name = "TYPE", value_enum)]
    pub(crate) precision: Option<PrecisionArg>,
}

/// What contractions may compute in.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PrecisionArg {
    F32,
    Bf16,
    /// Nothing computes in it
    #[value(alias = "fp16")]
    F16,
}

/// Where rings of rows are made.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Rings {
    /// Where it pays.
    #[default]
    Auto,
    /// Wherever it is possible.
    On,
    /// Nowhere.
    Off,
}

#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// ONNX files or built-in models, measured one after the other; with --json each is an object on a line of its own
    #[arg(value_name = "MODEL", required = true)]
    pub(crate) models: Vec<String>,
    #[command(flatten)]
    pub(crate) passes: PassArgs,
    #[command(flatten)]
    pub(crate) given: GivenArgs,
    /// Measure warm runs for so long, instead of a number of them
    #[arg(long, value_name = "S", conflicts_with = "iterations", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) seconds: Option<f64>,
    /// Also let so many callers use the session at once, each from a thread of its own
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    pub(crate) streams: Option<usize>,
    /// Warm runs to measure
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub(crate) iterations: u32,
    /// Runs between the cold one and the measured ones
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true)]
    pub(crate) warmup: u32,
    /// Threads of a run [default: NESTJIT_THREADS, else the physical cores]
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// Compiled forms to keep of each part of a model that is not one program [default: 16, and more if they are small]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub(crate) cache_limit: Option<u32>,
    /// Write cold phases, warm runs and their distribution as one HTML page
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Show beside them what `benches/peers/peers.py --json` found for the model
    #[arg(long, value_name = "FILE", requires = "html")]
    pub(crate) peers: Option<PathBuf>,
    /// Which programs to measure
    #[arg(long, value_enum, default_value_t = Fusion::Both)]
    pub(crate) fusion: Fusion,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which programs `bench` measures.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fusion {
    /// Fused and unfused, interleaved.
    Both,
    /// Only with fusion.
    On,
    /// Only without.
    Off,
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Write each output as DIR/NAME.npy
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,
    /// Threads of the run [default: NESTJIT_THREADS, else the physical cores]
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Threads of the runs that are compared with those of one thread
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = threads, allow_negative_numbers = true)]
    pub(crate) threads: usize,
    /// An expected output of the model; for a float32 output the file may hold float64
    #[arg(long, value_name = "NAME=FILE.npy", value_parser = named_file)]
    pub(crate) expect: Vec<NamedFile>,
    /// How far outputs may be from expected ones, or, without --expect, from the reference, relative to the largest
    /// magnitude [default: what rounding explains; from expected ones also 1e-4 for float32, 1e-11 for float64]
    #[arg(long, value_name = "REL", value_parser = tolerance, allow_negative_numbers = true)]
    pub(crate) tolerance: Option<f64>,
    /// The same as an absolute difference, in steps for integers: what either allows passes
    #[arg(long, value_name = "ABS", value_parser = tolerance, allow_negative_numbers = true)]
    pub(crate) absolute: Option<f64>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// ONNX files or built-in models; for several, one row each
    #[arg(value_name = "MODEL", required = true)]
    pub(crate) models: Vec<String>,
    #[command(flatten)]
    pub(crate) passes: PassArgs,
    #[command(flatten)]
    pub(crate) given: GivenArgs,
    /// Threads that are planned for, and of the measured machine; also predicts times on 1 to 128 cores [default:
    /// NESTJIT_THREADS, else the physical cores]
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// What the machine can do, instead of measuring it: values as in `gflops=270,gbps=33`, or a JSON file that has them
    /// (docs/REPORT.md). It is what nests are judged by; NESTJIT_MACHINE names a machine to plan for
    #[arg(long, alias = "machine", value_name = "FILE|VALUES", value_parser = rates)]
    pub(crate) rates: Option<RatesArg>,
    /// List at most N nests and N refusals
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) max_nodes: Option<usize>,
    /// Add the same model unfused and with epilogues only
    #[arg(long)]
    pub(crate) compare: bool,
    /// Run the model, and add the time of each nest and its share of what the machine can do
    #[arg(long)]
    pub(crate) measure: bool,
    /// Runs for --measure and --trace
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub(crate) runs: u32,
    /// Write the runs as a Chrome trace (for chrome://tracing or ui.perfetto.dev)
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Write the report as one HTML page with graphs, loop nests and machine code
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the fused graph in Graphviz's language
    #[arg(long, value_name = "FILE")]
    pub(crate) dot: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct IrArgs {
    /// An ONNX file, a built-in model, or a file of nests that ends in .nest
    #[arg(required_unless_present = "passes")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) options: PassArgs,
    #[command(flatten)]
    pub(crate) given: GivenArgs,
    /// Print the program as it is after this pass (`Lower`: before the first) [default: after the last]
    #[arg(long, value_name = "PASS", conflicts_with = "all")]
    pub(crate) after: Option<String>,
    /// Print the program after every pass that changes it
    #[arg(long)]
    pub(crate) all: bool,
    /// Threads that are planned for [default: NESTJIT_THREADS, else the physical cores]
    #[arg(long, value_name = "N", value_parser = threads, allow_negative_numbers = true)]
    pub(crate) threads: Option<usize>,
    /// Print only this nest
    #[arg(long, value_name = "NAME")]
    pub(crate) nest: Option<String>,
    /// List the passes, in order
    #[arg(long, exclusive = true)]
    pub(crate) passes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// The name of a built-in model, or an ONNX file
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) given: GivenArgs,
    /// The file to write
    pub(crate) file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(crate) struct MachineArgs {
    /// A machine by its name, or a file of one [default: NESTJIT_MACHINE, else this machine]
    pub(crate) name: Option<String>,
    /// List the machines that are known, and where their figures come from
    #[arg(long, exclusive = true)]
    pub(crate) list: bool,
    /// Measure this machine, for some seconds, and write what was found to a file that NESTJIT_MACHINE can name
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "json"])]
    pub(crate) calibrate: Option<PathBuf>,
    /// Print one JSON object instead of text, as files have it
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ZooArgs {
    /// Print only the names, one per line
    #[arg(long)]
    pub(crate) names: bool,
    /// List only small models, or only networks
    #[arg(long, value_enum)]
    pub(crate) size: Option<ModelSize>,
    /// Print one JSON object instead of text
    #[arg(long, conflicts_with = "names")]
    pub(crate) json: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ModelSize {
    /// One to a few layers.
    Small,
    /// Whole networks.
    Network,
}

/// What `--rates` gives.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RatesArg {
    /// Billions of operations per second, and billions of bytes read per second.
    Values { gflops: f64, gbps: f64 },
    /// A file that has them.
    File(PathBuf),
}

/// `gflops=270,gbps=33`, or else the name of a file.
fn rates(text: &str) -> Result<RatesArg, String> {
    let fields: Option<Vec<(&str, &str)>> = text.split(',').map(|field| field.split_once('=')).collect();
    let Some(fields) = fields.filter(|_| !Path::new(text).exists()) else {
        return Ok(RatesArg::File(PathBuf::from(text)));
    };
    if let Some((name, _)) = fields.iter().find(|(name, _)| !["gflops", "gbps"].contains(name)) {
        return Err(format!(
            "there is no rate '{}', only gflops and gbps, and no such file",
            name.escape_debug()
        ));
    }
    let value = |wanted: &str| {
        let mut values = fields.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (Some(value), None) => {
                let number = value.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
                number.ok_or_else(|| {
                    format!("{wanted} must be a positive number, not '{}'", value.escape_debug())
                })
            }
            (None, _) => Err(format!("{wanted} is missing")),
            (Some(_), Some(_)) => Err(format!("{wanted} is given twice")),
        }
    };
    Ok(RatesArg::Values { gflops: value("gflops")?, gbps: value("gbps")? })
}

/// A number of threads.
fn threads(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().and_then(|n| check_threads(n).ok());
    number.ok_or_else(|| format!("the number of threads must be in 1..={MAX_THREADS}"))
}

/// A difference.
fn tolerance(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    number.ok_or_else(|| "must be a number that is not negative".to_owned())
}

/// A time to measure for: up to a day.
fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| *n > 0.0 && *n <= 86_400.0);
    number.ok_or_else(|| "must be a number of seconds, more than 0 and at most 86400".to_owned())
}

/// A name and an extent.
fn dimension(text: &str) -> Result<(String, usize), String> {
    let extent = |(name, n): (&str, &str)| Some((name.to_owned(), n.parse::<usize>().ok()?));
    text.rsplit_once('=')
        .filter(|(name, _)| !name.is_empty())
        .and_then(extent)
        .ok_or_else(|| "expected NAME=N".to_owned())
}

/// A tensor of the model and the file that has its elements: `NAME=FILE`, where both may contain `=`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamedFile(String);

impl NamedFile {
    /// The name and the file: split behind the longest of the model's names that the text begins with, or else at its
    /// first `=`, so that a name that the model does not have can be shown.
    pub(crate) fn split<'n>(&self, names: impl Iterator<Item = &'n str>) -> (&str, &Path) {
        let ends = |name: &str| self.0.get(name.len()..).is_some_and(|rest| rest.starts_with('='));
        let known = names.filter(|name| self.0.starts_with(name) && ends(name)).map(str::len).max();
        let at = known.or_else(|| self.0.find('=')).unwrap_or(self.0.len());
        (&self.0[..at], Path::new(self.0.get(at + 1..).unwrap_or_default()))
    }
}

/// A name and a file, none of them empty.
fn named_file(text: &str) -> Result<NamedFile, String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok(NamedFile(text.to_owned())),
        _ => Err("expected NAME=FILE.npy".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_and_files_are_split_behind_a_name_of_the_model() {
        let split = |text: &str, names: &[&str]| {
            let named = named_file(text).unwrap();
            let (name, file) = named.split(names.iter().copied());
            (name.to_owned(), file.to_str().unwrap().to_owned())
        };
        let of = |name: &str, file: &str| (name.to_owned(), file.to_owned());
        assert_eq!(split("x=a=b.npy", &["x", "y"]), of("x", "a=b.npy"));
        assert_eq!(split("x=a=b.npy", &["x", "x=a", "x=a=b"]), of("x=a", "b.npy"));
        assert_eq!(split("z=a=b.npy", &["x", ""]), of("z", "a=b.npy"));
        assert_eq!(split("\u{e9}=b", &["\u{e9}"]), of("\u{e9}", "b"));
        for bad in ["x", "=a.npy", "x=", ""] {
            assert!(named_file(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rates_are_values_or_a_file() {
        assert_eq!(rates("gflops=270,gbps=33.5").unwrap(), RatesArg::Values { gflops: 270.0, gbps: 33.5 });
        assert_eq!(rates("a=b,c.json").unwrap(), RatesArg::File(PathBuf::from("a=b,c.json")));
        for bad in
            ["gflops=1", "gflops=1,gbps=0", "gflops=1,gbps=x", "gflops=1,gbps=2,gbps=3", "gbps=inf,gflops=1"]
        {
            assert!(rates(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_synopsis_of_the_report_has_every_option() {
        let documented = include_str!("../../docs/REPORT.md");
        let synopsis = documented.split("```").nth(1).expect("a synopsis");
        let command = Cli::command();
        let report = command.find_subcommand("report").expect("the subcommand");
        for option in report.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(synopsis.contains(&format!("--{option}")), "docs/REPORT.md lacks --{option}");
        }
    }

    #[test]
    fn passes_are_separated_by_commas() {
        let cli = Cli::try_parse_from(["nestjit", "run", "m", "--disable-pass", "A,B"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert_eq!(run.model.passes.disable_pass, ["A", "B"]);
        assert!(Cli::try_parse_from(["nestjit", "bench", "m", "--iterations", "0"]).is_err());
    }
}
