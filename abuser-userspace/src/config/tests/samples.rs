//! What good configurations mean, and that none makes the reader panic.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use abuser_common::{gcra::Rate, layout::Count};
use proptest::prelude::*;

use super::{good, limit, read};
use crate::{
    config::{
        Action, AllowEntry, Automatic, Config, Dispatcher, Mode, Protocol, ReadOnly, Scope, Xdp,
        section,
    },
    policy::{BanPolicy, BanTime, Rollup},
    store::{IN_MEMORY, StoreConfig},
};

#[test]
fn the_sample_in_the_design_reads_verbatim() {
    let config = good(
        r#"
    interfaces = ["eth0"]

    [xdp]
    mode = "auto"

    [allow]
    addresses = ["10.0.0.0/8", "monitoring.example.com"]

    [[limit]]
    name = "api"
    protocol = "tcp"
    ports = [80, 443]
    count = "connections"
    rate = "60/m"
    burst = 20
    action = "drop"

    [[limit]]
    name = "flood"
    count = "packets"
    rate = "5000/s"
    burst = 5000

    [ban]
    maxretry = 5
    findtime = "10m"
    bantime = "10m"
    increment = true
    maxtime = "5w"
"#,
    );
    assert_eq!(config.interfaces, ["eth0"]);
    assert_eq!(config.xdp, Xdp::default());
    assert_eq!(
        config.allow,
        [
            AllowEntry::Prefix("10.0.0.0/8".parse().unwrap()),
            AllowEntry::Name("monitoring.example.com".to_owned()),
        ]
    );
    let [api, flood] = config.limits.as_slice() else {
        panic!("{:?}", config.limits);
    };
    assert_eq!(api.protocol, Protocol::Tcp);
    assert_eq!(api.ports, [80..=80, 443..=443]);
    assert_eq!(api.count, Count::Connections);
    assert_eq!(api.rate.to_string(), "60/m");
    assert_eq!(Some(api.rate()), Rate::new(60, 60_000_000_000, 20, 1));
    assert_eq!((api.ipv4_prefix, api.ipv6_prefix), (32, 64));
    assert_eq!(flood.protocol, Protocol::Any);
    assert_eq!((flood.burst, flood.action), (5000, Action::Drop));
    assert_eq!(
        config.ban,
        BanPolicy {
            increment: true,
            maxtime: Some(Duration::from_secs(3_024_000)),
            ..BanPolicy::default()
        }
    );
}

#[test]
fn an_empty_file_limits_nothing_and_takes_every_default() {
    let config = good("");
    assert_eq!(config, Config::default());
    assert!(config.limits.is_empty());
    assert_eq!(config.xdp.pin_dir, Path::new("/sys/fs/bpf/abuser"));
    assert_eq!(config.api.socket, Path::new("/run/abuser/abuser.sock"));
}

#[test]
fn without_a_file_the_shipped_example_holds() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/abuser.toml");
    let mut shipped = crate::config::load(Path::new(example)).unwrap();
    // Where a file is, there may be filters beside it.
    shipped.filter_dirs.clear();
    assert_eq!(Config::builtin(), shipped);
    let names: Vec<_> = shipped.limits.iter().map(|limit| &limit.name).collect();
    assert_eq!(names, ["connections", "flood"]);
}

#[test]
fn every_key_of_a_limit_is_read() {
    let config = good(&limit(
        "protocol = \"udp\"\nports = [53, \"8000-8100\", \"9000\"]\ncount = \"bytes\"\n\
         burst = 1_000_000\naction = \"observe\"\nipv4_prefix = 24\nipv6_prefix = 48\n\
         only = \"throttled\"",
    ));
    let limit = &config.limits[0];
    assert_eq!(limit.protocol, Protocol::Udp);
    assert_eq!(limit.ports, [53..=53, 8000..=8100, 9000..=9000]);
    assert_eq!(limit.count, Count::Bytes);
    assert_eq!((limit.burst, limit.action), (1_000_000, Action::Observe));
    assert_eq!((limit.ipv4_prefix, limit.ipv6_prefix), (24, 48));
    assert_eq!(limit.only, Scope::Throttled);
    assert_eq!(good(&super::limit("")).limits[0].only, Scope::All);
}

#[test]
fn protocols_are_names_or_numbers_and_connections_mean_tcp() {
    for (lines, expected) in [
        ("", Protocol::Any),
        ("protocol = \"icmp\"", Protocol::Icmp),
        ("protocol = 47", Protocol::Number(47)),
        ("protocol = 0x06", Protocol::Tcp),
        ("protocol = 17\nports = [53]", Protocol::Udp),
        ("count = \"connections\"", Protocol::Tcp),
    ] {
        assert_eq!(good(&limit(lines)).limits[0].protocol, expected, "{lines}");
    }
}

