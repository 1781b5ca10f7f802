//! Limits from the configuration to the maps.
//!
//! The program finds the limits for a packet by two masks, one by protocol and one by
//! destination port, so that a packet pays only for limits that apply to it. The tables
//! exist twice ([`BANKS`]): a new set is written to the bank that is not in use, then the
//! settings word switches to it.

use abuser_common::layout::{
    BANKS, Count, Limit, LimitCounters, MAX_LIMITS, PORTS_PER_BANK, PROTOCOLS_PER_BANK,
    ProtocolLimits, Settings, maps,
};
use abuser_common::packet::{ICMP, ICMPV6, TCP, UDP};
use aya::{
    Ebpf, Pod,
    maps::{Array, MapData, PerCpuArray},
};

use super::{counters::sum_limit_counters, error::DataplaneError, program::take_map};
use crate::config::{Action, LimitConfig, Protocol};

/// A limit as it is in force.
#[derive(Debug, Clone)]
pub struct LoadedLimit {
    /// What it was made from.
    pub config: LimitConfig,
    /// Its id in bucket keys and events.
    pub id: u32,
}

/// The maps that hold limits.
pub struct LimitTables {
    settings: Array<MapData, Settings>,
    protocols: Array<MapData, ProtocolLimits>,
    ports: Array<MapData, u64>,
    limits: Array<MapData, Limit>,
    counters: PerCpuArray<MapData, LimitCounters>,
    loaded: Vec<LoadedLimit>,
    bank: u32,
}

impl LimitTables {
    pub(super) fn open(program: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            settings: take_map(program, maps::SETTINGS)?,
            protocols: take_map(program, maps::PROTOCOLS)?,
            ports: take_map(program, maps::PORTS)?,
            limits: take_map(program, maps::LIMITS)?,
            counters: take_map(program, maps::LIMIT_COUNTERS)?,
            loaded: Vec::new(),
            bank: 0,
        })
    }

    /// The limits in force, in the configuration's order.
    pub fn loaded(&self) -> &[LoadedLimit] {
        &self.loaded
    }

    /// What was counted under each limit, in the same order.
    pub fn counted(&self) -> Result<Vec<LimitCounters>, DataplaneError> {
        let first = self.bank * MAX_LIMITS;
        (first..)
            .take(self.loaded.len())
            .map(|index| counters_at(&self.counters, index))
            .collect()
    }

    /// Puts `limits` in force in place of what was, all at once.
    pub(super) fn apply(
        &mut self,
        limits: &[LimitConfig],
        observe: bool,
    ) -> Result<(), DataplaneError> {
        let in_use = get(&self.settings, maps::SETTINGS, 0)?.bank();
        let bank = (in_use + 1) % BANKS;
        let compiled = Compiled::new(limits);
        for (index, masks) in (bank * PROTOCOLS_PER_BANK..).zip(compiled.protocols) {
            set(&mut self.protocols, maps::PROTOCOLS, index, masks)?;
        }
        for (index, mask) in (bank * PORTS_PER_BANK..).zip(compiled.ports) {
            // Most ports have no limit of their own and never had: reading is cheaper.
            if get(&self.ports, maps::PORTS, index)? != mask {
                set(&mut self.ports, maps::PORTS, index, mask)?;
            }
        }
        let (old, new) = (in_use * MAX_LIMITS, bank * MAX_LIMITS);
        for (index, limit) in (new..).zip(&compiled.limits) {
            set(&mut self.limits, maps::LIMITS, index, *limit)?;
            let counted = self.counted_before(old, limit.id)?;
            self.set_counters(index, counted)?;
        }
        // An index beyond the limits must not find an id of long ago.
        for index in (new..new + MAX_LIMITS).skip(limits.len()) {
            set(&mut self.limits, maps::LIMITS, index, Limit::default())?;
        }
        set(
            &mut self.settings,
            maps::SETTINGS,
            0,
            Settings::new(bank, observe),
        )?;
        self.bank = bank;
        self.loaded = limits
            .iter()
            .zip(compiled.limits)
            .map(|(config, limit)| LoadedLimit {
                config: config.clone(),
                id: limit.id,
            })
            .collect();
        Ok(())
    }

    /// What the limit with this id had counted in the bank that starts at `first`.
    fn counted_before(&self, first: u32, id: u32) -> Result<LimitCounters, DataplaneError> {
        for index in first..first + MAX_LIMITS {
            if get(&self.limits, maps::LIMITS, index)?.id == id {
                return counters_at(&self.counters, index);
            }
        }
        Ok(LimitCounters::default())
    }

    /// Sets a limit's counters on one CPU, and the other CPUs' to zero.
    fn set_counters(&mut self, index: u32, value: LimitCounters) -> Result<(), DataplaneError> {
        let error = |error| DataplaneError::map(maps::LIMIT_COUNTERS, error);
        let cpus = aya::util::nr_cpus().map_err(|(_, source)| error(source.into()))?;
        let mut values = vec![LimitCounters::default(); cpus];
        if let Some(first) = values.first_mut() {
            *first = value;
        }
        let values = values
            .try_into()
            .map_err(|source: std::io::Error| error(source.into()))?;
        self.counters.set(index, values, 0).map_err(error)
    }
}

fn counters_at(
    counters: &PerCpuArray<MapData, LimitCounters>,
    index: u32,
) -> Result<LimitCounters, DataplaneError> {
    let values = counters
        .get(&index, 0)
        .map_err(|error| DataplaneError::map(maps::LIMIT_COUNTERS, error))?;
    Ok(sum_limit_counters(&values))
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
        let mut compiled = Self {
            limits: Vec::new(),
            protocols: vec![ProtocolLimits::default(); PROTOCOLS_PER_BANK as usize],
            ports: vec![0; PORTS_PER_BANK as usize],
        };
        for (number, config) in configs.iter().enumerate().take(MAX_LIMITS as usize) {
            let bit = 1 << number;
            for protocol in protocols(config) {
                if let Some(masks) = compiled.protocols.get_mut(usize::from(protocol)) {
                    masks.all |= bit;
                    if config.ports.is_empty() {
                        masks.portless |= bit;
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
                count: config.count as u8,
                observe: u8::from(config.action == Action::Observe),
                ipv4_prefix: config.ipv4_prefix,
                ipv6_prefix: config.ipv6_prefix,
            });
        }
        compiled
    }

    /// An id that the definition alone decides, but for the case that two share it.
    fn unused_id(&self, config: &LimitConfig) -> u32 {
        let mut id = crc32fast::hash(format!("{config:?}").as_bytes());
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
