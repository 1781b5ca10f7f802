//! Limits from the configuration to the maps.
//!
//! The program finds the limits for a packet by two masks, one by protocol and one by
//! destination port, so that a packet pays only for limits that apply to it. The tables
//! exist twice ([`BANKS`]): a new set is written to the bank that is not in use, then the
//! settings word switches to it.

use abuser_common::layout::{
    BANKS, Count, Limit, LimitCounters, MAX_LIMITS, PORTS_PER_BANK, PROTOCOLS_PER_BANK,
    ProtocolLimits, Scales, Settings, maps,
};
use abuser_common::packet::{ICMP, ICMPV6, TCP, UDP};
use aya::{
    Ebpf, Pod,
    maps::{Array, MapData, PerCpuArray},
};

use super::{
    buckets::Buckets,
    counters::{put, sum},
    error::DataplaneError,
    host,
    memory::{Words, assign},
    program::take_map,
};
use crate::config::{Action, LimitConfig, Protocol, Scope};

/// A limit as it is in force.
#[derive(Debug, Clone)]
pub struct LoadedLimit {
    /// What it was made from.
    pub config: LimitConfig,
    /// Its id in events.
    pub id: u64,
    /// Its number in buckets.
    pub slot: u8,
}

/// The maps that hold limits.
pub struct LimitTables {
    settings: Array<MapData, Settings>,
    protocols: Array<MapData, ProtocolLimits>,
    ports: Words,
    limits: Array<MapData, Limit>,
    scales: Array<MapData, Scales>,
    counters: PerCpuArray<MapData, LimitCounters>,
    loaded: Vec<LoadedLimit>,
    loaded_scales: Scales,
    bank: u32,
}

