//! Compiled stages, found again by shapes and values. Of several calls that need the same one at the same time, one
//! makes it while the others wait; calls that need something else do not wait. What is made, and how, is left to
//! [`super::run`].

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::plan::{Entry, Signature, Slots};
use crate::error::{Error, Result};
use crate::onnx::Slot;
use crate::runtime::RunOptions;
use crate::runtime::fork::{Guarded, Held, generation};
use crate::tensor::Tensor;

/// How many entries that were forgotten are remembered, by a number each.
const FORGOTTEN: usize = 1024;

/// How often a call that waits looks whether it was cancelled.
const CANCEL_CHECKS: Duration = Duration::from_millis(2);

/// The values that an entry is right for.
pub(super) type Values = Vec<(Slot, Tensor)>;

/// Entries for different shapes and values.
#[derive(Debug)]
pub(super) struct Cache {
    /// Values whose types and shapes tell entries apart.
    pub keys: Vec<Slot>,
    state: Guarded<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The most recently used last.
    entries: Vec<Arc<Entry>>,
    /// The entries that are being made.
    flights: Vec<Arc<Flight>>,
    forgotten: VecDeque<u64>,
}

/// How many entries are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limit {
    /// At most.
    pub most: usize,
    /// Whatever memory they take.
    pub least: usize,
    /// Beyond that as long as all entries of a session take no more than this.
    pub bytes: usize,
}

/// An entry that is being made.
#[derive(Debug)]
struct Flight {
    /// Of the process whose thread makes it.
    generation: u64,
    shapes: Vec<Signature>,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Clone, Debug)]
enum Progress {
    /// It may turn out that it is made for more values than these.
    Planning(Values),
    Compiling(Values),
    Made(Arc<Entry>),
    /// The same becomes of it for whoever has these values.
    Failed(Values, Error),
    /// Whoever made it panicked.
    GivenUp,
}

/// What a cache has to say.
pub(super) enum Found<'c> {
    /// The entry is there.
    Entry(Arc<Entry>),
    /// The caller has to make it; others wait for it.
    Nothing(Maker<'c>),
}

/// The duty to make an entry. Dropping it leaves that to the next.
pub(super) struct Maker<'c> {
    cache: &'c Cache,
    flight: Arc<Flight>,
    values: Values,
}

/// What became of an entry that was made.
pub(super) struct Added {
    pub entry: Arc<Entry>,
    /// Whether the cache had it before, and forgot it.
    pub again: bool,
}

impl Cache {
    /// A cache of entries that are told apart by these values' types and shapes.
    pub fn new(keys: Vec<Slot>) -> Cache {
        Cache { keys, state: Guarded::default() }
    }

    /// The entry for these values, or the duty to make it. Waits if it is being made.
    ///
    /// # Errors
    /// Those with which making it failed, and those of [`RunOptions::check`] while waiting.
    pub fn find(&self, slots: &Slots<'_>, options: &RunOptions) -> Result<Found<'_>> {
        loop {
            let flight = {
                let mut state = self.lock();
                if let Some(entry) = state.find(&self.keys, slots) {
                    return Ok(Found::Entry(entry));
                }
                match state.flights.iter().find(|flight| flight.may_serve(&self.keys, slots)) {
                    Some(flight) => Arc::clone(flight),
                    None => {
                        let flight = Arc::new(Flight::new(self.shapes(slots)));
                        state.flights.push(Arc::clone(&flight));
                        return Ok(Found::Nothing(Maker { cache: self, flight, values: Vec::new() }));
                    }
                }
            };
            if let Some(entry) = flight.wait(slots, options)? {
                return Ok(Found::Entry(entry));
            }
        }
    }

    /// What tells entries apart, of these values.
    pub fn shapes(&self, slots: &Slots<'_>) -> Vec<Signature> {
        self.keys.iter().map(|slot| Signature::of(slots[*slot].as_ref())).collect()
    }

    /// How many programs are kept.
    pub fn programs(&self) -> usize {
        self.entries().iter().map(|entry| entry.programs()).sum()
    }

    /// The memory that they take, in bytes.
    pub fn bytes(&self) -> usize {
        self.entries().iter().map(|entry| entry.bytes()).sum()
    }

    /// Gives back the memory that they keep for later runs.
    pub fn trim(&self) {
        self.entries().iter().for_each(|entry| entry.trim());
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.lock().entries.clone()
    }

    fn lock(&self) -> Held<'_, State> {
        let mut state = self.state.lock();
        // What threads make that a child of `fork` does not have, nobody makes.
        let generation = generation();
        state.flights.retain(|flight| flight.generation == generation);
        state
    }
}