#[test]
fn rates_from_one_a_day_to_ten_million_a_second_can_be_kept() {
    for rate in ["1/d", "1/h", "1/m", "1/s", "10M/s", "100M/s"] {
        good(&format!("[[limit]]\nname = \"a\"\nrate = \"{rate}\""));
    }
    good("[[limit]]\nname = \"a\"\nrate = \"10G/s\"\ncount = \"bytes\"\nburst = 1000000");
}

#[test]
fn all_of_ban_is_read_in_fail2bans_syntax() {
    let config = good(
        "[ban]\nmaxretry = 3\nfindtime = 3600\nbantime = \"1d 12h\"\nincrement = true\n\
         factor = 2\nmultipliers = \"1 2  4.5\"\nmaxtime = \"1mo\"\nrndtime = \"90s\"\n\
         require_verified = false",
    );
    assert_eq!(
        config.ban,
        BanPolicy {
            maxretry: 3,
            findtime: Duration::from_secs(3600),
            bantime: BanTime::For(Duration::from_secs(129_600)),
            increment: true,
            factor: 2.0,
            multipliers: vec![1.0, 2.0, 4.5],
            maxtime: Some(Duration::from_secs(2_629_800)),
            rndtime: Duration::from_secs(90),
            require_verified: false,
            ..BanPolicy::default()
        }
    );
    for permanent in ["-1", "\"-1\"", "\"permanent\""] {
        let config = good(&format!(
            "[ban]\nbantime = {permanent}\nmultipliers = [1, 2.5]"
        ));
        assert_eq!(config.ban.bantime, BanTime::Permanent);
        assert_eq!(config.ban.multipliers, [1.0, 2.5]);
    }
}

#[test]
fn a_policy_says_what_differs_from_ban_in_whatever_order_they_stand() {
    let config = good(
        "[[policy]]\nname = \"strict\"\nmaxretry = 2\ndecay = \"7d\"\n\
         rollup = { hosts = 8, ipv4_prefix = 20 }\n\
         [[limit]]\nname = \"login\"\nrate = \"5/m\"\npolicy = \"strict\"\n\
         [[limit]]\nname = \"other\"\nrate = \"5/m\"\n\
         [ban]\nfindtime = \"1h\"\nincrement = true\ndecay = \"30d\"",
    );
    let day = 86_400;
    let ban = BanPolicy {
        findtime: Duration::from_secs(3600),
        increment: true,
        decay: Some(Duration::from_secs(30 * day)),
        ..BanPolicy::default()
    };
    let strict = BanPolicy {
        name: "strict".to_owned(),
        maxretry: 2,
        decay: Some(Duration::from_secs(7 * day)),
        rollup: Some(Rollup {
            hosts: 8,
            ipv4_prefix: 20,
            ipv6_prefix: 48,
        }),
        ..ban.clone()
    };
    assert_eq!(config.all_policies(), [ban, strict]);
    let policies = config.limits.iter().map(|limit| limit.policy.as_str());
    assert_eq!(policies.collect::<Vec<_>>(), ["strict", "default"]);
}

#[test]
fn the_socket_is_for_root_and_the_group_unless_everyone_may_read() {
    let api = good("").api;
    assert_eq!((api.group, api.read_only), (None, ReadOnly::None));
    assert_eq!((api.listen, api.token_file), (None, None));
    let api = good("[api]\ngroup = \"wheel\"\nread_only = \"everyone\"").api;
    assert_eq!(api.group.as_deref(), Some("wheel"));
    assert_eq!(api.read_only, ReadOnly::Everyone);
    // A token alone does no harm.
    assert_eq!(good("[api]\ntoken_file = \"/t\"").api.listen, None);
}

#[test]
fn browsers_get_a_page_only_if_one_is_asked_for() {
    let tcp = "[api]\nlisten = \"127.0.0.1:9090\"\ntoken_file = \"/t\"";
    assert!(!good(tcp).api.page);
    assert!(good(&format!("{tcp}\npage = true")).api.page);
    // One that is not wanted wants nothing.
    assert!(!good("[api]\npage = false").api.page);
}