impl LimitTables {
    pub(super) fn open(program: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            settings: take_map(program, maps::SETTINGS)?,
            protocols: take_map(program, maps::PROTOCOLS)?,
            ports: Words::open(program, maps::PORTS, (BANKS * PORTS_PER_BANK) as usize)?,
            limits: take_map(program, maps::LIMITS)?,
            scales: take_map(program, maps::SCALES)?,
            counters: take_map(program, maps::LIMIT_COUNTERS)?,
            loaded: Vec::new(),
            loaded_scales: Scales::default(),
            bank: 0,
        })
    }

    /// The limits in force, in the configuration's order.
    pub fn loaded(&self) -> &[LoadedLimit] {
        &self.loaded
    }

    /// What they were made from, in the same order.
    pub fn configs(&self) -> impl Iterator<Item = &LimitConfig> {
        self.loaded.iter().map(|limit| &limit.config)
    }

    /// What was counted under each limit, in the same order.
    pub fn counted(&self) -> Result<Vec<LimitCounters>, DataplaneError> {
        let first = self.bank * MAX_LIMITS;
        (first..)
            .take(self.loaded.len())
            .map(|index| counters_at(&self.counters, index))
            .collect()
    }

    /// The bank that is in use: 0 or 1.
    pub fn bank(&self) -> u32 {
        self.bank
    }

    /// Puts `limits` in force in place of what was, all at once. What else is to be ready for the
    /// bank that they will be in is written by `prepare`.
    pub(super) fn apply(
        &mut self,
        limits: &[LimitConfig],
        observe: bool,
        buckets: &Buckets,
        prepare: impl FnOnce(u32) -> Result<(), DataplaneError>,
    ) -> Result<(), DataplaneError> {
        let in_use = get(&self.settings, maps::SETTINGS, 0)?.bank();
        let bank = (in_use + 1) % BANKS;
        let (old, new) = (in_use * MAX_LIMITS, bank * MAX_LIMITS);
        let before = (old..old + MAX_LIMITS)
            .map(|index| get(&self.limits, maps::LIMITS, index))
            .collect::<Result<Vec<_>, _>>()?;
        let mut compiled = Compiled::new(limits);
        let fresh = compiled.assign_slots(&before);
        // While both sets are in use, so are the scales of both.
        let scales = compiled.scales();
        let mut both = get(&self.scales, maps::SCALES, 0)?;
        for (both, own) in both.0.iter_mut().zip(scales.0) {
            if own.is_used() {
                *both = own;
            }
        }
        buckets.clear(&fresh);
        set(&mut self.scales, maps::SCALES, 0, both)?;
        for (index, masks) in (bank * PROTOCOLS_PER_BANK..).zip(compiled.protocols) {
            set(&mut self.protocols, maps::PROTOCOLS, index, masks)?;
        }
        let ports = self.ports.iter().skip((bank * PORTS_PER_BANK) as usize);
        assign(ports, compiled.ports);
        for (index, limit) in (new..).zip(&compiled.limits) {
            set(&mut self.limits, maps::LIMITS, index, *limit)?;
            let counted = self.counted_before(old, &before, limit.id)?;
            put(&mut self.counters, maps::LIMIT_COUNTERS, index, counted)?;
        }
        // An index beyond the limits must not find an id of long ago.
        for index in (new..new + MAX_LIMITS).skip(limits.len()) {
            set(&mut self.limits, maps::LIMITS, index, Limit::default())?;
        }
        prepare(bank)?;
        set(
            &mut self.settings,
            maps::SETTINGS,
            0,
            Settings::new(bank, observe),
        )?;
        // What the old set wrote into slots that changed hands meanwhile.
        buckets.clear(&fresh);
        set(&mut self.scales, maps::SCALES, 0, scales)?;
        self.loaded_scales = scales;
        self.bank = bank;
        self.loaded = limits
            .iter()
            .zip(compiled.limits)
            .map(|(config, limit)| LoadedLimit {
                config: config.clone(),
                id: limit.id,
                slot: limit.slot,
            })
            .collect();
        Ok(())
    }

    /// Has the program drop nothing, or drop again; one word says so.
    pub(super) fn set_observe(&mut self, observe: bool) -> Result<(), DataplaneError> {
        let settings = Settings::new(self.bank, observe);
        set(&mut self.settings, maps::SETTINGS, 0, settings)
    }

    /// What the limit with this id had counted in the bank that starts at `first` and has
    /// the limits `before`.
    fn counted_before(
        &self,
        first: u32,
        before: &[Limit],
        id: u64,
    ) -> Result<LimitCounters, DataplaneError> {
        match (first..).zip(before).find(|(_, limit)| limit.id == id) {
            Some((index, _)) => counters_at(&self.counters, index),
            None => Ok(LimitCounters::default()),
        }
    }

    /// The scales of the limits in force.
    pub fn scales(&self) -> Scales {
        self.loaded_scales
    }
}

fn counters_at(
    counters: &PerCpuArray<MapData, LimitCounters>,
    index: u32,
) -> Result<LimitCounters, DataplaneError> {
    let values = counters
        .get(&index, 0)
        .map_err(|error| DataplaneError::map(maps::LIMIT_COUNTERS, error))?;
    Ok(sum(&values))
}

fn get<V: Pod>(map: &Array<MapData, V>, name: &str, index: u32) -> Result<V, DataplaneError> {
    map.get(&index, 0)
        .map_err(|error| DataplaneError::map(name, error))
}

fn set<V: Pod>(
    map: &mut Array<MapData, V>,
    name: &str,
    index: u32,
    value: V,
) -> Result<(), DataplaneError> {
    map.set(index, value, 0)
        .map_err(|error| DataplaneError::map(name, error))
}

/// A set of limits as the program reads it; one bank's worth.
pub struct Compiled {
    /// The limits, in the configuration's order.
    pub limits: Vec<Limit>,
    /// Masks of limits by protocol.
    pub protocols: Vec<ProtocolLimits>,
    /// Masks of limits by the ports they name.
    pub ports: Vec<u64>,
}

