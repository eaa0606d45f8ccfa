//! Aligned memory that belongs to a run: the arena of temporaries, scratch space, packed constants.
//!
//! Zeroed and aligned to a cache line, large blocks to a huge page, so that the system may back them with one.
//! Where things lie in it is decided by the memory plan.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use crate::error::{Error, ErrorKind, Result};

/// The alignment of everything the runtime hands to generated code.
pub const ALIGN: usize = 64;
/// The size of a huge page, and from which size on memory is aligned to one.
const HUGE_PAGE: usize = 2 << 20;

/// A block of zeroed memory.
#[derive(Debug)]
pub struct Block {
    start: NonNull<u8>,
    size: usize,
    /// What was allocated; `None` if the block is empty.
    allocation: Option<(NonNull<u8>, Layout)>,
}

// SAFETY: a block owns its memory, like a `Vec<u8>`.
unsafe impl Send for Block {}
// SAFETY: `&Block` only gives out a raw pointer; using it is the business of whoever does.
unsafe impl Sync for Block {}

impl Block {
    /// Allocates a block.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] if there is not that much memory.
    pub fn zeroed(bytes: usize) -> Result<Block> {
        let fail = || Error::new(ErrorKind::Limit, format!("{bytes} bytes of memory cannot be allocated"));
        let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { ALIGN };
        if bytes == 0 {
            // Not null and aligned, as an empty slice's pointer must be.
            let start = NonNull::without_provenance(std::num::NonZero::new(ALIGN).ok_or_else(fail)?);
            return Ok(Block { start, size: 0, allocation: None });
        }
        // The allocator zeroes what it aligns by writing to it; what it need not align comes from the system as
        // zeros and is not touched before it is used. So the alignment is made here.
        let size = bytes.checked_add(align - 1).ok_or_else(fail)?;
        let layout = Layout::from_size_align(size, 1).map_err(|_| fail())?;
        // SAFETY: the size is not 0.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(fail)?;
        let skip = memory.addr().get().next_multiple_of(align) - memory.addr().get();
        // SAFETY: `skip` is less than `align`, so the place is within the allocation, with `bytes` behind it.
        let start = unsafe { memory.add(skip) };
        Ok(Block { start, size: bytes, allocation: Some((memory, layout)) })
    }

    /// The first byte. Valid for reads and writes of the whole block; who does so must see to it that nobody
    /// else does at the same time.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The number of bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the memory is initialised (zeroed), owned, and borrowed exclusively through `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.size()) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some((memory, layout)) = self.allocation {
            // SAFETY: allocated with this layout, and dropped once.
            unsafe { dealloc(memory.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_zeroed() {
        for bytes in [0, 1, 63, 64, 4097, HUGE_PAGE + 1] {
            let mut block = Block::zeroed(bytes).unwrap();
            assert_eq!(block.size(), bytes);
            let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { ALIGN };
            assert_eq!(block.as_ptr() as usize % align, 0);
            assert!(block.bytes_mut().iter().all(|b| *b == 0));
            block.bytes_mut().fill(1);
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        assert_eq!(Block::zeroed(usize::MAX).unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(Block::zeroed(isize::MAX as usize / 2).unwrap_err().kind(), ErrorKind::Limit);
    }
}
