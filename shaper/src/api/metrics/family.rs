//! Families of metrics, and how their samples are written.

use std::fmt;

use prometheus_client::{
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet,
    },
    metrics::MetricType,
};

/// A family: samples of one name, with the unit in it.
pub(super) struct Family {
    /// The name, without what the type adds to it: `_total` or `_info`.
    name: &'static str,
    help: &'static str,
    kind: MetricType,
}

impl Family {
    /// A count of something that happened, since the beginning.
    pub(super) const fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricType::Counter }
    }

    /// A state that can rise and fall.
    pub(super) const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricType::Gauge }
    }

    /// Text, in labels.
    pub(super) const fn info(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricType::Info }
    }

    /// Counts by classes of a quantity.
    pub(super) const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricType::Histogram }
    }

    /// Writes the name, the type and the help text; the samples follow.
    fn describe<'a>(
        &'a self,
        encoder: &'a mut DescriptorEncoder<'_>,
    ) -> Result<MetricEncoder<'a>, fmt::Error> {
        encoder.encode_descriptor(self.name, self.help, None, self.kind)
    }

    /// Writes counters.
    pub(super) fn counts<L: EncodeLabelSet, N: EncodeCounterValue>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        samples: impl IntoIterator<Item = (L, N)>,
    ) -> fmt::Result {
        let mut family = self.describe(encoder)?;
        samples.into_iter().try_for_each(|(labels, count)| {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, N, f64>(&count, None)
        })
    }

    /// Writes gauges.
    pub(super) fn levels<L: EncodeLabelSet, N: EncodeGaugeValue>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        samples: impl IntoIterator<Item = (L, N)>,
    ) -> fmt::Result {
        let mut family = self.describe(encoder)?;
        samples
            .into_iter()
            .try_for_each(|(labels, level)| family.encode_family(&labels)?.encode_gauge(&level))
    }

    /// Writes one gauge, without labels.
    pub(super) fn level(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        level: impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.describe(encoder)?.encode_gauge(&level)
    }

    /// Writes one histogram, without labels: the sum and the number of all, and the number in each class by its upper bound.
    pub(super) fn distribution(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        sum: f64,
        count: u64,
        classes: &[(f64, u64)],
    ) -> fmt::Result {
        self.describe(encoder)?.encode_histogram::<NoLabelSet>(sum, count, classes, None)
    }

    /// Writes texts.
    pub(super) fn texts<L: EncodeLabelSet>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        samples: impl IntoIterator<Item = L>,
    ) -> fmt::Result {
        let mut family = self.describe(encoder)?;
        samples.into_iter().try_for_each(|labels| family.encode_info(&labels))
    }
}
