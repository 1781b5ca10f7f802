//! Offences that applications tell of: counted as others are, and answered with what came of
//! them.

use serde_json::{Value, json};
use testkit::{Daemon, require_root};

use crate::{http::request, support::daemon_on_lo};

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
