//! The packet path over a capture: `decide()` over the tables as collections, at the capture's
//! own time.
//!
//! Kernel time is the capture's clock: [`START_NS`] at its first packet. A packet that is dated
//! earlier than the one before it came when that did. One CPU is taken to see all packets, so the
//! budget of events is one CPU's. A ban holds from the packet on that follows the offence; in the
//! daemon it takes some milliseconds.

use std::time::Duration;

use abuser_common::{
    event::{Event, Reason, Verdict},
    gcra::KernelTime,
    layout::{Ban, BanCause, Count, LimitCounters, Outcome, Outcomes, Settings},
    model::Model,
    packet::{self, Bytes, Header, ICMP, ICMPV6, TCP, UDP},
    prefix::PrefixKey,
    verdict::{Decision, decide},
};

use super::{
    direction::Way,
    frame::Frame,
    judge::{Judge, net},
    report::{LimitReport, OffencesReport, Sources},
    sockets::Sockets,
};
use crate::{
    config::{AllowEntry, Config, LimitConfig},
    dataplane::limits::Compiled,
    policy::{Doubts, is_wide},
    words::counted,
};

/// Kernel time of the first packet, in nanoseconds: a power of two, so that it is a tick of
/// every limit's clock, and late enough for nothing to be before the beginning.
pub const START_NS: u64 = 1 << 42;

/// A limit that is replayed.
struct Limit {
    config: LimitConfig,
    id: u64,
    policy: u16,
}

/// The host whose packets are replayed.
pub(super) struct Path {
    model: Model,
    sockets: Sockets,
    limits: Vec<Limit>,
    doubts: Doubts,
    sweeps: Sweeps,
    /// When the first packet came, in nanoseconds since 1970.
    first_ns: Option<u64>,
    last_ns: u64,
    pub(super) outcomes: Outcomes,
    pub(super) sources: Sources,
    pub(super) unverified: u64,
    /// Packets that were dated earlier than the one before.
    pub(super) backwards: u64,
    /// Packets that cannot be read because the capture has too little of them.
    pub(super) cut_short: u64,
}

/// What was captured of a frame, and how long it was.
struct Captured<'f> {
    bytes: &'f [u8],
    length: u32,
}

impl Bytes for Captured<'_> {
    fn header<T: Header>(&self, offset: usize) -> Option<&T> {
        self.bytes.header(offset)
    }

    fn readable(&self) -> u32 {
        self.bytes.length()
    }

    fn length(&self) -> u32 {
        self.length
    }

    fn interface(&self) -> u32 {
        0
    }
}

impl Path {
    pub(super) fn new(config: &Config, judge: &Judge) -> Self {
        let Compiled {
            limits,
            protocols,
            ports,
        } = Compiled::new(&config.limits);
        let mut model = Model::default();
        model.settings = Settings::new(0, false);
        model.protocols = (0..).zip(protocols).collect();
        // Ports without limits need no entry.
        let ports = (0..).zip(ports).filter(|(_, mask)| *mask != 0);
        model.ports = ports.collect();
        for entry in &config.allow {
            if let AllowEntry::Prefix(prefix) = entry
                && let Some(key) = PrefixKey::new(prefix.network(), prefix.prefix_len())
            {
                model.add_allow(key);
            }
        }
        let named = config
            .limits
            .iter()
            .zip(&limits)
            .map(|(config, limit)| Limit {
                policy: judge.policy(&config.policy),
                config: config.clone(),
                id: limit.id,
            });
        let named = named.collect();
        for (index, limit) in (0..).zip(limits) {
            model.add_limit(index, limit);
        }
        Self {
            sweeps: Sweeps::new(&model),
            model,
            sockets: Sockets::default(),
            limits: named,
            doubts: Doubts::default(),
            first_ns: None,
            last_ns: 0,
            outcomes: Outcomes::default(),
            sources: Sources::default(),
            unverified: 0,
            backwards: 0,
            cut_short: 0,
        }
    }