#[test]
fn the_store_has_a_place_and_bounds() {
    let config = good(
        "[store]\npath = \"/srv/abuser.db\"\nhistory = \"1d\"\nhistory_max = 10\nevidence = 0",
    );
    assert_eq!(
        config.store,
        StoreConfig {
            path: "/srv/abuser.db".into(),
            history: Duration::from_secs(86_400),
            history_max: 10,
            evidence: 0,
        }
    );
    let config = good("[store]\npath = \":memory:\"\n[allow]\nautomatic = false");
    assert_eq!(config.store.path, std::path::Path::new(IN_MEMORY));
    assert_eq!(config.allow_automatic, Automatic(false));
    assert_eq!(good("").allow_automatic, Automatic(true));
    assert!(good("[xdp]\npersist = true").xdp.persist);
    let xdp = good("[xdp]").xdp;
    assert_eq!((xdp.dispatcher, xdp.priority), (Dispatcher::Join, 10));
    for (word, dispatcher) in [
        ("join", Dispatcher::Join),
        ("always", Dispatcher::Always),
        ("never", Dispatcher::Never),
    ] {
        let text = format!("[xdp]\ndispatcher = \"{word}\"\npriority = 0");
        let xdp = good(&text).xdp;
        assert_eq!((xdp.dispatcher, xdp.priority), (dispatcher, 0));
    }
}

#[test]
fn allowed_addresses_and_names_are_normalised() {
    let config = good(
        "[allow]\naddresses = [\"::ffff:192.0.2.7\", \"Monitoring.Example.com.\", \"localhost\"]",
    );
    assert_eq!(
        config.allow,
        [
            AllowEntry::Prefix(Ipv4Addr::new(192, 0, 2, 7).into_net()),
            AllowEntry::Name("monitoring.example.com".to_owned()),
            AllowEntry::Name("localhost".to_owned()),
        ]
    );
}

trait IntoNet {
    fn into_net(self) -> ipnet::IpNet;
}

impl IntoNet for Ipv4Addr {
    fn into_net(self) -> ipnet::IpNet {
        std::net::IpAddr::from(self).into()
    }
}

#[test]
fn modes_protocols_and_actions_are_shown_as_they_are_written() {
    for mode in ["auto", "driver", "generic"] {
        assert_eq!(mode.parse::<Mode>().unwrap().to_string(), mode);
    }
    for protocol in ["any", "tcp", "udp", "icmp", "47"] {
        let quotes = if protocol == "47" { "" } else { "\"" };
        let config = good(&limit(&format!("protocol = {quotes}{protocol}{quotes}")));
        assert_eq!(config.limits[0].protocol.to_string(), protocol);
    }
    for action in ["drop", "observe"] {
        let config = good(&limit(&format!("action = \"{action}\"")));
        assert_eq!(config.limits[0].action.to_string(), action);
    }
}

#[test]
fn a_mode_is_named_as_in_the_file() {
    assert_eq!("driver".parse(), Ok(Mode::Driver));
    assert_eq!(
        "native".parse::<Mode>().unwrap_err().to_string(),
        "\"native\" is not a mode; write auto, driver or generic"
    );
}

#[test]
fn a_file_full_of_values_on_one_line_is_read_in_no_time() {
    let addresses = "\"192.0.2.7\",".repeat(80_000);
    let start = std::time::Instant::now();
    assert_eq!(
        good(&format!("[allow]\naddresses = [{addresses}]"))
            .allow
            .len(),
        80_000
    );
    assert!(start.elapsed() < Duration::from_secs(10));
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*|[a-z\\[\\]=\"\n.0-9/{},-]{0,80}") {
        let _ = read(&text).map_err(|error| error.to_string());
    }

    #[test]
    fn known_keys_with_arbitrary_values_never_panic(
        section in proptest::sample::select(vec!["", "[xdp]", "[api]", "[allow]", "[[limit]]", "[ban]"]),
        entries in proptest::collection::vec((
            proptest::sample::select(
                [&section::TOP, &section::XDP, &section::API, &section::ALLOW, &section::LIMIT, &section::BAN]
                    .iter().flat_map(|schema| schema.keys.iter().copied()).collect::<Vec<_>>()
            ),
            "-?[0-9]{1,40}|\"[0-9a-zM/. :-]{0,20}\"|\\[[0-9, ]{0,20}\\]|true|nan|-?inf|1e999|\\{\\}",
        ), 0..5),
    ) {
        let mut text = format!("{section}\nname = \"a\"\nrate = \"1/s\"\n");
        if section != "[[limit]]" {
            text = format!("{section}\n");
        }
        for (key, value) in entries {
            text += key;
            text += " = ";
            text += &value;
            text += "\n";
        }
        let _ = read(&text).map_err(|error| error.to_string());
    }
}
