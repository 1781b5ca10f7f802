//! What a local API shows of its bouncers (`cscli metrics`, from version 1.6.3 on): decisions in force, and
//! packets that met them.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use abuser_common::layout::BanCause;
use serde::Serialize;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{client::Lapi, decisions::Active};
use crate::daemon::engine::{Command, listing::BanEntry};

/// How often, as `CrowdSec`'s own bouncers.
const WINDOW: Duration = Duration::from_secs(15 * 60);

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Usage {
    told: Option<Instant>,
    started: Option<u64>,
    /// The local API is too old.
    in_vain: bool,
    /// Packets and bytes that were looked at by then.
    processed: (u64, u64),
    /// Packets that had met decisions by then, by origin.
    met: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct AllMetrics {
    remediation_components: [Component; 1],
}

#[derive(Debug, Serialize)]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    version: &'static str,
    utc_startup_timestamp: u64,
    feature_flags: [&'static str; 0],
    metrics: [Metrics; 1],
}

#[derive(Debug, Serialize)]
struct Metrics {
    meta: Window,
    items: Vec<Metric>,
}

#[derive(Debug, Serialize)]
struct Window {
    window_size_seconds: u64,
    utc_now_timestamp: u64,
}

#[derive(Debug, Serialize)]
struct Metric {
    name: &'static str,
    value: u64,
    unit: &'static str,
    labels: BTreeMap<&'static str, String>,
}

impl Usage {
    /// Whether it is time to tell it.
    pub(super) fn is_due(&self) -> bool {
        !self.in_vain && self.told.is_none_or(|told| told.elapsed() >= WINDOW)
    }

    /// Tells it how many sources are banned. What cannot be told is told the next time.
    pub(super) async fn tell(
        &mut self,
        lapi: &Lapi,
        active: Active,
        commands: &mpsc::Sender<Command>,
    ) {
        let window = self.told.map_or(Duration::ZERO, |told| told.elapsed());
        self.told = Some(Instant::now());
        let Some(items) = self.items(active, commands).await else {
            return;
        };
        let now = seconds();
        let metrics = AllMetrics {
            remediation_components: [Component {
                kind: "abuser",
                version: env!("CARGO_PKG_VERSION"),
                utc_startup_timestamp: *self.started.get_or_insert(now),
                feature_flags: [],
                metrics: [Metrics {
                    meta: Window {
                        window_size_seconds: window.as_secs(),
                        utc_now_timestamp: now,
                    },
                    items,
                }],
            }],
        };
        match lapi.tell_usage(&metrics).await {
            Ok(true) => {}
            Ok(false) => {
                self.in_vain = true;
                tracing::debug!("CrowdSec's local API has no usage metrics");
            }
            Err(error) => {
                tracing::debug!(%error, "cannot tell CrowdSec how its decisions are used");
            }
        }
    }

    async fn items(
        &mut self,
        active: Active,
        commands: &mpsc::Sender<Command>,
    ) -> Option<Vec<Metric>> {
        let processed = processed(commands).await?;
        let met = met(commands).await?;
        let mut items = Vec::new();
        for ((origin, ip_type), value) in active {
            let labels = [("origin", origin), ("ip_type", ip_type.to_owned())];
            items.push(Metric::new("active_decisions", value, "ip", labels));
        }
        for (origin, packets) in &met {
            let before = self.met.get(origin).copied().unwrap_or_default();
            let packets = packets.saturating_sub(before);
            items.push(Metric::new(
                "dropped",
                packets,
                "packet",
                [("origin", origin.clone())],
            ));
        }
        for (now, before, unit) in [
            (processed.0, self.processed.0, "packet"),
            (processed.1, self.processed.1, "byte"),
        ] {
            items.push(Metric::new(
                "processed",
                now.saturating_sub(before),
                unit,
                [],
            ));
        }
        (self.processed, self.met) = (processed, met);
        Some(items)
    }
}

impl Metric {
    fn new<const N: usize>(
        name: &'static str,
        value: u64,
        unit: &'static str,
        labels: [(&'static str, String); N],
    ) -> Self {
        Self {
            name,
            value,
            unit,
            labels: labels.into(),
        }
    }
}

/// Packets and bytes that were looked at so far.
async fn processed(commands: &mpsc::Sender<Command>) -> Option<(u64, u64)> {
    let (reply, answer) = oneshot::channel();
    commands.send(Command::Status(reply)).await.ok()?;
    let status = answer.await.ok()?.ok()?;
    let outcomes = status.outcomes.values();
    Some(outcomes.fold((0, 0), |(packets, bytes), outcome| {
        (packets + outcome.packets, bytes + outcome.bytes)
    }))
}

/// Packets that have met the decisions in force, by origin.
async fn met(commands: &mpsc::Sender<Command>) -> Option<BTreeMap<String, u64>> {
    let mut met: BTreeMap<String, u64> = BTreeMap::new();
    let mut after = None;
    loop {
        let (reply, answer) = oneshot::channel();
        commands.send(Command::BanPage(after, reply)).await.ok()?;
        let page = answer.await.ok()?.ok()?;
        let next = page.next;
        // Each costs a system call.
        let counted = tokio::task::spawn_blocking(move || {
            let cause = BanCause::Crowdsec.name();
            let bans = page
                .items
                .iter()
                .filter(|ban| ban.exported(false).cause == cause);
            let bans = bans.map(BanEntry::info);
            let bans = bans.map(|info| (info.crowdsec.unwrap_or_default(), info.hits));
            bans.collect::<Vec<_>>()
        });
        for (origin, hits) in counted.await.ok()? {
            *met.entry(origin).or_default() += hits;
        }
        match next {
            Some(next) => after = Some(next),
            None => return Some(met),
        }
    }
}

/// Seconds since 1970.
fn seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
