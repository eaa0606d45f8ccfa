//! Elements that lanes ask for: of a table in registers, or from memory.

use super::{Builder, Key};
use crate::codegen::vcode::{Access, Class, Inst, Reg};

impl Builder {
    /// The bytes of a table of 256 that the low 8 bits of `index` count.
    pub fn lookup(&mut self, table: Access, index: Reg) -> Reg {
        let key = Key::Lookup(Box::new(table.clone()), self.version(index));
        self.value(Class::I32, key, |dst| Inst::Lookup { dst, index, table })
    }

    /// The elements that are so many bytes behind those of an access as the lanes of `offsets` say, from lane `first` on, or lane 0
    /// for all of them.
    pub fn gather(&mut self, from: Access, offsets: Reg, first: Option<usize>) -> Reg {
        let key = Key::Gather(Box::new(from.clone()), self.version(offsets), first);
        self.value(from.ty.class(), key, |dst| Inst::Gather { dst, offsets, from, first })
    }
}
