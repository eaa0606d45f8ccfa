//! What nests are up to names. Those that are equal are of one [`Kind`], so that what is found out about one of them is known
//! of all, and two kinds, with what their nests have in common, say all about a pair of nests.
//!
//! Kinds are numbered as excerpts of the program are ([`nestjit_ir::excerpt`]). What merges and how is decided elsewhere.

use std::cell::OnceCell;
use std::rc::Rc;

use nestjit_ir::access::reach::{Reach, touched};
use nestjit_ir::excerpt::{Detail, Excerpt, Key, Placement, Uses};
use nestjit_ir::hash::FastMap;
use nestjit_ir::{BufId, Program, Stmt};

use super::inline::{self, Pointwise};
use super::profit;
use crate::passes::each_nest::set_apart;

/// The statements of nests that are equal up to names.
pub(super) struct Kind {
    /// Its number among the kinds.
    pub number: usize,
    /// The buffers and variables.
    pub program: Program,
    pub body: Vec<Stmt>,
    pub reads: Reach,
    pub writes: Reach,
    /// What the nest used from which this was made.
    uses: Uses,
    pointwise: OnceCell<Option<Pointwise>>,
    contracts: OnceCell<bool>,
    has_weights: OnceCell<bool>,
    only_normalises: OnceCell<bool>,
}

impl Kind {
    /// The nest as one that computes each element by itself, if it is.
    pub fn pointwise(&self) -> Option<&Pointwise> {
        self.pointwise.get_or_init(|| Pointwise::of(&self.program, &self.body)).as_ref()
    }

    /// Whether there is a contraction in it.
    pub fn contracts(&self) -> bool {
        *self.contracts.get_or_init(|| !profit::contractions(&self.program, &self.body).is_empty())
    }

    /// Whether some contraction has a constant operand.
    pub fn has_weights(&self) -> bool {
        *self.has_weights.get_or_init(|| profit::has_weights(&self.program, &self.body))
    }

    /// Whether something is reduced, and nothing contracted.
    pub fn only_normalises(&self) -> bool {
        *self.only_normalises.get_or_init(|| profit::only_normalises(&self.program, &self.body))
    }

    /// Whether it only copies what it moves.
    pub fn only_moves(&self) -> bool {
        inline::only_moves(&self.body)
    }
}

/// The statements of a nest: of a kind, with buffers and variables of its own.
#[derive(Clone)]
pub(super) struct Form {
    pub kind: Rc<Kind>,
    pub uses: Uses,
}

impl Form {
    /// The statements.
    pub fn body(&self) -> Vec<Stmt> {
        let mut body = self.kind.body.clone();
        self.placement().statements(&mut body);
        body
    }

    /// Where the buffers and variables of the kind are in the program.
    pub fn placement(&self) -> Placement {
        self.kind.uses.placement(&self.uses)
    }

    /// What a buffer of the kind is here.
    pub fn buf(&self, buf: BufId) -> BufId {
        self.uses.bufs()[buf.0 as usize]
    }

    /// What is read and written.
    pub fn touched(&self) -> (Reach, Reach) {
        let Kind { reads, writes, .. } = &*self.kind;
        let here = |b| self.buf(b);
        (reads.renamed(here), writes.renamed(here))
    }

    /// Whether these are contractions that read one row of `flow` each.
    pub fn single_row(&self, flow: &[BufId]) -> bool {
        let flow: Vec<BufId> = flow.iter().filter_map(|b| self.uses.buf(*b)).collect();
        profit::single_row(&self.kind.program, &self.kind.body, &flow)
    }
}

/// All kinds that have come up.
#[derive(Default)]
pub(super) struct Kinds(FastMap<Key, Rc<Kind>>);

impl Kinds {
    /// The form of statements of a program.
    pub fn form(&mut self, program: &Program, mut body: Vec<Stmt>) -> Form {
        let uses = Uses::of(&[&body]);
        let mut key = uses.key(program, &[&body], Detail::Schedule);
        set_apart(&mut key);
        let number = self.0.len();
        let kind = self.0.entry(key).or_insert_with(|| {
            let excerpt = Excerpt::of(program, uses.clone());
            excerpt.number(&mut body);
            let (reads, writes) = touched(&body);
            Rc::new(Kind {
                number,
                program: excerpt.program,
                body,
                reads,
                writes,
                uses: uses.clone(),
                pointwise: OnceCell::new(),
                contracts: OnceCell::new(),
                has_weights: OnceCell::new(),
                only_normalises: OnceCell::new(),
            })
        });
        Form { kind: Rc::clone(kind), uses }
    }
}
