//! What a node can do to the others, and what not.

use std::time::{SystemTime, UNIX_EPOCH};

use testkit::require_root;

use super::{AGREE, Fleet};
use crate::support::Complains as _;

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time");
    u64::try_from(since.as_millis()).expect("a time")
}

fn value(seq: u64) -> Vec<u8> {
    let now = now();
    format!(r#"{{"v":1,"seq":{seq},"at":{now},"expires":null,"cause":"manual","reason":"mine"}}"#)
        .into_bytes()
}

#[test]
fn a_node_cannot_write_in_the_name_of_another_nor_take_out_what_others_said() {
    require_root!();
    let fleet = Fleet::start(1, &["web-1", "web-2"]);
    fleet
        .node(0)
        .abuser(&["ban", "add", "203.0.113.1"])
        .success();
    fleet.wait_bans(1, &[("203.0.113.1/32", "fleet web-1")]);
    let mut hostile = fleet.cluster.client(0, "web-3").expect("a client");
    let own = "$KV.abuser.web-3.ban.203-0-113-9_32";
    hostile
        .publish(own, &value(1))
        .expect("its own keys it may write");
    let all = [
        ("203.0.113.1/32", "fleet web-1"),
        ("203.0.113.9/32", "fleet web-3"),
    ];
    fleet.wait_bans(1, &all);
    for subject in [
        "$KV.abuser.web-1.ban.203-0-113-8_32",
        "$KV.abuser.web-1.ban.203-0-113-1_32",
        "$KV.abuser.ban.203-0-113-8_32",
        "$JS.API.STREAM.PURGE.KV_abuser",
        "$JS.API.STREAM.DELETE.KV_abuser",
        "$JS.API.STREAM.UPDATE.KV_abuser",
        "$JS.API.STREAM.MSG.DELETE.KV_abuser",
        "_INBOX_web-1.1",
    ] {
        let refused = hostile
            .publish(subject, b"")
            .expect_err(subject)
            .to_string();
        assert!(
            refused.contains("Permissions Violation"),
            "{subject}: {refused}"
        );
    }
    // A roll-up of its own key would take out everybody's, if the bucket let it.
    let headers = "NATS/1.0\r\nNats-Rollup: all\r\n\r\n";
    hostile
        .publish_with_headers(own, headers, &value(2))
        .expect("it may write its key");
    fleet.nodes[1].site.far.down().expect("pulling the cable");
    fleet.wait(AGREE, "the loss to be noticed", || {
        fleet.status(1)["connected"] == false
    });
    fleet.nodes[1].site.far.up().expect("the cable");
    fleet.wait_complete(1);
    fleet.wait_bans(1, &all);
}

#[test]
fn garbage_and_floods_do_no_harm_and_are_counted() {
    require_root!();
    let fleet = Fleet::start(1, &["web-1", "web-2"]);
    let mut hostile = fleet.cluster.client(0, "web-3").expect("a client");
    let key = |rest: &str| format!("$KV.abuser.web-3.{rest}");
    let host = |number: u32| {
        key(&format!(
            "ban.198-18-{}-{}_32",
            number >> 8 & 255,
            number & 255
        ))
    };
    for (rest, value) in [
        ("ban.203-0-113-1_32", &b"nonsense"[..]),
        ("ban.203-0-113-2_32", b""),
        (
            "ban.203-0-113-3_32",
            br#"{"v":99,"seq":1,"at":1,"expires":null,"cause":"","reason":null}"#,
        ),
        ("ban.203-0-113-4_32", &[b'{'; 2000]),
        ("ban.0-0-0-0_0", &value(1)),
        ("ban.--_0", &value(1)),
        ("allow.0-0-0-0_1", &value(1)),
        ("ban.203-0-113-5_99", &value(1)),
        ("nothing.of.ours", &value(1)),
        ("node", b"\xff\xfe"),
    ] {
        hostile.publish(&key(rest), value).expect(rest);
    }
    fleet.wait(AGREE, "refusals", || {
        let refused = fleet.status(0)["refused"].clone();
        refused["unknown"].as_u64() >= Some(7) && refused["wide"].as_u64() >= Some(3)
    });
    assert!(fleet.bans(0).is_empty());
    // A value that goes bad is none any more.
    hostile.publish(&host(1), &value(1)).expect("a ban");
    fleet.wait_bans(0, &[("198.18.0.1/32", "fleet web-3")]);
    hostile.publish(&host(1), b"{}").expect("garbage");
    fleet.wait_bans(0, &[]);
    // A flood of one node: others are heard all the while.
    for round in 0..60_000_u64 {
        hostile.queue(&host(7), &value(round + 2)).expect("a flood");
        if round == 50_000 {
            fleet
                .node(1)
                .abuser(&["ban", "add", "203.0.113.77"])
                .success();
        }
    }
    hostile.flush().expect("a flood");
    fleet.wait(AGREE, "the ban of another node", || {
        fleet.bans(0).contains_key("203.0.113.77/32")
    });
    fleet.wait_bans(
        0,
        &[
            ("198.18.0.7/32", "fleet web-3"),
            ("203.0.113.77/32", "fleet web-2"),
        ],
    );
}

#[test]
fn what_a_lost_node_has_said_is_taken_out_by_one_command() {
    require_root!();
    let mut fleet = Fleet::start(1, &["web-1", "web-2", "web-3"]);
    fleet
        .node(2)
        .abuser(&["ban", "add", "203.0.113.1", "203.0.113.2", "203.0.113.3"])
        .success();
    fleet
        .node(2)
        .abuser(&["ban", "remove", "203.0.113.3"])
        .success();
    fleet
        .node(2)
        .abuser(&["allow", "add", "192.0.2.1"])
        .success();
    fleet
        .node(1)
        .abuser(&["ban", "add", "203.0.113.2"])
        .success();
    fleet.wait_bans(
        0,
        &[
            ("203.0.113.1/32", "fleet web-3"),
            ("203.0.113.2/32", "fleet web-2"),
        ],
    );
    fleet.wait(AGREE, "an allow entry", || fleet.status(0)["allow"] == 1);
    fleet.nodes[2].daemon.kill();
    // A node may not do it by itself.
    fleet
        .node(0)
        .abuser(&["fleet", "revoke", "web-3"])
        .complains(1, &["Permissions Violation", "--nkey-file"]);
    fleet
        .node(0)
        .abuser(&["fleet", "revoke", "web-1"])
        .complains(1, &["web-1 is this node"]);
    let revoked = fleet.revoke(0, "web-3");
    assert_eq!(
        (&revoked["bans"], &revoked["allow"]),
        (&2.into(), &1.into()),
        "{revoked}"
    );
    fleet.wait_bans(0, &[("203.0.113.2/32", "fleet web-2")]);
    fleet.wait_bans(1, &[("203.0.113.2/32", "manual")]);
    fleet.wait(AGREE, "no allow entry", || fleet.status(0)["allow"] == 0);
    // Who joins later hears nothing of it either.
    fleet.nodes[0].daemon.terminate();
    fleet.nodes[0].daemon.restart();
    fleet.wait_complete(0);
    fleet.wait_bans(0, &[("203.0.113.2/32", "fleet web-2")]);
    let again = fleet.revoke(0, "web-2");
    assert_eq!(again["bans"], 1);
    let admin = fleet.cluster.as_admin();
    let admin = admin.each_ref().map(String::as_str);
    let nobody = [&["fleet", "revoke", "web-9"], &admin[..]].concat();
    fleet
        .node(0)
        .abuser(&nobody)
        .complains(1, &["nothing of a node web-9"]);
    // One whose credentials still let it says it again.
    fleet.wait_bans(0, &[("203.0.113.2/32", "fleet web-2")]);
}

#[test]
fn a_wrong_password_a_secret_that_is_none_and_a_name_that_is_taken_are_told() {
    require_root!();
    let mut fleet = Fleet::start(1, &["web-1"]);
    let password = fleet.cluster.password_file("web-2");
    std::fs::write(&password, "wrong").expect("writing it");
    fleet.join("web-2", "");
    let error = |fleet: &Fleet| {
        fleet.status(1)["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    fleet.wait(AGREE, "a refusal", || {
        error(&fleet).contains("authorization violation")
    });
    assert_eq!(fleet.status(1)["connected"], false);
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&password, permissions).expect("changing the mode");
    };
    mode(0o644);
    // The file is read again before each attempt.
    fleet.wait(AGREE, "the file", || {
        let error = error(&fleet);
        error.contains("password_file") && error.contains("(mode 644)")
    });
    std::fs::write(&password, "password-of-web-2").expect("writing it");
    mode(0o600);
    // It is tried again by itself.
    fleet.wait_complete(1);
    let twin = fleet.cluster.node_config("web-1", &fleet.nodes[1].site, "");
    let twin = testkit::Daemon::start(&fleet.nodes[1].site.namespace, &twin.replace("near", "lo"));
    fleet.wait(AGREE, "the twin", || {
        let status = twin.json(&["fleet", "status"]);
        let told = |status: &serde_json::Value| {
            let error = status["error"].as_str().unwrap_or_default();
            error.contains("another node calls itself web-1")
        };
        told(&status) || told(&fleet.status(0))
    });
}
