//! Effects as the kernel reads them.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use shaper_common::{
    ORPHAN_FROM_NS,
    plan::{LOSS_EVERY, LOSS_GEMODEL, LOSS_MARKOV, LOSS_RANDOM},
};

use super::*;
use crate::shaping::units::as_ns;

/// What waits for a link if nobody says how much may, in bytes: 1000 full packets, as many as netem has room for.
const DEFAULT_QUEUE_BYTES: u64 = 1_514_000;

/// The entries of all distributions and delivery traces, each once.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// Those of distributions.
    pub(crate) distributions: Vec<i32>,
    /// Those of delivery traces, in milliseconds.
    pub(crate) deliveries: Vec<u32>,
    known_distributions: HashMap<Arc<[i32]>, u32>,
    known_deliveries: HashMap<Arc<[u32]>, u32>,
}

impl Tables {
    /// The first entry of a distribution and how many it has; none for a uniform one.
    fn distribution(&mut self, distribution: &Distribution) -> (u32, u32) {
        distribution
            .table()
            .map_or((0, 0), |table| place(&mut self.distributions, &mut self.known_distributions, &table))
    }

    fn deliveries(&mut self, deliveries: &Deliveries) -> (u32, u32) {
        place(&mut self.deliveries, &mut self.known_deliveries, &deliveries.times_ms)
    }
}

/// Where a table's entries are among `all`, and how many they are; they are added if they are not there.
fn place<T: Copy + Eq + Hash>(
    all: &mut Vec<T>,
    known: &mut HashMap<Arc<[T]>, u32>,
    table: &Arc<[T]>,
) -> (u32, u32) {
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let first = *known.entry(table.clone()).or_insert_with(|| {
        let first = number(all.len());
        all.extend_from_slice(table);
        first
    });
    (first, number(table.len()))
}

impl Effects {
    /// As the kernel reads them, with the entries that they need in `tables`.
    pub(crate) fn to_map(&self, tables: &mut Tables) -> shaper_common::plan::Effects {
        let mut map = shaper_common::plan::Effects::default();
        self.put_delay(&mut map, tables);
        self.put_loss(&mut map);
        self.put_chances(&mut map);
        self.put_link(&mut map, tables);
        self.put_slot(&mut map, tables);
        let waits_long = map.delay_ns + map.jitter_ns >= ORPHAN_FROM_NS;
        map.orphan = u32::from(waits_long || self.link.is_some() || self.slot.is_some());
        map
    }

    fn put_delay(&self, map: &mut shaper_common::plan::Effects, tables: &mut Tables) {
        let Some(Delay { time, jitter }) = &self.delay else { return };
        map.delay_ns = as_ns(*time);
        let Some(jitter) = jitter else { return };
        map.jitter_ns = as_ns(jitter.spread);
        map.jitter_correlation = jitter.correlation.correlation();
        map.unordered = u32::from(jitter.reorders);
        (map.distribution, map.distribution_length) = tables.distribution(&jitter.distribution);
    }

    fn put_loss(&self, map: &mut shaper_common::plan::Effects) {
        let Some(Losses { model, ecn }) = self.loss else { return };
        map.loss_ecn = u32::from(ecn);
        let mut put = |model, values: &[u32]| {
            map.loss_model = model;
            map.loss[..values.len()].copy_from_slice(values);
        };
        match model {
            LossModel::Random(Chance { probability, correlation }) => {
                put(LOSS_RANDOM, &[probability.probability(), correlation.correlation()]);
            }
            LossModel::Gemodel(values) => put(LOSS_GEMODEL, &values.map(Percent::probability)),
            LossModel::State(values) => put(LOSS_MARKOV, &values.map(Percent::probability)),
            LossModel::Every(number) => put(LOSS_EVERY, &[number]),
        }
    }

    fn put_chances(&self, map: &mut shaper_common::plan::Effects) {
        let parts = |chance: Chance| (chance.probability.probability(), chance.correlation.correlation());
        if let Some(chance) = self.duplicate {
            (map.duplicate, map.duplicate_correlation) = parts(chance);
        }
        if let Some(Corruption { chance, fixed }) = self.corrupt {
            (map.corrupt, map.corrupt_correlation) = parts(chance);
            map.corrupt_fixes_checksums = u32::from(fixed);
        }
        if let Some(Reordering { chance, gap }) = self.reorder {
            (map.reorder, map.reorder_correlation) = parts(chance);
            map.reorder_gap = gap;
        }
    }

    fn put_link(&self, map: &mut shaper_common::plan::Effects, tables: &mut Tables) {
        match &self.link {
            None => {}
            Some(Link::Trace(trace)) => (map.deliveries, map.deliveries_length) = tables.deliveries(trace),
            Some(Link::Rate { rate, overhead, cell_bytes, cell_overhead }) => {
                map.rate = rate.bytes_per_second();
                (map.overhead, map.cell_bytes, map.cell_overhead) = (*overhead, *cell_bytes, *cell_overhead);
            }
        }
        if self.needs_queue() {
            (map.queue_ns, map.queue_bytes, map.queue_packets) = self.queue.to_map();
            (map.mark_ns, map.mark_bytes, map.mark_packets) = self.mark.to_map();
        }
        if self.link.is_some() && self.queue == Bounds::default() {
            map.queue_bytes = DEFAULT_QUEUE_BYTES;
        }
    }

    fn put_slot(&self, map: &mut shaper_common::plan::Effects, tables: &mut Tables) {
        let Some(Slot { opens, packets, bytes }) = &self.slot else { return };
        (map.slots, map.slot_packets, map.slot_bytes) = (1, *packets, *bytes);
        (map.slot_ns, map.slot_jitter_ns) = match opens {
            SlotTime::Between(least, most) => (as_ns(*least), as_ns(*most - *least)),
            // Without a table, the kernel adds up to the jitter to the least.
            SlotTime::About { distribution: Distribution::Uniform, mean, spread } => {
                (as_ns(mean.saturating_sub(*spread)), 2 * as_ns(*spread))
            }
            SlotTime::About { distribution, mean, spread } => {
                (map.slot_distribution, map.slot_distribution_length) = tables.distribution(distribution);
                (as_ns(*mean), as_ns(*spread))
            }
        };
    }
}

impl Bounds {
    /// Nanoseconds, bytes and packets; 0 is no bound.
    fn to_map(self) -> (u64, u64, u32) {
        (self.time.map_or(0, as_ns), self.bytes.map_or(0, u64::from), self.packets.unwrap_or(0))
    }
}
