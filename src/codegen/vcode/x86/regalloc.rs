//! Linear scan: which intervals get which registers.

/// The time in which a value needs a register. A node at position `p` reads at `2 * p` and writes at
/// `2 * p + 1`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval {
    pub start: u32,
    /// Inclusive.
    pub end: u32,
    /// What it costs if the value has no register; infinite if it must have one.
    pub weight: f32,
    /// Intervals whose register this one should take if they end when it starts.
    pub hints: [Option<u32>; 2],
}

/// Assigns `registers` registers, numbered from 0, to intervals; `None` for those that get none, which are
/// the cheapest where there are too many.
pub(super) fn scan(intervals: &[Interval], registers: usize) -> Vec<Option<u8>> {
    let mut order: Vec<(u32, u32, u32)> =
        (0..).zip(intervals).map(|(i, interval): (u32, _)| (interval.start, interval.end, i)).collect();
    order.sort_unstable();
    let mut assigned: Vec<Option<u8>> = vec![None; intervals.len()];
    let mut active: Vec<Active> = Vec::with_capacity(registers);
    // When the first of the active intervals ends, or earlier.
    let mut first_end = u32::MAX;
    let mut free: u64 = (1u64 << registers) - 1;
    for (start, end, i) in order {
        let i = i as usize;
        let interval = &intervals[i];
        if first_end < start {
            first_end = u32::MAX;
            active.retain(|a| {
                let over = a.end < start;
                if over {
                    free |= 1 << a.register;
                } else {
                    first_end = first_end.min(a.end);
                }
                !over
            });
        }
        let hint = interval
            .hints
            .iter()
            .flatten()
            .filter_map(|h| assigned[*h as usize])
            .find(|register| free & (1 << register) != 0);
        let weight = interval.weight;
        if free != 0 {
            let register = hint.unwrap_or(free.trailing_zeros() as u8);
            free &= !(1 << register);
            assigned[i] = Some(register);
            active.push(Active { interval: i, end, weight, register });
            first_end = first_end.min(end);
            continue;
        }
        let cheapest = active.iter_mut().min_by(|a, b| a.weight.total_cmp(&b.weight));
        if let Some(cheapest) = cheapest
            && cheapest.weight < weight
        {
            assigned[i] = assigned[cheapest.interval].take();
            *cheapest = Active { interval: i, end, weight, ..*cheapest };
            first_end = first_end.min(end);
        }
    }
    assigned
}

/// An interval that has a register.
#[derive(Clone, Copy)]
struct Active {
    interval: usize,
    end: u32,
    weight: f32,
    register: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(start: u32, end: u32, weight: f32) -> Interval {
        Interval { start, end, weight, hints: [None; 2] }
    }

    #[test]
    fn the_cheapest_goes_without_and_ended_ones_make_room() {
        let mut intervals = [
            interval(0, 9, 1.0),
            interval(1, 9, 5.0),
            interval(2, 4, 3.0),
            interval(5, 9, 0.5),
            interval(6, 6, 9.0),
        ];
        assert_eq!(scan(&intervals, 3), [Some(0), Some(1), Some(2), None, Some(2)]);
        assert_eq!(scan(&intervals, 2), [None, Some(1), Some(0), None, Some(0)]);
        intervals[0].end = 3;
        intervals[3].hints = [Some(2), None];
        intervals[3].weight = 7.0;
        assert_eq!(scan(&intervals, 4)[3], Some(2));
    }
}
