//! Which parts of a job are taken.
//!
//! The parts of a job are divided among its takers in order, so that a thread finds in its caches what it left there in
//! the job before. Each takes its own from the front; who has none left takes from the back of the others'. What is
//! taken of a taker's parts is one word, which says for which job that holds: an older word means none. So a new job
//! is published by one word, and threads do not meet at one counter.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Line;

/// The most parts of a job, and the most takers: what fits the words.
pub(in crate::runtime) const MOST_PARTS: usize = u16::MAX as usize;

/// After so many jobs, words of takers that have had no part for long are written anew.
const RENEWED: u32 = 1 << 30;

/// From which side of a taker's parts one is taken: its own thread begins at the front, others at the back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Front,
    Back,
}

/// A job as it is published: its number, its parts, how many threads are to take them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Job(u64);

impl Job {
    /// The job before the first, without parts.
    pub const NONE: Job = Job(0);

    /// The next job. Parts and takers are at most [`MOST_PARTS`].
    pub fn after(self, parts: usize, takers: usize) -> Job {
        let number = self.number().wrapping_add(1);
        Job(u64::from(number) << 32 | (parts as u64) << 16 | takers as u64)
    }

    pub fn word(self) -> u64 {
        self.0
    }

    pub fn of(word: u64) -> Job {
        Job(word)
    }

    pub fn takers(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    fn number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn parts(self) -> usize {
        (self.0 >> 16 & 0xffff) as usize
    }

    /// The first part of a taker.
    fn first(self, taker: usize) -> usize {
        self.parts() * taker / self.takers()
    }
}

/// What is taken of the parts of each taker.
pub(super) struct Claims(Box<[Line<AtomicU64>]>);

impl Claims {
    /// For so many takers.
    pub fn new(takers: usize) -> Claims {
        Claims((0..takers).map(|_| Line(AtomicU64::new(Job::NONE.0))).collect())
    }

    /// Keeps what words say true when numbers come round again: to be called between jobs, with the one before.
    pub fn renew(&self, last: Job) {
        if last.number().is_multiple_of(RENEWED) {
            let taken = u64::from(last.number()) << 32 | 0xffff << 16;
            self.0.iter().for_each(|claims| claims.0.store(taken, Ordering::Relaxed));
        }
    }

    /// Takes one of the parts of a taker from this side; `None` if there is none left, or if the job is over.
    /// Whoever has taken a part keeps the job from being over.
    pub fn take(&self, job: Job, taker: usize, side: Side) -> Option<usize> {
        let (begin, end) = (job.first(taker), job.first(taker + 1));
        let claims = &self.0[taker].0;
        let mut word = claims.load(Ordering::Acquire);
        loop {
            // A job is over when all its parts are taken and finished: then every word of its takers has its number. So
            // an older number is seen only while the job goes on, and nobody has taken any of these parts.
            let (from_front, from_back) = match job.number().wrapping_sub((word >> 32) as u32) as i32 {
                0 => ((word >> 16 & 0xffff) as usize, (word & 0xffff) as usize),
                age if age > 0 => (0, 0),
                _ => return None,
            };
            if from_front + from_back >= end - begin {
                return None;
            }
            let (part, from_front, from_back) = match side {
                Side::Front => (begin + from_front, from_front + 1, from_back),
                Side::Back => (end - 1 - from_back, from_front, from_back + 1),
            };
            let new = u64::from(job.number()) << 32 | (from_front as u64) << 16 | from_back as u64;
            match claims.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(part),
                Err(now) => word = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_taken_once_from_both_ends() {
        let claims = Claims::new(3);
        let job = Job::NONE.after(10, 3);
        assert_eq!((job.parts(), job.takers()), (10, 3));
        let take = |taker, side| claims.take(job, taker, side);
        assert_eq!(
            [take(1, Side::Front), take(1, Side::Back), take(1, Side::Front), take(1, Side::Front)],
            [Some(3), Some(5), Some(4), None]
        );
        assert_eq!(
            [take(0, Side::Back), take(0, Side::Back), take(0, Side::Back), take(0, Side::Back)],
            [Some(2), Some(1), Some(0), None]
        );
        assert_eq!(take(2, Side::Front), Some(6));
        let next = job.after(2, 2);
        assert_eq!(
            [claims.take(next, 0, Side::Front), claims.take(next, 1, Side::Front)],
            [Some(0), Some(1)]
        );
        assert_eq!(take(1, Side::Front), None, "the job is over");
        assert_eq!(take(2, Side::Front), Some(7), "a word of its own number");
    }

    #[test]
    fn takers_that_have_waited_for_billions_of_jobs_have_their_parts() {
        let claims = Claims::new(2);
        let mut last = Job::NONE;
        assert_eq!(claims.take(last.after(2, 2), 1, Side::Front), Some(1));
        for number in [RENEWED, 2 * RENEWED, 3 * RENEWED, 0, RENEWED] {
            last = Job(u64::from(number) << 32 | 1 << 16 | 1);
            claims.renew(last);
            assert_eq!(claims.take(last, 1, Side::Front), None);
        }
        let job = Job(u64::from(2 * RENEWED - 1) << 32).after(2, 2);
        assert_eq!(claims.take(job, 1, Side::Front), Some(1));
    }

    #[test]
    fn numbers_wrap_around() {
        let claims = Claims::new(1);
        let mut last = Job(u64::from(u32::MAX) << 32);
        claims.0[0].0.store(last.0, Ordering::Relaxed);
        for _ in 0..3 {
            last = last.after(1, 1);
            assert_eq!(
                (claims.take(last, 0, Side::Front), claims.take(last, 0, Side::Front)),
                (Some(0), None)
            );
        }
    }
}
