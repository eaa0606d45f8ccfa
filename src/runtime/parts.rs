//! How the iterations of a segment's parallel loops are cut into the parts that threads take: a grid of rectangles, as
//! the program says. Where it does not say, there is a part for each thread.

use super::pool::MOST_PARTS;
use crate::codegen::{MOST_LOOPS, ParallelLoop};

/// The parts of a segment.
pub(super) struct Grid<'a> {
    loops: &'a [ParallelLoop],
    threads: usize,
    parts: usize,
}

/// The ranges of a segment's parallel loops, outermost first.
pub(super) type Ranges = [[i64; 2]; MOST_LOOPS];

impl<'a> Grid<'a> {
    /// For a run on so many threads.
    pub fn new(loops: &'a [ParallelLoop], threads: usize) -> Grid<'a> {
        let mut grid = Grid { loops, threads, parts: 1 };
        grid.parts = (0..loops.len()).map(|at| grid.along(at)).product();
        grid
    }

    /// The number of parts: 1 for a serial segment, 0 if there are no iterations.
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// Into how many parts a loop is cut.
    fn along(&self, at: usize) -> usize {
        /// What the parts of one loop may be at most, if there are so many loops, so that all are not too many.
        const MOST: [usize; MOST_LOOPS + 1] = [1, MOST_PARTS, 255, 40, 15];
        let asked = match (self.loops[at].parts, at) {
            (Some(parts), _) => parts.get() as usize,
            (None, 0) => self.threads,
            (None, _) => 1,
        };
        asked.min(MOST[self.loops.len()]).min(self.loops[at].extent)
    }

    /// The iterations of a part.
    pub fn ranges(&self, part: usize) -> Ranges {
        let mut ranges = Ranges::default();
        let mut rest = part;
        for (at, l) in self.loops.iter().enumerate().rev() {
            let parts = self.along(at);
            let number = rest % parts;
            rest /= parts;
            let bound = |number: usize| (l.extent as u128 * number as u128 / parts as u128) as i64;
            ranges[at] = [bound(number), bound(number + 1)];
        }
        ranges
    }

    /// All iterations.
    pub fn all(&self) -> Ranges {
        let mut ranges = Ranges::default();
        for (range, l) in ranges.iter_mut().zip(self.loops) {
            *range = [0, l.extent as i64];
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn loops(of: &[(usize, u32)]) -> Vec<ParallelLoop> {
        of.iter().map(|&(extent, parts)| ParallelLoop { extent, parts: NonZeroU32::new(parts) }).collect()
    }

    #[test]
    fn every_iteration_is_in_one_part() {
        for (of, parts) in [
            (&[][..], 1),
            (&[(10, 4)], 4),
            (&[(3, 100)], 3),
            (&[(10, 0)], 5),
            (&[(2, 0)], 2),
            (&[(7, 3), (5, 2)], 6),
            (&[(7, 0), (5, 0)], 5),
            (&[(2, 2), (3, 3), (4, 4), (5, 5)], 120),
            (&[(0, 4)], 0),
            (&[(4, 2), (0, 3)], 0),
        ] {
            let loops = loops(of);
            let grid = Grid::new(&loops, 5);
            assert_eq!(grid.parts(), parts, "{of:?}");
            let mut seen = 0;
            for part in 0..parts {
                let ranges = grid.ranges(part);
                let sides = ranges.iter().take(of.len()).map(|[begin, end]| end - begin);
                assert!(sides.clone().all(|n| n > 0));
                seen += sides.product::<i64>();
            }
            assert_eq!(seen, of.iter().map(|l| l.0 as i64).product::<i64>() * i64::from(parts > 0));
        }
    }

    #[test]
    fn no_program_makes_more_parts_than_a_job_has() {
        for n in 1..=MOST_LOOPS {
            let loops = loops(&vec![(1 << 40, u32::MAX); n]);
            let grid = Grid::new(&loops, 2);
            assert!((2..=MOST_PARTS).contains(&grid.parts()));
            assert_eq!(grid.ranges(0)[0][0], 0);
            assert_eq!(grid.ranges(grid.parts() - 1)[n - 1][1], 1 << 40);
            assert_eq!(grid.all()[n - 1], [0, 1 << 40]);
        }
    }
}
