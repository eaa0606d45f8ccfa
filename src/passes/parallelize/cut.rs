//! Into which parts iterations are cut: how many threads are worth waking, and which grid of parts over one loop or
//! several keeps them equally busy. Which loops may be cut, and what an iteration takes, is known to the caller.

use crate::machine::MachineModel;

/// The least work that a thread must get for handing it over to pay, in relation to what handing over takes.
const WORTH: f64 = 4.0;

/// The least work of a part if a thread gets several, in the same relation: calling the code of a part, and taking it, are
/// lost in it.
const WORTH_PART: f64 = 16.0;

/// The most parts for each thread: then a core that is slower than the others leaves them a part of its work.
const PARTS_PER_THREAD: usize = 4;

/// What a part takes besides its iterations, in relation to what handing work over takes.
const PER_PART: f64 = 0.2;

/// A loop that keeps so large a share of the threads busy is cut alone.
const EVEN: f64 = 0.9;

/// What the share must grow by for loops further inside to be cut instead, or for more loops to be cut together; of a
/// small share, that part of it.
const GAIN: f64 = 0.05;
const GAIN_OF_SMALL: f64 = 0.25;

/// The most loops that are cut together.
const MOST_LOOPS: usize = 3;

/// What is cut: positions of loops in the chain, ascending, and the number of parts of each.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Cut {
    pub loops: Vec<(usize, usize)>,
    /// The threads that are worth waking for all of the work.
    pub worth: usize,
}

impl Cut {
    /// The number of parts.
    pub fn parts(&self) -> usize {
        self.loops.iter().map(|l| l.1).product()
    }
}

/// What sharing work takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Costs {
    /// Nanoseconds to hand work over to a thread.
    hand_over: f64,
}

impl Costs {
    /// On a machine.
    pub fn on(machine: &MachineModel) -> Costs {
        Costs { hand_over: machine.hand_over_ns }
    }

    /// How many threads are worth waking for so many nanoseconds of work.
    pub fn worth(&self, nanoseconds: f64, threads: usize) -> usize {
        ((nanoseconds / (WORTH * self.hand_over)) as usize).clamp(1, threads.max(1))
    }

    /// The best cut of independent loops with these extents, outermost first, which do so many nanoseconds of work
    /// together: the outermost loop that keeps the threads about equally busy, or else several loops. `None` if there is
    /// nothing to share.
    pub fn choose(&self, extents: &[usize], nanoseconds: f64, threads: usize) -> Option<Cut> {
        let threads = self.worth(nanoseconds, threads);
        if threads < 2 || extents.iter().all(|e| *e < 2) {
            return None;
        }
        let work = Work { nanoseconds, threads, costs: *self };
        let mut best: Option<(f64, Vec<(usize, usize)>)> = None;
        for (at, &extent) in extents.iter().enumerate().filter(|e| *e.1 > 1) {
            let even = share(extent, threads);
            if best.as_ref().is_none_or(|b| gains(even, b.0)) {
                best = Some((even, vec![(at, extent.min(threads * work.parts_per_thread()))]));
            }
            if even > EVEN {
                break;
            }
        }
        let mut best = best?;
        for count in 2..=MOST_LOOPS.min(extents.len()) {
            if best.0 > EVEN {
                break;
            }
            for loops in choices(extents, count) {
                let (even, parts) = work.grid(&loops.iter().map(|at| extents[*at]).collect::<Vec<_>>());
                if gains(even, best.0) {
                    best = (even, loops.into_iter().zip(parts).collect());
                }
            }
        }
        best.1.retain(|l| l.1 > 1);
        Some(Cut { loops: best.1, worth: threads })
    }

    /// How long it takes, in nanoseconds, until all parts of a cut of so much work are done.
    pub fn time(&self, extents: &[usize], nanoseconds: f64, cut: &Cut) -> f64 {
        let chosen: Vec<usize> = cut.loops.iter().map(|l| extents[l.0]).collect();
        let parts: Vec<usize> = cut.loops.iter().map(|l| l.1).collect();
        Work { nanoseconds, threads: cut.worth, costs: *self }.time(&chosen, &parts)
    }
}

/// Whether a loop of this extent keeps the threads that its work is worth about equally busy.
pub(super) fn is_even(extent: usize, threads: usize) -> bool {
    share(extent, threads) > EVEN
}

/// The share of the threads that a loop of this extent keeps busy.
fn share(extent: usize, threads: usize) -> f64 {
    extent as f64 / (extent.div_ceil(threads) * threads) as f64
}

/// Whether a share is enough more than another.
fn gains(even: f64, than: f64) -> bool {
    even > than + GAIN.min(GAIN_OF_SMALL * than)
}

