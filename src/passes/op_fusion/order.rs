//! The graph of nests: who writes and reads which buffer, and an execution order that stays topological while
//! nests are merged.
//!
//! Merging two nests is possible only if no third nest lies on a path between them; [`NestGraph::join`] finds
//! out by a walk over the part of the order between the two, and reorders that part alone.

use std::borrow::Cow;
use std::collections::BTreeSet;

use nestjit_ir::access::reach::Reach;
use nestjit_ir::hash::FastMap;
use nestjit_ir::{BufId, Nest, Program};

use super::kinds::{Form, Kinds};

/// A nest and the buffers that it touches. Scoped buffers do not count.
pub(super) struct Node {
    pub name: String,
    /// The operations of the model that it computes.
    pub ops: Vec<String>,
    pub form: Form,
    pub reads: Reach,
    pub writes: Reach,
    /// The original nests that were merged into this one.
    pub members: Vec<usize>,
}

/// Nests in execution order.
#[derive(Default)]
pub(super) struct NestGraph {
    nodes: Vec<Option<Node>>,
    /// Node ids in execution order; merged nests leave a hole.
    order: Vec<Option<usize>>,
    place: Vec<usize>,
    writers: FastMap<BufId, BTreeSet<usize>>,
    readers: FastMap<BufId, BTreeSet<usize>>,
}

impl NestGraph {
    /// The graph of nests in execution order.
    pub fn new(program: &Program, nests: Vec<Nest>, kinds: &mut Kinds) -> NestGraph {
        let mut graph = NestGraph::default();
        for (id, Nest { name, body, ops }) in nests.into_iter().enumerate() {
            let form = kinds.form(program, body);
            let (reads, writes) = form.touched();
            graph.nodes.push(Some(Node { name, ops, form, reads, writes, members: vec![id] }));
            graph.order.push(Some(id));
            graph.place.push(id);
            graph.link(id);
        }
        graph
    }

    fn link(&mut self, id: usize) {
        let Some(node) = &self.nodes[id] else { return };
        for b in node.reads.bufs() {
            self.readers.entry(b).or_default().insert(id);
        }
        for b in node.writes.bufs() {
            self.writers.entry(b).or_default().insert(id);
        }
    }

    fn unlink(&mut self, id: usize) {
        let Some(node) = &self.nodes[id] else { return };
        for (buffers, map) in [(&node.reads, &mut self.readers), (&node.writes, &mut self.writers)] {
            for b in buffers.bufs() {
                if let Some(users) = map.get_mut(&b) {
                    users.remove(&id);
                }
            }
        }
    }

    /// Ids of all nodes, in execution order.
    pub fn ids(&self) -> Vec<usize> {
        self.order.iter().flatten().copied().collect()
    }

    /// The node, if it has not been merged into another.
    pub fn get(&self, id: usize) -> Option<&Node> {
        self.nodes.get(id).and_then(Option::as_ref)
    }

