//! From one node to the others.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use serde_json::Value;
use testkit::require_root;

use super::{AGREE, Fleet};
use crate::support::{Complains as _, assert_keys};

#[test]
fn a_ban_on_one_node_is_in_the_kernels_of_all_and_ends_in_all() {
    require_root!();
    let fleet = Fleet::start(1, &["web-1", "web-2", "web-3"]);
    // A client of web-2 and web-3 alike, which only web-1 has anything against.
    let site = &fleet.nodes[1].site;
    let client = "10.77.2.9";
    site.far
        .add_address(&format!("{client}/24"))
        .expect("an address");
    let server = SocketAddr::from((site.address, 8080));
    let listener = site
        .namespace
        .run(|| TcpListener::bind(server))
        .expect("a listener");
    let connects = || {
        fleet.cluster.namespace().run(|| {
            let socket = socket_from(client);
            socket
                .connect_timeout(&server.into(), Duration::from_millis(500))
                .is_ok()
        })
    };
    assert!(connects());
    let ban = [
        "ban",
        "add",
        client,
        "--for",
        "1h",
        "--reason",
        "it was rude",
    ];
    fleet.node(0).abuser(&ban).success();
    for index in [1, 2] {
        fleet.wait_bans(index, &[("10.77.2.9/32", "fleet web-1")]);
    }
    assert!(
        !connects(),
        "its packets are dropped where it was not banned"
    );
    let shown = fleet.node(1).json(&["ban", "show", client]);
    assert_eq!(shown[0]["reason"], "it was rude");
    let left = shown[0]["remaining_seconds"].as_u64().expect("an end");
    assert!((3500..=3600).contains(&left), "{left}");
    assert!(shown[0]["hits"].as_u64() > Some(0));
    fleet.node(1).abuser(&["ban", "remove", client]).complains(
        1,
        &[
            "banned by web-1, another node of the fleet",
            "unban it there",
        ],
    );
    fleet.node(0).abuser(&["ban", "remove", client]).success();
    for index in [1, 2] {
        fleet.wait_bans(index, &[]);
    }
    assert!(connects());
    drop(listener);
}

fn socket_from(address: &str) -> socket2::Socket {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let address: SocketAddr = format!("{address}:0").parse().expect("an address");
    socket.bind(&address.into()).expect("binding");
    socket
}

#[test]
fn of_a_prefix_that_several_nodes_ban_the_longest_ban_counts_until_all_have_ended() {
    require_root!();
    let fleet = Fleet::start(1, &["web-1", "web-2", "web-3"]);
    let prefix = "203.0.113.0/24";
    fleet
        .node(0)
        .abuser(&["ban", "add", prefix, "--for", "1h"])
        .success();
    fleet.wait_bans(2, &[(prefix, "fleet web-1")]);
    fleet
        .node(1)
        .abuser(&["ban", "add", prefix, "--for", "2h"])
        .success();
    fleet.wait_bans(2, &[(prefix, "fleet web-2")]);
    // Each keeps its own, whatever the other says.
    fleet.wait_bans(0, &[(prefix, "manual")]);
    fleet.wait_bans(1, &[(prefix, "manual")]);
    let lifted = fleet.node(1).abuser(&["ban", "remove", prefix]).success();
    // Who has lifted his own is told that another one has it.
    let stays = "203.0.113.0/24 stays banned by web-1, another node of the fleet";
    assert!(lifted.stderr.contains(stays), "{lifted}");
    fleet.wait_bans(2, &[(prefix, "fleet web-1")]);
    fleet.wait_bans(1, &[(prefix, "fleet web-1")]);
    fleet.node(0).abuser(&["ban", "remove", prefix]).success();
    for index in 0..3 {
        fleet.wait_bans(index, &[]);
    }
}

#[test]
fn a_ban_ends_everywhere_by_itself() {
    require_root!();
    let fleet = Fleet::start(1, &["web-1", "web-2"]);
    let stream = fleet
        .node(1)
        .stream(&["events", "--json", "--kind", "unban"]);
    fleet
        .node(0)
        .abuser(&["ban", "add", "2001:db8::7", "--for", "4s"])
        .success();
    fleet.wait_bans(1, &[("2001:db8::7/128", "fleet web-1")]);
    stream.wait_for(AGREE, |line| line.contains("2001:db8::7/128"));
    fleet.wait_bans(1, &[]);
    fleet.wait_bans(0, &[]);
}

