//! The memory of a program's code: writable once and executable once, whatever the number of functions.
//!
//! Cranelift's arena makes memory writable page by page as functions come. Which functions there are is `module`'s to know.

use std::io;

use cranelift_jit::{ArenaMemoryProvider, BranchProtection, JITMemoryKind, JITMemoryProvider};
use cranelift_module::ModuleResult;

/// Memory for a known number of bytes of code. Once executable, it is leaked unless it is freed by
/// [`JITMemoryProvider::free_memory`].
pub(super) struct CodeMemory {
    arena: ArenaMemoryProvider,
    bytes: usize,
    /// The address of the first byte, and how many have been given out; `None` before the first function.
    used: Option<(*mut u8, usize)>,
}

// SAFETY: the memory is reached through the arena's owner only, and the pointer is what the arena gave out.
unsafe impl Send for CodeMemory {}

/// What code is aligned to at most: a page.
const PAGE: u64 = 4096;

impl CodeMemory {
    /// Memory for so many bytes, with what their alignment takes.
    ///
    /// # Errors
    /// What the system says if it has no such memory.
    pub fn new(bytes: usize) -> io::Result<CodeMemory> {
        let arena = ArenaMemoryProvider::new_with_size(bytes.max(1)).map_err(io::Error::other)?;
        Ok(CodeMemory { arena, bytes, used: None })
    }
}

impl JITMemoryProvider for CodeMemory {
    fn allocate(&mut self, size: usize, align: u64, kind: JITMemoryKind) -> io::Result<*mut u8> {
        let no_room = || io::Error::other("more code than there is memory for");
        if !matches!(kind, JITMemoryKind::Executable) || align > PAGE {
            return Err(no_room());
        }
        let (first, used) = match self.used {
            Some(used) => used,
            None => (self.arena.allocate(self.bytes, PAGE, JITMemoryKind::Executable)?, 0),
        };
        let at = used.next_multiple_of(align as usize);
        let end = at.checked_add(size).filter(|end| *end <= self.bytes).ok_or_else(no_room)?;
        self.used = Some((first, end));
        // SAFETY: `at` lies within the `bytes` that the arena gave out.
        Ok(unsafe { first.add(at) })
    }

    unsafe fn free_memory(&mut self) {
        // SAFETY: the caller's promise.
        unsafe { JITMemoryProvider::free_memory(&mut self.arena) };
    }

    fn finalize(&mut self, protection: BranchProtection) -> ModuleResult<()> {
        JITMemoryProvider::finalize(&mut self.arena, protection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_lie_behind_each_other_up_to_the_end() {
        let mut memory = CodeMemory::new(200).unwrap();
        let first = memory.allocate(3, 16, JITMemoryKind::Executable).unwrap();
        let second = memory.allocate(100, 64, JITMemoryKind::Executable).unwrap();
        assert_eq!((first as usize % 64, second as usize - first as usize), (0, 64));
        assert!(memory.allocate(37, 1, JITMemoryKind::Executable).is_err());
        assert!(memory.allocate(36, 1, JITMemoryKind::Executable).is_ok());
        assert!(memory.allocate(1, 1, JITMemoryKind::Executable).is_err());
        assert!(memory.allocate(0, 1, JITMemoryKind::Writable).is_err());
        memory.finalize(BranchProtection::None).unwrap();
        // SAFETY: no function is in it.
        unsafe { memory.free_memory() };
    }
}
