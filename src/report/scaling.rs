//! How long a run takes on 1 to 128 cores of a machine, predicted from the plan: the work of each nest and how it is cut
//! into parts, the bytes that it moves through what cores share, and handing work over.
//!
//! The program is the one that was compiled, whatever the number of cores; only its loops are cut for each number. What
//! was measured is in `roofline` and in traces.

use nestjit_ir::{Program, Role};
use serde::Serialize;

use super::traffic::{self, Traffic};
use crate::machine::MachineModel;
use crate::passes::{Share, cost, shares};

/// The numbers of cores that are looked at.
const CORES: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// How much faster than planning takes them to be sums of products are, as a rule: register tiles reach three quarters of
/// the peak.
const PRODUCTS: f64 = cost::SHARE / 0.75;

/// The share of the time for moving bytes that computing does not hide, or the other way round.
const EXPOSED: f64 = 0.3;

/// The share of a cache that values can take and still be there.
const KEPT: f64 = 0.5;

/// How many threads it takes to make handing work over twice as long: each changes lines of a cache that others read.
const CROWD: f64 = 64.0;

/// Twice as many cores must be so much faster for a model to scale to them.
const SCALES: f64 = 1.2;

/// What a run takes on a number of cores.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Point {
    /// The cores, each with a thread.
    pub cores: usize,
    /// Milliseconds of all nests.
    pub ms: f64,
    /// How many times as fast as one core it is.
    pub speedup: f64,
    /// The share of the time that goes into statements that one thread executes.
    pub serial: f64,
    /// That in which some threads wait for others that have more iterations.
    pub uneven: f64,
    /// That in which cores wait for memory and caches that they share.
    pub memory: f64,
    /// That for handing work over.
    pub hand_over: f64,
}

/// What keeps a model from being faster on more cores.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// Statements that one thread executes.
    Serial,
    /// Loops with too few iterations for all threads.
    Iterations,
    /// Memory, and caches that cores share.
    Memory,
    /// Handing work over.
    HandOver,
}

impl Limit {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Limit::Serial => "nests or steps that one thread executes",
            Limit::Iterations => "loops with too few independent iterations",
            Limit::Memory => "memory and shared caches",
            Limit::HandOver => "handing work over to threads",
        }
    }
}

/// The prediction for a model.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Scaling {
    /// The machine.
    pub machine: String,
    /// The cores that it has; what is said of more is about one that is like it otherwise.
    pub machine_cores: usize,
    /// For 1, 2, 4, .. 128 cores.
    pub points: Vec<Point>,
    /// The most of these cores that are worth having.
    pub scales_to: usize,
    /// What is in the way of more; `null` if 128 are worth it.
    pub limit: Option<Limit>,
}

/// Nanoseconds of one or all nests, by what they are for.
#[derive(Clone, Copy, Default)]
struct Time {
    all: f64,
    serial: f64,
    uneven: f64,
    memory: f64,
    hand_over: f64,
}

impl Scaling {
    /// The prediction for a compiled program.
    pub fn new(program: &Program, machine: &MachineModel) -> Scaling {
        let traffic = traffic::of_program(program, machine.l2_bytes());
        let weights: usize =
            program.buffers.iter().filter(|b| b.role == Role::Const).map(|b| b.storage_bytes()).sum();
        let model = ScalingModel { machine, weights };
        let points = CORES.map(|cores| {
            let mut sum = Time::default();
            for (nest, traffic) in program.nests.iter().zip(&traffic) {
                let time = model.nest(&shares(nest, machine, cores), traffic, cores);
                sum.all += time.all;
                sum.serial += time.serial;
                sum.uneven += time.uneven;
                sum.memory += time.memory;
                sum.hand_over += time.hand_over;
            }
            let share = |part: f64| if sum.all > 0.0 { part / sum.all } else { 0.0 };
            Point {
                cores,
                ms: sum.all / 1e6,
                speedup: 1.0,
                serial: share(sum.serial),
                uneven: share(sum.uneven),
                memory: share(sum.memory),
                hand_over: share(sum.hand_over),
            }
        });
        Scaling::of_points(machine.name.clone(), machine.cores, points.to_vec())
    }

