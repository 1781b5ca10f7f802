//! A scenario out of bytes: what the first of them say is in force, and the rest is what happens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use abuser_common::{
    gcra::{KernelTime, MAX_COST, Rate},
    layout::{Ban, Count, MAX_TERMS, Term, Throttle},
    prefix::PrefixKey,
};
use arbitrary::{Result, Unstructured};

use super::frame::{Fragment, Packet};

/// What may pass in a scenario, in nanoseconds: times of the usual tick go round in 73 minutes, and the
/// daemon sweeps before they do.
const LONGEST_NS: u64 = 30 * 60 * SECOND;
const SECOND: u64 = 1_000_000_000;
/// What happens at most.
const STEPS: usize = 300;

/// A limit.
#[derive(Clone, Debug)]
pub(super) struct LimitSpec {
    /// The only protocol, if there is one.
    pub(super) protocol: Option<u8>,
    pub(super) ports: Vec<u16>,
    pub(super) count: Count,
    pub(super) units: u64,
    pub(super) per_ns: u64,
    pub(super) burst: u64,
    pub(super) rate: Rate,
    pub(super) observe: bool,
    pub(super) only_throttled: bool,
    pub(super) ipv4_prefix: u8,
    pub(super) ipv6_prefix: u8,
}

impl LimitSpec {
    pub(super) fn is_of_connections(&self) -> bool {
        self.count == Count::Connections
    }
}

/// A limit by its number, and until when.
pub(super) type Terms = Vec<(usize, u64)>;

/// Something that happens.
pub(super) enum Step {
    Wait(u64),
    Ban(PrefixKey, Ban),
    Allow(PrefixKey),
    Throttle(PrefixKey, Terms),
    Packet(Packet),
}

/// What is in force, and what happens.
pub(super) struct Scenario<'b> {
    pub(super) limits: Vec<LimitSpec>,
    pub(super) observe: bool,
    pub(super) bank: u32,
    bytes: Unstructured<'b>,
    steps: usize,
    waited: u64,
    ends: Vec<u64>,
}

/// An entry of the table of throttled sources.
pub(super) fn entry(terms: &Terms, bank: u32) -> Throttle {
    let mut entry = Throttle::default();
    for (term, (limit, expires_ns)) in entry.terms.iter_mut().zip(terms) {
        let bit = 1 << limit;
        *term = Term {
            expires_ns: *expires_ns,
            limits: if bank == 0 { [bit, 0] } else { [0, bit] },
        };
    }
    entry
}

impl<'b> Scenario<'b> {
    /// `None` if there are not enough bytes for one.
    pub(super) fn read(bytes: &'b [u8]) -> Option<Self> {
        let mut bytes = Unstructured::new(bytes);
        let mut read = || -> Result<_> {
            let steering: u8 = bytes.arbitrary()?;
            let mut limits = Vec::new();
            for _ in 0..bytes.int_in_range(0..=5)? {
                limits.extend(limit(&mut bytes)?);
            }
            Ok((steering, limits))
        };
        let (steering, limits) = read().ok()?;
        Some(Self {
            limits,
            observe: steering & 15 == 15,
            bank: u32::from(steering >> 7),
            bytes,
            steps: 0,
            waited: 0,
            ends: Vec::new(),
        })
    }

    /// What happens next; `None` if nothing does any more.
    pub(super) fn next(&mut self, now: KernelTime) -> Option<Step> {
        self.steps += 1;
        if self.bytes.is_empty() || self.steps > STEPS {
            return None;
        }
        self.step(now.0).ok()
    }

    fn step(&mut self, now: u64) -> Result<Step> {
        Ok(match self.bytes.int_in_range(0..=15_u8)? {
            0..=2 => Step::Wait(self.wait(now)?),
            3 => {
                let ban = Ban {
                    expires_ns: self.end(now)?,
                    // Its own, that events tell which it was.
                    id: self.steps as u64,
                    ..Ban::default()
                };
                Step::Ban(prefix(&mut self.bytes)?, ban)
            }
            4 => Step::Allow(prefix(&mut self.bytes)?),
            5 if !self.limits.is_empty() => {
                let prefix = prefix(&mut self.bytes)?;
                let mut terms = Terms::new();
                for _ in 0..self.bytes.int_in_range(0..=MAX_TERMS)? {
                    let limit = self.bytes.choose_index(self.limits.len())?;
                    terms.push((limit, self.end(now)?));
                }
                Step::Throttle(prefix, terms)
            }
            _ => Step::Packet(packet(&mut self.bytes)?),
        })
    }

    fn wait(&mut self, now: u64) -> Result<u64> {
        let most = LONGEST_NS - self.waited;
        let wait = match self.bytes.int_in_range(0..=5_u8)? {
            0 => 1,
            1 => self.bytes.int_in_range(0..=1_000_000)?,
            2 => self.bytes.int_in_range(0..=SECOND)?,
            3 => self.bytes.int_in_range(0..=60 * SECOND)?,
            4 => u64::from(self.bytes.arbitrary::<u8>()?) * 100_000_000,
            // To the very end of something.
            _ => {
                let ends = self.ends.iter().filter_map(|end| end.checked_sub(now));
                ends.filter(|wait| *wait > 0).min().unwrap_or(0)
            }
        };
        let wait = wait.min(most);
        self.waited += wait;
        Ok(wait)
    }

