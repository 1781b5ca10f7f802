//! What happens in one configuration of the differential test, all by one seed.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use abuser::{config, dataplane::throttles::Throttling};
use abuser_common::{bucket::Key, gcra::KernelTime, layout::MAX_TERMS, prefix::PrefixKey};
use fastrand::Rng;
use testkit::Packet;

use crate::kernel::crowd;

/// Ports that limits name and packets go to.
const PORTS: [u16; 6] = [53, 80, 443, 8000, 8005, 65_535];
/// Protocols besides TCP, UDP and ICMP: GRE, ESP, SCTP, none.
const PROTOCOLS: [u8; 5] = [47, 50, 132, 59, 0];

const SECOND: u64 = 1_000_000_000;

/// The kernel takes no frame shorter than an Ethernet header.
const SHORTEST: usize = 14;

/// Limits, sources, packets and the clock.
pub(super) struct Scenario {
    random: Rng,
    /// The limits as a configuration file has them.
    pub(super) limits: String,
    /// How many they are.
    pub(super) limit_count: usize,
    /// Whether the whole program observes.
    pub(super) observe: bool,
    /// What places in the bucket table depend on.
    pub(super) key: Key,
    sources: Vec<IpAddr>,
    frames: Vec<Vec<u8>>,
    now: KernelTime,
    /// When bans and throttles end.
    ends: Vec<u64>,
    /// The binary logarithm of the usual step of the clock.
    step_bits: u32,
    /// One packet in so many is mutilated.
    broken_one_in: u32,
}

impl Scenario {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let limit_count = match random.u8(0..4) {
            0 => 1,
            1 => random.usize(2..5),
            2 => random.usize(5..20),
            _ => random.usize(20..65),
        };
        let limits = (0..limit_count).map(|n| limit(&mut random, n)).collect();
        let sources = sources(&mut random);
        let mut frames: Vec<_> = (0..300).map(|_| frame(&mut random, &sources)).collect();
        frames.push(Packet::arp().build());
        Self {
            limits,
            limit_count,
            observe: random.u8(0..10) == 0,
            key: Key([(); 4].map(|()| random.u64(..))),
            sources,
            frames,
            now: first_time(&mut random),
            ends: Vec::new(),
            step_bits: random.u32(4..32),
            broken_one_in: random.u32(3..100),
            random,
        }
    }

    /// Adds a frame to those that are sent.
    pub(super) fn add(&mut self, frame: Vec<u8>) {
        self.frames.push(frame);
    }

    /// Adds frames of sources that fight for one set of buckets under a limit, if it tells them
    /// apart.
    pub(super) fn crowd(&mut self, slot: u8, ipv4_prefix: u8) {
        if ipv4_prefix < 24 {
            return;
        }
        let (first, count) = (self.random.u32(..), self.random.usize(8..20));
        let crowd = crowd(&self.key, slot, ipv4_prefix, first, count);
        let crowd: Vec<_> = crowd.into_iter().map(IpAddr::V4).collect();
        for _ in 0..self.frames.len() {
            let frame = frame(&mut self.random, &crowd);
            self.frames.push(frame);
        }
    }

    /// What the allow list has.
    pub(super) fn allowed(&mut self) -> Vec<PrefixKey> {
        let count = self.random.usize(0..4);
        (0..count).map(|_| self.prefix()).collect()
    }

    /// How many bans there are before the first packet.
    pub(super) fn bans_at_start(&mut self) -> u32 {
        match self.random.u8(0..3) {
            0 => 0,
            1 => self.random.u32(1..4),
            _ => self.random.u32(1..30),
        }
    }

    /// Whether there is one more now.
    pub(super) fn is_time_to_ban(&mut self) -> bool {
        self.random.u32(0..2_000) == 0
    }

    /// A ban: of whom, and until when.
    pub(super) fn ban(&mut self) -> (PrefixKey, u64) {
        let expires_ns = self.end();
        (self.prefix(), expires_ns)
    }

    /// How many throttles there are before the first packet.
    pub(super) fn throttles_at_start(&mut self) -> u32 {
        self.random.u32(0..10)
    }

    /// Whether there is one more now.
    pub(super) fn is_time_to_throttle(&mut self) -> bool {
        self.random.u32(0..1_000) == 0
    }

    /// A throttle: of whom, by which limits and until when. Some of the limits are not for throttled
    /// sources.
    pub(super) fn throttle(&mut self) -> (PrefixKey, Vec<Throttling>) {
        let count = self.random.usize(0..=MAX_TERMS);
        let throttling = (0..count).map(|_| Throttling {
            limit: format!("n{}", self.random.usize(0..self.limit_count)).into(),
            expires_ns: self.end(),
        });
        let throttling = throttling.collect();
        (self.prefix(), throttling)
    }

    /// When a ban or a throttle ends.
    fn end(&mut self) -> u64 {
        let expires_ns = match self.random.u8(0..4) {
            0 => 0,
            1 => self.now.0,
            _ => self.now.0 + (1 << self.step_bits) * self.random.u64(1..10_000),
        };
        self.ends.push(expires_ns);
        expires_ns
    }

    /// A prefix that covers some source, or once in a while none.
    fn prefix(&mut self) -> PrefixKey {
        let random = &mut self.random;
        let source = match random.u8(0..10) {
            0 => IpAddr::from(random.u32(..).to_be_bytes()),
            1 => IpAddr::from(random.u128(..).to_be_bytes()),
            _ => pick(random, &self.sources),
        };
        let whole = if source.is_ipv4() { 32 } else { 128 };
        let length = match random.u8(0..4) {
            0 | 1 => whole,
            2 => random.u8(whole / 2..=whole),
            // Not so short that all are banned.
            _ => random.u8(whole / 8..=whole),
        };
        PrefixKey::new(source, length).expect("a prefix")
    }

    /// The next packet and its time.
    pub(super) fn packet(&mut self) -> (Vec<u8>, KernelTime) {
        self.now.0 += self.step();
        let random = &mut self.random;
        let at = random.usize(0..self.frames.len());
        let mut frame = self.frames[at].clone();
        if random.u32(0..self.broken_one_in) == 0 {
            break_frame(random, &mut frame);
        }
        (frame, self.now)
    }

    fn step(&mut self) -> u64 {
        let random = &mut self.random;
        match random.u32(0..20_000) {
            0 => random.u64(0..100 * 86_400 * SECOND),
            1..4 => random.u64(0..4_000 * SECOND),
            4..40 => random.u64(0..2 * SECOND),
            // To the very moment when a ban or a throttle ends.
            40..240 => {
                let later = self
                    .ends
                    .iter()
                    .filter_map(|end| end.checked_sub(self.now.0));
                later.filter(|step| *step != 0).min().unwrap_or(0)
            }
            step if step % 3 == 0 => 0,
            _ => random.u64(0..1 << self.step_bits),
        }
    }
}

