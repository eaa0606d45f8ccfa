//! The fusion report: which operations of a model became which nests, what that saves, and what was not fused and
//! why. [`FusionReport`] is plain data; `text`, `html` and `dot` show it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::iter::Sum;

use nestjit_ir::visit::work;
use nestjit_ir::{BufId, Program, Role};
use serde::Serialize;

use super::format::name;
use super::pattern;
use super::programs::ReportedPart;
use super::refusal;
use super::roofline::{Balance, Beyond, Figures, Measured, NestTime, Roofline};
use super::scaling::Scaling;
use super::sentence;
use super::traffic::{self, Traffic};
use super::{compare::Variant, flops};
use crate::graph::{ModelOp, ModelOps};
use crate::options::Precision;
use crate::remark::Remark;
use crate::runtime::executable::Executable;
use crate::runtime::trace::Trace;
use crate::unit::Unit;

/// What became of a model. Serialised, it is an element of `models` in what `nestjit report --json` prints;
/// docs/REPORT.md describes every field.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct FusionReport {
    /// The model's name.
    pub model: String,
    /// The operations of the model that a run computes.
    pub ops: usize,
    /// The nests that they became, each one native function.
    pub nests: usize,
    /// The share of nests that compute two or more operations.
    pub coverage_nests: f64,
    /// The share of operations in such nests.
    pub coverage_ops: f64,
    /// Operations per nest.
    pub efficiency: f64,
    /// The bytes of activations read and written if every operation were computed on its own.
    pub traffic_unfused_bytes: usize,
    /// The bytes of activations that the nests read and write.
    pub traffic_fused_bytes: usize,
    /// The bytes of weights that the nests read.
    pub weight_bytes: usize,
    /// The share of the unfused traffic that the program does without, by fusion and by graph passes.
    pub traffic_reduction: f64,
    /// Groups of equal operations, the most frequent first.
    pub patterns: Vec<Pattern>,
    /// The nests in execution order.
    pub groups: Vec<Group>,
    /// Every pair of nests that hands something over through memory.
    pub refusals: Vec<Refusal>,
    /// What ran, if the model is several programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<ReportedPart>>,
    /// The same model with less fusion, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare: Option<Vec<Variant>>,
    /// What the runs took, if they were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// The vector tier that code was generated for, and `amx` if that includes matrix tiles.
    #[serde(skip)]
    pub isa: String,
    /// The machine and the threads that were planned for, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_for: Option<PlannedFor>,
    /// What contractions of `f32` were allowed to compute in, if that is less than `f32`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<&'static str>,
    /// The passes that were switched off.
    #[serde(skip)]
    pub disabled_passes: Vec<String>,
    /// How many operations were computed at compile time.
    #[serde(skip)]
    pub folded: usize,
    /// The buffers between the nests.
    #[serde(skip)]
    pub compiled: Totals,
    /// What a run would take on more cores, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// What the balance of the nests was judged by.
    #[serde(rename = "machine", skip_serializing_if = "Option::is_none")]
    pub roofline: Option<Roofline>,
}

/// A machine and threads that code was planned for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PlannedFor {
    /// The name of the machine.
    pub machine: String,
    /// Its cores.
    pub cores: usize,
    /// The threads of a run.
    pub threads: usize,
}

impl fmt::Display for PlannedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PlannedFor { machine, cores, threads } = self;
        let plural = if *threads == 1 { "thread" } else { "threads" };
        write!(f, "{} of {cores} cores, {threads} {plural}", name(machine))
    }
}

/// Groups of the same operations in the same order.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Pattern {
    /// `Conv_BatchNorm_Relu`.
    pub pattern: String,
    /// How many nests have it.
    pub count: usize,
    /// Operations per nest: patterns of more than three operations share a name if they start alike.
    pub average_ops: f64,
    /// Floating-point operations per byte, weights included.
    pub intensity: f64,
    /// The bytes of activations that these nests save.
    pub bytes_saved: i64,
}

