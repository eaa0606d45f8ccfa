//! Prefetches of constants: weights that do not fit the first-level cache are asked for before loops read them.
//!
//! The processor's own prefetching stops at the end of each page, and starts when a loop already waits. So an
//! innermost loop that reads a constant from front to back asks for what it will read next; and where loops
//! read one part of a constant several times and then the next part, each pass asks for its share of the next.

use nestjit_ir::BufId;

use super::{Access, Address, ArgId, Bound, Cache, Counter, Inst, Kernel, MemType, Terms};

/// Bytes of a cache line.
const LINE: i64 = 64;
/// How far ahead in a stream prefetches are.
const AHEAD: i64 = 4096;
/// Streams shorter than this stay in the caches.
const LEAST: i64 = 64 << 10;

/// A loop around the instructions at hand.
struct Around {
    counter: Counter,
    /// How often it runs, if that is known.
    trips: Option<i64>,
}

/// Adds prefetches of the buffers that `constant` holds for.
pub(in crate::codegen) fn insert(kernel: &mut Kernel, constant: &dyn Fn(BufId) -> bool) {
    block(&mut kernel.body, &mut Vec::new(), constant);
}

fn block(body: &mut [Inst], around: &mut Vec<Around>, constant: &dyn Fn(BufId) -> bool) {
    for inst in body {
        let Inst::Loop { counter, begin, end, body } = inst else { continue };
        let trips = match (begin, end) {
            (Bound::Const(begin), Bound::Const(end)) => Some(*end - *begin),
            _ => None,
        };
        around.push(Around { counter: *counter, trips });
        if body.iter().any(|i| matches!(i, Inst::Loop { .. })) {
            block(body, around, constant);
        } else {
            let wanted: Vec<Inst> =
                streams(body, constant).iter().flat_map(|s| s.prefetches(around)).collect();
            scatter(body, wanted);
        }
        around.pop();
    }
}

/// What a loop reads of one constant: accesses that differ by constants.
struct Stream {
    buf: BufId,
    base: ArgId,
    terms: Terms,
    /// The first and the last byte of an iteration, and how many bytes are read.
    first: i64,
    last: i64,
    bytes: i64,
}

fn streams(body: &[Inst], constant: &dyn Fn(BufId) -> bool) -> Vec<Stream> {
    let mut found: Vec<Stream> = Vec::new();
    for inst in body {
        let Inst::Load { from, .. } = inst else { continue };
        let Address { base, terms, offset } = &from.address;
        if !from.is_contiguous() || !constant(from.buf) {
            continue;
        }
        let bytes = from.stride * from.lanes as i64;
        let (first, last) = (*offset, offset + bytes - 1);
        match found.iter_mut().find(|s| s.base == *base && s.terms == *terms) {
            Some(s) => {
                s.bytes += bytes;
                (s.first, s.last) = (s.first.min(first), s.last.max(last));
            }
            None => {
                let (buf, base, terms) = (from.buf, *base, terms.clone());
                found.push(Stream { buf, base, terms, first, last, bytes });
            }
        }
    }
    found
}

impl Stream {
    fn coefficient(&self, counter: Counter) -> i64 {
        self.terms.iter().find(|t| t.0 == counter).map_or(0, |t| t.1)
    }

    /// The prefetches of one iteration of the innermost of these loops.
    fn prefetches(&self, around: &[Around]) -> Vec<Inst> {
        let Some(inner) = around.last() else { return Vec::new() };
        let step = self.coefficient(inner.counter);
        let dense = step == self.bytes && self.last - self.first + 1 == step && step % LINE == 0;
        let total: i64 = around
            .iter()
            .filter(|l| self.coefficient(l.counter) != 0)
            .map(|l| l.trips.unwrap_or(2))
            .fold(step, i64::saturating_mul);
        if !dense || total < LEAST {
            return Vec::new();
        }
        let line = |line| {
            let offset = self.first + AHEAD + line * LINE;
            self.prefetch(self.terms.clone(), offset, Cache::First)
        };
        (0..step / LINE).map(line).chain(self.shares(around, step)).collect()
    }

    /// The iteration's share of the part of the constant that the loops read next.
    fn shares(&self, around: &[Around], step: i64) -> Vec<Inst> {
        let moves = |l: &&Around| self.coefficient(l.counter) != 0;
        let reading = around.iter().rev().take_while(moves).count();
        let again = around.iter().rev().skip(reading).take_while(|l| !moves(l)).count();
        let (outer, again) = around[..around.len() - reading].split_at(around.len() - reading - again);
        let Some(part) = outer.last().map(|l| self.coefficient(l.counter)) else { return Vec::new() };
        let Some(passes) = again.iter().map(|l| l.trips).product::<Option<i64>>() else { return Vec::new() };
        if passes < 2 || part < LEAST / 2 {
            return Vec::new();
        }
        // Rounded up: some bytes are asked for twice, none is left out.
        let divided = |bytes: i64, by: i64| bytes / by + i64::from(bytes % by > 0);
        let mut terms: Vec<(Counter, i64)> =
            outer.iter().filter(moves).map(|l| (l.counter, self.coefficient(l.counter))).collect();
        let mut pass = divided(part, passes);
        for l in again.iter().rev() {
            terms.push((l.counter, pass));
            pass *= l.trips.unwrap_or(1);
        }
        for l in &around[around.len() - reading..] {
            terms.push((l.counter, divided(self.coefficient(l.counter), passes)));
        }
        terms.sort_unstable();
        let terms: Terms = terms.into();
        let within = self.first.rem_euclid(part);
        let offset = self.first - within + within / passes + part;
        let lines = divided(divided(step, passes), LINE);
        (0..lines).map(|l| self.prefetch(terms.clone(), offset + l * LINE, Cache::Second)).collect()
    }