impl State {
    fn find(&mut self, keys: &[Slot], slots: &Slots<'_>) -> Option<Arc<Entry>> {
        let position = self.entries.iter().rposition(|entry| entry.serves(keys, slots))?;
        self.entries[position..].rotate_left(1);
        self.entries.last().cloned()
    }

    /// Adds an entry, and takes out those that are too many: the ones that were not used for the longest time.
    /// `bytes` is what the session's entries take with it. Tells whether it was there before.
    fn add(&mut self, entry: Arc<Entry>, limit: Limit, mut bytes: usize) -> (bool, Vec<Arc<Entry>>) {
        let key = entry.key();
        let known = self.forgotten.iter().position(|other| *other == key);
        known.map(|position| self.forgotten.remove(position));
        self.entries.push(entry);
        let mut out = Vec::new();
        while self.entries.len() > limit.most || (self.entries.len() > limit.least && bytes > limit.bytes) {
            let oldest = self.entries.remove(0);
            bytes = bytes.saturating_sub(oldest.bytes());
            self.forgotten.push_back(oldest.key());
            out.push(oldest);
        }
        let excess = self.forgotten.len().saturating_sub(FORGOTTEN);
        self.forgotten.drain(..excess);
        (known.is_some(), out)
    }
}

impl Flight {
    fn new(shapes: Vec<Signature>) -> Flight {
        let generation = generation();
        Flight {
            generation,
            shapes,
            progress: Mutex::new(Progress::Planning(Vec::new())),
            changed: Condvar::new(),
        }
    }

    /// Whether the entry will be right for these values, as far as that is known.
    fn may_serve(&self, keys: &[Slot], slots: &Slots<'_>) -> bool {
        keys.iter().zip(&self.shapes).all(|(slot, shape)| shape.is_of(slots[*slot].as_ref()))
            && match &*self.lock() {
                Progress::Planning(values) | Progress::Compiling(values) => are(values, slots),
                Progress::Made(_) | Progress::Failed(..) | Progress::GivenUp => false,
            }
    }

    /// The entry; `None` if it is made for other values, or not at all.
    fn wait(&self, slots: &Slots<'_>, options: &RunOptions) -> Result<Option<Arc<Entry>>> {
        let mut progress = self.lock();
        loop {
            match &*progress {
                Progress::Planning(values) | Progress::Compiling(values) if are(values, slots) => {}
                Progress::Failed(values, error) if are(values, slots) => return Err(error.clone()),
                // It is found again among all others.
                Progress::Made(entry) => return Ok(entry.has_values(slots).then(|| Arc::clone(entry))),
                Progress::Planning(_) | Progress::Compiling(_) | Progress::Failed(..) | Progress::GivenUp => {
                    return Ok(None);
                }
            }
            progress = match options.patience(CANCEL_CHECKS) {
                None => self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner),
                Some(time) => {
                    let woken = self.changed.wait_timeout(progress, time);
                    let progress = woken.unwrap_or_else(PoisonError::into_inner).0;
                    options.check()?;
                    progress
                }
            };
        }
    }

    fn set(&self, progress: Progress) {
        *self.lock() = progress;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maker<'_> {
    /// The entry is made for these values too.
    pub fn needs(&mut self, values: impl IntoIterator<Item = (Slot, Tensor)>) {
        self.values.extend(values);
        self.flight.set(Progress::Planning(self.values.clone()));
    }

    /// The entry is made for the values so far and no others; returns them.
    pub fn planned(&mut self) -> Values {
        self.flight.set(Progress::Compiling(self.values.clone()));
        self.values.clone()
    }

    /// Adds the entry to the cache; `bytes` is what the session's entries take already.
    pub fn finish(self, entry: Entry, limit: Limit, bytes: usize) -> Added {
        let entry = Arc::new(entry);
        let bytes = bytes.saturating_add(entry.bytes());
        let (again, out) = {
            let mut state = self.cache.lock();
            state.flights.retain(|other| !Arc::ptr_eq(other, &self.flight));
            state.add(Arc::clone(&entry), limit, bytes)
        };
        self.flight.set(Progress::Made(Arc::clone(&entry)));
        // Freeing code and memory takes its time: not while others are kept from looking for theirs.
        drop(out);
        Added { entry, again }
    }

    /// Passes the error on to those who wait.
    pub fn fail(mut self, error: &Error) {
        let values = mem::take(&mut self.values);
        self.flight.set(Progress::Failed(values, error.clone()));
    }
}

