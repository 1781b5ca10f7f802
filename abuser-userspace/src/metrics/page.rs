//! How a family of samples is written: its name, what it is, and a sample for each set of labels.

use std::fmt;

use prometheus_client::{
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
    },
    metrics::{MetricType, exemplar::Exemplar},
    registry::Unit,
};

/// What families are written to.
#[derive(Debug)]
pub(super) struct Page<'p>(DescriptorEncoder<'p>);

/// What tells the samples of a family apart.
pub(super) type Labels<'l, const N: usize> = [(&'static str, &'l str); N];

/// A family's name, without the prefix, the unit and `_total`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    name: &'static str,
    unit: Option<&'static Unit>,
    help: &'static str,
}

impl Family {
    /// One that has no unit.
    pub(super) const fn new(name: &'static str, help: &'static str) -> Self {
        let unit = None;
        Self { name, unit, help }
    }

    /// One of bytes.
    pub(super) const fn bytes(name: &'static str, help: &'static str) -> Self {
        let unit = Some(&Unit::Bytes);
        Self { name, unit, help }
    }

    /// One of seconds.
    pub(super) const fn seconds(name: &'static str, help: &'static str) -> Self {
        let unit = Some(&Unit::Seconds);
        Self { name, unit, help }
    }
}

impl<'p> Page<'p> {
    pub(super) fn new(encoder: DescriptorEncoder<'p>) -> Self {
        Self(encoder)
    }

    /// Counters, which only grow, or begin at zero again, as with an interface that comes back.
    pub(super) fn counters<'l, const N: usize, V: EncodeCounterValue>(
        &mut self,
        Family { name, unit, help }: Family,
        samples: impl IntoIterator<Item = (Labels<'l, N>, V)>,
    ) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Counter)?;
        for (labels, value) in samples {
            metric
                .encode_family(&labels)?
                .encode_counter(&value, NO_EXEMPLAR)?;
        }
        Ok(())
    }

    /// Gauges, which are as they are.
    pub(super) fn gauges<'l, const N: usize, V: EncodeGaugeValue>(
        &mut self,
        Family { name, unit, help }: Family,
        samples: impl IntoIterator<Item = (Labels<'l, N>, V)>,
    ) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in samples {
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A counter that there is one of.
    pub(super) fn counter(
        &mut self,
        family: Family,
        value: impl EncodeCounterValue + Copy,
    ) -> fmt::Result {
        let Family { name, unit, help } = family;
        self.0
            .encode_descriptor(name, help, unit, MetricType::Counter)?
            .encode_counter(&value, NO_EXEMPLAR)
    }

    /// A gauge that there is one of.
    pub(super) fn gauge(
        &mut self,
        family: Family,
        value: impl EncodeGaugeValue + Copy,
    ) -> fmt::Result {
        let Family { name, unit, help } = family;
        self.0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?
            .encode_gauge(&value)
    }

    /// What is only told by its labels.
    pub(super) fn info(
        &mut self,
        Family { name, unit, help }: Family,
        labels: &impl EncodeLabelSet,
    ) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, unit, MetricType::Info)?
            .encode_info(labels)
    }
}

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;

/// Seconds since the epoch of a time as the API tells it.
pub(super) fn timestamp(text: &str) -> Option<f64> {
    let time = humantime::parse_rfc3339(text).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since.as_secs_f64())
}