    fn prefetch(&self, terms: Terms, offset: i64, to: Cache) -> Inst {
        let address = Address { base: self.base, terms, offset };
        Inst::Prefetch { at: Access { address, stride: 4, ty: MemType::F32, lanes: 1, buf: self.buf }, to }
    }
}

/// Spreads instructions evenly over a body.
fn scatter(body: &mut Vec<Inst>, insts: Vec<Inst>) {
    let (length, count) = (body.len(), insts.len());
    let mut result = Vec::with_capacity(length + count);
    let mut insts = insts.into_iter();
    for (i, inst) in body.drain(..).enumerate() {
        result.push(inst);
        let due = (i + 1) * (count + 1) / length - i * (count + 1) / length;
        result.extend(insts.by_ref().take(due));
    }
    *body = result;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::vcode::{Arg, Class, Reg};

    const PANEL: Counter = Counter(0);
    const PASS: Counter = Counter(1);
    const STEP: Counter = Counter(2);

    /// Loops over panels, over passes, and over the steps of a panel, each of two lines.
    fn kernel(panels: i64, passes: i64, steps: i64) -> Kernel {
        let terms: Terms = [(PANEL, 128 * steps), (STEP, 128)].into();
        let load = |i: u32| {
            let address = Address { base: ArgId(0), terms: terms.clone(), offset: 64 * i64::from(i) };
            Inst::Load {
                dst: Reg(i),
                from: Access { address, stride: 4, ty: MemType::F32, lanes: 16, buf: BufId(0) },
            }
        };
        let repeat = |counter, trips, body| {
            vec![Inst::Loop { counter, begin: Bound::Const(0), end: Bound::Const(trips), body }]
        };
        let body = repeat(STEP, steps, vec![load(0), load(1)]);
        Kernel {
            lanes: 16,
            args: vec![Arg::Pointer(BufId(0), nestjit_ir::Affine::constant(0))],
            regs: vec![Class::F32; 2],
            counters: 3,
            body: repeat(PANEL, panels, repeat(PASS, passes, body)),
            ..Kernel::default()
        }
    }

    /// The lines that the prefetches into a cache ask for while the loops run, and how often they ask.
    fn asked(kernel: &Kernel, level: Cache) -> (std::collections::BTreeSet<i64>, usize) {
        fn run(body: &[Inst], level: Cache, counters: &mut [i64; 3], found: &mut Vec<i64>) {
            for inst in body {
                match inst {
                    Inst::Loop { counter, end: Bound::Const(end), body, .. } => {
                        for i in 0..*end {
                            counters[counter.0 as usize] = i;
                            run(body, level, counters, found);
                        }
                    }
                    Inst::Prefetch { at, to } if *to == level => {
                        let terms = at.address.terms.iter().map(|t| t.1 * counters[t.0.0 as usize]);
                        found.push((terms.sum::<i64>() + at.address.offset) / LINE);
                    }
                    _ => {}
                }
            }
        }
        let mut found = Vec::new();
        run(&kernel.body, level, &mut [0; 3], &mut found);
        (found.iter().copied().collect(), found.len())
    }

    #[test]
    fn every_line_but_the_first_is_asked_for_before_it_is_read() {
        for (panels, passes, steps) in [(4, 7, 512), (3, 2, 1000), (2, 30, 300)] {
            let mut kernel = kernel(panels, passes, steps);
            insert(&mut kernel, &|_| true);
            let (ahead, _) = asked(&kernel, Cache::First);
            assert_eq!(*ahead.first().unwrap(), AHEAD / LINE);
            assert!((AHEAD / LINE..2 * panels * steps).all(|line| ahead.contains(&line)));
            let (shares, count) = asked(&kernel, Cache::Second);
            assert!((2 * steps..2 * panels * steps).all(|line| shares.contains(&line)), "{passes} passes");
            // One instruction per iteration, or as many as the share has lines.
            assert!(count as i64 <= panels * passes * steps * (2 + passes - 1) / passes);
        }
    }

    #[test]
    fn small_constants_variables_and_gaps_are_left_alone() {
        let count = |mut kernel: Kernel, constant: bool| {
            insert(&mut kernel, &|_| constant);
            asked(&kernel, Cache::First).1 + asked(&kernel, Cache::Second).1
        };
        assert_eq!(count(kernel(2, 7, 100), true), 0);
        assert_eq!(count(kernel(4, 7, 512), false), 0);
        assert!(count(kernel(4, 7, 512), true) > 0);
        fn drop_last_load(body: &mut Vec<Inst>) {
            match body.as_mut_slice() {
                [Inst::Loop { body, .. }] => drop_last_load(body),
                _ => drop(body.pop()),
            }
        }
        let mut with_gap = kernel(4, 7, 512);
        drop_last_load(&mut with_gap.body);
        assert_eq!(count(with_gap, true), 0);
    }
}
