//! The packet path as plain code: nothing is hashed, packed or kept in rings, and every look-up begins at
//! the beginning.

use std::{collections::BTreeMap, net::IpAddr};

use abuser_common::{
    event::Verdict,
    gcra::Rate,
    layout::{Count, LimitCounters, LimitOutcome, Outcome},
    prefix::PrefixKey,
};

use super::{
    frame::Packet,
    scenario::{LimitSpec, Scenario, Terms},
};

/// A limit by its number, and the source with what does not count cut off.
type Bucket = (usize, bool, u128);

pub(super) struct Slow {
    limits: Vec<LimitSpec>,
    observe: bool,
    bans: Vec<(PrefixKey, u64, u64)>,
    allowed: Vec<PrefixKey>,
    throttles: Vec<(PrefixKey, Terms)>,
    buckets: BTreeMap<Bucket, Paid>,
    counters: Vec<LimitCounters>,
}

/// What a source has paid for, under one limit.
struct Paid {
    /// When it will have paid for all, in ticks of the limit since the host started; never wraps.
    tat: u128,
    /// All that was admitted, in units.
    units: u128,
    since_ns: u64,
}

impl Slow {
    pub(super) fn new(scenario: &Scenario<'_>) -> Self {
        Self {
            limits: scenario.limits.clone(),
            observe: scenario.observe,
            bans: Vec::new(),
            allowed: Vec::new(),
            throttles: Vec::new(),
            buckets: BTreeMap::new(),
            counters: vec![LimitCounters::default(); scenario.limits.len()],
        }
    }

    /// Bans a prefix; it has been met by nobody.
    pub(super) fn ban(&mut self, prefix: PrefixKey, expires_ns: u64) {
        self.bans.retain(|(known, ..)| *known != prefix);
        self.bans.push((prefix, expires_ns, 0));
    }

    pub(super) fn allow(&mut self, prefix: PrefixKey) {
        self.allowed.push(prefix);
    }

    pub(super) fn throttle(&mut self, prefix: PrefixKey, terms: Terms) {
        self.throttles.retain(|(known, _)| *known != prefix);
        self.throttles.push((prefix, terms));
    }

    pub(super) fn counters(&self) -> &[LimitCounters] {
        &self.counters
    }

    /// Each ban, and how many packets met it.
    pub(super) fn hits(&self) -> impl Iterator<Item = (&PrefixKey, u64)> {
        self.bans.iter().map(|(prefix, _, hits)| (prefix, *hits))
    }

    pub(super) fn packet(&mut self, packet: &Packet, length: usize, now: u64) -> Outcome {
        let is_allowed = self
            .allowed
            .iter()
            .any(|prefix| covers(prefix, packet.source));
        let verdict = |observe| match (is_allowed, observe) {
            (true, _) => Verdict::Allow,
            (false, true) => Verdict::Observe,
            (false, false) => Verdict::Drop,
        };
        let met = self
            .bans
            .iter_mut()
            .filter(|(prefix, end, _)| covers(prefix, packet.source) && !is_over(*end, now))
            .max_by_key(|(prefix, ..)| prefix.length);
        if let Some((_, _, hits)) = met {
            *hits += 1;
            return outcome(verdict(self.observe), Outcome::DroppedBan);
        }
        let applying: Vec<_> = (0..self.limits.len())
            .filter(|number| self.applies(*number, packet, now))
            .collect();
        let (over, within): (Vec<usize>, Vec<usize>) = applying
            .into_iter()
            .partition(|number| !self.has_room(*number, packet, now));
        let drops = over.iter().any(|number| !self.limits[*number].observe);
        if !drops {
            for number in within {
                self.charge(number, packet, length, now);
                count(&mut self.counters[number], LimitOutcome::Passed, length);
            }
        }
        if over.is_empty() {
            return Outcome::Passed;
        }
        let verdict = verdict(self.observe || !drops);
        for number in over {
            let own = match verdict {
                Verdict::Drop if self.limits[number].observe => Verdict::Observe,
                verdict => verdict,
            };
            count(&mut self.counters[number], LimitOutcome::Over(own), length);
        }
        outcome(verdict, Outcome::DroppedLimit)
    }