    /// Replays one frame.
    pub(super) fn frame(&mut self, frame: &Frame, way: Way, judge: &mut Judge) {
        let now = self.advance(frame.at_ns);
        if way.goes_out {
            self.sockets.sent(&frame.bytes);
        }
        if !way.comes_in {
            return;
        }
        let outcome = self.decide(frame);
        let bytes = u64::from(frame.length);
        self.outcomes.count(outcome, frame.length);
        if let Ok(Some(network)) = packet::network(&frame.bytes[..]) {
            self.sources
                .count(network.source.host(), outcome.dropped(), bytes);
        }
        // The sockets get it after the program.
        self.sockets.received(&frame.bytes);
        if !self.model.events.borrow().is_empty() {
            let events: Vec<_> = self.model.events.borrow_mut().drain(..).collect();
            for event in &events {
                self.event(event, now, judge);
            }
        }
    }

    /// Sets the clock; the time since 1970.
    fn advance(&mut self, at_ns: u64) -> Duration {
        let first = *self.first_ns.get_or_insert(at_ns);
        if at_ns < self.last_ns {
            self.backwards += 1;
        }
        self.last_ns = self.last_ns.max(at_ns);
        let now = KernelTime(START_NS.saturating_add(self.last_ns - first));
        self.sockets.now.set(now);
        self.sweeps.until(now, &self.model);
        Duration::from_nanos(self.last_ns)
    }

    fn decide(&mut self, frame: &Frame) -> Outcome {
        let bytes = &frame.bytes[..];
        if frame.length > bytes.length() && !is_readable(bytes) {
            // As if nothing more had come: what was cut off is not known to be hidden.
            self.cut_short += 1;
            let Decision { outcome, .. } = decide(bytes, &self.model, &self.sockets);
            return outcome;
        }
        let captured = Captured {
            bytes,
            length: frame.length,
        };
        let Decision { outcome, .. } = decide(&captured, &self.model, &self.sockets);
        outcome
    }

    /// A drop over a limit is an offence of whoever the limit counts, unless anyone may have
    /// sent it; as `daemon/engine/offences.rs` has it.
    fn event(&mut self, event: &Event, now: Duration, judge: &mut Judge) {
        if (event.verdict(), event.reason()) != (Some(Verdict::Drop), Some(Reason::Limit)) {
            return;
        }
        let limit = self.limits.iter().find(|limit| limit.id == event.cause);
        let (Some(limit), Some(address)) = (limit, event.source.address()) else {
            return;
        };
        let prefix = u8::try_from(event.prefix).unwrap_or(u8::MAX);
        let Some(key) = PrefixKey::new(address, prefix) else {
            return;
        };
        if is_wide(&net(&key)) || judge.is_banned(&key, now) {
            return;
        }
        let of_connections = limit.config.count == Count::Connections;
        let kernel_now = Duration::from_nanos(event.time_ns);
        if judge.requires_verified(limit.policy)
            && !self
                .doubts
                .is_own(event.verified(), of_connections, &key, kernel_now)
        {
            self.unverified += 1;
            return;
        }
        let cause = format!("limit {}", limit.config.name);
        let evidence = evidence(event, &cause);
        let bans = judge.offence(key, limit.policy, &cause, now, evidence);
        let first_ns = self.first_ns.unwrap_or_default();
        let mut replaced = Vec::new();
        for ban in bans {
            if let Some(before) = self.model.ban_of(&ban.source) {
                replaced.push(before);
            }
            let ends = ban.ends().map_or(0, |ends| {
                let ends = u64::try_from(ends.as_nanos()).unwrap_or(u64::MAX);
                START_NS
                    .saturating_add(ends.saturating_sub(first_ns))
                    .max(1)
            });
            let entry = Ban {
                expires_ns: ends,
                id: ban.id,
                cause: BanCause::Limit as u64,
                ..Ban::default()
            };
            self.model.add_ban(ban.source, entry);
        }
        for before in replaced {
            judge.set_hits(before.id, before.hits.total);
        }
    }

