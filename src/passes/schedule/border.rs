//! Borders: what guarded loads yield outside of their buffers, and how far they reach.

use std::collections::{BTreeMap, BTreeSet};

use nestjit_ir::visit::{Extents, walk_exprs, walk_stmts};
use nestjit_ir::{BufId, Expr, Index, Load, Program, Role, Scalar, Stmt, Store};

/// How far the readers of a temporary reach beyond it.
pub struct Border {
    /// Elements below and above, in each dimension.
    pub reach: Vec<(usize, usize)>,
    /// What lies there.
    pub fill: Scalar,
}

/// Who writes temporaries, and how they are read.
pub struct Survey {
    /// What the guarded reads of a temporary need.
    pub found: BTreeMap<BufId, Border>,
    /// Temporaries with accesses that cannot be moved.
    refused: Vec<BufId>,
    /// The first nest that writes a buffer, and the first one that reads it.
    writers: BTreeMap<BufId, usize>,
    readers: BTreeMap<BufId, usize>,
}

impl Survey {
    /// Looks at every access of a program.
    pub fn new(program: &Program) -> Survey {
        let mut found: BTreeMap<BufId, Border> = BTreeMap::new();
        let mut refused: Vec<BufId> = Vec::new();
        let mut writers: BTreeMap<BufId, usize> = BTreeMap::new();
        let mut readers: BTreeMap<BufId, usize> = BTreeMap::new();
        let mut declared: BTreeSet<BufId> = BTreeSet::new();
        for (n, nest) in program.nests.iter().enumerate() {
            let extents = Extents::of(&nest.body);
            walk_stmts(&nest.body, &mut |s| match s {
                Stmt::Store(Store { buf, index, .. }) => {
                    if index.iter().any(|i| i.as_affine().is_none()) {
                        refused.push(*buf);
                    }
                    writers.entry(*buf).or_insert(n);
                }
                Stmt::Reduce(r) => refused.push(r.buf),
                Stmt::Call(c) => refused.extend(c.inputs.iter().chain(&c.outputs)),
                Stmt::Temp(b) if !declared.insert(*b) => refused.push(*b),
                Stmt::For(_) | Stmt::Temp(_) => {}
            });
            walk_exprs(&nest.body, &mut |e| {
                let Expr::Load(l) = e else { return };
                if !matches!(program.buf(l.buf).role, Role::Temp | Role::Local) {
                    return;
                }
                readers.entry(l.buf).or_insert(n);
                let affine = l.index.iter().all(|i| i.as_affine().is_some());
                if !affine || (l.otherwise.is_some() && !extend(program, &extents, l, &mut found)) {
                    refused.push(l.buf);
                }
            });
        }
        Survey { found, refused, writers, readers }
    }

    /// Whether a temporary that this fill surrounds could get a border, however wide.
    pub fn can_grow(&self, program: &Program, buf: BufId, fill: Scalar) -> bool {
        program.buf(buf).role == Role::Temp
            && self.producer(buf).is_some()
            && self.found.get(&buf).is_none_or(|border| border.fill == fill)
    }

    /// The nest that fills the border of a temporary: the first one that writes it. `None` if another reads it before, or
    /// there are accesses that cannot be moved.
    pub fn producer(&self, buf: BufId) -> Option<usize> {
        let first = *self.writers.get(&buf)?;
        let written = self.readers.get(&buf).is_none_or(|reader| *reader >= first);
        (written && !self.refused.contains(&buf)).then_some(first)
    }
}

/// Adds what a guarded load needs to the border of its buffer; false if that cannot be.
fn extend(program: &Program, extents: &Extents, load: &Load, found: &mut BTreeMap<BufId, Border>) -> bool {
    let buffer = program.buf(load.buf);
    let Some(fill) = fill_of(load) else { return false };
    let reach: Option<Vec<(usize, usize)>> =
        load.index.iter().zip(&buffer.shape).map(|(i, &s)| excess(extents, i, s)).collect();
    let Some(reach) = reach else { return false };
    let inside = reach.iter().all(|&r| r == (0, 0));
    let empty = || Border { reach: vec![(0, 0); reach.len()], fill };
    let border = found.entry(load.buf).or_insert_with(empty);
    if border.fill != fill {
        return inside;
    }
    for (known, new) in border.reach.iter_mut().zip(reach) {
        *known = (known.0.max(new.0), known.1.max(new.1));
    }
    true
}

/// The guarded loads in `body`, each once.
pub fn guarded_loads(body: &[Stmt]) -> Vec<Load> {
    let mut found: Vec<Load> = Vec::new();
    walk_exprs(body, &mut |e| {
        if let Expr::Load(l) = e
            && l.otherwise.is_some()
            && !found.contains(l)
        {
            found.push(l.clone());
        }
    });
    found
}

/// How far an index leaves a dimension below and above; `None` if that is not known.
pub fn excess(extents: &Extents, index: &Index, size: usize) -> Option<(usize, usize)> {
    let (lo, hi) = extents.range(index.as_affine()?)?;
    let beyond = hi.saturating_sub(i64::try_from(size).ok()?.saturating_sub(1));
    Some((usize::try_from(lo.saturating_neg()).unwrap_or(0), usize::try_from(beyond).unwrap_or(0)))
}

/// The constant that a guarded load yields outside.
pub fn fill_of(load: &Load) -> Option<Scalar> {
    load.otherwise.as_ref()?.as_const()
}
