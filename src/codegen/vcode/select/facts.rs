//! What holds of the accesses and loops of a nest in every iteration: found once, however often they are emitted.

use std::cell::RefCell;
use std::rc::Rc;

use nestjit_ir::layout::offset;
use nestjit_ir::visit::Extents;
use nestjit_ir::{Affine, BufId, For, Index, Program, Var};
use smallvec::SmallVec;

use super::nested::inner_has_lanes;
use crate::codegen::address::{allowed, inside};
use crate::codegen::hash::FastMap;

/// An access in terms of the variables of the nest.
pub(super) struct Form {
    /// Whether there is an affine index for each dimension.
    pub affine: bool,
    /// The offset in elements. A panelled dimension has one only if its index can be split whatever the iteration.
    pub offset: Option<Affine>,
    /// The dimensions whose index may be outside the buffer.
    pub unsure: SmallVec<[usize; 4]>,
    /// What it is the form of.
    #[cfg(debug_assertions)]
    index: Vec<Index>,
}

impl Form {
    fn of(program: &Program, extents: &Extents, buf: BufId, index: &[Index]) -> Form {
        let buffer = program.buf(buf);
        let affine = index.len() == buffer.shape.len() && index.iter().all(|i| i.as_affine().is_some());
        let indices = || index.iter().filter_map(Index::as_affine);
        let offset = affine.then(|| offset(buffer, indices(), extents)).flatten();
        let within = |dim: usize, i: &Affine| inside(i, allowed(buffer, dim, None), extents);
        let unsure = indices().enumerate().filter(|(dim, i)| affine && !within(*dim, i)).map(|(dim, _)| dim);
        Form {
            affine,
            offset,
            unsure: unsure.collect(),
            #[cfg(debug_assertions)]
            index: index.to_vec(),
        }
    }
}

/// What a statement accesses: an element of a buffer, and its form.
pub(super) struct Element<'s> {
    pub buf: BufId,
    pub index: &'s [Index],
    pub form: Rc<Form>,
}

/// Facts about a nest, for one width of registers.
pub(in crate::codegen) struct Facts<'a> {
    pub program: &'a Program,
    /// The extents of all loops of the nest.
    pub extents: &'a Extents,
    lanes: usize,
    /// By the address of the indices, which are parts of the program.
    forms: RefCell<FastMap<(BufId, *const Index), Rc<Form>>>,
    inner_lanes: RefCell<FastMap<Var, bool>>,
}

impl<'a> Facts<'a> {
    pub fn new(program: &'a Program, extents: &'a Extents, lanes: usize) -> Facts<'a> {
        Facts { program, extents, lanes, forms: RefCell::default(), inner_lanes: RefCell::default() }
    }

    /// An access that the nest contains.
    pub(super) fn element<'s>(&self, buf: BufId, index: &'s [Index]) -> Element<'s> {
        Element { buf, index, form: self.form(buf, index) }
    }

    /// An access that the nest does not contain.
    pub(super) fn foreign<'s>(&self, buf: BufId, index: &'s [Index]) -> Element<'s> {
        Element { buf, index, form: Rc::new(Form::of(self.program, self.extents, buf, index)) }
    }

    /// The form of an access that the nest contains: a copy of its indices could be followed by another one at the
    /// same address.
    pub(super) fn form(&self, buf: BufId, index: &[Index]) -> Rc<Form> {
        let new = || Rc::new(Form::of(self.program, self.extents, buf, index));
        let form = self.forms.borrow_mut().entry((buf, index.as_ptr())).or_insert_with(new).clone();
        #[cfg(debug_assertions)]
        assert!(form.index == index, "indices that are not the nest's own");
        form
    }

    /// Whether the vector loops in the body of a vector loop make better lanes than the loop itself.
    pub(super) fn inner_has_lanes(&self, l: &For) -> bool {
        if let Some(known) = self.inner_lanes.borrow().get(&l.var) {
            return *known;
        }
        let result = inner_has_lanes(self, l, self.lanes);
        self.inner_lanes.borrow_mut().insert(l.var, result);
        result
    }
}
