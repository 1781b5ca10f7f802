//! `[crowdsec]`, good and bad.

use std::{path::PathBuf, time::Duration};

use abuser_common::layout::BanCause;

use super::{assert_error, good};
use crate::config::{CrowdsecAddress, CrowdsecPush};

const URL: &str = "url = \"http://127.0.0.1:8080\"";
const KEY: &str = "api_key_file = \"/etc/abuser/crowdsec.key\"";

#[test]
fn a_local_api_takes_an_address_and_a_key() {
    assert_eq!(good("").crowdsec, None);
    let config = good(&format!("[crowdsec]\n{URL}\n{KEY}")).crowdsec.unwrap();
    assert_eq!(config.address.to_string(), "http://127.0.0.1:8080");
    assert_eq!(
        config.api_key_file,
        Some(PathBuf::from("/etc/abuser/crowdsec.key"))
    );
    assert_eq!(config.interval, Duration::from_secs(10));
    assert!(!config.force && config.push.is_none() && config.origins.is_empty());
}

#[test]
fn all_of_it_is_read() {
    let config = good(
        "[crowdsec]\nurl = \"https://lapi.example.com/crowdsec\"\ninterval = \"1m\"\n\
         origins = [\"cscli\", \"CAPI\", \"cscli\"]\nscenarios_containing = [\"ssh\"]\n\
         scenarios_not_containing = [\"http-crawl\"]\nforce = true\nca_file = \"/ca.pem\"\n\
         cert_file = \"/us.pem\"\nkey_file = \"/us.key\"\npush = true\nmachine_id = \"here\"\n\
         password_file = \"/password\"\npush_causes = [\"limit\", \"import\"]",
    );
    let config = config.crowdsec.unwrap();
    let CrowdsecAddress::Url(url) = &config.address else {
        panic!("{:?}", config.address);
    };
    assert_eq!(
        url.join("v1/alerts").unwrap().as_str(),
        "https://lapi.example.com/crowdsec/v1/alerts"
    );
    assert_eq!(config.interval, Duration::from_secs(60));
    assert_eq!(config.origins, ["cscli", "CAPI"]);
    assert_eq!(
        config.identity,
        Some((PathBuf::from("/us.pem"), PathBuf::from("/us.key")))
    );
    assert_eq!(
        config.push,
        Some(CrowdsecPush {
            machine_id: "here".to_owned(),
            password_file: PathBuf::from("/password"),
            causes: vec![BanCause::Limit, BanCause::Import],
        })
    );
    let socket = good(&format!(
        "[crowdsec]\nurl = \"/run/lapi.sock\"\n{KEY}\npush = false\nmachine_id = \"later\""
    ));
    let socket = socket.crowdsec.unwrap();
    assert_eq!(
        socket.address,
        CrowdsecAddress::Socket(PathBuf::from("/run/lapi.sock"))
    );
    assert_eq!(socket.push, None);
}

#[test]
fn bans_that_others_list_are_not_pushed_unless_somebody_says_so() {
    let push = "push = true\nmachine_id = \"here\"\npassword_file = \"/password\"";
    let config = good(&format!("[crowdsec]\n{URL}\n{KEY}\n{push}"))
        .crowdsec
        .unwrap();
    assert_eq!(
        config.push.unwrap().causes,
        [
            BanCause::Limit,
            BanCause::Detector,
            BanCause::Application,
            BanCause::Rollup,
            BanCause::Manual
        ]
    );
}

#[test]
fn what_is_wrong_is_told_where_it_stands() {
    let with = |lines: &str| format!("[crowdsec]\n{URL}\n{KEY}\n{lines}");
    for (text, place, phrase) in [
        ("[crowdsec]".to_owned(), "1:1", "`url` is missing"),
        (format!("[crowdsec]\n{URL}"), "1:1", "cscli bouncers add"),
        (
            with("api_key = \"x\""),
            "4:1",
            "known are: url, api_key_file",
        ),
        (
            "[crowdsec]\nurl = \"127.0.0.1:8080\"".to_owned(),
            "2:7",
            "write the address",
        ),
        (
            "[crowdsec]\nurl = \"ftp://127.0.0.1\"".to_owned(),
            "2:7",
            "not http or https",
        ),
        (
            "[crowdsec]\nurl = \"http://a:b@127.0.0.1\"".to_owned(),
            "2:7",
            "does not belong here",
        ),
        (
            "[crowdsec]\nurl = \"http://127.0.0.1/?a\"".to_owned(),
            "2:7",
            "a query",
        ),
        (
            "[crowdsec]\nurl = \"http://127.0.0.1:8080/v1/\"".to_owned(),
            "2:7",
            "leave out the v1",
        ),
        (with("interval = \"0.1s\""), "4:12", "is not a time"),
        (with("interval = \"2h\""), "4:12", "not from 1s to 1h"),
        (
            with("interval = \"permanent\""),
            "4:12",
            "not from 1s to 1h",
        ),
        (with("origins = [\"a,b\"]"), "4:12", "a comma divides words"),
        (with("origins = [\"\"]"), "4:12", "is empty"),
        (with("ca_file = \"/ca.pem\""), "2:7", "is not https"),
        (
            with("cert_file = \"/us.pem\""),
            "4:13",
            "without `key_file`",
        ),
        (
            with("key_file = \"/us.key\""),
            "4:12",
            "write `api_key_file` instead",
        ),
        (
            with("push = true"),
            "4:8",
            "takes `machine_id` and `password_file`",
        ),
        (
            with("machine_id = \"here\""),
            "4:14",
            "has no effect without `push`",
        ),
        (
            with("push_causes = [\"limit\"]"),
            "4:15",
            "has no effect without `push`",
        ),
        (
            with("push_causes = [\"blocklist\"]"),
            "4:16",
            "is not one of",
        ),
        (with("push_causes = []"), "4:15", "write push = false"),
        (
            with("password_file = \"password\""),
            "4:17",
            "not an absolute path",
        ),
    ] {
        assert_error(&text, place, &[phrase]);
    }
}