    /// When something ends; 0: never.
    fn end(&mut self, now: u64) -> Result<u64> {
        let end = match self.bytes.int_in_range(0..=3_u8)? {
            0 => 0,
            1 => now,
            2 => now + self.bytes.int_in_range(1..=100 * SECOND)?,
            _ => now + SECOND * u64::from(self.bytes.arbitrary::<u8>()?),
        };
        self.ends.push(end);
        Ok(end)
    }
}

/// A limit, if the rate is one that can be had and whose ticks do not go round meanwhile.
fn limit(bytes: &mut Unstructured<'_>) -> Result<Option<LimitSpec>> {
    let count = *bytes.choose(&[Count::Packets, Count::Bytes, Count::Connections])?;
    let protocol = *bytes.choose(&[None, Some(6), Some(17), Some(1), Some(58), Some(47)])?;
    let ports = match bytes.int_in_range(0..=3_u8)? {
        0 => vec![443],
        1 => vec![53, 80],
        _ => Vec::new(),
    };
    let per_ns = *bytes.choose(&[SECOND, 60 * SECOND, 3600 * SECOND])?;
    let units = match bytes.int_in_range(0..=2_u8)? {
        0 => bytes.int_in_range(1..=20)?,
        1 => bytes.int_in_range(1..=2_000)?,
        _ => bytes.int_in_range(1..=2_000_000)?,
    };
    let burst = match bytes.int_in_range(0..=2_u8)? {
        0 => bytes.int_in_range(0..=3)?,
        1 => bytes.int_in_range(0..=300)?,
        _ => bytes.int_in_range(0..=100_000)?,
    };
    let flags: u8 = bytes.arbitrary()?;
    let ipv4_prefix = *bytes.choose(&[32, 24, 8, 1, 31])?;
    let ipv6_prefix = *bytes.choose(&[128, 64, 48, 1, 65])?;
    let most = if count == Count::Bytes { MAX_COST } else { 1 };
    let rate = Rate::new(units, per_ns, burst, most);
    let rate = rate.filter(|rate| rate.scale.ring_ns() > 2 * LONGEST_NS);
    Ok(rate.map(|rate| LimitSpec {
        protocol,
        ports: if matches!(protocol, None | Some(6 | 17)) {
            ports
        } else {
            Vec::new()
        },
        count,
        units,
        per_ns,
        burst,
        rate,
        observe: flags & 3 == 3,
        only_throttled: flags & 0b1100 == 0b1100,
        ipv4_prefix,
        ipv6_prefix,
    }))
}

/// One of few sources, some of them neighbours.
fn source(bytes: &mut Unstructured<'_>) -> Result<IpAddr> {
    let number: u8 = bytes.arbitrary()?;
    let low = number & 3;
    Ok(match number >> 2 & 3 {
        0 => Ipv4Addr::new(203, 0, 113, low).into(),
        1 => Ipv4Addr::new(203, 0, 0x70 ^ low, 255).into(),
        2 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, low.into()).into(),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 0, low.into(), 0x8000, 0, 0, 1).into(),
    })
}

/// A prefix of one of them, of any length.
fn prefix(bytes: &mut Unstructured<'_>) -> Result<PrefixKey> {
    let source = source(bytes)?;
    let bits = if source.is_ipv4() { 32 } else { 128 };
    let length: u8 = match bytes.int_in_range(0..=2_u8)? {
        0 => bits,
        1 => bits - bytes.int_in_range(0..=bits)?.min(9),
        _ => bytes.int_in_range(0..=bits)?,
    };
    Ok(PrefixKey::new(source, length).expect("it is not too long"))
}

fn packet(bytes: &mut Unstructured<'_>) -> Result<Packet> {
    let source = source(bytes)?;
    let shape: u8 = bytes.arbitrary()?;
    let protocol = *bytes.choose(&[6, 6, 17, 1, 58, 47, 132])?;
    Ok(Packet {
        source,
        tags: usize::from((shape & 7).saturating_sub(3)),
        extra: usize::from((shape >> 3 & 7).saturating_sub(3)),
        fragment: match shape >> 6 {
            0 | 1 => Fragment::Whole,
            2 => Fragment::First,
            _ => Fragment::Later,
        },
        protocol,
        port: *bytes.choose(&[443, 53, 80, 22, 0])?,
        tcp_flags: *bytes.choose(&[0x02, 0x10, 0x12, 0, 0xc2])?,
        payload: match bytes.int_in_range(0..=3_u8)? {
            0 => bytes.int_in_range(0..=1400)?,
            _ => 0,
        },
    })
}