impl Compiled {
    /// Compiles the first [`MAX_LIMITS`] of `configs`.
    pub fn new(configs: &[LimitConfig]) -> Self {
        // Without knowing the tick no limit is left to it.
        let tick_ns = host::tick().map_or(u64::MAX, |tick| {
            u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX)
        });
        let mut compiled = Self {
            limits: Vec::new(),
            protocols: vec![ProtocolLimits::default(); PROTOCOLS_PER_BANK as usize],
            ports: vec![0; PORTS_PER_BANK as usize],
        };
        for (number, config) in configs.iter().enumerate().take(MAX_LIMITS as usize) {
            let bit = 1 << number;
            let exact = !config.rate().can_tick(tick_ns);
            for protocol in protocols(config) {
                if let Some(masks) = compiled.protocols.get_mut(usize::from(protocol)) {
                    masks.all |= bit;
                    if config.ports.is_empty() {
                        masks.portless |= bit;
                    }
                    if config.count == Count::Connections {
                        masks.connections |= bit;
                    }
                    if exact {
                        masks.exact |= bit;
                    }
                    if config.only == Scope::Throttled {
                        masks.throttled |= bit;
                    }
                }
            }
            for port in config.ports.iter().cloned().flatten() {
                if let Some(mask) = compiled.ports.get_mut(usize::from(port)) {
                    *mask |= bit;
                }
            }
            let id = compiled.unused_id(config);
            compiled.limits.push(Limit {
                rate: config.rate(),
                id,
                slot: u8::try_from(number).unwrap_or_default(),
                count: config.count as u8,
                observe: u8::from(config.action == Action::Observe),
                ipv4_prefix: config.ipv4_prefix,
                ipv6_prefix: config.ipv6_prefix,
                padding: [0; 3],
            });
        }
        compiled
    }

    /// Gives every limit a slot: the one it had if it was among those `before`, else one that
    /// none of them had, as long as there are any. Returns the slots that are new to their
    /// limit.
    fn assign_slots(&mut self, before: &[Limit]) -> Vec<u8> {
        let before: Vec<_> = before.iter().filter(|limit| limit.id != 0).collect();
        let kept = |id| {
            before
                .iter()
                .find(|limit| limit.id == id)
                .map(|limit| limit.slot)
        };
        let mut taken: Vec<_> = self
            .limits
            .iter()
            .filter_map(|limit| kept(limit.id))
            .collect();
        let mut fresh = Vec::new();
        for limit in &mut self.limits {
            if let Some(slot) = kept(limit.id) {
                limit.slot = slot;
                continue;
            }
            let was_used = |slot: &u8| before.iter().any(|limit| limit.slot == *slot);
            let mut free = (0..64).filter(|slot| !taken.contains(slot));
            let slot = free
                .clone()
                .find(|slot| !was_used(slot))
                .or_else(|| free.next());
            limit.slot = slot.unwrap_or_default();
            taken.push(limit.slot);
            fresh.push(limit.slot);
        }
        fresh
    }

    /// The scale of each limit, by its slot.
    fn scales(&self) -> Scales {
        let mut scales = Scales::default();
        for limit in &self.limits {
            if let Some(scale) = scales.0.get_mut(usize::from(limit.slot)) {
                *scale = limit.rate.scale;
            }
        }
        scales
    }

    /// An id that the definition alone decides, but for the case that two share it.
    fn unused_id(&self, config: &LimitConfig) -> u64 {
        // What a limit leads to is none of its buckets' business.
        let mut counted = config.clone();
        counted.policy.clear();
        let mut id = u64::from(crc32fast::hash(format!("{counted:?}").as_bytes()));
        while id == 0 || self.limits.iter().any(|limit| limit.id == id) {
            id = id.wrapping_add(1);
        }
        id
    }
}

