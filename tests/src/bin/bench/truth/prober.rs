//! Datagrams from the containers to the host, timed one by one.

use std::time::Duration;

use anyhow::Result;
use shaper_tests::{
    ms,
    statistics::{float, mean},
    traffic::{Arrival, Datagrams, datagrams, out_of_order},
    world::Container,
};

use crate::containers::{Containers, Direction};

/// The bytes on the wire of packets for bottlenecks: one takes a millisecond at 8 Mbit/s.
pub(super) const WIRE_BYTES: usize = 1_000;

/// The containers, and the time that a datagram takes to the host when nothing is in its way.
pub(super) struct Prober<'a> {
    pub(super) bench: &'a Containers,
    bare_ms: f64,
}

impl<'a> Prober<'a> {
    pub(super) fn new(bench: &'a Containers) -> Result<Self> {
        let mut prober = Self { bench, bare_ms: 0.0 };
        prober.bare_ms = mean(&prober.delays_ms(&prober.arrivals(&bench.bare, steadily(1_000, ms(1)))?));
        Ok(prober)
    }

    /// Has both do the same of netem's words, and shaper `more` of them; measures netem's container, then ours.
    pub(super) fn alike<T>(
        &self,
        words: &str,
        more: &str,
        measure: impl Fn(&Container) -> Result<T>,
    ) -> Result<[T; 2]> {
        self.bench.shape_alike(words, more)?;
        let measured = [measure(&self.bench.netem)?, measure(&self.bench.web)?];
        self.bench.clear(Direction::Egress)?;
        Ok(measured)
    }

    /// Sends datagrams from a container to the host; returns those that arrived until none did for two seconds.
    pub(super) fn arrivals(&self, from: &Container, sent: Datagrams) -> Result<Vec<Arrival>> {
        datagrams(&from.netns, self.bench.world.host(), from.host_address.into(), sent, ms(2_000))
    }

    /// Returns the delays of datagrams in the order in which they were sent, without the time that they take anyway.
    pub(super) fn delays_ms(&self, arrivals: &[Arrival]) -> Vec<f64> {
        let mut in_order: Vec<_> = arrivals.iter().collect();
        in_order.sort_by_key(|arrival| arrival.number);
        in_order.iter().map(|arrival| arrival.took().as_secs_f64() * 1e3 - self.bare_ms).collect()
    }
}

/// Datagrams of 100 bytes, one each `interval`.
pub(super) const fn steadily(count: u32, interval: Duration) -> Datagrams {
    Datagrams { interval, ..Datagrams::at_once(count, 100) }
}

/// Returns the share of datagrams that arrived after one that was sent later.
pub(super) fn late(arrivals: &[Arrival]) -> f64 {
    let numbers: Vec<_> = arrivals.iter().map(|arrival| arrival.number).collect();
    float(out_of_order(&numbers) as u64) / float(numbers.len() as u64)
}
