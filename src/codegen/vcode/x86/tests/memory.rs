//! Memory between two inaccessible pages.

const PAGE: usize = 4096;

pub(super) struct Guarded {
    base: *mut u8,
    bytes: usize,
    start: usize,
    len: usize,
}

impl Guarded {
    /// A buffer that ends at (or starts after) an inaccessible page.
    pub fn new(contents: &[u8], at_end: bool) -> Guarded {
        let inner = contents.len().next_multiple_of(PAGE);
        let bytes = inner + 2 * PAGE;
        // SAFETY: a new mapping, of which the inner part is made accessible.
        let base = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let base = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0).cast::<u8>();
            assert!(!base.is_null() && base as isize != -1, "no memory");
            let access = libc::PROT_READ | libc::PROT_WRITE;
            assert_eq!(libc::mprotect(base.add(PAGE).cast(), inner, access), 0);
            base
        };
        let start = PAGE + if at_end { inner - contents.len() } else { 0 };
        let guarded = Guarded { base, bytes, start, len: contents.len() };
        // SAFETY: within the accessible part, which nothing else refers to yet.
        unsafe { std::slice::from_raw_parts_mut(guarded.pointer(), guarded.len) }.copy_from_slice(contents);
        guarded
    }

    pub fn pointer(&self) -> *mut u8 {
        self.base.wrapping_add(self.start)
    }

    pub fn contents(&self) -> &[u8] {
        // SAFETY: the accessible part, initialised, and not written while it is borrowed.
        unsafe { std::slice::from_raw_parts(self.pointer(), self.len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, which nothing refers to any more.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}
