//! Hash tables for short keys that the compiler makes itself, such as numbers of variables and buffers: a fast hash
//! function without a secret. Keys that a file may choose freely, such as names, belong into other tables.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map with [`FastHasher`].
pub type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;
/// A set with [`FastHasher`].
pub type FastSet<K> = HashSet<K, BuildHasherDefault<FastHasher>>;

/// Mixes in a word at a time by a rotation and a multiplication.
#[derive(Clone, Copy, Default, Debug)]
pub struct FastHasher(u64);

/// An odd number without regularity: 2^64 over the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// Calls `f` on bytes, eight at a time; the last ones are followed by zeros.
#[inline]
pub(crate) fn each_word(bytes: &[u8], mut f: impl FnMut(u64)) {
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| f(u64::from_le_bytes(*word)));
    if !rest.is_empty() {
        // No copy of a length that is not known: it would be a call.
        f(rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
}

impl FastHasher {
    #[inline]
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(MIX);
    }
}

impl Hasher for FastHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        each_word(bytes, |word| self.add(word));
    }
    #[inline]
    fn write_u8(&mut self, n: u8) {
        self.add(n.into());
    }
    #[inline]
    fn write_u32(&mut self, n: u32) {
        self.add(n.into());
    }
    #[inline]
    fn write_u64(&mut self, n: u64) {
        self.add(n);
    }
    #[inline]
    fn write_i64(&mut self, n: i64) {
        self.add(n as u64);
    }
    #[inline]
    fn write_usize(&mut self, n: usize) {
        self.add(n as u64);
    }
    #[inline]
    fn write_isize(&mut self, n: isize) {
        self.add(n as u64);
    }
    #[inline]
    fn finish(&self) -> u64 {
        // Tables look at the low bits, a multiplication mixes the high ones best.
        self.0.rotate_left(26)
    }
}
