//! How much memory there is, and how much of it is taken: what a system would promise, and end the process for later, is an
//! error here. It is asked before memory is taken, by [`crate::memory`] and by whoever knows what a model will need.
//!
//! There is what the machine has available, swap included, or what the control group of the process leaves (versions 1 and
//! 2), whichever is less; or what was said instead ([`set_limit`]).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// So much may be taken without a look at the system, which costs about as much time as it takes to fill a megabyte.
const STEP: usize = 64 << 20;

/// What was said instead of what the system has; 0 if nothing was said.
static LIMIT: AtomicU64 = AtomicU64::new(0);
/// The bytes of all reservations.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// With so many bytes taken the system was looked at last.
static CHECKED: AtomicUsize = AtomicUsize::new(0);

/// How much may be taken by this process, from now on; `None` for what the system has.
pub(crate) fn set_limit(bytes: Option<u64>) {
    LIMIT.store(bytes.unwrap_or(0), Ordering::Relaxed);
}

/// Memory that is taken, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation(usize);

impl Reservation {
    /// For memory that is about to be taken.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] if there is not so much.
    pub fn new(bytes: usize) -> Result<Reservation> {
        let after = TAKEN.load(Ordering::Relaxed).saturating_add(bytes);
        let far = after > CHECKED.load(Ordering::Relaxed).saturating_add(STEP);
        if bytes >= STEP || far || LIMIT.load(Ordering::Relaxed) != 0 {
            look(bytes)?;
            CHECKED.fetch_max(after, Ordering::Relaxed);
        }
        TAKEN.fetch_add(bytes, Ordering::Relaxed);
        Ok(Reservation(bytes))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        TAKEN.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Whether there are so many bytes; for what is about to be taken otherwise than as a [`Reservation`], or part by part.
///
/// # Errors
/// [`ErrorKind::Limit`] with both numbers.
pub(crate) fn check(bytes: usize) -> Result<()> {
    if bytes < STEP && LIMIT.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    look(bytes)
}

/// The same, with a look at the system. What is reserved and not used yet counts as taken only as far as it would exceed
/// all that there is.
fn look(bytes: usize) -> Result<()> {
    let taken = TAKEN.load(Ordering::Relaxed) as u64;
    let room = match LIMIT.load(Ordering::Relaxed) {
        0 => match System::here().memory() {
            Some(Memory { all, available }) => available.min(all.saturating_sub(taken)),
            // Then it is the system's business to refuse it.
            None => return Ok(()),
        },
        limit => limit.saturating_sub(taken),
    };
    if bytes as u64 <= room {
        return Ok(());
    }
    let limit = match LIMIT.load(Ordering::Relaxed) {
        0 => String::new(),
        limit => format!(" of the {limit} that NESTJIT_MEMORY or the program allows"),
    };
    Err(Error::new(
        ErrorKind::Limit,
        format!("{bytes} bytes of memory are needed, but only {room} are available{limit}"),
    ))
}

/// What there is, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Memory {
    /// In use or not.
    all: u64,
    /// What may still be taken; memory that the system would give up for it counts.
    available: u64,
}

impl Memory {
    fn min(self, other: Memory) -> Memory {
        Memory { all: self.all.min(other.all), available: self.available.min(other.available) }
    }
}

/// The files in which Linux says what there is.
struct System {
    root: PathBuf,
}

impl System {
    fn here() -> System {
        System { root: PathBuf::from("/") }
    }

    fn memory(&self) -> Option<Memory> {
        let machine = self.machine();
        self.groups().into_iter().chain(machine).reduce(Memory::min)
    }

    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    fn machine(&self) -> Option<Memory> {
        let text = self.text("proc/meminfo")?;
        let kilobytes = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse().ok()
        };
        let swap = |name| kilobytes(name).unwrap_or(0);
        Some(Memory {
            all: (kilobytes("MemTotal")? + swap("SwapTotal")) << 10,
            available: (kilobytes("MemAvailable")? + swap("SwapFree")) << 10,
        })
    }

    /// What the control group of this process and those around it leave.
    fn groups(&self) -> Vec<Memory> {
        let Some(list) = self.text("proc/self/cgroup") else { return Vec::new() };
        let mut found = Vec::new();
        for line in list.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if controllers.split(',').any(|c| c == "memory") {
                let files = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
                found.extend(self.group(Path::new("sys/fs/cgroup/memory"), path, files));
            } else if controllers.is_empty() {
                let files = ["memory.max", "memory.current", "inactive_file"];
                found.extend(self.group(Path::new("sys/fs/cgroup"), path, files));
            }
        }
        found
    }

    /// What a group and all above it leave; the files are those of the limit and of what is in use, and what is said of
    /// caches of files, which can be given up, in `memory.stat`. In a container, the path may be that outside of it.
    fn group(&self, mount: &Path, path: &str, [limit, usage, cache]: [&str; 3]) -> Vec<Memory> {
        let number = |path: PathBuf| self.text(path)?.trim().parse::<u64>().ok();
        let at = |folder: PathBuf| {
            // `max` is no limit.
            let all = number(folder.join(limit))?;
            let used = number(folder.join(usage))?;
            let stat = self.text(folder.join("memory.stat")).unwrap_or_default();
            let cached = stat.lines().find_map(|line| line.strip_prefix(cache)?.trim().parse::<u64>().ok());
            let used = used.saturating_sub(cached.unwrap_or(0));
            Some(Memory { all, available: all.saturating_sub(used) })
        };
        let path = Path::new(path.trim_start_matches('/'));
        path.ancestors().filter_map(|inner| at(mount.join(inner))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> (tempfile::TempDir, System) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let system = System { root: root.path().to_owned() };
        (root, system)
    }

    const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:  8000 kB\nMemAvailable: 5000 kB\nSwapTotal: 100 kB\nSwapFree:  50 kB\n");

    #[test]
    fn a_machine_has_what_it_says() {
        assert_eq!(system(&[]).1.memory(), None);
        let (_root, plain) = system(&[MEMINFO]);
        assert_eq!(plain.memory(), Some(Memory { all: 8100 << 10, available: 5050 << 10 }));
    }

    #[test]
    fn control_groups_leave_what_the_narrowest_leaves() {
        let (_root, second) = system(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "1000\n"),
            ("sys/fs/cgroup/a/memory.max", "5000\n"),
            ("sys/fs/cgroup/a/memory.current", "4000\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 500\nactive_file 7\n"),
        ]);
        assert_eq!(second.memory(), Some(Memory { all: 5000, available: 1500 }));
        let (_root, first) = system(&[
            MEMINFO,
            ("proc/self/cgroup", "9:cpu,cpuacct:/x\n4:memory:/docker/1\n0::/\n"),
            // As a container sees it: its own group is the root of the mount.
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "6000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "7000\n"),
            ("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 2000\n"),
        ]);
        assert_eq!(first.memory(), Some(Memory { all: 6000, available: 1000 }));
    }

    #[test]
    fn what_no_machine_has_is_refused_before_it_is_taken() {
        let error = Reservation::new(1 << 60).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        let message = error.to_string();
        assert!(
            message.starts_with("1152921504606846976 bytes of memory are needed, but only "),
            "{message}"
        );
        assert!(check(1000).is_ok() && Reservation::new(1000).is_ok());
    }
}
