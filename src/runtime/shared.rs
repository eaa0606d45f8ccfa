//! Packed constants that programs share: what is made of the same elements for the same order and border exists once in a
//! process, for as long as a program needs it. So programs of one model for several shapes, and sessions of one file, have
//! their weights in memory once, and all but the first need not read, transform and pack them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use nestjit_ir::{Buffer, DType, Layout};

use super::fork::{Guarded, Held};
use crate::memory::Block;
use crate::tensor::{Origin, Tensor};

/// Constants of fewer bytes are not worth the search.
const LEAST: usize = 16 << 10;

/// What is there. Entries go with what they stand for.
static ALL: LazyLock<Guarded<HashMap<Key, Weak<Packed>>>> = LazyLock::new(Guarded::default);

/// What packed bytes follow from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    origin: Origin,
    dtype: DType,
    shape: Vec<usize>,
    layout: Layout,
    halo: Vec<(usize, usize)>,
    /// The bits of the halo's value.
    fill: u64,
}

impl Key {
    /// For the elements of a tensor in a buffer's order, if others may look for it.
    pub fn new(buffer: &Buffer, tensor: &Tensor) -> Option<Key> {
        (buffer.storage_bytes() >= LEAST).then(|| Key {
            origin: tensor.origin(),
            dtype: buffer.dtype,
            shape: buffer.shape.clone(),
            layout: buffer.layout.clone(),
            halo: buffer.halo.clone(),
            fill: buffer.halo_fill.to_bits(),
        })
    }
}

/// A packed constant, shared by clones.
#[derive(Debug)]
pub(super) struct Packed {
    key: Option<Key>,
    block: Block,
}

impl Packed {
    /// What is there for a key.
    pub fn find(key: &Key) -> Option<Arc<Packed>> {
        all().get(key).and_then(Weak::upgrade)
    }

    /// Takes what was packed; others find it by the key. If somebody else was faster, theirs is returned.
    pub fn new(key: Option<Key>, block: Block) -> Arc<Packed> {
        let packed = Arc::new(Packed { key, block });
        let Some(key) = &packed.key else { return packed };
        // Nothing is dropped under the lock but a dead entry.
        let mut all = all();
        let other = all.get(key).and_then(Weak::upgrade);
        if other.is_none() {
            all.insert(key.clone(), Arc::downgrade(&packed));
        }
        drop(all);
        other.unwrap_or(packed)
    }

    /// The bytes, which must not be written.
    pub fn block(&self) -> &Block {
        &self.block
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        let Some(key) = &self.key else { return };
        let mut all = all();
        // Of what came too late the entry is somebody else's; a new one may have come in the meantime.
        let dead = all.get(key).is_some_and(|entry| entry.strong_count() == 0);
        let entry = if dead { all.remove_entry(key) } else { None };
        drop(all);
        drop(entry);
    }
}

fn all() -> Held<'static, HashMap<Key, Weak<Packed>>> {
    ALL.lock()
}

#[cfg(test)]
mod tests {
    use nestjit_ir::Role;

    use super::*;

    #[test]
    fn what_somebody_has_is_found_until_nobody_has_it() {
        let tensor = Tensor::zeros(DType::F32, &[64, 128]).unwrap();
        let mut buffer = Buffer::new("w", DType::F32, &[64, 128], Role::Const);
        let key = Key::new(&buffer, &tensor).unwrap();
        assert!(Packed::find(&key).is_none());
        let block = || Block::zeroed(buffer.storage_bytes()).unwrap();
        let first = Packed::new(Some(key.clone()), block());
        let late = Packed::new(Some(key.clone()), block());
        assert!(Arc::ptr_eq(&first, &late));
        drop(late);
        assert!(Arc::ptr_eq(&first, &Packed::find(&key).unwrap()));
        drop(first);
        assert!(Packed::find(&key).is_none() && !all().contains_key(&key));
        buffer.layout = Layout::ordered(vec![1, 0]);
        assert_ne!(Key::new(&buffer, &tensor).unwrap(), key);
        assert!(Key::new(&Buffer::new("s", DType::F32, &[64], Role::Const), &tensor).is_none());
    }
}