    /// Nobody got more than a limit gives in the time, whatever it is kept in.
    pub(super) fn within_rates(&self, now: u64) {
        for ((number, ..), paid) in &self.buckets {
            let limit = &self.limits[*number];
            let elapsed = u128::from(now - paid.since_ns);
            let earned = elapsed * u128::from(limit.units) / u128::from(limit.per_ns);
            // The first may come before it is paid, and periods are exact to 0.4%.
            let first = if limit.count == Count::Bytes {
                1 << 16
            } else {
                1
            };
            let most = (earned + u128::from(limit.burst)) * 1005 / 1000 + first + 1;
            assert!(paid.units <= most, "{} of {most} by {limit:?}", paid.units);
        }
    }

    fn applies(&self, number: usize, packet: &Packet, now: u64) -> bool {
        let limit = &self.limits[number];
        let of_protocol = limit.protocol.is_none_or(|only| only == packet.protocol);
        let of_port = limit.ports.is_empty()
            || packet
                .known_port()
                .is_some_and(|port| limit.ports.contains(&port));
        let counts = limit.count != Count::Connections || packet.opens_connection();
        let is_throttled = || {
            self.throttles.iter().any(|(prefix, terms)| {
                let mut terms = terms.iter();
                covers(prefix, packet.source)
                    && terms.any(|(limit, end)| *limit == number && !is_over(*end, now))
            })
        };
        of_protocol && of_port && counts && (!limit.only_throttled || is_throttled())
    }

    fn bucket(&self, number: usize, packet: &Packet) -> Bucket {
        let limit = &self.limits[number];
        let (address, bits, kept) = match packet.source {
            IpAddr::V4(address) => (u32::from(address).into(), 32, limit.ipv4_prefix),
            IpAddr::V6(address) => (u128::from(address), 128, limit.ipv6_prefix),
        };
        (number, bits == 32, address >> (bits - u32::from(kept)))
    }

    fn has_room(&self, number: usize, packet: &Packet, now: u64) -> bool {
        let rate = &self.limits[number].rate;
        let Some(paid) = self.buckets.get(&self.bucket(number, packet)) else {
            return true;
        };
        paid.tat.saturating_sub(ticks(rate, now)) <= u128::from(rate.window)
    }

    fn charge(&mut self, number: usize, packet: &Packet, length: usize, now: u64) {
        let limit = &self.limits[number];
        let units = if limit.count == Count::Bytes {
            length as u128
        } else {
            1
        };
        let cost = (u128::from(limit.rate.period) * units + 128) / 256;
        let start = ticks(&limit.rate, now);
        let paid = self
            .buckets
            .entry(self.bucket(number, packet))
            .or_insert(Paid {
                tat: start,
                units: 0,
                since_ns: now,
            });
        paid.tat = paid.tat.max(start) + cost;
        paid.units += units;
    }
}

/// A time in ticks of a rate, which are 2^shift 256ths of a nanosecond.
fn ticks(rate: &Rate, now: u64) -> u128 {
    (u128::from(now) << 8) >> (rate.scale.0 & 0xff)
}

fn is_over(end: u64, now: u64) -> bool {
    end != 0 && end <= now
}

/// Whether the first bits of an address are those of a prefix, bit by bit.
fn covers(prefix: &PrefixKey, address: IpAddr) -> bool {
    let (family, octets) = match address {
        IpAddr::V4(address) => (4, address.octets().to_vec()),
        IpAddr::V6(address) => (6, address.octets().to_vec()),
    };
    let bit = |octets: &[u8], at: usize| octets[at / 8] >> (7 - at % 8) & 1;
    prefix.family == family
        && (0..prefix.length as usize).all(|at| bit(&prefix.address, at) == bit(&octets, at))
}

fn outcome(verdict: Verdict, drop: Outcome) -> Outcome {
    match verdict {
        Verdict::Drop => drop,
        Verdict::Observe => Outcome::Observed,
        Verdict::Allow => Outcome::Allowed,
    }
}

fn count(counters: &mut LimitCounters, outcome: LimitOutcome, length: usize) {
    let length = length as u64;
    let traffic = match outcome {
        LimitOutcome::Passed => &mut counters.passed,
        LimitOutcome::Over(Verdict::Drop) => &mut counters.dropped,
        LimitOutcome::Over(Verdict::Observe) => &mut counters.observed,
        LimitOutcome::Over(Verdict::Allow) => &mut counters.allowed,
        LimitOutcome::Contended => unreachable!("there is one CPU"),
    };
    traffic.packets += 1;
    traffic.bytes += length;
}
