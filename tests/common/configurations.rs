//! The table of configurations: every way to compile that must not change what a model computes. Tests draw from it;
//! what they compile, and how close results must be to which reference, is theirs.
//!
//! A configuration says everything but the number of threads, over which results must be equal bit by bit: [`run`]
//! compiles for several and compares them.

use nestjit::machine::Isa;
use nestjit::passes::PIPELINE;
use nestjit::{Compiler, Executable, Model, Options, RowRings, Tensor};

/// Numbers of threads that share work evenly, unevenly, and are more than most loops have parts or machines have cores.
pub const THREADS: [usize; 5] = [1, 2, 3, 5, 64];

const FUSION: &str = "OpFusion";

/// A way to compile, but for the number of threads.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Configuration {
    /// The widest vector tier; a CPU that has less uses what it has.
    pub isa: Isa,
    /// Whether dot products of bytes are used, where the CPU has them in vectors of the tier.
    pub vnni: bool,
    /// Whether OpFusion runs.
    pub fused: bool,
    pub row_rings: RowRings,
    /// A pass other than OpFusion that does not run.
    pub without: Option<&'static str>,
}

impl Configuration {
    /// What a user gets who says nothing.
    pub fn usual() -> Configuration {
        Configuration { isa: Isa::Avx512, vnni: true, fused: true, row_rings: RowRings::Auto, without: None }
    }

    pub fn compiler(&self, threads: usize) -> Compiler {
        let options = Options { verify_passes: true, row_rings: self.row_rings, ..Options::default() };
        Compiler::with_options(options)
            .threads(threads)
            .isa(self.isa.min(Isa::host()))
            .vnni(self.vnni)
            .disable_passes(self.without)
            .disable_passes((!self.fused).then_some(FUSION))
    }
}

/// Vector tiers, with dot products of bytes and without; no CPU has these in 128 bits only.
const TIERS: [(Isa, bool); 5] =
    [(Isa::Avx512, true), (Isa::Avx512, false), (Isa::Avx2, true), (Isa::Avx2, false), (Isa::Simd128, false)];

/// The table: vector tiers and dot products x fused or not x rings of rows x each pass off.
pub fn table() -> Vec<Configuration> {
    let mut table = Vec::new();
    for without in switches() {
        for (isa, vnni) in TIERS {
            for fused in [true, false] {
                for row_rings in [RowRings::Auto, RowRings::On, RowRings::Off] {
                    table.push(Configuration { isa, vnni, fused, row_rings, without });
                }
            }
        }
    }
    table
}

/// Nothing off, then each pass but OpFusion, once.
fn switches() -> Vec<Option<&'static str>> {
    let mut names: Vec<&str> = PIPELINE.iter().map(|pass| pass.name).filter(|name| *name != FUSION).collect();
    names.sort_unstable();
    names.dedup();
    std::iter::once(None).chain(names.into_iter().map(Some)).collect()
}

/// A fixed sample for what bears this name: for each pass that can be off, one row of the table, drawn by the name.
pub fn one_for_each_pass(name: &str) -> Vec<Configuration> {
    let (table, mut draw) = (table(), Draw::new(name));
    let of = |without| table.iter().filter(move |c| c.without == without).copied().collect::<Vec<_>>();
    switches().into_iter().map(|without| draw.one(&of(without))).collect()
}

/// Rows in which any two choices meet (a pass off or none, a tier, fused or not, rings): for each pass and tier one row,
/// whose other choices turn with both, as a Latin square does. Where they begin depends on the name, so that three
/// choices meet in some case.
pub fn pairwise(name: &str) -> Vec<Configuration> {
    let table = table();
    let others = table.len() / (switches().len() * TIERS.len());
    let begin = Draw::new(name).one(&std::array::from_fn::<usize, 64, _>(|i| i));
    table
        .chunks(others)
        .enumerate()
        .map(|(i, rows)| rows[(i / TIERS.len() + i % TIERS.len() + begin) % others])
        .collect()
}

/// A fixed sample of `count` rows for what bears this name.
pub fn some(name: &str, count: usize) -> Vec<Configuration> {
    let (table, mut draw) = (table(), Draw::new(name));
    (0..count).map(|_| draw.one(&table)).collect()
}

/// One thread, and another number that depends on the name.
pub fn two_numbers_of_threads(name: &str) -> [usize; 2] {
    [1, Draw::new(name).one(&THREADS[1..])]
}

/// The outputs, which must be the same bits for all these numbers of threads, and the last executable.
pub fn run(
    configuration: Configuration,
    threads: &[usize],
    model: &Model,
    inputs: &[Tensor],
) -> Result<(Vec<Tensor>, Executable), String> {
    let mut first: Option<Vec<Tensor>> = None;
    let mut last = None;
    for threads in threads {
        let at = |e: nestjit::Error| format!("{configuration:?}, {threads} threads: {e}");
        let executable = configuration.compiler(*threads).compile(model).map_err(at)?;
        let outputs = executable.run(inputs).map_err(at)?;
        let expected = first.get_or_insert_with(|| outputs.clone());
        if *expected != outputs {
            return Err(format!("{configuration:?}: other bits with {threads} threads"));
        }
        last = Some(executable);
    }
    Ok((first.expect("there is a number of threads"), last.expect("there is a number of threads")))
}

/// Choices that depend on a name only (SplitMix64 behind FNV-1a), so that new rows and names leave others alone.
struct Draw(u64);

impl Draw {
    fn new(name: &str) -> Draw {
        Draw(
            name.bytes()
                .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)),
        )
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        of[((z ^ (z >> 31)) % of.len() as u64) as usize]
    }
}