fn pick<T: Copy>(random: &mut Rng, from: &[T]) -> T {
    from[random.usize(0..from.len())]
}

/// Sources that are few enough to fill their buckets, some of them neighbours.
fn sources(random: &mut Rng) -> Vec<IpAddr> {
    let count = 1 << random.u32(1..8);
    let (ipv4, ipv6) = (random.u32(..), random.u128(..));
    let (spread4, spread6) = (random.u32(1..20), random.u32(1..100));
    (0..count)
        .map(|_| {
            if random.u8(0..3) == 0 {
                let low = random.u128(0..1 << spread6);
                IpAddr::V6(Ipv6Addr::from(ipv6 ^ low))
            } else {
                let low = random.u32(0..1 << spread4);
                IpAddr::V4(Ipv4Addr::from(ipv4 ^ low))
            }
        })
        .collect()
}

/// A limit that the configuration takes.
fn limit(random: &mut Rng, number: usize) -> String {
    loop {
        let text = random_limit(random, number);
        if config::parse(&text, Path::new("limit")).is_ok() {
            return text;
        }
    }
}

fn random_limit(random: &mut Rng, number: usize) -> String {
    let mut text = format!("[[limit]]\nname = \"n{number}\"\n");
    let mut line = |what: std::fmt::Arguments<'_>| writeln!(text, "{what}").expect("a string");
    let protocol = match random.u8(0..8) {
        0 | 1 => "\"any\"".to_owned(),
        2 | 3 => "\"tcp\"".to_owned(),
        4 | 5 => "\"udp\"".to_owned(),
        6 => "\"icmp\"".to_owned(),
        _ => pick(random, &PROTOCOLS).to_string(),
    };
    line(format_args!("protocol = {protocol}"));
    match random.u8(0..4) {
        0 => line(format_args!("ports = [{}]", pick(random, &PORTS))),
        1 => line(format_args!(
            "ports = [{}, \"8000-8010\"]",
            pick(random, &PORTS)
        )),
        _ => {}
    }
    let count = pick(random, &["packets", "packets", "bytes", "connections"]);
    line(format_args!("count = \"{count}\""));
    let (most, unit) = pick(
        random,
        &[(8, "s"), (6, "s"), (4, "s"), (3, "s"), (4, "m"), (4, "h")],
    );
    let rate = random.u64(1..=10) * 10_u64.pow(random.u32(0..=most));
    line(format_args!("rate = \"{rate}/{unit}\""));
    let burst = match random.u8(0..4) {
        0 => 0,
        1 => random.u64(1..20),
        2 => random.u64(1..2_000),
        _ => random.u64(1..2_000_000),
    };
    line(format_args!("burst = {burst}"));
    if random.u8(0..4) == 0 {
        line(format_args!("action = \"observe\""));
    }
    if random.u8(0..3) == 0 {
        line(format_args!("only = \"throttled\""));
    }
    if random.bool() {
        line(format_args!("ipv4_prefix = {}", random.u8(1..=32)));
        line(format_args!("ipv6_prefix = {}", random.u8(1..=128)));
    }
    text
}