    /// That of a model whose programs run one after the other; `None` if there are none.
    pub fn of_programs(programs: impl IntoIterator<Item = Scaling>) -> Option<Scaling> {
        let add = |sum: Scaling, more: Scaling| {
            let points = sum.points.iter().zip(&more.points).map(|(a, b)| {
                let ms = a.ms + b.ms;
                let mean =
                    |of: fn(&Point) -> f64| if ms > 0.0 { (a.ms * of(a) + b.ms * of(b)) / ms } else { 0.0 };
                Point {
                    ms,
                    serial: mean(|p| p.serial),
                    uneven: mean(|p| p.uneven),
                    memory: mean(|p| p.memory),
                    hand_over: mean(|p| p.hand_over),
                    ..*a
                }
            });
            Scaling::of_points(sum.machine.clone(), sum.machine_cores, points.collect())
        };
        programs.into_iter().reduce(add)
    }

    fn of_points(machine: String, machine_cores: usize, mut points: Vec<Point>) -> Scaling {
        let one = points.first().map_or(0.0, |p| p.ms);
        for point in &mut points {
            point.speedup = if point.ms > 0.0 { one / point.ms } else { 1.0 };
        }
        let stop = points.windows(2).position(|pair| pair[1].speedup < SCALES * pair[0].speedup);
        let scales_to = points.get(stop.unwrap_or(points.len().saturating_sub(1))).map_or(1, |p| p.cores);
        let limit = stop.map(|at| points[at + 1].limit());
        Scaling { machine, machine_cores, points, scales_to, limit }
    }
}

impl Point {
    /// What most of the time is lost to.
    fn limit(&self) -> Limit {
        let lost = [
            (self.serial, Limit::Serial),
            (self.uneven, Limit::Iterations),
            (self.memory, Limit::Memory),
            (self.hand_over, Limit::HandOver),
        ];
        lost.into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).map_or(Limit::Serial, |most| most.1)
    }
}

struct ScalingModel<'m> {
    machine: &'m MachineModel,
    /// The bytes of all constants, which are read once in a run.
    weights: usize,
}

impl ScalingModel<'_> {
    /// What a nest takes on so many cores.
    fn nest(&self, shares: &[Share], traffic: &Traffic, cores: usize) -> Time {
        let mut time = Time::default();
        let (mut compute, mut active) = (0.0, 1);
        for share in shares {
            let work = PRODUCTS * share.work.products + share.work.other;
            if share.parts < 2 {
                compute += work;
                if cores > 1 {
                    time.serial += work;
                }
                continue;
            }
            let threads = share.parts.min(cores);
            active = active.max(threads);
            compute += work * share.fraction;
            // Threads that have nothing to do, or less than others: what is not worth a thread is no lack of iterations.
            time.uneven += work * (share.fraction - 1.0 / share.worth.min(cores) as f64).max(0.0);
            time.hand_over += self.machine.hand_over_ns * (1.0 + threads as f64 / CROWD);
        }
        let moving = self.moving(traffic, active);
        let (more, less) = if moving > compute { (moving, compute) } else { (compute, moving) };
        time.memory = (more + EXPOSED * less - compute).max(0.0);
        time.all = more + EXPOSED * less + time.hand_over;
        time
    }

    /// Nanoseconds for bringing what a nest reads to the cores, and back.
    fn moving(&self, traffic: &Traffic, active: usize) -> f64 {
        let [_, l2, l3] = &self.machine.caches;
        let threads = active as f64;
        // Last-level caches of groups of cores: those that are active have theirs.
        let last = l3.bytes as f64 * active.div_ceil(l3.sharers.max(1)) as f64;
        let of_l3 = threads * l3.rate * self.machine.ghz;
        let of_l2 = threads * l2.rate * self.machine.ghz;
        let of_memory = self.machine.memory_gbytes(active);
        let rate = |all: f64| {
            if all <= KEPT * l2.bytes as f64 && active == 1 {
                of_l2
            } else if all <= KEPT * last {
                of_l3
            } else {
                of_memory.min(of_l3)
            }
        };
        let values = (traffic.read_bytes() + traffic.written_bytes()) as f64;
        traffic.weights as f64 / rate(self.weights as f64) + values / rate(values)
    }
}

