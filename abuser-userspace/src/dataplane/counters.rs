//! The program's counters, summed over CPUs.

use abuser_common::{
    gate::{EventStats, SourceStats},
    layout::{LimitCounters, Outcome, Traffic, maps},
};
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, PerCpuValues},
};

use super::{error::DataplaneError, program::take_map};

/// The maps that count.
pub struct Counters {
    outcomes: PerCpuArray<MapData, Traffic>,
    events: PerCpuArray<MapData, EventStats>,
    sources: PerCpuArray<MapData, SourceStats>,
}

impl Counters {
    pub(super) fn open(program: &mut Ebpf) -> Result<Self, DataplaneError> {
        Ok(Self {
            outcomes: take_map(program, maps::OUTCOMES)?,
            events: take_map(program, maps::EVENT_STATS)?,
            sources: take_map(program, maps::SOURCE_STATS)?,
        })
    }

    /// Packets and bytes by what became of them.
    pub fn outcomes(&self) -> Result<Vec<(Outcome, Traffic)>, DataplaneError> {
        Outcome::ALL
            .into_iter()
            .map(|outcome| {
                let values = self
                    .outcomes
                    .get(&(outcome as u32), 0)
                    .map_err(|error| DataplaneError::map(maps::OUTCOMES, error))?;
                let mut sum = Traffic::default();
                for Traffic { packets, bytes } in values.iter() {
                    sum.packets += packets;
                    sum.bytes += bytes;
                }
                Ok((outcome, sum))
            })
            .collect()
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

/// One limit's counters, summed over CPUs.
pub(super) fn sum_limit_counters(values: &PerCpuValues<LimitCounters>) -> LimitCounters {
    let mut sum = LimitCounters::default();
    for LimitCounters {
        passed,
        dropped,
        observed,
        allowed,
        contended,
    } in values.iter()
    {
        sum.passed += passed;
        sum.dropped += dropped;
        sum.observed += observed;
        sum.allowed += allowed;
        sum.contended += contended;
    }
    sum
}