impl Drop for Maker<'_> {
    fn drop(&mut self) {
        self.cache.lock().flights.retain(|other| !Arc::ptr_eq(other, &self.flight));
        let open = matches!(&*self.flight.lock(), Progress::Planning(_) | Progress::Compiling(_));
        if open {
            self.flight.set(Progress::GivenUp);
        }
    }
}

/// Whether these are the values.
pub(super) fn are(values: &[(Slot, Tensor)], slots: &Slots<'_>) -> bool {
    values.iter().all(|(slot, value)| slots[*slot].as_ref().is_some_and(|other| other.is_tensor(value)))
}

/// A number for what an entry is for: different entries have different ones, but for a chance of one in billions.
pub(super) fn key(shapes: &[Signature], values: &[(Slot, Tensor)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    shapes.hash(&mut hasher);
    for (slot, tensor) in values {
        (slot, tensor.dtype(), tensor.shape(), tensor.bytes().ok()).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Instant;

    use nestjit_ir::DType;

    use super::*;
    use crate::error::ErrorKind;
    use crate::onnx::Stage;
    use crate::runtime::CancelHandle;
    use crate::runtime::input::Value;

    const LIMIT: Limit = Limit { most: 2, least: 2, bytes: usize::MAX };

    fn slots(extent: usize, value: i64) -> Slots<'static> {
        let value = Value::Item(Tensor::scalar(value).into());
        vec![Some(Value::Unknown(DType::F32, vec![extent])), Some(value)]
    }

    fn entry(cache: &Cache, slots: &Slots<'_>, values: Values) -> Entry {
        Entry::new(cache.shapes(slots), values, BTreeSet::new(), Stage::default(), None)
    }

    fn cache() -> Cache {
        Cache::new(vec![0, 1])
    }

    fn maker<'c>(cache: &'c Cache, slots: &Slots<'_>) -> Maker<'c> {
        match cache.find(slots, &RunOptions::new()).unwrap() {
            Found::Nothing(maker) => maker,
            Found::Entry(_) => panic!("it is there"),
        }
    }

    /// 64 calls for the same, of which one makes it as `make` says; returns how many did, and what became of them.
    fn calls(
        make: impl Fn(Maker<'_>, usize) -> Result<Arc<Entry>> + Sync,
    ) -> (usize, Vec<Option<Result<usize>>>) {
        let (cache, makers) = (cache(), AtomicUsize::new(0));
        let call = || {
            let entry = match cache.find(&slots(3, 0), &RunOptions::new())? {
                Found::Entry(entry) => entry,
                Found::Nothing(maker) => make(maker, makers.fetch_add(1, Ordering::SeqCst))?,
            };
            Ok(Arc::as_ptr(&entry) as usize)
        };
        let results = thread::scope(|scope| {
            let threads: Vec<_> = (0..64).map(|_| scope.spawn(call)).collect();
            threads.into_iter().map(|thread| thread.join().ok()).collect()
        });
        assert!(cache.lock().flights.is_empty());
        (makers.into_inner(), results)
    }

    fn finish(maker: Maker<'_>) -> Arc<Entry> {
        let entry = entry(maker.cache, &slots(3, 0), Vec::new());
        maker.finish(entry, LIMIT, 0).entry
    }

    #[test]
    fn one_call_makes_what_all_need() {
        let (makers, results) = calls(|mut maker, _| {
            maker.planned();
            // Others have the time to come.
            thread::sleep(Duration::from_millis(20));
            Ok(finish(maker))
        });
        assert_eq!(makers, 1);
        let first = results[0].clone().unwrap().unwrap();
        assert!(results.into_iter().all(|result| result.unwrap().unwrap() == first));
    }

    #[test]
    fn those_who_wait_get_the_error_or_try_again_after_a_panic() {
        let (_, results) = calls(|maker, number| {
            let error = Error::unsupported(format!("no {number}"));
            maker.fail(&error);
            Err(error)
        });
        for result in results {
            assert_eq!(result.unwrap().unwrap_err().kind(), ErrorKind::Unsupported);
        }
        let (makers, results) = calls(|maker, number| {
            if number < 3 {
                // Without the message of a panic.
                std::panic::resume_unwind(Box::new(()));
            }
            Ok(finish(maker))
        });
        assert_eq!(makers, 4);
        assert_eq!(results.iter().filter(|result| result.is_none()).count(), 3);
        assert!(results.iter().flatten().all(Result::is_ok));
    }

    #[test]
    fn other_shapes_and_other_values_do_not_wait() {
        let cache = cache();
        let mut first = maker(&cache, &slots(1, 7));
        let second = maker(&cache, &slots(2, 7));
        first.needs([(1, Tensor::scalar(7i64))]);
        let third = maker(&cache, &slots(1, 8));
        assert_eq!(cache.lock().flights.len(), 3);
        drop((second, third));
        let values = first.planned();
        let made = first.finish(entry(&cache, &slots(1, 7), values), LIMIT, 0);
        assert!(!made.again);
        let other = maker(&cache, &slots(1, 9));
        assert!(matches!(cache.find(&slots(1, 7), &RunOptions::new()), Ok(Found::Entry(_))));
        drop(other);
    }

    #[test]
    fn who_waits_for_what_turns_out_to_be_for_others_makes_it() {
        let cache = cache();
        let mut first = maker(&cache, &slots(1, 7));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(maker(&cache, &slots(1, 8))));
            thread::sleep(Duration::from_millis(5));
            first.needs([(1, Tensor::scalar(7i64))]);
            // Without hanging, although the first one is not finished.
            waiting.join().unwrap();
        });
    }

    #[test]
    fn waiting_ends_when_a_call_is_cancelled_or_late() {
        let cache = cache();
        let _maker = maker(&cache, &slots(1, 7));
        let wait = |options: &RunOptions| match cache.find(&slots(1, 7), options) {
            Err(error) => error.kind(),
            Ok(_) => panic!("it is not made"),
        };
        let late = RunOptions::new().deadline(Instant::now());
        assert_eq!(wait(&late), ErrorKind::DeadlineExceeded);
        let handle = CancelHandle::new();
        let options = RunOptions::new().cancel(&handle);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| wait(&options));
            handle.cancel();
            assert_eq!(waiting.join().unwrap(), ErrorKind::Cancelled);
        });
    }

    #[test]
    fn what_is_made_again_is_noticed() {
        let cache = cache();
        let make = |extent: usize, limit: Limit, bytes: usize| {
            let slots = slots(extent, 0);
            maker(&cache, &slots).finish(entry(&cache, &slots, Vec::new()), limit, bytes).again
        };
        let again = [1, 2, 3, 1, 2, 3, 4].map(|extent| make(extent, LIMIT, 0));
        assert_eq!(again, [false, false, false, true, true, true, false]);
        let roomy = Limit { most: 4, least: 1, bytes: 100 };
        assert!(!make(5, roomy, 100) && !make(6, roomy, 100));
        assert_eq!(cache.entries().len(), 4);
        make(7, roomy, 101);
        assert_eq!(cache.entries().len(), 1, "what takes too much memory goes, but for the newest");
    }
}