/// The IP protocols that a limit applies to.
fn protocols(config: &LimitConfig) -> Vec<u8> {
    match config.protocol {
        Protocol::Any if config.count == Count::Connections => vec![TCP],
        Protocol::Any if !config.ports.is_empty() => vec![TCP, UDP],
        Protocol::Any => (0..=u8::MAX).collect(),
        Protocol::Tcp => vec![TCP],
        Protocol::Udp => vec![UDP],
        Protocol::Icmp => vec![ICMP, ICMPV6],
        Protocol::Number(number) => vec![number],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(text: &str) -> Compiled {
        let config = crate::config::parse(text, std::path::Path::new("test.toml")).unwrap();
        Compiled::new(&config.limits)
    }

    #[test]
    fn a_limit_with_ports_is_found_by_protocol_and_port_only() {
        let compiled = compiled(
            r#"
            [[limit]]
            name = "flood"
            rate = "1000/s"
            [[limit]]
            name = "api"
            protocol = "tcp"
            ports = [443, "8000-8010"]
            rate = "60/m"
            "#,
        );
        let tcp = compiled.protocols[usize::from(TCP)];
        assert_eq!((tcp.all, tcp.portless), (0b11, 0b01));
        let udp = compiled.protocols[usize::from(UDP)];
        assert_eq!((udp.all, udp.portless), (0b01, 0b01));
        assert_eq!(compiled.ports[443], 0b10);
        assert_eq!(compiled.ports[8005], 0b10);
        assert_eq!(compiled.ports[8011], 0);
        assert_eq!(compiled.ports[80], 0);
    }

    #[test]
    fn ports_without_a_protocol_mean_tcp_and_udp() {
        let compiled = compiled("[[limit]]\nname = \"dns\"\nports = [53]\nrate = \"10/s\"");
        for (protocol, masks) in compiled.protocols.iter().enumerate() {
            let expected = u64::from(protocol == usize::from(TCP) || protocol == usize::from(UDP));
            assert_eq!(masks.all, expected, "protocol {protocol}");
        }
    }

    #[test]
    fn a_limit_for_throttled_sources_is_marked_as_one() {
        let compiled = compiled(
            "[[limit]]\nname = \"all\"\nrate = \"10/s\"\n\
             [[limit]]\nname = \"slow\"\nrate = \"1/s\"\nprotocol = \"udp\"\nports = [53]\n\
             only = \"throttled\"\n",
        );
        let masks = |protocol: u8| compiled.protocols[usize::from(protocol)];
        assert_eq!((masks(UDP).all, masks(UDP).throttled), (0b11, 0b10));
        assert_eq!((masks(TCP).all, masks(TCP).throttled), (0b01, 0));
    }

    #[test]
    fn windows_of_few_ticks_need_an_exact_clock() {
        let compiled = compiled(
            "[[limit]]\nname = \"short\"\nrate = \"1000/s\"\nburst = 200\n\
             [[limit]]\nname = \"long\"\nrate = \"1000/s\"\nburst = 3000\ncount = \"connections\"",
        );
        let masks = compiled.protocols[usize::from(TCP)];
        assert_eq!((masks.exact, masks.connections), (0b01, 0b10));
    }

    #[test]
    fn a_limit_keeps_its_slot_and_a_new_one_takes_none_that_was_used() {
        let many = |names: std::ops::Range<u32>| {
            names
                .map(|n| format!("[[limit]]\nname = \"n{n}\"\nrate = \"10/s\"\n"))
                .collect::<Vec<_>>()
                .concat()
        };
        let mut first = compiled(&many(0..40));
        assert_eq!(first.assign_slots(&[]).len(), 40);
        let mut second = compiled(&many(30..60));
        let fresh = second.assign_slots(&first.limits);
        assert_eq!(fresh.len(), 20);
        for (kept, before) in second.limits.iter().zip(&first.limits[30..]) {
            assert_eq!((kept.id, kept.slot), (before.id, before.slot));
        }
        let mut slots: Vec<_> = second.limits.iter().map(|limit| limit.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), 30, "no two limits share a slot");
        let unused = |slot: &&u8| first.limits.iter().all(|limit| limit.slot != **slot);
        assert_eq!(fresh.iter().filter(unused).count(), 20);
    }

    #[test]
    fn a_limit_s_id_follows_its_definition_and_not_its_place() {
        let a = "[[limit]]\nname = \"a\"\nrate = \"10/s\"\n";
        let b = "[[limit]]\nname = \"b\"\nrate = \"10/s\"\n";
        let ab = compiled(&format!("{a}{b}"));
        let ba = compiled(&format!("{b}{a}"));
        assert_eq!(ab.limits[0].id, ba.limits[1].id);
        assert_ne!(ab.limits[0].id, ab.limits[1].id);
        let faster = compiled("[[limit]]\nname = \"a\"\nrate = \"20/s\"\n");
        assert_ne!(faster.limits[0].id, ab.limits[0].id);
    }
}
