//! From a ban on one node to all kernels of a fleet: three servers, three nodes, and bans on each in turn.
//!
//! A node tells of a ban by its event stream when its kernel has it. What is measured is from when a node
//! is asked for a ban to when the last of the others tells of it: all on one host, by one clock, to the
//! millisecond.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use testkit::{
    Daemon, LineStream,
    nats::{Cluster, Site},
};

use crate::{
    control::Connection,
    scenario::Measured,
    statistics::{median, percentile},
};

const NODES: [&str; 3] = ["web-1", "web-2", "web-3"];
/// Bans a second, of all nodes together.
const RATE: u32 = 50;
/// All of them: twenty of them are above the 99th percentile.
const BANS: u32 = 2000;
/// When the leading server is killed, and when it is back, in bans.
const KILLED: u32 = 500;
const BACK: u32 = 1300;
/// Banned sources: the range for benchmarks (RFC 2544).
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// How long the fleet may take to agree in the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// All servers are there all the time.
pub(crate) fn steady() -> Result<Measured> {
    measure(false)
}

/// The server that leads the bucket is killed meanwhile, and comes back.
pub(crate) fn killed() -> Result<Measured> {
    measure(true)
}

// The daemon ends before its place does.
struct Node {
    requests: Connection,
    events: LineStream,
    daemon: Daemon,
    _site: Site,
}

fn measure(kills: bool) -> Result<Measured> {
    let mut cluster = Cluster::start(NODES.len())?;
    let mut nodes = join(&mut cluster)?;
    let begun = Instant::now();
    let mut asked = BTreeMap::new();
    let mut leader = None;
    for number in 0..BANS {
        if kills && number == KILLED {
            let leads = cluster.leader_of("abuser").context("no server leads")?;
            cluster.kill_server(leads);
            leader = Some(leads);
        }
        if number == BACK
            && let Some(leader) = leader
        {
            cluster.start_server(leader)?;
        }
        let due = Duration::from_secs(1) / RATE * number;
        thread::sleep(due.saturating_sub(begun.elapsed()));
        let source = Ipv4Addr::from_bits(FIRST.to_bits() + number);
        let node = &mut nodes[number as usize % NODES.len()];
        asked.insert(format!("{source}/32"), SystemTime::now());
        node.requests.ask_to_ban(source, Some(3600))?;
        node.requests.acknowledged()?;
    }
    let told = told(&nodes, &asked)?;
    let mut latencies = Vec::new();
    for (source, time) in &asked {
        let times = told.get(source).filter(|times| times.len() == NODES.len());
        let last = times.and_then(|times| times.iter().max());
        let last = last.with_context(|| format!("{source} was not told once by each node"))?;
        latencies.push(last.duration_since(*time).unwrap_or_default().as_secs_f64() * 1e3);
    }
    for node in &nodes {
        let bans = node.daemon.try_json(&["ban", "list"])?;
        let banned = bans.as_array().map_or(0, Vec::len);
        ensure!(
            banned == BANS as usize,
            "a node has {banned} bans, not {BANS}"
        );
    }
    Ok(Measured {
        value: percentile(&latencies, 99),
        reference: None,
        also: vec![
            ("p50_ms", median(&latencies)),
            ("max_ms", percentile(&latencies, 100)),
        ],
        ..Measured::default()
    })
}

/// When each of these was banned by each node, in its own words.
fn told(
    nodes: &[Node],
    asked: &BTreeMap<String, SystemTime>,
) -> Result<BTreeMap<String, Vec<SystemTime>>> {
    let mut told: BTreeMap<String, Vec<SystemTime>> = BTreeMap::new();
    let mut missing = nodes.len() * asked.len();
    let deadline = Instant::now() + PATIENCE;
    while missing > 0 {
        ensure!(
            Instant::now() < deadline,
            "{missing} bans are not in all kernels"
        );
        for node in nodes {
            for line in node.events.pending() {
                let (source, time) = read(&line).with_context(|| line.clone())?;
                if asked.contains_key(&source) {
                    told.entry(source).or_default().push(time);
                    missing = missing.saturating_sub(1);
                }
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(told)
}

fn join(cluster: &mut Cluster) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for name in NODES {
        let site = cluster.lay_cable()?;
        let config = cluster.node_config(name, &site, "");
        let daemon = Daemon::start(&site.namespace, &config);
        let admin = cluster.as_admin();
        let admin = admin.each_ref().map(String::as_str);
        let init = [&["fleet", "init"], &admin[..]].concat();
        until("a bucket", || Ok(daemon.abuser(&init).status.success()))?;
        until("all that the bucket holds", || {
            Ok(daemon.try_json(&["fleet", "status"])?["complete"] == true)
        })?;
        let mut requests = Connection::open(daemon.socket())?;
        let events = daemon.stream(&["events", "--json", "--kind", "ban"]);
        // It has begun to listen when it tells of a ban.
        let probe = Ipv4Addr::new(192, 0, 2, 1);
        until("an event", || {
            requests.ask_to_ban(probe, None)?;
            requests.acknowledged()?;
            let heard = events.next_line(Duration::from_millis(100)).is_some();
            requests.ask_to_unban(probe)?;
            requests.acknowledged()?;
            Ok(heard)
        })?;
        nodes.push(Node {
            requests,
            events,
            daemon,
            _site: site,
        });
    }
    Ok(nodes)
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Whom an event is about, and when it was.
fn read(line: &str) -> Result<(String, SystemTime)> {
    let event: serde_json::Value = serde_json::from_str(line)?;
    let source = event["source"].as_str().context("no source")?;
    let time = event["time"].as_str().context("no time")?;
    Ok((source.to_owned(), humantime::parse_rfc3339(time)?))
}
