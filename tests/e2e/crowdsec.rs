//! `[crowdsec]`: decisions that are enforced, and bans that are pushed.
//!
//! `bouncer` and `push` have a real local API in the test's namespace; the others have one that answers
//! what no real one should, or more than one would.

mod answers;
mod bouncer;
mod push;
mod refusals;

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;
use testkit::{Crowdsec, Daemon, Namespace};

use crate::support::wait_until_seen;

/// `[crowdsec]` for a local API in the same namespace, asked every second.
fn section(key_file: &Path, more: &str) -> String {
    format!(
        "[crowdsec]\nurl = \"http://127.0.0.1:8080\"\napi_key_file = \"{}\"\ninterval = \"1s\"\n{more}\n",
        key_file.display()
    )
}

/// A daemon on `lo` that follows a real local API.
struct Followed {
    namespace: Namespace,
    crowdsec: Crowdsec,
    daemon: Daemon,
}

impl Followed {
    fn new(more: &str) -> Self {
        Self::with(more, |_| {})
    }

    /// One whose local API is `prepared` before the daemon starts.
    fn with(more: &str, prepare: impl FnOnce(&Crowdsec)) -> Self {
        let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
        let crowdsec = Crowdsec::start(&namespace);
        let key = crowdsec.add_bouncer("abuser");
        prepare(&crowdsec);
        let config = format!("interfaces = [\"lo\"]\n{}", section(&key, more));
        let daemon = Daemon::start(&namespace, &config);
        Self {
            namespace,
            crowdsec,
            daemon,
        }
    }

    fn status(&self) -> Value {
        status(&self.daemon)
    }

    /// Adds a decision about an address for so long; its number.
    fn add(&self, address: &str, duration: &str) -> u64 {
        self.crowdsec
            .decisions(&["add", "-i", address, "-d", duration]);
        let alerts = self.crowdsec.list("decisions", &["-i", address]);
        let alerts = alerts.as_array().expect("a list").iter();
        let decisions = alerts.flat_map(|alert| alert["decisions"].as_array().expect("a list"));
        let ids = decisions.map(|decision| decision["id"].as_u64().expect("a number"));
        ids.max().expect("it was added")
    }
}

/// How it stands with the local API.
fn status(daemon: &Daemon) -> Value {
    daemon.json(&["status"])["crowdsec"].clone()
}

/// Causes of bans, by source.
fn bans(daemon: &Daemon) -> BTreeMap<String, String> {
    let list = daemon.json(&["ban", "list"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let bans = list.as_array().expect("a list").iter();
    bans.map(|ban| (text(&ban["source"]), text(&ban["cause"])))
        .collect()
}

#[track_caller]
fn wait_for(daemon: &Daemon, expected: &[(&str, &str)]) {
    let expected: BTreeMap<_, _> = expected
        .iter()
        .map(|(source, cause)| ((*source).to_owned(), (*cause).to_owned()))
        .collect();
    wait_until_seen(
        &format!("{expected:?}"),
        || bans(daemon),
        |bans| *bans == expected,
    );
}