#[cfg(test)]
mod tests {
    use nestjit_ir::parse::parse;

    use super::*;

    fn machine(name: &str) -> MachineModel {
        MachineModel::named(name, None).unwrap()
    }

    fn scaling(text: &str, name: &str) -> Scaling {
        Scaling::new(&parse(text).unwrap(), &machine(name))
    }

    const PRODUCT: &str = "nest @f(in %x: f32[2048,1024], in %w: f32[1024,1024], out %y: f32[2048,1024]) {
        for i < 2048 { for j < 1024 { temp %t: f32  %t = 0.0  for k < 1024 { %t += %x[i,k] * %w[k,j] }  %y[i,j] = %t } } }";
    const STREAM: &str = "nest @f(in %x: f32[64000000], out %y: f32[64000000]) {
        for i < 64000000 { %y[i] = %x[i] + 1.0 } }";
    const RECURRENCE: &str = "nest @f(in %x: f32[1000,512], out %y: f32[512]) {
        for j < 512 { %y[j] = 0.0 }  for t < 1000 { for j < 512 { %y[j] = tanh(%y[j]) + %x[t,j] } } }";
    const FEW: &str = "nest @f(in %x: f32[3,1000000], out %y: f32[3]) {
        for i < 3 { %y[i] = 0.0 for k < 1000000 { %y[i] += exp(%x[i,k]) } } }";

    #[test]
    fn what_stops_a_model_is_named() {
        let product = scaling(PRODUCT, "zen5");
        assert!(product.points[6].speedup > 40.0 && product.scales_to >= 64, "{product:?}");
        let stream = scaling(STREAM, "zen5");
        assert_eq!(stream.limit, Some(Limit::Memory), "{stream:?}");
        assert!((8..=32).contains(&stream.scales_to), "{stream:?}");
        let recurrence = scaling(RECURRENCE, "zen5");
        assert_eq!((recurrence.scales_to, recurrence.limit), (1, Some(Limit::Serial)), "{recurrence:?}");
        let few = scaling(FEW, "zen5");
        assert_eq!((few.scales_to, few.limit), (4, Some(Limit::Iterations)), "{few:?}");
    }

    #[test]
    fn more_cores_are_never_much_slower_and_never_faster_than_their_number() {
        for known in crate::machine::KNOWN {
            for text in [PRODUCT, STREAM, RECURRENCE, FEW] {
                let scaling = scaling(text, known.name);
                assert_eq!(scaling.points[0].speedup, 1.0);
                for pair in scaling.points.windows(2) {
                    assert!(pair[1].ms <= 1.1 * pair[0].ms, "{} {pair:?}", known.name);
                    assert!(pair[1].speedup <= 1.1 * pair[1].cores as f64, "{} {pair:?}", known.name);
                    let lost = [pair[1].serial, pair[1].uneven, pair[1].memory, pair[1].hand_over];
                    assert!(lost.iter().all(|share| (0.0..=1.0).contains(share)), "{pair:?}");
                }
            }
        }
    }

    #[test]
    fn programs_that_follow_each_other_add_up() {
        let (a, b) = (scaling(PRODUCT, "zen5"), scaling(RECURRENCE, "zen5"));
        let both = Scaling::of_programs([a.clone(), b.clone()]).unwrap();
        for ((a, b), both) in a.points.iter().zip(&b.points).zip(&both.points) {
            assert_eq!(both.ms, a.ms + b.ms);
        }
        assert!(both.points[7].speedup < a.points[7].speedup);
        assert_eq!(Scaling::of_programs([]), None);
    }
}
