//! Aligned, zeroed memory: the storage of tensors, arenas of temporaries, scratch space, packed constants.
//!
//! Everything is aligned to a cache line. Large blocks come from the system in huge pages where it has them: a fresh
//! page costs a fault, and faults on small pages cost several times what it takes to fill the memory. Medium-sized
//! blocks that are made together share huge pages through a [`Bundle`]. What lies where is decided by others.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(target_os = "linux")]
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::MmapMut;

use crate::error::{Error, ErrorKind, Result};

/// The alignment of everything the runtime hands to generated code.
pub(crate) const ALIGN: usize = 64;
/// The size of a huge page.
const HUGE_PAGE: usize = 2 << 20;
/// About the time that the small pages in the place of a huge one take.
#[cfg(target_os = "linux")]
const SMALL_PAGES: Duration = Duration::from_micros(600);
/// How much of a huge page must be in use for it to be worth having: its other half is wasted at most.
pub(crate) const LARGE: usize = HUGE_PAGE / 2;
/// So few bytes are not worth a huge page, which takes time to be filled with zeros too.
const FEW: usize = HUGE_PAGE / 8;
/// What a [`Bundle`] asks for at once.
const CHUNK: usize = 2 * HUGE_PAGE;

/// A block of memory, zeroed when it was made.
#[derive(Debug)]
pub(crate) struct Block {
    start: NonNull<u8>,
    size: usize,
    owner: Owner,
}

/// What a block's memory belongs to.
#[derive(Debug)]
enum Owner {
    /// The block is empty.
    Nothing,
    /// This allocation of the block's own.
    Allocated(NonNull<u8>, Layout),
    /// A map of the block's own, which frees itself.
    Mapped(#[expect(dead_code, reason = "owned, not used")] MmapMut),
    /// Another block, of which this is a part that no other block overlaps.
    Part(#[expect(dead_code, reason = "kept alive, not used")] Arc<Block>),
}

// SAFETY: a block owns its memory, like a `Vec<u8>`; parts of one block do not overlap.
unsafe impl Send for Block {}
// SAFETY: `&Block` only gives out bytes to read and a raw pointer; using that is the business of whoever does.
unsafe impl Sync for Block {}

impl Block {
    /// Allocates a block.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] if there is not that much memory.
    pub fn zeroed(bytes: usize) -> Result<Block> {
        if bytes >= LARGE {
            let whole = bytes / HUGE_PAGE * HUGE_PAGE;
            let huge = if bytes - whole >= LARGE { whole.saturating_add(HUGE_PAGE) } else { whole };
            return Block::mapped(bytes, huge);
        }
        let fail = || too_much(bytes);
        if bytes == 0 {
            // Not null and aligned, as an empty slice's pointer must be.
            let start = NonNull::without_provenance(std::num::NonZero::new(ALIGN).ok_or_else(fail)?);
            return Ok(Block { start, size: 0, owner: Owner::Nothing });
        }
        // The allocator zeroes what it aligns by writing to it; what it need not align comes from the system as
        // zeros and is not touched before it is used. So the alignment is made here.
        let layout = Layout::from_size_align(bytes + ALIGN - 1, 1).map_err(|_| fail())?;
        // SAFETY: the size is not 0.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(fail)?;
        let skip = memory.addr().get().next_multiple_of(ALIGN) - memory.addr().get();
        // SAFETY: `skip` is less than `ALIGN`, so the place is within the allocation, with `bytes` behind it.
        let start = unsafe { memory.add(skip) };
        Ok(Block { start, size: bytes, owner: Owner::Allocated(memory, layout) })
    }

    /// Maps a block of fresh memory, aligned to a huge page, of which the first `huge` bytes should be huge pages.
    fn mapped(bytes: usize, huge: usize) -> Result<Block> {
        let fail = || too_much(bytes);
        let size = bytes.max(huge).checked_add(HUGE_PAGE).filter(|size| *size <= isize::MAX as usize);
        let mut map = MmapMut::map_anon(size.ok_or_else(fail)?).map_err(|_| fail())?;
        let address = map.as_ptr().addr();
        let skip = address.next_multiple_of(HUGE_PAGE) - address;
        #[cfg(target_os = "linux")]
        ask_for_huge_pages(&mut map, skip, huge);
        // SAFETY: `skip` is less than `HUGE_PAGE`, so the place is within the map, with `bytes` behind it.
        let start = unsafe { NonNull::new(map.as_mut_ptr().add(skip)) }.ok_or_else(fail)?;
        Ok(Block { start, size: bytes, owner: Owner::Mapped(map) })
    }

    /// The first byte. Valid for reads and writes of the whole block; who writes must see to it that nobody else
    /// reads or writes at the same time.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The number of bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether the memory lives on as long as other blocks do.
    #[cfg(test)]
    pub fn is_part(&self) -> bool {
        matches!(self.owner, Owner::Part(_))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is initialised (zeroed) and lives as long as `self`; by the contract of `as_ptr` nobody
        // writes to it meanwhile.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.size) }
    }

    /// The bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the memory is initialised (zeroed), owned, and borrowed exclusively through `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.size) }
    }
}

/// Asks for huge pages in a part of a map that is aligned to them; where there are none, small ones do.
///
/// Where free memory is in pieces, or a hypervisor has to find it first, a huge page takes longer to come than all the
/// small ones in its place. The first one tells; if it is late, this process goes on with small ones.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(map: &mut MmapMut, start: usize, bytes: usize) {
    static LATE: AtomicBool = AtomicBool::new(false);
    if bytes == 0 || LATE.load(Ordering::Relaxed) {
        return;
    }
    let before = Instant::now();
    if map.advise_range(Advice::HugePage, start, bytes).is_ok() {
        map[start] = 0;
        if before.elapsed() > SMALL_PAGES {
            LATE.store(true, Ordering::Relaxed);
            let _ = map.advise_range(Advice::NoHugePage, start, bytes);
        }
    }
}

