//! Checks that what is read has been written.
//!
//! Only what is certain is reported: a read that comes before every write in some iteration, and one of an element beyond
//! all those that are ever written (by the smallest and the largest index of each dimension). Holes between written
//! elements are not seen. A read with a value for elements that do not exist counts in the iterations in which its element
//! does, all indices together: passes that cut loops make it a plain read there.

use std::collections::{HashMap, HashSet};

use super::VerifyError;
use crate::access::meet::meet;
use crate::affine::{Affine, Var};
use crate::nest::{BufId, Expr, Index, Load, Program, Role, Stmt};
use crate::visit::Extents;

/// Every element of an `out` is written; locals, `temp`s and `out`s are read and reduced into only after they have been
/// written. The nests are sound in all other ways.
pub(super) fn check_data_flow(program: &Program, errors: &mut Vec<VerifyError>) {
    let stored = stored_ranges(program);
    let mut flow = Flow {
        program,
        stored: &stored,
        written: HashSet::new(),
        carried: Vec::new(),
        reported: HashSet::new(),
        nest: "",
        errors,
    };
    for nest in &program.nests {
        flow.nest = &nest.name;
        flow.block(&nest.body, &mut Extents::default());
    }
    for b in program.buf_ids() {
        let buffer = program.buf(b);
        if buffer.role != Role::Out || buffer.is_empty() {
            continue;
        }
        let error = match stored.get(&b) {
            None => Some("no nest writes this output".to_owned()),
            Some(ranges) => {
                ranges.iter().zip(&buffer.shape).enumerate().find_map(|(dim, (&(lo, hi), &n))| {
                    let whole = lo <= 0 && hi >= n as i64 - 1;
                    (!whole).then(|| {
                        format!(
                            "only {lo} to {hi} of dimension {dim} of this output are written, not all {n}"
                        )
                    })
                })
            }
        };
        if let Some(message) = error {
            errors.push(VerifyError { nest: String::new(), path: format!("%{}", buffer.name), message });
        }
    }
}

/// The smallest and the largest index, by dimension.
type Ranges = Vec<(i64, i64)>;

/// Which elements stores and calls write; what is only reduced into has no value to begin with.
fn stored_ranges(program: &Program) -> HashMap<BufId, Ranges> {
    let mut stored: HashMap<BufId, Ranges> = HashMap::new();
    let mut add = |b: BufId, ranges: Ranges| match stored.entry(b) {
        std::collections::hash_map::Entry::Vacant(entry) => drop(entry.insert(ranges)),
        std::collections::hash_map::Entry::Occupied(mut entry) => {
            for (old, new) in entry.get_mut().iter_mut().zip(ranges) {
                *old = (old.0.min(new.0), old.1.max(new.1));
            }
        }
    };
    for nest in &program.nests {
        let extents = Extents::of(&nest.body);
        each_executed(&nest.body, &mut |s| match s {
            Stmt::Store(s) => add(s.buf, ranges(program, s.buf, &s.index, &extents)),
            Stmt::Call(c) => c.outputs.iter().for_each(|b| add(*b, whole(program, *b))),
            Stmt::For(_) | Stmt::Reduce(_) | Stmt::Temp(_) => {}
        });
    }
    stored
}

/// Calls `f` on every statement that is executed at least once.
fn each_executed<'a>(body: &'a [Stmt], f: &mut dyn FnMut(&'a Stmt)) {
    for stmt in body {
        f(stmt);
        if let Stmt::For(l) = stmt
            && l.extent > 0
        {
            each_executed(&l.body, f);
        }
    }
}

/// The buffers that stores and calls of a body write.
fn writes(body: &[Stmt]) -> HashSet<BufId> {
    let mut written = HashSet::new();
    each_executed(body, &mut |s| match s {
        Stmt::Store(s) => drop(written.insert(s.buf)),
        Stmt::Call(c) => written.extend(&c.outputs),
        Stmt::For(_) | Stmt::Reduce(_) | Stmt::Temp(_) => {}
    });
    written
}