    /// The nodes that write a buffer.
    pub fn writers(&self, buf: BufId) -> impl Iterator<Item = usize> + '_ {
        self.writers.get(&buf).into_iter().flatten().copied()
    }

    /// The nodes that read a buffer.
    pub fn readers(&self, buf: BufId) -> impl Iterator<Item = usize> + '_ {
        self.readers.get(&buf).into_iter().flatten().copied()
    }

    /// The nodes whose results a node reads, with those buffers, in execution order.
    pub fn producers(&self, id: usize) -> Vec<(usize, Vec<BufId>)> {
        let Some(node) = self.get(id) else { return Vec::new() };
        let mut result: Vec<(usize, Vec<BufId>)> = Vec::new();
        for buf in node.reads.bufs() {
            let several = self.writers(buf).nth(1).is_some();
            for writer in self.writers(buf).filter(|w| self.place[*w] < self.place[id]) {
                let meets = |w: &Node| w.writes.meet_in(&node.reads, buf);
                if several && !self.get(writer).is_some_and(meets) {
                    continue;
                }
                match result.iter_mut().find(|r| r.0 == writer) {
                    Some(entry) => entry.1.push(buf),
                    None => result.push((writer, vec![buf])),
                }
            }
        }
        result.sort_by_key(|r| self.place[r.0]);
        result
    }

    /// Gives a node new statements.
    pub fn set_form(&mut self, id: usize, form: Form) {
        self.unlink(id);
        if let Some(node) = self.nodes[id].as_mut() {
            (node.reads, node.writes) = form.touched();
            node.form = form;
        }
        self.link(id);
    }

    /// Puts operation names and members of another node before those of `id`.
    pub fn prepend(&mut self, id: usize, ops: &[String], members: &[usize]) {
        if let Some(node) = self.nodes[id].as_mut() {
            let new: Vec<String> = ops.iter().filter(|op| !node.ops.contains(op)).cloned().collect();
            node.ops.splice(0..0, new);
            node.members.extend(members);
        }
    }

    /// Removes a node.
    pub fn remove(&mut self, id: usize) -> Option<Node> {
        self.unlink(id);
        self.order[self.place[id]] = None;
        self.nodes[id].take()
    }

    /// The nest that stands on a path from `first` to the later `second`, if there is one.
    pub fn between(&self, first: usize, second: usize) -> Option<usize> {
        let dependent = self.dependent(first, second);
        let node = self.get(second)?;
        dependent.into_iter().find(|id| {
            self.get(*id).is_some_and(|n| {
                n.writes.meets(&node.reads) || n.writes.meets(&node.writes) || n.reads.meets(&node.writes)
            })
        })
    }

    /// The nodes between two places that depend on `first`.
    fn dependent(&self, first: usize, second: usize) -> Vec<usize> {
        let (mut written, mut read) = match self.get(first) {
            Some(node) => (Cow::Borrowed(&node.writes), Cow::Borrowed(&node.reads)),
            None => return Vec::new(),
        };
        let mut dependent = Vec::new();
        for id in self.order[self.place[first] + 1..self.place[second]].iter().flatten() {
            let Some(node) = self.get(*id) else { continue };
            let flows = node.reads.meets(&written);
            if flows || node.writes.meets(&written) || node.writes.meets(&read) {
                written.to_mut().extend(&node.writes);
                read.to_mut().extend(&node.reads);
                dependent.push(*id);
            }
        }
        dependent
    }

    /// Merges two nodes into one with this name, these operations and this form; there must be no node [`NestGraph::between`] them. The
    /// result keeps the id of `second`.
    pub fn join(&mut self, first: usize, second: usize, name: String, ops: Vec<String>, form: Form) {
        let dependent: BTreeSet<usize> = self.dependent(first, second).into_iter().collect();
        let (from, to) = (self.place[first], self.place[second]);
        let between: Vec<usize> = self.order[from + 1..to].iter().flatten().copied().collect();
        let mut members = self.get(first).map(|n| n.members.clone()).unwrap_or_default();
        self.unlink(first);
        self.unlink(second);
        self.nodes[first] = None;
        members.extend(self.nodes[second].take().map(|n| n.members).unwrap_or_default());
        let (reads, writes) = form.touched();
        self.nodes[second] = Some(Node { name, ops, form, reads, writes, members });
        self.link(second);

        let before = between.iter().copied().filter(|id| !dependent.contains(id));
        let after = between.iter().copied().filter(|id| dependent.contains(id));
        let order: Vec<usize> = before.chain([second]).chain(after).collect();
        self.order[from..=to].fill(None);
        for (slot, id) in (from..=to).zip(order) {
            self.order[slot] = Some(id);
            self.place[id] = slot;
        }
    }

    /// The nodes in execution order.
    pub fn into_nodes(mut self) -> Vec<Node> {
        let order = std::mem::take(&mut self.order);
        order.into_iter().flatten().filter_map(|id| self.nodes[id].take()).collect()
    }
}