#[test]
fn who_is_allowed_by_a_command_is_so_on_all_nodes() {
    require_root!();
    let mut fleet = Fleet::start(1, &["web-1", "web-2", "web-3"]);
    let allow = ["allow", "add", "192.0.2.0/28", "--reason", "monitoring"];
    fleet.node(0).abuser(&allow).success();
    let entry = |fleet: &Fleet, index: usize| {
        let list = fleet.node(index).json(&["allow", "list"]);
        let list = list.as_array().expect("a list").clone();
        list.into_iter()
            .find(|entry| entry["source"] == "192.0.2.0/28")
    };
    for index in [1, 2] {
        fleet.wait(AGREE, "the entry", || entry(&fleet, index).is_some());
        let entry = entry(&fleet, index).expect("it is there");
        assert_eq!(entry["origin"], "fleet");
        assert_eq!(entry["note"], "web-1: monitoring");
    }
    let remove = ["allow", "remove", "192.0.2.0/28"];
    fleet.node(1).abuser(&remove).complains(
        1,
        &["allowed by another node of the fleet (web-1: monitoring)"],
    );
    // A crash keeps it where no server is reached: the kernel has had it.
    fleet.cluster.kill_server(0);
    fleet.nodes[1].daemon.kill();
    fleet.nodes[1].daemon.restart();
    assert_eq!(entry(&fleet, 1).expect("it is there")["origin"], "fleet");
    fleet.cluster.start_server(0).expect("a server");
    fleet.node(0).abuser(&remove).success();
    for index in [1, 2] {
        fleet.wait(AGREE, "no entry", || entry(&fleet, index).is_none());
    }
}

#[test]
fn whom_a_node_allows_nobody_else_can_have_banned_there() {
    require_root!();
    let fleet = Fleet::start_with(1, &["web-1", "web-2"], "share_allow = false");
    fleet
        .node(1)
        .abuser(&["allow", "add", "203.0.113.5", "198.51.100.0/25"])
        .success();
    let banned = [
        "203.0.113.5",
        "203.0.113.0/24",
        "198.51.100.7",
        "203.0.114.1",
    ];
    fleet
        .node(0)
        .abuser(&[&["ban", "add"], &banned[..]].concat())
        .success();
    fleet.wait_bans(1, &[("203.0.114.1/32", "fleet web-1")]);
    // As soon as it is not allowed any more, the ban that still holds is in force.
    fleet
        .node(1)
        .abuser(&["allow", "remove", "203.0.113.5"])
        .success();
    fleet.wait_bans(
        1,
        &[
            ("203.0.113.0/24", "fleet web-1"),
            ("203.0.113.5/32", "fleet web-1"),
            ("203.0.114.1/32", "fleet web-1"),
        ],
    );
    // And as soon as it is again, it is lifted; so is the ban of a proxy that comes to be trusted.
    fleet
        .node(1)
        .abuser(&["allow", "add", "203.0.113.5"])
        .success();
    fleet.wait_bans(1, &[("203.0.114.1/32", "fleet web-1")]);
    fleet.reload(1, |config| {
        format!(
            "{config}\n[[source]]\nname = \"web\"\nfiles = [\"/nonexistent/access.log\"]\nparser = \"json\"\n\
             trusted_proxies = [\"203.0.114.0/28\"]\n"
        )
    });
    fleet.wait_bans(1, &[]);
}

