//! Passes that look at one nest at a time: each kind of nest is rewritten once, on all cores, and the result is placed for
//! every nest of the kind.
//!
//! Two nests are of one kind if they are equal up to names ([`Uses::key`]). Rewriting works on an [`Excerpt`], in which
//! nothing else is known. Results are placed nest by nest in the order of the program, so that all numbers and names are what
//! they would be if every nest had been rewritten for itself by one thread.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use nestjit_ir::excerpt::{Detail, Excerpt, Key, Placement, Uses};
use nestjit_ir::hash::FastMap;
use nestjit_ir::{Program, Stmt};

use crate::remark::Remark;
use crate::threads::{compiling_threads, on_threads};

/// From how many bytes of keys on starting threads takes less time than they save.
const THREADED: usize = 1700;

/// A nest that is rewritten.
pub(super) struct Part<'a> {
    /// The buffers and variables of the nest, without any nests; what it is given more of becomes part of the program.
    pub program: &'a mut Program,
    /// The statements, with the numbers of `program`.
    pub body: Vec<Stmt>,
    /// Which buffers and variables of the whole program these are.
    pub uses: &'a Uses,
    /// The position in the program of the nest that represents its kind.
    pub at: usize,
    /// What there is to say. The nest is named [`Excerpt::NEST`].
    pub remarks: Vec<Remark>,
}

/// What is left of a part.
struct Done<T> {
    excerpt: Excerpt,
    body: Vec<Stmt>,
    remarks: Vec<Remark>,
    result: T,
    /// The nests that have yet to take it.
    left: usize,
}

/// Rewrites every nest by `f`, once for all nests of a kind, on so many threads, and calls `placed` for each nest in order.
/// What `f` looks at besides the part must follow from `hint`, words about a nest in the numbers of its part.
pub(super) fn each_nest<T: Send>(
    program: &mut Program,
    threads: usize,
    remarks: &mut Vec<Remark>,
    hint: &dyn Fn(usize, &Uses) -> Vec<u64>,
    f: &(dyn Fn(&mut Part<'_>) -> T + Sync),
    placed: &mut dyn FnMut(usize, &T, &Placement),
) {
    each_nest_of(program, &|_, _| true, threads, remarks, hint, f, placed);
}

/// The same for those nests alone that are `wanted`: what is known to stay as it is need not be taken out and put back.
pub(super) fn each_nest_of<T: Send>(
    program: &mut Program,
    wanted: &dyn Fn(usize, &[Stmt]) -> bool,
    threads: usize,
    remarks: &mut Vec<Remark>,
    hint: &dyn Fn(usize, &Uses) -> Vec<u64>,
    f: &(dyn Fn(&mut Part<'_>) -> T + Sync),
    placed: &mut dyn FnMut(usize, &T, &Placement),
) {
    let mut nests = std::mem::take(&mut program.nests);
    // Those that stay as they are have no kind.
    let uses: Vec<Option<Uses>> = nests
        .iter()
        .enumerate()
        .map(|(n, nest)| wanted(n, &nest.body).then(|| Uses::of(&[&nest.body])))
        .collect();
    let mut kinds: FastMap<Key, usize> = FastMap::default();
    // The nest that represents each kind, and how many there are.
    let mut first: Vec<(usize, usize)> = Vec::new();
    let mut bytes = 0;
    let kind_of: Vec<Option<usize>> = (0..nests.len())
        .map(|n| {
            let uses = uses[n].as_ref()?;
            let mut key = uses.key(program, &[&nests[n].body], Detail::Schedule);
            key.extend(hint(n, uses));
            set_apart(&mut key);
            let len = key.len();
            let kind = *kinds.entry(key).or_insert(first.len());
            if kind == first.len() {
                first.push((n, 0));
                bytes += len;
            }
            first[kind].1 += 1;
            Some(kind)
        })
        .collect();

    let bodies: Vec<Mutex<Vec<Stmt>>> =
        first.iter().map(|k| Mutex::new(std::mem::take(&mut nests[k.0].body))).collect();
    let done: Vec<Mutex<Option<Done<T>>>> = first.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    let whole = &*program;
    let work = || {
        while let Some(&(at, left)) = first.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (Some(kind), Some(uses)) = (kind_of[at], &uses[at]) else { continue };
            let mut excerpt = Excerpt::of(whole, uses.clone());
            let mut body = bodies[kind].lock().map(|mut b| std::mem::take(&mut *b)).unwrap_or_default();
            excerpt.number(&mut body);
            let mut part = Part { program: &mut excerpt.program, body, uses, at, remarks: Vec::new() };
            let result = f(&mut part);
            let (body, remarks) = (part.body, part.remarks);
            if let Ok(mut slot) = done[kind].lock() {
                *slot = Some(Done { excerpt, body, remarks, result, left });
            }
        }
    };
    on_threads(
        if bytes < THREADED { 1 } else { compiling_threads(threads).clamp(1, first.len().max(1)) },
        work,
    );
    let mut done: Vec<Option<Done<T>>> =
        done.into_iter().map(|slot| slot.into_inner().ok().flatten()).collect();

    for (n, nest) in nests.iter_mut().enumerate() {
        let (Some(kind), Some(uses)) = (kind_of[n], &uses[n]) else { continue };
        // A thread that panicked has taken the caller with it.
        let Some(done) = &mut done[kind] else { continue };
        let placement = done.excerpt.place(program, uses);
        done.left -= 1;
        nest.body = if done.left == 0 { std::mem::take(&mut done.body) } else { done.body.clone() };
        placement.statements(&mut nest.body);
        remarks.extend(done.remarks.iter().map(|r| r.placed(program, &placement, &nest.name)));
        placed(n, &done.result, &placement);
    }
    program.nests = nests;
}

/// In tests, sets what is asked for apart from all else, where everything is to be done once for each nest.
pub(super) fn set_apart(_key: &mut Key) {
    #[cfg(test)]
    tests::set_apart(_key);
}

#[cfg(test)]
mod tests;
