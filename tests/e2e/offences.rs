//! Offences that applications tell of: counted as others are, and answered with what came of
//! them.

use std::fs;

use serde_json::{Value, json};
use testkit::{Daemon, require_root};

use crate::{
    http::request,
    support::{daemon_on_lo, wait_until},
};

const POLICIES: &str = r#"
[ban]
maxretry = 3

[[policy]]
name = "login"
maxretry = 2
bantime = "1h"

[allow]
addresses = ["192.0.2.200"]
"#;

#[track_caller]
fn report(daemon: &Daemon, offences: &Value) -> Value {
    let body = json!({ "offences": offences }).to_string();
    let answer = request(daemon, "POST", "/v1/offences", body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.error());
    answer.json()
}

fn offence(source: &str) -> Value {
    json!({ "source": source, "reason": "wrong code for bob" })
}

#[test]
fn enough_offences_that_an_application_tells_of_ban_under_the_policy_it_names() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(POLICIES);
    let taken = report(
        &daemon,
        &json!([offence("192.0.2.7"), offence("192.0.2.7")]),
    );
    assert_eq!(taken, json!({ "counted": 2, "banned": [], "refused": [] }));
    let taken = report(&daemon, &json!([offence("192.0.2.7")]));
    assert_eq!(taken["banned"], json!(["192.0.2.7/32"]));

    let login = json!({ "source": "192.0.2.8", "policy": "login", "reason": "x" });
    let taken = report(&daemon, &json!([login, login]));
    assert_eq!(taken["banned"], json!(["192.0.2.8/32"]));

    let bans = daemon.json(&["ban", "list"]);
    let ban = &bans[0];
    assert_eq!(ban["cause"], "application");
    assert_eq!(ban["offences"], 3);
    assert_eq!(ban["by"], "root");
    assert_eq!(
        ban["reason"],
        "3 offences, the last one: wrong code for bob"
    );
    assert_eq!(bans[1]["policy"], "login");
    let explained = daemon.json(&["explain", "192.0.2.7"]);
    let evidence = explained["bans"][0]["evidence"].as_array().expect("a list");
    assert_eq!(evidence.len(), 3, "{explained}");
    assert_eq!(evidence[0]["text"], "told by root: wrong code for bob");
}

#[test]
fn addresses_of_one_ipv6_network_are_one_source() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(POLICIES);
    let taken = report(
        &daemon,
        &json!([
            offence("2001:db8:1:2::1"),
            offence("2001:db8:1:2::2"),
            offence("2001:db8:1:2:ffff::3")
        ]),
    );
    assert_eq!(taken["banned"], json!(["2001:db8:1:2::/64"]));
}

#[test]
fn an_offence_that_cannot_be_counted_is_refused_alone() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(POLICIES);
    let mut unknown = offence("192.0.2.9");
    unknown["policy"] = json!("logni");
    let mut long = offence("192.0.2.10");
    long["reason"] = json!("x".repeat(1001));
    let taken = report(
        &daemon,
        &json!([unknown, offence("192.0.2.200"), long, offence("192.0.2.11")]),
    );
    assert_eq!(taken["counted"], 1);
    let refused = taken["refused"].as_array().expect("a list");
    let errors: Vec<_> = refused.iter().map(|one| one["error"].to_string()).collect();
    assert_eq!(errors.len(), 3, "{taken}");
    assert!(errors[0].contains("logni"), "{taken}");
    assert!(errors[1].contains("192.0.2.200/32 is allowed"), "{taken}");
    assert!(errors[2].contains("1001 bytes"), "{taken}");
}

#[test]
fn requests_that_make_no_sense_count_nothing() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(POLICIES);
    let many: Vec<_> = (0..1001).map(|_| offence("192.0.2.7")).collect();
    for body in [
        json!({}),
        json!({ "offences": [] }),
        json!({ "offences": many }),
        json!({ "offences": [{ "source": "192.0.2.0/24", "reason": "a prefix" }] }),
        json!({ "offences": [{ "source": "192.0.2.7" }] }),
    ] {
        let answer = request(&daemon, "POST", "/v1/offences", body.to_string().as_bytes());
        assert!((400..500).contains(&answer.status), "{}", answer.error());
    }
    assert_eq!(daemon.json(&["status"])["bans"], 0);
}

#[test]
fn an_offence_of_a_trusted_proxy_is_refused_also_after_a_reload() {
    require_root!();
    let trusting = "[[source]]\nfiles = [\"/nonexistent/a.log\"]\nparser = \"json\"\n\
                    trusted_proxies = [\"10.0.0.0/8\", \"2001:db8:1:2::7\"]\n";
    let (_namespace, daemon) = daemon_on_lo(&format!("[ban]\nmaxretry = 1\n{trusting}"));
    let offences = json!([
        offence("10.1.2.3"),
        offence("2001:db8:1:2::1"),
        offence("192.0.2.7")
    ]);
    let taken = report(&daemon, &offences);
    assert_eq!(
        taken,
        json!({
            "counted": 1,
            "banned": ["192.0.2.7/32"],
            "refused": [
                { "source": "10.1.2.3", "error": "10.0.0.0/8 is a trusted proxy" },
                {
                    "source": "2001:db8:1:2::1",
                    "error": "2001:db8:1:2::7/128 is a trusted proxy"
                },
            ],
        })
    );
    // Another proxy takes its place.
    let path = daemon.config_path();
    let text = fs::read_to_string(&path).expect("the configuration");
    fs::write(&path, text.replace("10.0.0.0/8", "192.0.2.0/28")).expect("writing it");
    daemon.abuser(&["ban", "add", "192.0.2.9"]).success();
    daemon.abuser(&["reload"]).success();
    // Whom a policy had banned is let go, and whom somebody banned is not.
    let bans = daemon.json(&["ban", "list"]);
    assert_eq!(bans.as_array().map(Vec::len), Some(1), "{bans}");
    assert_eq!(bans[0]["source"], "192.0.2.9/32");
    let taken = report(&daemon, &json!([offence("10.1.2.3"), offence("192.0.2.8")]));
    assert_eq!(taken["banned"], json!(["10.1.2.3/32"]));
    assert_eq!(
        taken["refused"][0]["error"],
        "192.0.2.0/28 is a trusted proxy"
    );
}

#[test]
fn a_prefix_is_not_rolled_up_around_a_trusted_proxy() {
    require_root!();
    let (_namespace, daemon) = daemon_on_lo(
        "[ban]\nmaxretry = 1\nrollup = { hosts = 2, ipv4_prefix = 24 }\n\
         [[source]]\nfiles = [\"/nonexistent/a.log\"]\nparser = \"json\"\n\
         trusted_proxies = [\"192.0.2.1\"]\n",
    );
    let beside: Vec<_> = (10..14)
        .map(|number| offence(&format!("192.0.2.{number}")))
        .collect();
    report(&daemon, &json!(beside));
    report(
        &daemon,
        &json!([offence("198.51.100.7"), offence("198.51.100.8")]),
    );
    let bans = daemon.json(&["ban", "list"]);
    let bans = bans.as_array().expect("a list").iter();
    let rolled_up: Vec<_> = bans
        .filter(|ban| ban["cause"] == "rollup")
        .map(|ban| ban["source"].to_string())
        .collect();
    assert_eq!(rolled_up, ["\"198.51.100.0/24\""]);
    wait_until("the daemon says why not", || {
        let why = "2 hosts of 192.0.2.0/24 are banned, and not all of it because 192.0.2.1/32 is a \
                   trusted proxy";
        daemon.stderr().contains(why)
    });
}
