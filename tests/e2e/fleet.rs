//! Nodes that share bans and allow entries, by a real cluster of NATS servers with the permissions that
//! the documentation shows.
//!
//! | module | what it is about |
//! | --- | --- |
//! | `sharing` | bans, ends and allow entries, from one node to the others |
//! | `absence` | nodes that join, leave, restart, and are cut off |
//! | `hostile` | what a node can do to the others, and what not |
//! | `bounds` | what a node can cause without end, and how often |
//! | `access` | certificates and credentials, and others after a reload |
//! | `outage` | servers that are killed under a stream of bans |

mod absence;
mod access;
mod bounds;
mod hostile;
mod outage;
mod sharing;

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;
use testkit::{
    Daemon, comes_true,
    nats::{Cluster, Site},
    pause_since,
};

/// How long the nodes may take to agree: servers may have to choose a leader first.
const AGREE: Duration = Duration::from_secs(15);

/// A daemon that is a node, at its place.
struct Node {
    name: &'static str,
    site: Site,
    daemon: Daemon,
}

/// Servers and nodes. The nodes come first: they end before the servers.
struct Fleet {
    nodes: Vec<Node>,
    cluster: Cluster,
}

impl Fleet {
    /// A cluster and some nodes, which know of each other.
    fn start(servers: usize, nodes: &[&'static str]) -> Self {
        Self::start_with(servers, nodes, "")
    }

    /// [`Fleet::start`] with more keys in each `[fleet]`.
    fn start_with(servers: usize, nodes: &[&'static str], keys: &str) -> Self {
        let cluster = Cluster::start(servers).unwrap_or_else(|error| panic!("{error}"));
        let mut fleet = Self {
            nodes: Vec::new(),
            cluster,
        };
        for (number, name) in nodes.iter().copied().enumerate() {
            fleet.join(name, keys);
            if number == 0 {
                fleet.init(0);
            }
        }
        for index in 0..fleet.nodes.len() {
            fleet.wait_complete(index);
        }
        fleet
    }

    /// Starts another node.
    fn join(&mut self, name: &'static str, keys: &str) {
        let site = self
            .cluster
            .lay_cable()
            .unwrap_or_else(|error| panic!("{error}"));
        let config = self.cluster.node_config(name, &site, keys);
        self.join_at(name, site, &config);
    }

    /// Starts another node with this configuration.
    fn join_at(&mut self, name: &'static str, site: Site, config: &str) {
        let daemon = Daemon::start(&site.namespace, config);
        self.nodes.push(Node { name, site, daemon });
    }

    /// Makes the bucket, as an admin does.
    fn init(&self, index: usize) {
        let admin = self.cluster.as_admin();
        self.init_as(index, &admin.each_ref().map(String::as_str));
    }

    /// [`Fleet::init`] as somebody else.
    fn init_as(&self, index: usize, admin: &[&str]) {
        let init = [&["fleet", "init"], admin].concat();
        // A cluster that has just begun may not be able to yet.
        self.wait(AGREE, "a bucket", || {
            self.node(index).abuser(&init).status.success()
        });
    }

    fn node(&self, index: usize) -> &Daemon {
        &self.nodes[index].daemon
    }

    fn status(&self, index: usize) -> Value {
        self.node(index).json(&["fleet", "status"])
    }

    /// Waits until a node has heard all there is.
    #[track_caller]
    fn wait_complete(&self, index: usize) {
        let what = format!("node {index} to have heard all");
        self.wait(AGREE, &what, || self.status(index)["complete"] == true);
    }

    /// The bans of a node by source, with their cause and the node they are from.
    fn bans(&self, index: usize) -> BTreeMap<String, String> {
        let list = self.node(index).json(&["ban", "list"]);
        let list = list.as_array().expect("a list").iter();
        let bans = list.map(|ban| {
            let cause = text(&ban["cause"]);
            let from = match ban["node"].as_str() {
                Some(node) => format!("{cause} {node}"),
                None => cause,
            };
            (text(&ban["source"]), from)
        });
        bans.collect()
    }

    /// Waits until a node has these bans and no others.
    #[track_caller]
    fn wait_bans(&self, index: usize, expected: &[(&str, &str)]) {
        let expected: BTreeMap<_, _> = expected
            .iter()
            .map(|(source, from)| ((*source).to_owned(), (*from).to_owned()))
            .collect();
        let deadline = Instant::now() + AGREE;
        loop {
            let look = Instant::now();
            let bans = self.bans(index);
            if bans == expected {
                return;
            }
            let said = self.node(index).stderr();
            assert!(
                Instant::now() < deadline,
                "node {index} has {bans:?} and not {expected:?}; it said:\n{said}"
            );
            pause_since(look);
        }
    }

    #[track_caller]
    fn wait(&self, patience: Duration, what: &str, is_so: impl Fn() -> bool) {
        assert!(
            comes_true(patience, is_so),
            "not within {patience:?}: {what}; {}",
            self.said()
        );
    }

    /// What the nodes have said.
    fn said(&self) -> String {
        let said = self.nodes.iter();
        let said = said.map(|node| format!("--- {}\n{}", node.name, node.daemon.stderr()));
        said.collect::<Vec<_>>().join("\n")
    }

    /// Changes a node's configuration and has it read.
    #[track_caller]
    fn reload(&self, index: usize, change: impl FnOnce(String) -> String) {
        let path = self.node(index).config_path();
        let before = fs::read_to_string(&path).expect("the configuration");
        fs::write(&path, change(before)).expect("writing the configuration");
        self.node(index).abuser(&["reload"]).success();
    }

    /// Has an admin revoke a node, by way of another one.
    #[track_caller]
    fn revoke(&self, by: usize, node: &str) -> Value {
        let admin = self.cluster.as_admin();
        let admin = admin.each_ref().map(String::as_str);
        self.node(by)
            .json(&[&["fleet", "revoke", node], &admin[..]].concat())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