/// A nest and the operations that it computes.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Group {
    /// The number of its program, from 1, if the model is several programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<usize>,
    /// The nest's name.
    pub nest: String,
    /// What it is made of: `Conv_BatchNorm_Relu`.
    pub pattern: String,
    /// The same in the words of TensorFlow's remapper; `null` for single operations.
    pub remapper: Option<String>,
    /// The model's operations, in its order.
    pub ops: Vec<GroupOp>,
    /// The runtime functions that it calls: what could not be a loop nest.
    pub calls: Vec<String>,
    /// Multiply-accumulates of a run.
    pub macs: f64,
    /// Floating-point operations of a run.
    pub flops: f64,
    /// The bytes of activations that it reads.
    pub read_bytes: usize,
    /// The bytes of activations that it writes.
    pub written_bytes: usize,
    /// The bytes of weights that it reads.
    pub weight_bytes: usize,
    /// What its operations would read and write on their own, less what it reads and writes. Negative if a nest
    /// moves more, as one that changes a layout does.
    pub bytes_saved: i64,
    /// Floating-point operations per byte read or written, weights included.
    pub intensity: f64,
    /// What it multiplies in dot products, other than numbers of `f32` and wider: `bf16`, `int8`, or in matrix tiles
    /// `bf16 in tiles`, `int8 in tiles`; absent if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub computes: Vec<String>,
    /// Loops that are not part of vector code, `variable: reason`; absent if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scalar_loops: Vec<String>,
    /// How often innermost statements run in each of these, in one run.
    #[serde(skip)]
    pub scalar_steps: Vec<f64>,
    /// How often innermost statements run in the whole nest, in one run.
    #[serde(skip)]
    pub steps: f64,
    /// What limits it on this machine; absent if the machine was not measured, or was busy.
    #[serde(rename = "class", skip_serializing_if = "Option::is_none")]
    pub balance: Option<Balance>,
    /// How long it takes, if that was measured.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub time: Option<NestTime>,
}

/// An operation of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GroupOp {
    /// Its name in the model.
    pub name: String,
    /// What it is.
    pub op: String,
}

/// Two nests that were not fused although one reads what the other writes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Refusal {
    /// The nest that writes.
    pub producer: String,
    /// The nest that reads.
    pub consumer: String,
    /// Why: see [`refusal::CODES`].
    pub code: String,
    /// The bytes that would stay out of memory.
    pub bytes: usize,
    /// The reason as a sentence.
    #[serde(skip)]
    pub message: String,
}

/// A program in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Totals {
    /// Nests, each one native function.
    pub kernels: usize,
    /// Buffers between nests.
    pub temporaries: usize,
    /// The bytes that all of these buffers take together.
    pub temporary_bytes: usize,
    /// The size of the arena that they share; buffers that do not live at the same time overlap.
    pub arena_bytes: usize,
}

impl Sum for Totals {
    fn sum<I: Iterator<Item = Totals>>(programs: I) -> Totals {
        programs.fold(Totals::default(), |a, b| Totals {
            kernels: a.kernels + b.kernels,
            temporaries: a.temporaries + b.temporaries,
            temporary_bytes: a.temporary_bytes + b.temporary_bytes,
            arena_bytes: a.arena_bytes + b.arena_bytes,
        })
    }
}

/// What a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The operations of the model; none if it was given as nests.
    pub ops: &'a ModelOps,
    /// What was compiled.
    pub unit: &'a Unit,
    /// What passes did and declined to do.
    pub remarks: &'a [Remark],
    /// The passes that were switched off.
    pub disabled_passes: &'a [String],
    /// The size of the second-level cache.
    pub cache: usize,
}

impl Executable {
    /// What the model became: its nests, what they save, and what was not fused and why.
    pub fn fusion_report(&self) -> FusionReport {
        let subject = Subject {
            model: self.model(),
            ops: self.model_ops(),
            unit: self.unit(),
            remarks: self.remarks(),
            disabled_passes: &self.options().disabled_passes,
            cache: self.target().l2_bytes(),
        };
        let precision = Some(self.options().precision).filter(|p| *p != Precision::F32).map(Precision::name);
        let tiles = if self.target().amx { ", amx" } else { "" };
        let isa = format!("{}{tiles}", self.isa().name());
        let asked = self.options().machine.is_some() || self.options().threads.is_some();
        let planned_for = asked.then(|| PlannedFor {
            machine: self.target().name.clone(),
            cores: self.target().cores,
            threads: self.threads(),
        });
        let mut report = FusionReport { isa, planned_for, precision, ..FusionReport::new(&subject) };
        for (i, group) in report.groups.iter_mut().enumerate() {
            group.computes = self.computes(i).iter().map(|c| (*c).to_owned()).collect();
            let loops = self.scalar_loops(i);
            group.scalar_loops =
                loops.iter().map(|l| format!("{}: {}", l.var, sentence::refused(l.why))).collect();
            group.scalar_steps = loops.iter().map(|l| l.steps).collect();
        }
        report
    }
}

