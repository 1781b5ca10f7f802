//! The program's counters, summed over CPUs.

use std::{io, ops::AddAssign};

use abuser_common::{
    gate::{EventStats, SourceStats},
    layout::maps,
};
use aya::{
    Ebpf, Pod,
    maps::{MapData, PerCpuArray, PerCpuValues},
};

use super::{error::DataplaneError, outcomes::PacketCounters, program::take_map};

/// The maps that count.
pub struct Counters {
    packets: PacketCounters,
    events: PerCpuArray<MapData, EventStats>,
    sources: PerCpuArray<MapData, SourceStats>,
}

impl Counters {
    pub(super) fn open(program: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            packets: PacketCounters::open(program)?,
            events: take_map(program, maps::EVENT_STATS)?,
            sources: take_map(program, maps::SOURCE_STATS)?,
        })
    }

    /// What became of packets.
    pub fn packets(&self) -> &PacketCounters {
        &self.packets
    }

    /// The same, to be changed.
    pub(super) fn packets_mut(&mut self) -> &mut PacketCounters {
        &mut self.packets
    }

    /// What became of events; `budget_tat` means nothing in a sum and is 0.
    pub fn events(&self) -> Result<EventStats, DataplaneError> {
        let values = self
            .events
            .get(&0, 0)
            .map_err(|error| DataplaneError::map(maps::EVENT_STATS, error))?;
        let mut sum = EventStats::default();
        for EventStats {
            budget_tat: _,
            sent,
            suppressed,
            lost,
        } in values.iter()
        {
            sum.sent += sent;
            sum.suppressed += suppressed;
            sum.lost += lost;
        }
        Ok(sum)
    }

    /// Socket look-ups and evictions; `budget_tat` as for [`Counters::events`].
    pub fn sources(&self) -> Result<SourceStats, DataplaneError> {
        let values = self
            .sources
            .get(&0, 0)
            .map_err(|error| DataplaneError::map(maps::SOURCE_STATS, error))?;
        let mut sum = SourceStats::default();
        for SourceStats {
            budget_tat: _,
            lookups,
            connected,
            evictions,
        } in values.iter()
        {
            sum.lookups += lookups;
            sum.connected += connected;
            sum.evictions += evictions;
        }
        Ok(sum)
    }
}

/// What all CPUs counted.
pub(super) fn sum<V: Pod + AddAssign + Default>(values: &PerCpuValues<V>) -> V {
    let mut sum = V::default();
    for value in values.iter() {
        sum += *value;
    }
    sum
}

/// Writes what is counted to one CPU, and nothing to the others.
pub(super) fn put<V: Pod + Default>(
    map: &mut PerCpuArray<MapData, V>,
    name: &str,
    index: u32,
    value: V,
) -> Result<(), DataplaneError> {
    let error = |error| DataplaneError::map(name, error);
    let cpus = aya::util::nr_cpus().map_err(|(_, source)| error(source.into()))?;
    let mut values = vec![V::default(); cpus];
    if let Some(first) = values.first_mut() {
        *first = value;
    }
    let values = values
        .try_into()
        .map_err(|source: io::Error| error(source.into()))?;
    map.set(index, values, 0).map_err(error)
}