/// A frame that is as it should be.
fn frame(random: &mut Rng, sources: &[IpAddr]) -> Vec<u8> {
    let mut packet = Packet::eth();
    for _ in 0..random.u8(0..10).saturating_sub(5) {
        packet = packet.vlan(random.u16(0..4096));
    }
    if random.u8(0..10) == 0 {
        packet = packet.service_vlan(7);
    }
    let source = pick(random, sources);
    packet = packet.ip(source);
    packet = if source.is_ipv4() {
        match random.u8(0..8) {
            0 => packet.options(random.usize(0..=10)),
            1 => packet.first_fragment(),
            2 => packet.later_fragment(),
            _ => packet,
        }
    } else {
        let mut packet = packet;
        for _ in 0..random.u8(0..6).saturating_sub(2) * random.u8(1..4) {
            packet = match random.u8(0..8) {
                0..3 => packet.hop_by_hop(),
                3 => packet.routing(),
                4 => packet.destination_options(),
                5 => packet.authentication(),
                6 => packet.first_fragment(),
                _ => packet.later_fragment(),
            };
        }
        packet
    };
    let port = if random.u8(0..4) == 0 {
        random.u16(..)
    } else {
        pick(random, &PORTS)
    };
    packet = match random.u8(0..8) {
        0..2 => packet.tcp(port).syn(),
        2..4 => packet.tcp(port).flags(random.u8(..)),
        4..6 => packet.udp(port),
        6 if source.is_ipv4() => packet.icmp(),
        6 => packet.icmpv6(),
        _ => packet.protocol(pick(random, &PROTOCOLS)),
    };
    packet = match random.u8(0..20) {
        // More than fits into one buffer.
        0 => packet.payload_len(random.usize(3_000..9_000)),
        1..4 => packet.payload_len(random.usize(0..1_400)),
        _ => packet.payload_len(random.usize(0..20)),
    };
    packet.build()
}

/// Cuts a frame short, overwrites some of it, or makes it all noise.
fn break_frame(random: &mut Rng, frame: &mut Vec<u8>) {
    match random.u8(0..4) {
        0 => frame.truncate(random.usize(SHORTEST..=frame.len())),
        1 | 2 => {
            let headers = frame.len().min(120);
            for _ in 0..random.u8(1..4) {
                // The clock is in the first eight.
                frame[random.usize(12..headers)] = random.u8(..);
            }
        }
        _ => {
            *frame = (0..random.usize(SHORTEST..200))
                .map(|_| random.u8(..))
                .collect();
            let ethertype = pick(random, &[[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00]]);
            frame[12..14].copy_from_slice(&ethertype);
            if let Some(version) = frame.get_mut(14) {
                *version = pick(random, &[0x45, 0x60, 0x46, 0x00]);
            }
        }
    }
}

/// A time that everything begins at: early, late, or shortly before some clock wraps.
fn first_time(random: &mut fastrand::Rng) -> KernelTime {
    let wraps = 1 << random.u32(30..60);
    KernelTime(match random.u8(0..4) {
        0 => random.u64(1..1_000_000),
        1 => wraps - random.u64(0..1_000_000_000).min(wraps - 1),
        _ => random.u64(1..wraps),
    })
}