impl FusionReport {
    /// The report of a compiled unit.
    pub fn new(subject: &Subject<'_>) -> FusionReport {
        let program = &subject.unit.program;
        let members = members(subject.ops, program);
        let traffic = traffic::of_program(program, subject.cache);
        let groups = groups(subject, &members, &traffic);
        let ops = match subject.ops.ops.len() {
            0 => groups.iter().flat_map(|g| &g.ops).map(|op| &op.name).collect::<BTreeSet<_>>().len(),
            n => n,
        };
        let fused = |g: &&Group| g.ops.len() > 1;
        let covered: BTreeSet<&str> =
            groups.iter().filter(fused).flat_map(|g| &g.ops).map(|op| op.name.as_str()).collect();
        let moved = |g: &Group| g.read_bytes + g.written_bytes;
        let traffic_fused_bytes: usize = groups.iter().map(moved).sum();
        let saved: i64 = groups.iter().map(|g| g.bytes_saved).sum();
        let unfused = usize::try_from(traffic_fused_bytes as i64 + saved).unwrap_or(0);
        FusionReport {
            model: subject.model.to_owned(),
            ops,
            nests: groups.len(),
            coverage_nests: ratio(groups.iter().filter(fused).count() as f64, groups.len() as f64),
            coverage_ops: ratio(covered.len() as f64, ops as f64),
            efficiency: ratio(ops as f64, groups.len() as f64),
            traffic_unfused_bytes: unfused,
            traffic_fused_bytes,
            weight_bytes: groups.iter().map(|g| g.weight_bytes).sum(),
            traffic_reduction: ratio(saved as f64, unfused as f64),
            patterns: patterns(&groups),
            refusals: refusal::list(program, &traffic, subject.remarks, subject.disabled_passes),
            groups,
            scaling: None,
            parts: None,
            compare: None,
            measured: None,
            isa: String::new(),
            planned_for: None,
            precision: None,
            disabled_passes: subject.disabled_passes.to_vec(),
            folded: subject.ops.folded,
            compiled: Totals::of(subject.unit),
            roofline: None,
        }
    }

    /// The share of nests that compute a single operation.
    pub fn single_op_share(&self) -> f64 {
        let single = self.groups.iter().filter(|g| g.ops.len() == 1).count();
        ratio(single as f64, self.nests as f64)
    }

    /// Floating-point operations per byte over the whole model, weights included.
    pub fn intensity(&self) -> f64 {
        let flops: f64 = self.groups.iter().map(|g| g.flops).sum();
        ratio(flops, (self.traffic_fused_bytes + self.weight_bytes) as f64)
    }

    /// Adds the times of measured runs. A nest that was faster than arithmetic can be shows that the machine was busy when its
    /// figures were measured: then they judge nothing.
    pub fn measure(&mut self, trace: &Trace, mut roofline: Roofline) {
        let times: Vec<f64> = trace.medians().iter().map(|t| t.as_secs_f64() * 1e3).collect();
        let all: f64 = times.iter().sum();
        for (group, &ms) in self.groups.iter_mut().zip(&times) {
            let bytes = group.read_bytes + group.written_bytes + group.weight_bytes;
            group.time = Some(NestTime::new(ms, all, group.flops, bytes, &roofline));
        }
        let beyond = |group: &Group| group.time.and_then(|time| time.beyond);
        let too_low = self.groups.iter().any(|group| beyond(group) == Some(Beyond::FiguresTooLow));
        if too_low && roofline.figures == Figures::Measured {
            roofline.figures = Figures::Busy;
            self.classify(roofline);
        }
        self.measured = Some(Measured { runs: trace.runs, nests_ms: all, roofline });
    }

    /// Judges the balance of each nest by what the machine can do, if that is known.
    pub fn classify(&mut self, roofline: Roofline) {
        for group in &mut self.groups {
            group.balance = roofline.balance(group.intensity);
        }
        self.roofline = Some(roofline);
    }
}

/// `a / b`, and 0 where there is nothing.
pub(super) fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

/// For each operation of the model, the nests that compute it, in order.
pub(super) fn members(ops: &ModelOps, program: &Program) -> Vec<Vec<usize>> {
    let mut nests: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, nest) in program.nests.iter().enumerate() {
        for op in &nest.ops {
            // `Conv conv1`: the operation, and the node that computes it.
            let name = op.split_once(' ').map_or(op.as_str(), |(_, name)| name);
            nests.entry(name).or_default().push(at);
        }
    }
    let mut readers: Vec<Option<usize>> = vec![None; ops.values.len()];
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); ops.ops.len()];
    for (at, op) in ops.ops.iter().enumerate().rev() {
        let found: BTreeSet<usize> =
            op.nodes.iter().filter_map(|n| nests.get(n.as_str())).flatten().copied().collect();
        members[at] = found.into_iter().collect();
        if members[at].is_empty() {
            // What vanished while lowering is part of what reads it.
            let reader = op.outputs.iter().find_map(|v| readers[*v]);
            members[at] = reader.and_then(|r| members[r].first().copied()).into_iter().collect();
        }
        for v in &op.inputs {
            readers[*v] = Some(at);
        }
    }
    members
}