fn too_much(bytes: usize) -> Error {
    Error::new(ErrorKind::Limit, format!("{bytes} bytes of memory cannot be allocated"))
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Owner::Allocated(memory, layout) = self.owner {
            // SAFETY: allocated with this layout, and dropped once.
            unsafe { dealloc(memory.as_ptr(), layout) };
        }
    }
}

/// Hands out blocks that lie side by side. Memory is freed when all blocks that share it are gone, so a bundle is for
/// blocks that live equally long.
#[derive(Debug, Default)]
pub(crate) struct Bundle {
    /// What is being handed out, and how much of it has been.
    current: Option<(Arc<Block>, usize)>,
    /// The bytes of blocks that stand alone.
    alone: usize,
}

impl Bundle {
    /// A block. Small ones and the first few are not worth sharing and large ones need not share.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] if there is not that much memory.
    pub fn zeroed(&mut self, bytes: usize) -> Result<Block> {
        if !(1024..LARGE).contains(&bytes) || self.alone + bytes <= FEW {
            self.alone = self.alone.saturating_add(bytes);
            return Block::zeroed(bytes);
        }
        let (chunk, used) = match self.current.take() {
            Some((chunk, used)) if chunk.size() - used >= bytes => (chunk, used),
            _ => (Arc::new(Block::mapped(CHUNK, CHUNK)?), 0),
        };
        // SAFETY: the part ends within the chunk, and no other part begins before its end.
        let start = unsafe { chunk.start.add(used) };
        let block = Block { start, size: bytes, owner: Owner::Part(Arc::clone(&chunk)) };
        self.current = Some((chunk, (used + bytes).next_multiple_of(ALIGN)));
        Ok(block)
    }
}

/// Large blocks that are no longer needed, for others of their size: their pages exist already.
#[derive(Debug, Default)]
pub(crate) struct Recycler {
    free: Vec<Block>,
}

impl Recycler {
    /// Takes a block.
    pub fn give(&mut self, block: Block) {
        if matches!(block.owner, Owner::Mapped(_)) {
            self.free.push(block);
        }
    }

    /// One of the blocks given, cut to this size, if one is large enough and less than half of it would stay unused.
    /// It holds what it held.
    pub fn take(&mut self, bytes: usize) -> Option<Block> {
        let fits = |block: &Block| block.size >= bytes && block.size / 2 < bytes;
        let found = self.free.iter().position(fits)?;
        let mut block = self.free.swap_remove(found);
        block.size = bytes;
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_zeroed() {
        for bytes in [0, 1, 63, 64, 4097, LARGE - 1, LARGE, HUGE_PAGE + 1, 3 * HUGE_PAGE - 1] {
            let mut block = Block::zeroed(bytes).unwrap();
            assert_eq!((block.size(), block.bytes().len(), block.is_part()), (bytes, bytes, false));
            let align = if bytes >= LARGE { HUGE_PAGE } else { ALIGN };
            assert_eq!(block.as_ptr() as usize % align, 0);
            assert!(block.bytes().iter().all(|b| *b == 0));
            block.bytes_mut().fill(1);
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        assert_eq!(Block::zeroed(usize::MAX).unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(Block::zeroed(isize::MAX as usize / 2).unwrap_err().kind(), ErrorKind::Limit);
        assert_eq!(Bundle::default().zeroed(usize::MAX).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn the_parts_of_a_bundle_do_not_overlap_and_outlive_it() {
        let mut bundle = Bundle::default();
        let sizes = [0, 5, FEW, 1024, 1_000_001, 4096, LARGE - 1, LARGE, 2000, LARGE - 64, 1_000_000];
        let mut blocks: Vec<Block> = sizes.iter().map(|&size| bundle.zeroed(size).unwrap()).collect();
        drop(bundle);
        for (i, block) in blocks.iter_mut().enumerate() {
            assert_eq!(block.as_ptr() as usize % ALIGN, 0);
            assert!(block.bytes().iter().all(|b| *b == 0));
            block.bytes_mut().fill(i as u8 + 1);
        }
        assert!(blocks.iter().any(Block::is_part));
        for (i, block) in blocks.iter().enumerate() {
            assert_eq!(block.size(), sizes[i]);
            assert!(block.bytes().iter().all(|b| *b == i as u8 + 1));
        }
    }

    #[test]
    fn what_is_recycled_is_of_the_size_asked_for() {
        let mut recycler = Recycler::default();
        let old = Block::zeroed(2 * HUGE_PAGE).unwrap();
        let place = old.as_ptr();
        recycler.give(old);
        recycler.give(Block::zeroed(64).unwrap());
        for other in [64, HUGE_PAGE, 2 * HUGE_PAGE + 1] {
            assert!(recycler.take(other).is_none());
        }
        let mut block = recycler.take(2 * HUGE_PAGE - 5).unwrap();
        assert_eq!((block.as_ptr(), block.size()), (place, 2 * HUGE_PAGE - 5));
        block.bytes_mut().fill(1);
        assert!(recycler.take(2 * HUGE_PAGE - 5).is_none());
    }
}
