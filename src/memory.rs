//! Aligned, zeroed memory: the storage of tensors, arenas of temporaries, scratch space, packed constants.
//!
//! Everything is aligned to a cache line. Large blocks come from the system in huge pages where it has them: a fresh
//! page costs a fault, and faults on small pages cost several times what it takes to fill the memory. Medium-sized
//! blocks that are made together share huge pages through a [`Bundle`]. What lies where is decided by others.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(target_os = "linux")]
use std::time::{Duration, Instant};

use bytemuck::{CheckedBitPattern, NoUninit};
#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::MmapMut;

use crate::budget::Reservation;
use crate::error::{Error, ErrorKind, Result};

/// The alignment of everything that is allocated for generated code. What callers bring need not have it.
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
    /// This allocation of the block's own, initialised up to the block's end. It may have been that of a vector.
    Allocated(NonNull<u8>, Layout, Option<Reservation>),
    /// A map of the block's own, which frees itself.
    Mapped(#[expect(dead_code, reason = "owned, not used")] (MmapMut, Reservation)),
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
        Block::zeroed_for(bytes, 1)
    }

    /// Allocates a block for elements of this alignment, at most [`ALIGN`], so that [`Block::into_vec`] may succeed.
    ///
    /// # Errors
    /// [`ErrorKind::Limit`] if there is not that much memory.
    pub fn zeroed_for(bytes: usize, align: usize) -> Result<Block> {
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
        let size = (bytes + ALIGN - align).next_multiple_of(align);
        let layout = Layout::from_size_align(size, align).map_err(|_| fail())?;
        let reservation = Some(Reservation::new(bytes)?);
        // SAFETY: the size is not 0.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(fail)?;
        let skip = memory.addr().get().next_multiple_of(ALIGN) - memory.addr().get();
        // SAFETY: `skip` is a multiple of `align` and less than `ALIGN`, so at most `ALIGN - align`: the place is within
        // the allocation, with `bytes` behind it.
        let start = unsafe { memory.add(skip) };
        Ok(Block { start, size: bytes, owner: Owner::Allocated(memory, layout, reservation) })
    }

    /// Maps a block of fresh memory, aligned to a huge page, of which the first `huge` bytes should be huge pages.
    fn mapped(bytes: usize, huge: usize) -> Result<Block> {
        let fail = || too_much(bytes);
        let size = bytes.max(huge).checked_add(HUGE_PAGE).filter(|size| *size <= isize::MAX as usize);
        let reservation = Reservation::new(bytes)?;
        let mut map = MmapMut::map_anon(size.ok_or_else(fail)?).map_err(|_| fail())?;
        let address = map.as_ptr().addr();
        let skip = address.next_multiple_of(HUGE_PAGE) - address;
        #[cfg(target_os = "linux")]
        ask_for_huge_pages(&mut map, skip, huge);
        // SAFETY: `skip` is less than `HUGE_PAGE`, so the place is within the map, with `bytes` behind it.
        let start = unsafe { NonNull::new(map.as_mut_ptr().add(skip)) }.ok_or_else(fail)?;
        Ok(Block { start, size: bytes, owner: Owner::Mapped((map, reservation)) })
    }

    /// Takes over the memory of a vector: the block is `len` of its elements from `first` on. It is aligned as they are.
    ///
    /// # Panics
    /// If there are no such elements.
    pub fn of_vec<T: NoUninit>(vec: Vec<T>, first: usize, len: usize) -> Block {
        let size = size_of_val(&vec[first..first + len]);
        let mut vec = ManuallyDrop::new(vec);
        let layout = Layout::array::<T>(vec.capacity()).ok().filter(|layout| layout.size() > 0);
        // SAFETY: the pointer of a vector is not null, and `first` is within it, as was checked by the index above.
        let (memory, start) = unsafe {
            let memory = vec.as_mut_ptr();
            (NonNull::new_unchecked(memory.cast()), NonNull::new_unchecked(memory.add(first).cast()))
        };
        // What lies behind the block is of no use, and may not be initialised. A vector without memory frees nothing.
        let owner = layout.map_or(Owner::Nothing, |layout| Owner::Allocated(memory, layout, None));
        Block { start, size, owner }
    }

    /// The memory as a vector, and the position of the block's first element in it. It is given back if it cannot be
    /// one: if it was not allocated for elements of this type, or holds others.
    pub fn into_vec<T: CheckedBitPattern + NoUninit>(mut self) -> Result<(Vec<T>, usize), Block> {
        let Owner::Allocated(memory, layout, _) = self.owner else { return Err(self) };
        let skip = self.start.addr().get() - memory.addr().get();
        let used = skip + self.size;
        let whole = |bytes: usize| bytes.is_multiple_of(size_of::<T>());
        if layout.align() != align_of::<T>() || ![layout.size(), skip, used].into_iter().all(whole) {
            return Err(self);
        }
        // SAFETY: the allocation is initialised up to the block's end, and owned by the block.
        let bytes = unsafe { std::slice::from_raw_parts(memory.as_ptr(), used) };
        if bytemuck::checked::try_cast_slice::<u8, T>(bytes).is_err() {
            return Err(self);
        }
        // The vector frees the memory, which is not this module's any more.
        if let Owner::Allocated(_, _, reservation) = &mut self.owner {
            drop(reservation.take());
        }
        let _ = ManuallyDrop::new(self);
        let [len, capacity] = [used, layout.size()].map(|bytes| bytes / size_of::<T>());
        // SAFETY: the allocation is the global allocator's, with the layout of `capacity` elements of this type; the
        // first `len` are valid ones, as was checked. The block that owned it is not dropped.
        let vec = unsafe { Vec::from_raw_parts(memory.as_ptr().cast(), len, capacity) };
        Ok((vec, skip / size_of::<T>()))
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
        if let Owner::Allocated(memory, layout, _) = self.owner {
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
    fn vectors_become_blocks_and_blocks_vectors() {
        let vec: Vec<i32> = (0..10).collect();
        let place = vec.as_ptr();
        let mut block = Block::of_vec(vec, 2, 5);
        assert_eq!((block.as_ptr().cast_const().cast(), block.size()), (place.wrapping_add(2), 20));
        block.bytes_mut()[0] = 9;
        let block = block.into_vec::<i64>().unwrap_err();
        let (vec, first) = block.into_vec::<i32>().unwrap();
        assert_eq!((vec.as_ptr(), vec.as_slice(), first), (place, &[0, 1, 9, 3, 4, 5, 6][..], 2));
        assert_eq!(Block::of_vec(Vec::<f64>::new(), 0, 0).size(), 0);
        assert_eq!(
            Block::of_vec(Vec::<f64>::with_capacity(3), 0, 0).into_vec::<f64>().unwrap().0.capacity(),
            3
        );

        for elements in [1, 7, 1000] {
            let block = Block::zeroed_for(elements * 8, 8).unwrap();
            let place = block.as_ptr().cast_const().cast::<f64>();
            assert_eq!(place as usize % ALIGN, 0);
            let (vec, first) = block.into_vec::<f64>().unwrap();
            assert_eq!((vec[first..].as_ptr(), &vec[first..]), (place, &vec![0.0; elements][..]));
        }
        let mut block = Block::zeroed_for(2, 1).unwrap();
        block.bytes_mut()[1] = 2;
        let block = block.into_vec::<bool>().unwrap_err();
        assert!(block.into_vec::<u8>().is_ok());
        assert!(Block::zeroed_for(LARGE, 4).unwrap().into_vec::<f32>().is_err());
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
