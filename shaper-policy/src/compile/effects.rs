//! Effects as the kernel reads them.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use shaper_common::{
    ORPHAN_FROM_NS,
    policy::{Effects as Map, LOSS_EVERY, LOSS_GEMODEL, LOSS_MARKOV, LOSS_RANDOM},
};

use crate::model::{
    Bottleneck, Bounds, Chance, Corruption, Delay, Distribution, Effects, LossModel, Losses, Percent,
    Reordering, Slot, SlotTime, Trace, as_ns,
};

/// The default queue of a bottleneck, in bytes: 1000 full packets, as many as netem has room for.
const DEFAULT_QUEUE_BYTES: u64 = 1_514_000;

/// The entries of all distributions and delivery traces, each once.
#[derive(Debug, Default)]
pub struct Tables {
    /// The entries of distributions.
    pub distributions: Vec<i32>,
    /// The entries of delivery traces, in milliseconds.
    pub traces: Vec<u32>,
    known_distributions: HashMap<Arc<[i32]>, u32>,
    known_traces: HashMap<Arc<[u32]>, u32>,
}

impl Tables {
    /// The first entry of a distribution and how many it has; none for a uniform one.
    fn distribution(&mut self, distribution: &Distribution) -> (u32, u32) {
        distribution
            .table()
            .map_or((0, 0), |table| place(&mut self.distributions, &mut self.known_distributions, &table))
    }

