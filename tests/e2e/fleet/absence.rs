//! Nodes that join, leave, restart, and are cut off; and servers that are not there.

use testkit::{Daemon, nats::Cluster, require_root};

use super::{AGREE, Fleet};

#[test]
fn a_node_that_joins_gets_all_and_one_that_leaves_takes_nothing_along() {
    require_root!();
    let mut fleet = Fleet::start(1, &["web-1", "web-2"]);
    fleet
        .node(0)
        .abuser(&["ban", "add", "203.0.113.1", "203.0.113.2"])
        .success();
    fleet
        .node(1)
        .abuser(&["ban", "add", "203.0.113.3", "--permanent"])
        .success();
    let all = [
        ("203.0.113.1/32", "fleet web-1"),
        ("203.0.113.2/32", "fleet web-1"),
        ("203.0.113.3/32", "fleet web-2"),
    ];
    fleet.join("web-3", "");
    fleet.wait_bans(2, &all);
    fleet.nodes[1].daemon.terminate();
    fleet
        .node(0)
        .abuser(&["ban", "remove", "203.0.113.2"])
        .success();
    let left = [all[0], all[2]];
    fleet.wait_bans(2, &left);
    fleet.nodes[0].daemon.kill();
    fleet.nodes[2].daemon.terminate();
    fleet.nodes[2].daemon.restart();
    fleet.wait_complete(2);
    fleet.wait_bans(2, &left);
}

#[test]
fn a_node_that_was_cut_off_catches_up_both_ways() {
    require_root!();
    let fleet = Fleet::start(1, &["web-1", "web-2", "web-3"]);
    fleet
        .node(0)
        .abuser(&["ban", "add", "203.0.113.1", "203.0.113.2"])
        .success();
    fleet
        .node(1)
        .abuser(&["ban", "add", "203.0.113.3", "203.0.113.4"])
        .success();
    for index in 0..3 {
        fleet.wait(AGREE, "all bans", || fleet.bans(index).len() == 4);
    }
    fleet.nodes[1].site.far.down().expect("pulling the cable");
    fleet
        .node(0)
        .abuser(&["ban", "remove", "203.0.113.1"])
        .success();
    fleet
        .node(0)
        .abuser(&["ban", "add", "203.0.113.5"])
        .success();
    fleet
        .node(1)
        .abuser(&["ban", "remove", "203.0.113.3"])
        .success();
    fleet
        .node(1)
        .abuser(&["ban", "add", "203.0.113.6"])
        .success();
    fleet.wait(AGREE, "the loss to be noticed", || {
        fleet.status(1)["connected"] == false
    });
    // What was heard stays in force.
    assert!(fleet.bans(1).contains_key("203.0.113.1/32"));
    assert!(fleet.status(1)["pending"].as_u64() >= Some(1));
    let shown = fleet.node(1).abuser(&["status"]).success().stdout;
    assert!(shown.contains("NOT CONNECTED"), "{shown}");
    fleet.nodes[1].site.far.up().expect("the cable");
    let (own, other) = ("manual", ["fleet web-1", "fleet web-2"]);
    let bans = |of: [&'static str; 2]| {
        [
            ("203.0.113.2/32", of[0]),
            ("203.0.113.4/32", of[1]),
            ("203.0.113.5/32", of[0]),
            ("203.0.113.6/32", of[1]),
        ]
    };
    fleet.wait_bans(0, &bans([own, other[1]]));
    fleet.wait_bans(1, &bans([other[0], own]));
    fleet.wait_bans(2, &bans(other));
    fleet.wait(AGREE, "nothing pending", || fleet.status(1)["pending"] == 0);
    assert!(fleet.status(1)["reconnects"].as_u64() >= Some(1));
}

#[test]
fn a_node_that_restarts_brings_the_bucket_in_line_with_what_became_of_its_bans() {
    require_root!();
    let mut fleet = Fleet::start(1, &["web-1", "web-2"]);
    fleet
        .node(0)
        .abuser(&["ban", "add", "203.0.113.1", "203.0.113.2"])
        .success();
    fleet.wait(AGREE, "both", || fleet.bans(1).len() == 2);
    // While it has no fleet, one goes and one comes.
    let path = fleet.node(0).config_path();
    let config = std::fs::read_to_string(&path).expect("the configuration");
    let urls = fleet.cluster.urls(&fleet.nodes[0].site);
    let nowhere = config.replace(&urls, "[\"nats://127.0.0.1:1\"]");
    assert_ne!(nowhere, config);
    std::fs::write(&path, nowhere).expect("writing it");
    fleet.nodes[0].daemon.kill();
    fleet.nodes[0].daemon.restart();
    fleet
        .node(0)
        .abuser(&["ban", "remove", "203.0.113.1"])
        .success();
    fleet
        .node(0)
        .abuser(&["ban", "add", "203.0.113.7"])
        .success();
    fleet.nodes[0].daemon.terminate();
    assert_eq!(fleet.bans(1).len(), 2);
    std::fs::write(&path, config).expect("writing it");
    fleet.nodes[0].daemon.restart();
    fleet.wait_bans(
        1,
        &[
            ("203.0.113.2/32", "fleet web-1"),
            ("203.0.113.7/32", "fleet web-1"),
        ],
    );
}

#[test]
fn a_start_waits_for_no_server_and_bans_of_the_fleet_stay_in_force_meanwhile() {
    require_root!();
    let mut cluster = Cluster::prepare(1).expect("a cluster");
    let site = cluster.lay_cable().expect("a cable");
    let fleet = Fleet {
        nodes: Vec::new(),
        cluster,
    };
    let config = fleet.cluster.node_config("web-1", &site, "");
    let mut daemon = Daemon::start(&site.namespace, &config);
    let status = daemon.json(&["fleet", "status"]);
    assert_eq!(
        (&status["connected"], &status["complete"]),
        (&false.into(), &false.into())
    );
    daemon.abuser(&["ban", "add", "203.0.113.1"]).success();
    assert_eq!(
        daemon.json(&["fleet", "status"])["nodes"][0]["name"],
        "web-1"
    );
    let begun = std::time::Instant::now();
    assert!(daemon.terminate().success());
    assert!(
        begun.elapsed() < AGREE / 6,
        "a stop waits for no server either"
    );
    daemon.restart();
    let Fleet { cluster, .. } = fleet;
    let mut fleet = Fleet {
        nodes: vec![super::Node {
            name: "web-1",
            site,
            daemon,
        }],
        cluster,
    };
    fleet.cluster.start_server(0).expect("a server");
    fleet.init(0);
    fleet.wait_complete(0);
    fleet.join("web-2", "");
    fleet.wait_bans(1, &[("203.0.113.1/32", "fleet web-1")]);
    // And the other way round: known bans survive a restart without any server.
    fleet.cluster.kill_server(0);
    fleet.nodes[1].daemon.kill();
    fleet.nodes[1].daemon.restart();
    fleet.wait_bans(1, &[("203.0.113.1/32", "fleet web-1")]);
    fleet.nodes[1].daemon.terminate();
    fleet.nodes[1].daemon.restart();
    fleet.wait_bans(1, &[("203.0.113.1/32", "fleet web-1")]);
}