fn groups(subject: &Subject<'_>, members: &[Vec<usize>], traffic: &[Traffic]) -> Vec<Group> {
    let program = &subject.unit.program;
    let mut ops: Vec<Vec<&ModelOp>> = vec![Vec::new(); program.nests.len()];
    let mut alone = vec![0usize; program.nests.len()];
    for (op, nests) in subject.ops.ops.iter().zip(members) {
        for at in nests {
            ops[*at].push(op);
        }
        // What an operation in several nests would move on its own counts where it is finished.
        if let Some(last) = nests.last() {
            alone[*last] += traffic::of_op(subject.ops, op);
        }
    }
    let nests = program.nests.iter().zip(traffic).enumerate();
    nests
        .map(|(at, (nest, traffic))| {
            let listed = |op: &String| {
                let (op, name) = op.split_once(' ').unwrap_or((op, &nest.name));
                GroupOp { name: name.to_owned(), op: op.to_owned() }
            };
            let of_model = |op: &&ModelOp| GroupOp { name: op.name.clone(), op: op.kind.to_owned() };
            let known = !subject.ops.ops.is_empty();
            let list: Vec<GroupOp> = match known {
                true => ops[at].iter().map(of_model).collect(),
                false => nest.ops.iter().map(listed).collect(),
            };
            let kinds: Vec<&str> = list.iter().map(|op| op.op.as_str()).collect();
            let (read, written) = (traffic.read_bytes(), traffic.written_bytes());
            let flops = flops::count_nest(program, nest);
            let moved = (read + written) as i64;
            Group {
                program: None,
                nest: nest.name.clone(),
                pattern: if kinds.is_empty() { "(no operation)".to_owned() } else { pattern::name(&kinds) },
                remapper: pattern::remapper(subject.ops, &ops[at]),
                ops: list,
                calls: traffic::calls(nest),
                macs: flops::count_macs(program, nest),
                flops,
                read_bytes: read,
                written_bytes: written,
                computes: Vec::new(),
                scalar_loops: Vec::new(),
                scalar_steps: Vec::new(),
                steps: work(&nest.body) as f64,
                weight_bytes: traffic.weights,
                bytes_saved: if known { alone[at] as i64 - moved } else { 0 },
                intensity: ratio(flops, (read + written + traffic.weights) as f64),
                balance: None,
                time: None,
            }
        })
        .collect()
}

/// Groups of equal operations, the most frequent first.
pub(super) fn patterns(groups: &[Group]) -> Vec<Pattern> {
    let mut by_name: BTreeMap<&str, Vec<&Group>> = BTreeMap::new();
    for group in groups {
        by_name.entry(&group.pattern).or_default().push(group);
    }
    let mut patterns: Vec<Pattern> = by_name
        .into_iter()
        .map(|(name, groups)| {
            let ops: usize = groups.iter().map(|g| g.ops.len()).sum();
            let flops: f64 = groups.iter().map(|g| g.flops).sum();
            let bytes: usize = groups.iter().map(|g| g.read_bytes + g.written_bytes + g.weight_bytes).sum();
            Pattern {
                pattern: name.to_owned(),
                count: groups.len(),
                average_ops: ratio(ops as f64, groups.len() as f64),
                intensity: ratio(flops, bytes as f64),
                bytes_saved: groups.iter().map(|g| g.bytes_saved).sum(),
            }
        })
        .collect();
    // Stable, so that patterns of the same count stay in the order of their names.
    patterns.sort_by_key(|p| std::cmp::Reverse(p.count));
    patterns
}

impl Totals {
    /// The numbers of a unit. Buffers that no nest touches any more do not count.
    pub fn of(unit: &Unit) -> Totals {
        let program = &unit.program;
        let touched: BTreeSet<BufId> = program
            .nests
            .iter()
            .flat_map(|nest| nestjit_ir::access::accesses(&nest.body))
            .map(|access| access.buf)
            .filter(|id| program.buf(*id).role == Role::Temp)
            .collect();
        let temporary_bytes = touched.iter().map(|id| program.buf(*id).storage_bytes()).sum();
        Totals {
            kernels: program.nests.len(),
            temporaries: touched.len(),
            temporary_bytes,
            arena_bytes: unit.plan.as_ref().map_or(temporary_bytes, |plan| plan.bytes),
        }
    }
}
