//! Conditions that are known before the text is.
//!
//! `(?(name)…)` asks whether a group took part, and where the group is one way of an alternative
//! that comes before it, each way knows the answer. What follows is then written once for each way, without
//! the condition: the matcher sees what must come next, where it would else try everything.

use super::syntax::{Greed, Node};

/// How often what follows may be written again.
const MAX_SPLITS: usize = 8;
/// How many ways of one alternative there may be.
const MAX_WAYS: usize = 4;

/// The expression with as few conditions as can be; it matches the same, the same way.
pub(super) fn split(node: &Node) -> Node {
    let mut left = MAX_SPLITS;
    walk(node, &mut left)
}

fn walk(node: &Node, left: &mut usize) -> Node {
    match node {
        Node::Concat(nodes) => concat(nodes.iter().map(|node| walk(node, left)).collect(), left),
        Node::Alternate(nodes) => {
            Node::Alternate(nodes.iter().map(|node| walk(node, left)).collect())
        }
        Node::Group { index, node } => Node::Group {
            index: *index,
            node: Box::new(walk(node, left)),
        },
        // In a loop a group may have taken part a round earlier.
        node => node.clone(),
    }
}

fn concat(nodes: Vec<Node>, left: &mut usize) -> Node {
    for (at, node) in nodes.iter().enumerate() {
        let (before, rest) = nodes.split_at(at);
        let rest = rest.get(1..).unwrap_or_default();
        let mut asked = Vec::new();
        for node in rest {
            conditions(node, &mut asked);
        }
        if asked.is_empty() || *left == 0 {
            break;
        }
        let ways = ways(node);
        if ways.len() < 2 || ways.len() > MAX_WAYS {
            continue;
        }
        let known = |group: &usize| ways.iter().all(|way| takes_part(way, *group).is_some());
        let told = |group: &usize| ways.iter().any(|way| takes_part(way, *group) == Some(true));
        asked.retain(|group| known(group) && told(group));
        if asked.is_empty() {
            continue;
        }
        *left -= 1;
        let branches = ways.into_iter().map(|way| {
            let mut rest = rest.to_vec();
            for &group in &asked {
                let yes = takes_part(&way, group) == Some(true);
                for node in &mut rest {
                    resolve(node, group, yes);
                }
            }
            rest.insert(0, way);
            concat(rest, left)
        });
        let branches = Node::Alternate(branches.collect());
        let mut nodes = before.to_vec();
        nodes.push(branches);
        return Node::Concat(nodes);
    }
    Node::Concat(nodes)
}

/// The ways of a node, if it is but a choice of them.
fn ways(node: &Node) -> Vec<Node> {
    match node {
        Node::Alternate(nodes) => nodes.clone(),
        Node::Group { index, node } => {
            let group = |node| Node::Group {
                index: *index,
                node: Box::new(node),
            };
            ways(node).into_iter().map(group).collect()
        }
        Node::Repeat {
            node,
            min: 0,
            max: Some(1),
            greed,
        } => match greed {
            Greed::Greedy => vec![(**node).clone(), Node::Empty],
            Greed::Lazy => vec![Node::Empty, (**node).clone()],
            Greed::Possessive => vec![],
        },
        _ => vec![],
    }
}

/// Whether a group takes part in whatever the node matches; `None` if that depends.
fn takes_part(node: &Node, group: usize) -> Option<bool> {
    match node {
        Node::Group { index, .. } if *index == group => Some(true),
        Node::Group { node, .. } | Node::Atomic(node) => takes_part(node, group),
        Node::Concat(nodes) => {
            let parts: Vec<_> = nodes.iter().map(|node| takes_part(node, group)).collect();
            if parts.contains(&Some(true)) {
                Some(true)
            } else if parts.contains(&None) {
                None
            } else {
                Some(false)
            }
        }
        Node::Alternate(nodes) => {
            let mut parts = nodes.iter().map(|node| takes_part(node, group));
            let first = parts.next()??;
            parts.all(|part| part == Some(first)).then_some(first)
        }
        Node::Repeat { node, .. } | Node::Look { node, .. } => match takes_part(node, group) {
            Some(false) => Some(false),
            _ => None,
        },
        Node::Condition { yes, no, .. } => {
            let (yes, no) = (takes_part(yes, group)?, takes_part(no, group)?);
            (yes == no).then_some(yes)
        }
        Node::Empty
        | Node::Literal(_)
        | Node::Set(_)
        | Node::Assert(_)
        | Node::Backreference { .. } => Some(false),
    }
}

fn conditions(node: &Node, asked: &mut Vec<usize>) {
    match node {
        Node::Condition { group, yes, no } => {
            if !asked.contains(group) {
                asked.push(*group);
            }
            conditions(yes, asked);
            conditions(no, asked);
        }
        Node::Concat(nodes) | Node::Alternate(nodes) => {
            for node in nodes {
                conditions(node, asked);
            }
        }
        Node::Repeat { node, .. }
        | Node::Group { node, .. }
        | Node::Look { node, .. }
        | Node::Atomic(node) => {
            conditions(node, asked);
        }
        Node::Empty
        | Node::Literal(_)
        | Node::Set(_)
        | Node::Assert(_)
        | Node::Backreference { .. } => {}
    }
}

/// Puts the branch in the place of the conditions that ask about a group.
fn resolve(node: &mut Node, group: usize, part: bool) {
    match node {
        Node::Condition {
            group: other,
            yes,
            no,
        } => {
            resolve(yes, group, part);
            resolve(no, group, part);
            if *other == group {
                let branch = if part { yes } else { no };
                *node = std::mem::replace(&mut **branch, Node::Empty);
            }
        }
        Node::Concat(nodes) | Node::Alternate(nodes) => {
            for node in nodes {
                resolve(node, group, part);
            }
        }
        Node::Repeat { node, .. }
        | Node::Group { node, .. }
        | Node::Look { node, .. }
        | Node::Atomic(node) => {
            resolve(node, group, part);
        }
        Node::Empty
        | Node::Literal(_)
        | Node::Set(_)
        | Node::Assert(_)
        | Node::Backreference { .. } => {}
    }
}
