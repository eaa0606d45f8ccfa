//! Names: of nodes and operators as messages show them, and names that nothing has yet.

use std::collections::{HashMap, HashSet};

use super::model::normal_domain;
use super::proto::NodeProto;
use super::scope::Scope;

/// `base`, or `base_1`, `base_2`, ...: the first that is not in `taken`, to which it is added.
pub(super) fn free_name(
    taken: &mut HashSet<String>,
    numbers: &mut HashMap<String, usize>,
    base: &str,
) -> String {
    if taken.insert(base.to_owned()) {
        return base.to_owned();
    }
    let number = numbers.entry(base.to_owned()).or_default();
    loop {
        *number += 1;
        let name = format!("{base}_{number}");
        if taken.insert(name.clone()) {
            return name;
        }
    }
}

/// What a node is called: its name, or that of its first result, or its operator and position.
pub(super) fn node_name(node: &NodeProto, index: usize) -> String {
    if !node.name().is_empty() {
        return node.name().to_owned();
    }
    match node.output.iter().find(|o| !o.is_empty()) {
        Some(output) => output.clone(),
        None => format!("{}_{index}", node.op_type()),
    }
}

/// The operator as messages name it, with its domain and version.
pub(super) fn op_name(node: &NodeProto, scope: &Scope<'_>) -> String {
    let domain = normal_domain(node.domain());
    let prefix = if domain.is_empty() { String::new() } else { format!("{domain}.") };
    match scope.opsets.get(domain) {
        Some(version) => format!("{prefix}{}, opset {version}", node.op_type()),
        None => format!("{prefix}{}", node.op_type()),
    }
}