fn whole(program: &Program, b: BufId) -> Ranges {
    program.buf(b).shape.iter().map(|n| (0, *n as i64 - 1)).collect()
}

/// The indices of an access; of one that is computed at run time, all of its dimension.
fn ranges(program: &Program, b: BufId, index: &[Index], extents: &Extents) -> Ranges {
    let all = whole(program, b);
    let range = |(i, all): (&Index, (i64, i64))| i.as_affine().and_then(|a| extents.range(a)).unwrap_or(all);
    index.iter().zip(all).map(range).collect()
}

struct Flow<'a, 'e> {
    program: &'a Program,
    stored: &'a HashMap<BufId, Ranges>,
    /// What has been written so far, when every loop runs for the first time.
    written: HashSet<BufId>,
    /// For each loop around, its variable, and what it writes and later iterations may read.
    carried: Vec<(Var, HashSet<BufId>)>,
    /// One error for each buffer is enough.
    reported: HashSet<BufId>,
    nest: &'a str,
    errors: &'e mut Vec<VerifyError>,
}

impl Flow<'_, '_> {
    fn block(&mut self, body: &[Stmt], extents: &mut Extents) {
        for stmt in body {
            match stmt {
                Stmt::For(l) if l.extent == 0 => {}
                Stmt::For(l) => {
                    extents.set(l.var, l.extent);
                    self.carried.push((l.var, writes(&l.body)));
                    self.block(&l.body, extents);
                    self.carried.pop();
                }
                Stmt::Temp(b) => {
                    self.written.remove(b);
                    for (_, set) in &mut self.carried {
                        set.remove(b);
                    }
                }
                Stmt::Store(s) => {
                    self.operands(&s.index, &s.value, extents);
                    self.written.insert(s.buf);
                }
                Stmt::Reduce(r) => {
                    self.operands(&r.index, &r.value, extents);
                    self.read(r.buf, &r.index, extents);
                }
                Stmt::Call(c) => {
                    for b in &c.inputs {
                        self.read_all(*b);
                    }
                    self.written.extend(&c.outputs);
                }
            }
        }
    }

    fn operands(&mut self, index: &[Index], value: &Expr, extents: &Extents) {
        let mut computed = |e: &Expr| {
            // What stands in for elements that do not exist may never be asked for.
            each_needed(e, &mut |l| {
                if l.otherwise.is_none() || self.inside(l, extents) {
                    self.read(l.buf, &l.index, extents);
                } else if self.needs_writing(l.buf) {
                    self.read_if_inside(l, extents);
                }
            });
        };
        for i in index {
            if let Index::Value(e) = i {
                computed(e);
            }
        }
        computed(value);
    }

    /// Whether a load is of an element that exists, whatever the iteration.
    fn inside(&self, l: &Load, extents: &Extents) -> bool {
        let shape = &self.program.buf(l.buf).shape;
        l.index.iter().zip(shape).all(|(i, n)| {
            let range = i.as_affine().and_then(|a| extents.range(a));
            range.is_some_and(|(lo, hi)| lo >= 0 && usize::try_from(hi).is_ok_and(|hi| hi < *n))
        })
    }