#[test]
fn what_is_shared_and_what_is_taken_is_configured_and_a_reload_is_enough() {
    require_root!();
    let fleet = Fleet::start_with(
        1,
        &["web-1", "web-2"],
        "share = [\"limit\"]\nmax_bantime = \"2m\"\naccept_allow = false",
    );
    let ban = |sources: &[&str]| {
        fleet
            .node(0)
            .abuser(&[&["ban", "add", "--permanent"], sources].concat())
            .success();
    };
    ban(&["203.0.113.1", "203.0.112.0/23", "2001:db8::/47"]);
    fleet
        .node(0)
        .abuser(&["allow", "add", "192.0.2.1"])
        .success();
    let shared = || fleet.status(0)["shared_bans"].clone();
    assert_eq!(shared(), 0);
    fleet.reload(0, |config| {
        config.replace("[\"limit\"]", "[\"limit\", \"manual\"]")
    });
    fleet.wait_bans(1, &[("203.0.113.1/32", "fleet web-1")]);
    let shown = fleet.node(1).json(&["ban", "show", "203.0.113.1"]);
    let left = shown[0]["remaining_seconds"]
        .as_u64()
        .expect("an end, within the cap");
    assert!(left <= 120, "{left}");
    fleet.wait(AGREE, "refusals", || {
        let refused = fleet.status(1)["refused"].clone();
        refused["wide"].as_u64() >= Some(2) && refused["ignored"].as_u64() >= Some(1)
    });
    let allowed = fleet.node(1).json(&["allow", "list"]);
    assert_eq!(allowed.as_array().map(Vec::len), Some(0), "{allowed}");
    // A node that is not to be listened to any more.
    fleet.reload(1, |config| {
        config.replace("[fleet]\n", "[fleet]\nignore = [\"web-1\"]\n")
    });
    fleet.wait_bans(1, &[]);
    fleet.reload(1, |config| config.replace("ignore = [\"web-1\"]\n", ""));
    fleet.wait_bans(1, &[("203.0.113.1/32", "fleet web-1")]);
    // And no fleet at all: what it called for is lifted.
    fleet.reload(1, |config| {
        let (before, fleet) = config.split_once("[fleet]").expect("it is there");
        let rest = fleet
            .split_once("\n[")
            .map_or(String::new(), |(_, rest)| format!("[{rest}"));
        format!("{before}{rest}")
    });
    fleet.wait_bans(1, &[]);
    fleet
        .node(1)
        .abuser(&["fleet", "status"])
        .complains(1, &["this node is in no fleet"]);
    assert_eq!(fleet.node(1).json(&["status"])["fleet"], Value::Null);
}

#[test]
fn the_status_tells_nodes_connection_and_counts() {
    require_root!();
    let fleet = Fleet::start(1, &["web-1", "web-2"]);
    fleet
        .node(0)
        .abuser(&["ban", "add", "203.0.113.1"])
        .success();
    fleet.wait_bans(1, &[("203.0.113.1/32", "fleet web-1")]);
    fleet.wait(AGREE, "a latency", || !fleet.status(1)["latency"].is_null());
    let status = fleet.status(1);
    assert_keys(
        &status,
        &[
            "node",
            "bucket",
            "connected",
            "server",
            "since",
            "reconnects",
            "complete",
            "error",
            "shared_bans",
            "shared_allow",
            "pending",
            "published",
            "unshared",
            "bans",
            "allow",
            "received",
            "refused",
            "latency",
            "nodes",
        ],
    );
    assert_keys(
        &status["refused"],
        &["unknown", "ignored", "wide", "too_many", "too_fast"],
    );
    assert_eq!(status["server"], "n0");
    assert_eq!(status["error"], Value::Null);
    assert_eq!(
        (&status["bans"], &status["reconnects"]),
        (&Value::from(1), &Value::from(0))
    );
    let nodes = status["nodes"].as_array().expect("nodes");
    assert_keys(
        &nodes[0],
        &[
            "name", "this", "version", "seen", "bans", "allow", "ignored", "gone", "ahead_ms",
        ],
    );
    let names: Vec<_> = nodes
        .iter()
        .map(|node| (&node["name"], &node["this"]))
        .collect();
    assert_eq!(
        names,
        [
            (&"web-1".into(), &false.into()),
            (&"web-2".into(), &true.into())
        ]
    );
    assert_eq!(nodes[0]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(fleet.node(1).json(&["status"])["fleet"]["node"], "web-2");
    let shown = fleet.node(1).abuser(&["status"]).success().stdout;
    let line = "fleet: web-2, bucket abuser by n0; 1 other node, who ban 1 source and allow 0";
    assert!(shown.contains(line), "{shown}");
    let shown = fleet.node(1).abuser(&["fleet", "status"]).success().stdout;
    assert!(
        shown.contains("web-1\t") && shown.contains("this node"),
        "{shown}"
    );
}
