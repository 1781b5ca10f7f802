//! `[fleet]`, good and bad.

use std::time::Duration;

use abuser_common::layout::BanCause;

use super::{assert_error, good};
use crate::config::{FleetConfig, FleetLogin};

const URL: &str = "[fleet]\nnats = [\"nats://192.0.2.1:4222\"]\nnode = \"web-1\"\n";

fn fleet(keys: &str) -> FleetConfig {
    good(&format!("{URL}{keys}")).fleet.unwrap()
}

#[test]
fn without_the_table_there_is_no_fleet_and_with_servers_alone_all_has_defaults() {
    assert_eq!(good("").fleet, None);
    let fleet = fleet("");
    assert_eq!((fleet.bucket.as_str(), fleet.replicas), ("abuser", 3));
    assert_eq!(fleet.login, FleetLogin::None);
    assert_eq!(fleet.max_bantime, Duration::from_secs(7 * 24 * 3600));
    assert_eq!((fleet.widest_ipv4, fleet.widest_ipv6), (24, 48));
    assert!(fleet.share_allow && fleet.accept_allow);
    assert!(fleet.share.contains(&BanCause::Limit) && fleet.share.contains(&BanCause::Manual));
    let listed = |cause: &BanCause| cause.is_listed() || *cause == BanCause::Import;
    assert!(
        !fleet.share.iter().any(listed),
        "what is not this host's own"
    );
    assert!(fleet.accepts("anybody"));
}

#[test]
fn who_is_listened_to_and_what_is_shared_can_be_said() {
    let fleet = fleet(
        "share = [\"limit\", \"import\", \"limit\"]\naccept = [\"a\", \"b\"]\nignore = [\"c\"]\n\
         max_bantime = \"1h\"\nuser = \"u\"\npassword_file = \"/p\"\ncert_file = \"/c\"\nkey_file = \"/k\"",
    );
    assert_eq!(fleet.share, [BanCause::Limit, BanCause::Import]);
    assert!(fleet.accepts("a") && !fleet.accepts("c") && !fleet.accepts("d"));
    assert_eq!(fleet.max_bantime, Duration::from_secs(3600));
    assert_eq!(
        fleet.login,
        FleetLogin::Password {
            user: "u".to_owned(),
            file: "/p".into()
        }
    );
    assert_eq!(fleet.certificate, Some(("/c".into(), "/k".into())));
}

#[test]
fn what_is_wrong_with_a_fleet_is_told_where_it_stands() {
    for (keys, place, phrase) in [
        ("nats = \"x\"", "2:8", "a list of URLs"),
        (
            "nats = [\"192.0.2.1:4222\"]",
            "2:9",
            "is not a URL of a NATS server",
        ),
        (
            "nats = [\"https://192.0.2.1\"]",
            "2:9",
            "is not a URL of a NATS server",
        ),
        (
            "nats = [\"nats://a:b@192.0.2.1\"]",
            "2:9",
            "write user and password_file",
        ),
        ("node = \"web-1\"", "1:1", "`nats` is missing in [fleet]"),
        ("nats = []", "1:1", "`nats` is missing in [fleet]"),
    ] {
        assert_error(&format!("[fleet]\n{keys}\n"), place, &[phrase]);
    }
    for (keys, place, phrase) in [
        ("node = \"a\"", "4:1", "not TOML"),
        ("bucket = \"a.b\"", "4:10", "cannot be the name of a bucket"),
        ("replicas = 6", "4:12", "from 1 to 5"),
        ("share = [\"crowdsec\"]", "4:10", "is not one of"),
        ("share = [\"limits\"]", "4:10", "did you mean \"limit\"?"),
        ("max_bantime = \"31d\"", "4:15", "from \"1m\" to \"30d\""),
        (
            "max_bantime = \"permanent\"",
            "4:15",
            "cannot be without end",
        ),
        ("widest_ipv4 = 7", "4:15", "from 8 to 32"),
        ("widest_ipv6 = 18", "4:15", "from 19 to 128"),
        (
            "accept = [\"a\"]\nignore = [\"a\"]",
            "4:10",
            "\"a\" is in `ignore`, too",
        ),
        ("ignore = [\"a b\"]", "4:11", "cannot be the name of a node"),
        ("user = \"a\"", "4:8", "without `password_file`"),
        ("password_file = \"/a\"", "4:17", "without `user`"),
        ("cert_file = \"/a\"", "4:13", "without `key_file`"),
        ("nkey_file = \"a\"", "4:13", "not an absolute path"),
        (
            "credentials_file = \"/a\"\nnkey_file = \"/b\"",
            "5:13",
            "two ways to log in",
        ),
        ("max_bantim = \"1d\"", "4:1", "did you mean `max_bantime`?"),
    ] {
        assert_error(&format!("{URL}{keys}\n"), place, &[phrase]);
    }
    let two = "[fleet]\nnats = [\"nats://a\"]\nnode = \"a b\"\n";
    assert_error(two, "3:8", &["cannot be the name of a node"]);
}
