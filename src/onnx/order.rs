//! What graphs read from around, and lists of nodes in an order in which every node comes after those whose results it reads. The format asks for such
//! an order; tools that edit models do not always keep it.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::proto::{GraphProto, NodeProto, ValueInfoProto};

/// Sorts the nodes of a graph and of the graphs in them, as [`sort_nodes`] does.
pub(super) fn sort_graph(graph: &mut GraphProto) {
    sort_nodes(&mut graph.node);
}

/// Sorts nodes, the graphs in them first. Those that are in order stay as they are; of others, the first that can come
/// next does. Nodes of a cycle, and what depends on them, come last: nothing makes what the first of them reads.
pub(super) fn sort_nodes(nodes: &mut Vec<NodeProto>) {
    for node in nodes.iter_mut() {
        for graph in node.attribute.iter_mut().filter_map(|a| a.g.as_mut()) {
            sort_graph(graph);
        }
    }
    if let Some(order) = order(nodes) {
        let mut unsorted: Vec<Option<NodeProto>> = std::mem::take(nodes).into_iter().map(Some).collect();
        nodes.extend(order.into_iter().filter_map(|i| unsorted[i].take()));
    }
}

/// The positions of nodes in a sorted order; `None` if they are sorted.
fn order(nodes: &[NodeProto]) -> Option<Vec<usize>> {
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            producers.entry(output).or_insert(i);
        }
    }
    // What each node waits for: the nodes that make what it and the graphs in it read.
    let waits = |node: &NodeProto| -> Vec<usize> {
        let captured: Vec<String> =
            node.attribute.iter().filter_map(|a| a.g.as_ref()).flat_map(free_names).collect();
        let names = node.input.iter().chain(&captured);
        names.filter_map(|name| producers.get(name.as_str()).copied()).collect()
    };
    let waits: Vec<Vec<usize>> = nodes.iter().map(waits).collect();
    if waits.iter().enumerate().all(|(i, list)| list.iter().all(|w| *w < i)) {
        return None;
    }
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut open: Vec<usize> = waits.iter().map(Vec::len).collect();
    for (i, list) in waits.iter().enumerate() {
        list.iter().for_each(|w| readers[*w].push(i));
    }
    let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|i| open[*i] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(i) = ready.pop_first() {
        order.push(i);
        for reader in &readers[i] {
            open[*reader] -= 1;
            if open[*reader] == 0 {
                ready.insert(*reader);
            }
        }
    }
    order.extend((0..nodes.len()).filter(|i| open[*i] > 0));
    Some(order)
}

/// The names that a graph takes from around.
pub(super) fn free_names(graph: &GraphProto) -> BTreeSet<String> {
    let mut defined: HashSet<&str> = graph.input.iter().map(ValueInfoProto::name).collect();
    defined.extend(graph.initializer.iter().map(|t| t.name()));
    defined.extend(graph.sparse_initializer.iter().filter_map(|t| t.values.as_ref()).map(|v| v.name()));
    let mut free = BTreeSet::new();
    for node in &graph.node {
        let inner = node.attribute.iter().filter_map(|a| a.g.as_ref()).flat_map(free_names);
        let own = node.input.iter().filter(|name| !name.is_empty()).cloned();
        free.extend(own.chain(inner).filter(|name| !defined.contains(name.as_str())));
        defined.extend(node.output.iter().map(String::as_str));
    }
    let outputs = graph.output.iter().map(|o| o.name().to_owned());
    free.extend(outputs.filter(|name| !defined.contains(name.as_str())));
    free
}

/// How many nodes a graph has, those in subgraphs included.
pub(super) fn node_count(graph: &GraphProto) -> usize {
    let inner = |node: &NodeProto| -> usize {
        node.attribute.iter().filter_map(|a| a.g.as_ref()).map(node_count).sum()
    };
    graph.node.iter().map(|node| 1 + inner(node)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(inputs: &[&str], output: &str) -> NodeProto {
        NodeProto {
            input: inputs.iter().map(|s| (*s).into()).collect(),
            output: vec![output.into()],
            ..NodeProto::default()
        }
    }

    fn sorted(mut nodes: Vec<NodeProto>) -> Vec<String> {
        sort_nodes(&mut nodes);
        nodes.iter().map(|n| n.output[0].clone()).collect()
    }

    #[test]
    fn nodes_come_after_what_they_read() {
        let nodes =
            vec![node(&["b", "x"], "c"), node(&["x"], "a"), node(&["a", "a"], "b"), node(&["c"], "d")];
        assert_eq!(sorted(nodes), ["a", "b", "c", "d"]);
        let in_order = vec![node(&["x"], "q"), node(&["x"], "p"), node(&["p"], "a")];
        assert_eq!(sorted(in_order), ["q", "p", "a"]);
    }

    #[test]
    fn cycles_come_last() {
        let nodes = vec![node(&["b"], "a"), node(&["a"], "b"), node(&["d"], "c"), node(&["x"], "d")];
        assert_eq!(sorted(nodes), ["d", "c", "a", "b"]);
    }
}