    /// Tells the judge how many packets met each of its bans.
    pub(super) fn count_hits(&self, judge: &mut Judge) {
        let sources: Vec<_> = judge.bans().iter().map(|ban| ban.source).collect();
        for source in sources {
            if let Some(ban) = self.model.ban_of(&source) {
                judge.set_hits(ban.id, ban.hits.total);
            }
        }
    }

    /// What was counted under each limit.
    pub(super) fn limits(&self) -> Vec<LimitReport> {
        let counters = self.model.limit_counters.borrow();
        let each = (0..).zip(&self.limits).map(|(index, limit)| {
            let counters = counters.get(&index).copied();
            LimitReport::new(
                &limit.config.name,
                counters.unwrap_or(LimitCounters::default()),
            )
        });
        each.collect()
    }

    /// When the first and the last packet came, since 1970.
    pub(super) fn span(&self) -> Option<(Duration, Duration)> {
        let first = Duration::from_nanos(self.first_ns?);
        Some((first, Duration::from_nanos(self.last_ns)))
    }

    pub(super) fn offences(&self, judge: &Judge) -> OffencesReport {
        OffencesReport {
            counted: judge.offences(),
            unverified: self.unverified,
        }
    }

    /// Whether a packet of the host's own was seen.
    pub(super) fn spoke(&self) -> bool {
        self.sockets.spoke.get()
    }
}

/// Whether all headers are there that the packet path reads.
fn is_readable(bytes: &[u8]) -> bool {
    match packet::network(bytes) {
        Ok(Some(network)) => {
            let family = network.source.family;
            !packet::transport(bytes, family, network.offset).is_malformed()
        }
        Ok(None) => true,
        Err(_) => false,
    }
}

/// An event as the daemon keeps it as evidence, without an interface.
fn evidence(event: &Event, cause: &str) -> String {
    let protocol = match event.protocol {
        TCP => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        ICMP => "icmp".to_owned(),
        ICMPV6 => "icmpv6".to_owned(),
        number => number.to_string(),
    };
    let port = if event.has_port() {
        format!("/{}", event.port)
    } else {
        String::new()
    };
    let drops = counted(event.drops, "packet", "packets");
    format!("drop {protocol}{port} {cause} {drops}")
}

/// When to clear words of full buckets away, before their clocks come round to them.
///
/// The daemon does so every few minutes. A replay jumps over hours, and makes up for what would
/// have been done meanwhile: each limit's clock is quartered, as in the daemon, and after it has
/// gone round twice no word is left.
struct Sweeps {
    /// Quarters of the rounds of limits' clocks, in nanoseconds; each once, the shortest first.
    quarters: Vec<u64>,
    last_ns: u64,
}

impl Sweeps {
    /// Sweeps after which nothing is left to be swept.
    const ENOUGH: u64 = 8;

    fn new(model: &Model) -> Self {
        let used = model.scales.0.iter().filter(|scale| scale.is_used());
        let mut quarters: Vec<_> = used.map(|scale| scale.ring_ns() / 4).collect();
        quarters.sort_unstable();
        quarters.dedup();
        Self {
            quarters,
            last_ns: START_NS,
        }
    }

    fn until(&mut self, now: KernelTime, model: &Model) {
        let elapsed = now.since_ns(KernelTime(self.last_ns));
        if self
            .quarters
            .first()
            .is_none_or(|quarter| elapsed < *quarter)
        {
            return;
        }
        let mut due: Vec<_> = self
            .quarters
            .iter()
            .flat_map(|quarter| (1..=Self::ENOUGH).map(move |times| quarter.saturating_mul(times)))
            .filter(|after| *after <= elapsed)
            .collect();
        due.sort_unstable();
        due.dedup();
        for after in due {
            model.sweep(KernelTime(self.last_ns.saturating_add(after)));
        }
        self.last_ns = now.0;
    }
}