    fn trace(&mut self, trace: &Trace) -> (u32, u32) {
        place(&mut self.traces, &mut self.known_traces, &trace.times_ms)
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
    /// Returns them as the kernel reads them, with the entries that they need in `tables`.
    pub fn to_map(&self, tables: &mut Tables) -> Map {
        let mut map = Map::default();
        self.put_delay(&mut map, tables);
        self.put_loss(&mut map);
        self.put_chances(&mut map);
        self.put_bottleneck(&mut map, tables);
        self.put_slot(&mut map, tables);
        let waits_long = map.delay_ns + map.jitter_ns >= ORPHAN_FROM_NS;
        map.orphan = u32::from(waits_long || self.bottleneck.is_some() || self.slot.is_some());
        map
    }

    fn put_delay(&self, map: &mut Map, tables: &mut Tables) {
        let Some(Delay { time, jitter }) = &self.delay else { return };
        map.delay_ns = as_ns(*time);
        let Some(jitter) = jitter else { return };
        map.jitter_ns = as_ns(jitter.spread);
        map.jitter_correlation = jitter.correlation.correlation();
        map.unordered = u32::from(jitter.reorders);
        (map.distribution, map.distribution_length) = tables.distribution(&jitter.distribution);
    }

    fn put_loss(&self, map: &mut Map) {
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

    fn put_chances(&self, map: &mut Map) {
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

    fn put_bottleneck(&self, map: &mut Map, tables: &mut Tables) {
        match &self.bottleneck {
            None => {}
            Some(Bottleneck::Trace(trace)) => (map.trace, map.trace_length) = tables.trace(trace),
            Some(Bottleneck::Rate { rate, overhead, cell_bytes, cell_overhead }) => {
                map.rate = rate.bytes_per_second();
                (map.overhead, map.cell_bytes, map.cell_overhead) = (*overhead, *cell_bytes, *cell_overhead);
            }
        }
        if self.needs_queue() {
            (map.queue_ns, map.queue_bytes, map.queue_packets) = self.queue.to_map();
            (map.mark_ns, map.mark_bytes, map.mark_packets) = self.mark.to_map();
        }
        if self.bottleneck.is_some() && self.queue == Bounds::default() {
            map.queue_bytes = DEFAULT_QUEUE_BYTES;
        }
    }

    fn put_slot(&self, map: &mut Map, tables: &mut Tables) {
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

/// Takes from the other what says how something is done that is not done here.
pub(super) fn borrow(effects: &mut Map, other: &Map) {
    if effects.jitter_ns == 0 {
        effects.distribution = other.distribution;
        effects.distribution_length = other.distribution_length;
        effects.jitter_correlation = other.jitter_correlation;
        effects.unordered = other.unordered;
    }
    if effects.duplicate == 0 {
        effects.duplicate_correlation = other.duplicate_correlation;
    }
    if effects.corrupt == 0 {
        effects.corrupt_correlation = other.corrupt_correlation;
        effects.corrupt_fixes_checksums = other.corrupt_fixes_checksums;
    }
    if effects.reorder == 0 {
        effects.reorder_correlation = other.reorder_correlation;
        effects.reorder_gap = other.reorder_gap;
    }
}

/// Names a difference that no ramp can bridge.
pub(super) fn differing(from: &Map, to: &Map) -> &'static str {
    let what = |differs: bool, what: &'static str| differs.then_some(what);
    let jitter = |it: &Map| (it.distribution, it.distribution_length, it.jitter_correlation);
    let cells = |it: &Map| (it.overhead, it.cell_bytes, it.cell_overhead);
    let slot = |it: &Map| (it.slots, it.slot_ns, it.slot_jitter_ns, it.slot_packets, it.slot_bytes);
    let slot_table = |it: &Map| (it.slot_distribution, it.slot_distribution_length);
    [
        what(jitter(from) != jitter(to), "the jitter's distribution or correlation"),
        what(from.unordered != to.unordered, "reordering"),
        what(from.loss_ecn != to.loss_ecn, "ecn"),
        what(from.duplicate_correlation != to.duplicate_correlation, "duplicate's correlation"),
        what(from.corrupt_correlation != to.corrupt_correlation, "corrupt's correlation"),
        what(from.corrupt_fixes_checksums != to.corrupt_fixes_checksums, "corrupt's `fixed`"),
        what(from.reorder_correlation != to.reorder_correlation, "reorder's correlation"),
        what(from.reorder_gap != to.reorder_gap, "reorder's gap"),
        what(cells(from) != cells(to), "the rate's overhead"),
        what(slot(from) != slot(to) || slot_table(from) != slot_table(to), "slot"),
    ]
    .into_iter()
    .flatten()
    .next()
    .unwrap_or("it")
}

#[cfg(test)]
mod tests {
    use shaper_common::policy::{LOSS_EVERY, LOSS_GEMODEL, LOSS_MARKOV, LOSS_RANDOM};

    use super::*;
    use crate::samples::effects;

    fn map(words: &str) -> Map {
        effects(words).to_map(&mut Tables::default())
    }

    /// A share of 2^32 as the map has probabilities.
    fn share(of: f64) -> u32 {
        Percent::new(of * 100.0, "share").expect("in range").probability()
    }

    #[test]
    fn the_map_has_a_delay_with_its_distribution_once() {
        let mut tables = Tables::default();
        let wifi = effects("delay 100ms 20ms 25% distribution wifi").to_map(&mut tables);
        let slots = effects("slot distribution normal 5ms 1ms").to_map(&mut tables);
        let again = effects("delay 1us 2us distribution wifi reordering").to_map(&mut tables);
        assert_eq!((wifi.delay_ns, wifi.jitter_ns), (100_000_000, 20_000_000));
        assert_eq!((wifi.jitter_correlation, wifi.unordered, wifi.orphan), (1 << 30, 0, 1));
        assert_eq!((wifi.distribution, wifi.distribution_length), (0, 3));
        assert_eq!(
            (again.distribution, again.distribution_length, again.unordered, again.orphan),
            (0, 3, 1, 0)
        );
        assert_eq!((slots.slots, slots.slot_distribution), (1, 3));
        assert_eq!(tables.distributions.len(), 3 + slots.slot_distribution_length as usize);
    }

    #[test]
    fn the_map_has_each_loss_model() {
        let partition = map("partition ecn");
        assert_eq!((partition.loss_model, partition.loss[0], partition.loss_ecn), (LOSS_RANDOM, u32::MAX, 1));
        let correlated = map("loss 10% 25%");
        assert_eq!(correlated.loss, [share(0.1), 1 << 30, 0, 0, 0]);
        let gemodel = map("loss gemodel 1% 10%");
        assert_eq!(gemodel.loss_model, LOSS_GEMODEL);
        assert_eq!(gemodel.loss, [share(0.01), share(0.1), u32::MAX, 0, 0]);
        let state = map("loss state 1%");
        assert_eq!(state.loss_model, LOSS_MARKOV);
        assert_eq!(state.loss, [share(0.01), share(0.99), 0, u32::MAX, 0]);
        let every = map("loss every 7");
        assert_eq!((every.loss_model, every.loss[0]), (LOSS_EVERY, 7));
    }

    #[test]
    fn the_map_has_the_rest() {
        let chances = map("delay 10ms duplicate 1% 2% corrupt 3% 4% fixed reorder 5% 6% gap 7");
        assert_eq!(
            (chances.duplicate, chances.corrupt, chances.reorder),
            (share(0.01), share(0.03), share(0.05))
        );
        assert_eq!((chances.corrupt_fixes_checksums, chances.reorder_gap), (1, 7));
        let rate = map("rate 8mbit -4 48 5 queue 100ms 64kb 50packets mark 50ms 32kb 10packets");
        assert_eq!((rate.rate, rate.overhead, rate.cell_bytes, rate.cell_overhead), (1_000_000, -4, 48, 5));
        assert_eq!((rate.queue_ns, rate.queue_bytes, rate.queue_packets), (100_000_000, 65_536, 50));
        assert_eq!((rate.mark_ns, rate.mark_bytes, rate.mark_packets), (50_000_000, 32_768, 10));
        assert_eq!(rate.orphan, 1);
        let trace = map("trace lte");
        assert_eq!((trace.trace, trace.trace_length, trace.rate), (0, 4, 0));
        let slot = map("slot 1ms 3ms packets 5 bytes 1k");
        assert_eq!((slot.slots, slot.slot_ns, slot.slot_jitter_ns), (1, 1_000_000, 2_000_000));
        assert_eq!((slot.slot_packets, slot.slot_bytes), (5, 1024));
        let uniform = map("slot distribution uniform 3ms 1ms");
        assert_eq!((uniform.slot_ns, uniform.slot_jitter_ns), (2_000_000, 2_000_000));
    }

    #[test]
    fn a_bottleneck_has_room_for_a_thousand_full_packets_unless_it_is_told() {
        assert_eq!(map("rate 1mbit").queue_bytes, 1_514_000);
        assert_eq!(map("trace lte mark 10ms").queue_bytes, 1_514_000);
        assert_eq!(map("rate 1mbit limit 10").queue_bytes, 0);
        assert_eq!(map("rate 1mbit queue 10ms").queue_bytes, 0);
        assert_eq!(map("delay 1ms").queue_bytes, 0);
    }
}