    /// A load that is of an element that exists in some iterations only.
    fn read_if_inside(&mut self, l: &Load, extents: &Extents) {
        let existing = whole(self.program, l.buf);
        // An index that is computed at run time may be any, whatever the iteration.
        let index: Vec<Option<Affine>> = l.index.iter().map(|i| i.as_affine().cloned()).collect();
        let within = |index: &[Option<Affine>], ranges: Ranges| -> Option<Vec<i64>> {
            let wanted = index.iter().cloned().zip(ranges.iter().copied());
            let wanted: Vec<(Affine, (i64, i64))> = wanted.filter_map(|(a, r)| Some((a?, r))).collect();
            let mut met = meet(&wanted, extents)?.into_iter();
            let value = |(a, r): (&Option<Affine>, &(i64, i64))| match a {
                Some(_) => met.next(),
                None => Some(r.0),
            };
            index.iter().zip(&ranges).map(value).collect()
        };
        if !self.written.contains(&l.buf) {
            // Before the first write: in the first iteration of every loop that writes, and any of the others.
            let mut first = index.clone();
            for (var, _) in self.carried.iter().filter(|(_, set)| set.contains(&l.buf)) {
                let at_first = |a: &Affine| a.subst(*var, &Affine::constant(0));
                first = first.iter().map(|a| a.as_ref().map(at_first)).collect();
            }
            if within(&first, existing.clone()).is_some() && !self.is_written(l.buf, &l.index) {
                return;
            }
        }
        let Some(stored) = self.stored.get(&l.buf) else { return };
        for (dim, (&(lo, hi), &(first, last))) in stored.iter().zip(&existing).enumerate() {
            for beyond in [(first, lo - 1), (hi + 1, last)] {
                let mut ranges = existing.clone();
                ranges[dim] = (beyond.0.max(first), beyond.1.min(last));
                if ranges[dim].0 > ranges[dim].1 {
                    continue;
                }
                if let Some(values) = within(&index, ranges) {
                    return self.beyond(l.buf, &l.index, dim, values[dim], (lo, hi));
                }
            }
        }
    }

    /// Whether anything has been written to a buffer that is read now.
    fn is_written(&mut self, b: BufId, index: &[Index]) -> bool {
        let fine = !self.needs_writing(b) || self.written.contains(&b);
        if !fine {
            let access = self.program.show_access(b, index);
            let message = format!("{access} is read, but nothing has been written to it");
            self.error(b, message);
        }
        fine
    }

    fn read(&mut self, b: BufId, index: &[Index], extents: &Extents) {
        if !self.is_written(b, index) || !self.needs_writing(b) {
            return;
        }
        let Some(stored) = self.stored.get(&b) else { return };
        let ranges = ranges(self.program, b, index, extents);
        let read =
            ranges.into_iter().zip(stored).enumerate().find_map(|(dim, ((least, most), &(lo, hi)))| {
                let beyond = if least < lo { least } else { most };
                (least < lo || most > hi).then_some((dim, beyond, (lo, hi)))
            });
        if let Some((dim, at, stored)) = read {
            self.beyond(b, index, dim, at, stored);
        }
    }

    fn beyond(&mut self, b: BufId, index: &[Index], dim: usize, at: i64, (lo, hi): (i64, i64)) {
        let access = self.program.show_access(b, index);
        self.error(b, format!("{access}: index {dim} can be {at}, but only {lo} to {hi} are written"));
    }

    fn read_all(&mut self, b: BufId) {
        if self.needs_writing(b) && !self.written.contains(&b) {
            self.error(
                b,
                format!("%{} is read, but nothing has been written to it", self.program.buf(b).name),
            );
        }
    }

    fn needs_writing(&self, b: BufId) -> bool {
        let buffer = self.program.buf(b);
        matches!(buffer.role, Role::Temp | Role::Out | Role::Local) && !buffer.is_empty()
    }

    fn error(&mut self, b: BufId, message: String) {
        if self.reported.insert(b) {
            self.errors.push(VerifyError { nest: self.nest.to_owned(), path: String::new(), message });
        }
    }
}

/// Calls `f` on every load that is executed whenever `expr` is: not on those within an `otherwise`.
fn each_needed<'a>(expr: &'a Expr, f: &mut dyn FnMut(&'a Load)) {
    match expr {
        Expr::Const(_) | Expr::Index(_) => {}
        Expr::Load(l) => {
            for i in &l.index {
                if let Index::Value(e) = i {
                    each_needed(e, f);
                }
            }
            f(l);
        }
        Expr::Unary(_, a) | Expr::Cast(_, a) => each_needed(a, f),
        Expr::Check(c) => each_needed(&c.value, f),
        Expr::Binary(_, a, b) => {
            each_needed(a, f);
            each_needed(b, f);
        }
        Expr::Select(c, a, b) => {
            each_needed(c, f);
            each_needed(a, f);
            each_needed(b, f);
        }
    }
}