/// The choices of so many positions among loops that have iterations to share, ascending.
fn choices(extents: &[usize], count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for _ in 0..count {
        let longer = |choice: &Vec<usize>| -> Vec<Vec<usize>> {
            let first = choice.last().map_or(0, |at| at + 1);
            (first..extents.len())
                .filter(|at| extents[*at] > 1)
                .map(|at| [choice.as_slice(), &[at]].concat())
                .collect()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

/// What is to be shared by how many threads.
struct Work {
    nanoseconds: f64,
    threads: usize,
    costs: Costs,
}

impl Work {
    /// How many parts for each thread are long enough.
    fn parts_per_thread(&self) -> usize {
        ((self.nanoseconds / self.threads as f64 / (WORTH_PART * self.costs.hand_over)) as usize)
            .clamp(1, PARTS_PER_THREAD)
    }

    /// The best grid over loops with these extents, and the share of the threads that it keeps busy.
    fn grid(&self, extents: &[usize]) -> (f64, Vec<usize>) {
        let mut best = (f64::INFINITY, Vec::new());
        self.refine(extents, &mut Vec::new(), &mut best);
        let even = self.nanoseconds / (self.time(extents, &best.1) * self.threads as f64);
        (even, best.1)
    }

    /// Tries all sensible numbers of parts of the loops after those that have one.
    fn refine(&self, extents: &[usize], parts: &mut Vec<usize>, best: &mut (f64, Vec<usize>)) {
        let Some(&extent) = extents.get(parts.len()) else {
            let rounds = parts.iter().product::<usize>().div_ceil(self.threads);
            // Of two that are about as fast, the one with more parts for each thread.
            let bonus = 1.0 - 0.01 * rounds.min(self.parts_per_thread()) as f64;
            let time = self.time(extents, parts) * bonus;
            if time < best.0 {
                *best = (time, parts.clone());
            }
            return;
        };
        let most =
            (PARTS_PER_THREAD * self.threads / parts.iter().product::<usize>().max(1)).clamp(1, extent);
        let mut size = extent.div_ceil(most);
        while size <= extent {
            let count = extent.div_ceil(size);
            parts.push(count);
            self.refine(extents, parts, best);
            parts.pop();
            // The next size that makes fewer parts.
            size = if count > 1 { extent.div_ceil(count - 1) } else { extent + 1 };
        }
    }

    /// How long it takes, in nanoseconds, until all parts are done.
    fn time(&self, extents: &[usize], parts: &[usize]) -> f64 {
        if let ([extent], true) = (extents, parts[0] >= self.threads) {
            // Parts are taken in order, so that each thread has about as many iterations as another.
            let iterations = extent.div_ceil(self.threads) as f64;
            let several = parts[0].div_ceil(self.threads) as f64;
            return self.nanoseconds * iterations / *extent as f64
                + several * PER_PART * self.costs.hand_over;
        }
        let shares =
            extents.iter().zip(parts).map(|(&extent, &parts)| extent.div_ceil(parts) as f64 / extent as f64);
        let rounds = parts.iter().product::<usize>().div_ceil(self.threads) as f64;
        rounds * (self.nanoseconds * shares.product::<f64>() + PER_PART * self.costs.hand_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs { hand_over: 1000.0 };

    fn cut(extents: &[usize], microseconds: f64, threads: usize) -> Option<Vec<(usize, usize)>> {
        COSTS.choose(extents, microseconds * 1e3, threads).map(|cut| cut.loops)
    }

    #[test]
    fn a_thread_is_woken_for_enough_work() {
        assert_eq!(cut(&[64], 7.9, 64), None);
        assert_eq!(cut(&[64], 8.0, 1), None);
        assert_eq!(cut(&[1, 1], 800.0, 64), None);
        assert_eq!(cut(&[64], 8.0, 64), Some(vec![(0, 2)]));
        assert_eq!(cut(&[64], 33.0, 64), Some(vec![(0, 8)]));
        assert_eq!(cut(&[64], 33.0, 4), Some(vec![(0, 4)]));
    }

    #[test]
    fn long_parts_are_cut_again() {
        assert_eq!(cut(&[1000], 31.0, 2), Some(vec![(0, 2)]));
        assert_eq!(cut(&[1000], 96.0, 2), Some(vec![(0, 6)]));
        assert_eq!(cut(&[1000], 1e6, 2), Some(vec![(0, 8)]));
        assert_eq!(cut(&[5], 1e6, 2), Some(vec![(0, 5)]));
    }

    #[test]
    fn the_outermost_loop_that_is_even_goes_alone() {
        assert_eq!(cut(&[3, 64], 8.0, 2), Some(vec![(1, 2)]));
        assert_eq!(cut(&[20, 64], 8.0, 2), Some(vec![(0, 2)]));
        assert_eq!(cut(&[7, 7], 8.0, 2), Some(vec![(0, 2)]));
    }

    #[test]
    fn loops_are_taken_together_where_one_has_too_few_iterations() {
        let cut = COSTS.choose(&[12, 8], 1e6, 64).unwrap();
        assert_eq!(cut.loops.len(), 2);
        assert!((48..=96).contains(&cut.parts()), "{cut:?}");
        let cut = COSTS.choose(&[4, 4, 4], 1e6, 64).unwrap();
        assert_eq!(cut.loops, [(0, 4), (1, 4), (2, 4)]);
        let cut = COSTS.choose(&[3], 1e6, 64).unwrap();
        assert_eq!((cut.loops, cut.worth), (vec![(0, 3)], 64));
    }

    #[test]
    fn more_threads_never_take_longer() {
        for extents in [&[7, 7, 32][..], &[49], &[2, 3, 5, 7], &[12, 16], &[1, 100, 3], &[13, 11]] {
            for work in [1e4, 5e4, 3e5, 1e7] {
                let mut last = f64::INFINITY;
                for threads in [1, 2, 3, 4, 5, 8, 12, 24, 32, 64, 128, 1024] {
                    let Some(cut) = COSTS.choose(extents, work, threads) else {
                        assert!(last.is_infinite(), "serial on {threads} threads");
                        continue;
                    };
                    let time = COSTS.time(extents, work, &cut);
                    assert!(
                        time <= 1.15 * last,
                        "{extents:?}, {work}: {last} -> {time} on {threads}: {cut:?}"
                    );
                    last = time.min(last);
                    assert!(cut.parts() >= 2 && cut.parts() <= PARTS_PER_THREAD * cut.worth);
                }
            }
        }
    }
}
