//! Simulates what effects do to packets that come at a steady pace, with the code that the kernel runs.

use std::{collections::VecDeque, time::Duration};

use shaper_common::{
    MAX_DELAY_NS,
    bottleneck::{Room, Trace, booked, last_opportunity, opportunity_at, opportunity_bytes},
    policy::{self, State},
    random::RandomStreams,
};

use crate::{
    compile::Maps,
    model::{Effects, Policy, PolicyError, as_ns},
};

/// Packets that come one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The number of them.
    pub packets: u32,
    /// The time from one to the next.
    pub interval: Duration,
    /// The length of each on the wire, in bytes.
    pub bytes: u32,
}

/// The fates of simulated packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simulation {
    /// The delays of those that passed, in the order in which they came.
    pub delays: Vec<Duration>,
    /// The number of packets that were lost.
    pub lost: u32,
    /// The number of runs of packets that were lost one after the other.
    pub bursts: u32,
    /// The longest of these runs.
    pub longest_burst: u32,
    /// The number of packets for which the queue had no room.
    pub overflowed: u32,
    /// The number of packets that were sent twice.
    pub duplicated: u32,
    /// The number of packets in which a bit was flipped.
    pub corrupted: u32,
    /// The number of packets that were not delayed.
    pub reordered: u32,
}

impl Effects {
    /// Simulates packets, with random numbers from `seed` unless the effects have one.
    ///
    /// # Errors
    ///
    /// When the kernel could not carry the effects out.
    pub fn simulate(&self, pace: &Pace, seed: u64) -> Result<Simulation, PolicyError> {
        let maps = Policy::always(self.clone()).compile(0, seed, &Default::default())?;
        let Some((schedule, step)) = maps.schedules.first().zip(maps.steps.first()) else {
            let delays = vec![Duration::ZERO; pace.packets as usize];
            return Ok(Simulation { delays, ..Simulation::default() });
        };
        let link = Link { maps: &maps, effects: step.effects, seed: schedule.seed };
        Ok(link.simulate(pace))
    }
}

/// The kernel's maps, with what is the same for all packets.
struct Link<'a> {
    maps: &'a Maps,
    effects: policy::Effects,
    seed: u64,
}

/// The fate of a packet in the queue.
enum Waited {
    Until(u64),
    Overflow,
}

impl Link<'_> {
    fn simulate(&self, pace: &Pace) -> Simulation {
        let (effects, mut state) = (&self.effects, State::default());
        let (mut simulation, mut waiting) = (Simulation::default(), VecDeque::new());
        let mut run = 0;
        for number in 0..u64::from(pace.packets) {
            let now_ns = (number + 1).saturating_mul(as_ns(pace.interval));
            let streams = RandomStreams::new(self.seed, number);
            let is_duplicated = effects.duplicate != 0 && effects.duplicates(&mut state, streams);
            let is_lost = effects.loses(&mut state, number, streams);
            simulation.duplicated += u32::from(is_duplicated && !is_lost);
            if is_lost && !is_duplicated {
                run += 1;
                simulation.lost += 1;
                simulation.bursts += u32::from(run == 1);
                simulation.longest_burst = simulation.longest_burst.max(run);
                continue;
            }
            run = 0;
            simulation.corrupted += u32::from(effects.corrupt != 0 && effects.corrupts(&mut state, streams));
            while waiting.front().is_some_and(|departure_ns| *departure_ns <= now_ns) {
                waiting.pop_front();
            }
            let reorders = effects.reorders(&mut state, streams);
            simulation.reordered += u32::from(reorders);
            match self.departure(&mut state, now_ns, pace.bytes, streams, waiting.len(), reorders) {
                Waited::Overflow => simulation.overflowed += 1,
                Waited::Until(departure_ns) => {
                    waiting.push_back(departure_ns);
                    simulation.delays.push(Duration::from_nanos(departure_ns - now_ns));
                }
            }
        }
        simulation
    }

    /// The departure of a packet, as `shaper-ebpf` finds it.
    fn departure(
        &self,
        state: &mut State,
        now_ns: u64,
        bytes: u32,
        streams: RandomStreams,
        waiting: usize,
        reorders: bool,
    ) -> Waited {
        let effects = &self.effects;
        let Some(carried_ns) = self.carried_ns(state, now_ns, bytes, streams, waiting) else {
            return Waited::Overflow;
        };
        let time = |entry: u32| self.maps.distributions.get(entry as usize).copied().unwrap_or_default();
        let delay_ns = match reorders {
            true => 0,
            false => effects.delay_ns(state, carried_ns, streams, time),
        };
        let mut departure_ns = carried_ns + delay_ns;
        if effects.slots != 0 {
            match effects.slotted_ns(state, (now_ns, departure_ns), bytes, streams, time) {
                Some(slotted_ns) => departure_ns = slotted_ns,
                None => return Waited::Overflow,
            }
        }
        if !reorders && effects.unordered == 0 {
            departure_ns = departure_ns.max(state.departure_ns);
            state.departure_ns = departure_ns;
        }
        Waited::Until(departure_ns)
    }

    /// The time at which the bottleneck has carried a packet; none if its queue is full.
    fn carried_ns(
        &self,
        state: &mut State,
        now_ns: u64,
        bytes: u32,
        streams: RandomStreams,
        waiting: usize,
    ) -> Option<u64> {
        let effects = &self.effects;
        if !effects.has_bottleneck() {
            return Some(now_ns);
        }
        let bytes = effects.wire_bytes(bytes, 1);
        let times_ms = |entry: u32| self.maps.traces.get(entry as usize).copied().unwrap_or_default();
        let (first, length) = (effects.trace, effects.trace_length);
        let trace = Trace::new(0, first, length, times_ms);
        let (next, backlog) = if length == 0 {
            (0, effects.backlog(now_ns, state.bottleneck_free_ns))
        } else {
            let next = trace
                .next(now_ns, |into_ns| opportunity_at(length, into_ns, |number| times_ms(first + number)));
            (next, trace.backlog(state.delivered_bytes, next, now_ns, times_ms))
        };
        let is_behind = |packets: u32| waiting >= packets as usize;
        if backlog.wait_ns > MAX_DELAY_NS || effects.room(backlog, is_behind) == Room::Full {
            return None;
        }
        if length != 0 {
            state.delivered_bytes = booked(state.delivered_bytes, opportunity_bytes(next), bytes);
            return Some(trace.at_ns(last_opportunity(state.delivered_bytes), times_ms));
        }
        if effects.rate == 0 {
            return Some(now_ns);
        }
        let carrying_ns = effects.carrying_ns(bytes, streams);
        state.bottleneck_free_ns = booked(state.bottleneck_free_ns, now_ns, carrying_ns);
        Some(state.bottleneck_free_ns)
    }
}

impl Simulation {
    /// The mean of the delays.
    pub fn mean(&self) -> Duration {
        let count = u32::try_from(self.delays.len()).unwrap_or(u32::MAX).max(1);
        self.delays.iter().sum::<Duration>() / count
    }

    /// The standard deviation of the delays.
    pub fn deviation(&self) -> Duration {
        let mean = self.mean().as_secs_f64();
        let squares = self.delays.iter().map(|delay| (delay.as_secs_f64() - mean).powi(2)).sum::<f64>();
        let count = u32::try_from(self.delays.len()).unwrap_or(u32::MAX).max(1);
        Duration::from_secs_f64((squares / f64::from(count)).sqrt())
    }

    /// The delay that so many of a thousand packets do not exceed; nothing if none passed.
    pub fn per_mille(&self, share: usize) -> Duration {
        let mut sorted = self.delays.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * share).div_ceil(1_000).saturating_sub(1);
        sorted.get(place).copied().unwrap_or_default()
    }

    /// The number of delays in each of so many ranges alike wide, with the end of each, from the least to the greatest.
    pub fn histogram(&self, ranges: u32) -> Vec<(Duration, u32)> {
        let (Some(least), Some(greatest)) = (self.delays.iter().min(), self.delays.iter().max()) else {
            return Vec::new();
        };
        let width_ns = as_ns(*greatest - *least).div_ceil(ranges.into()).max(1);
        let mut counts = vec![0; ranges as usize];
        for delay in &self.delays {
            let place = as_ns(*delay - *least) / width_ns;
            let place = usize::try_from(place).unwrap_or(usize::MAX).min(counts.len() - 1);
            counts[place] += 1;
        }
        let end = |place: u64| *least + Duration::from_nanos(width_ns.saturating_mul(place + 1));
        (0..).zip(counts).map(|(place, count)| (end(place), count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::effects;

    fn simulated(words: &str, interval_us: u64) -> Simulation {
        let pace = Pace { packets: 20_000, interval: Duration::from_micros(interval_us), bytes: 1_000 };
        effects(words).simulate(&pace, 7).expect("it can be carried out")
    }

    fn is_near(value: f64, expected: f64, share: f64) {
        assert!((value - expected).abs() <= expected * share, "{value} is not about {expected}");
    }

    #[test]
    fn delays_are_as_their_distribution_says() {
        let plain = simulated("delay 100ms", 1_000);
        assert_eq!((plain.mean(), plain.deviation()), (Duration::from_millis(100), Duration::ZERO));
        let normal = simulated("delay 100ms 10ms distribution normal reordering", 1_000);
        is_near(normal.mean().as_secs_f64(), 0.1, 0.01);
        is_near(normal.deviation().as_secs_f64(), 0.01, 0.03);
        is_near(normal.per_mille(500).as_secs_f64(), 0.1, 0.01);
        assert_eq!(normal.histogram(8).iter().map(|(_, count)| count).sum::<u32>(), 20_000);
    }

    #[test]
    fn losses_are_as_many_and_as_long_as_the_model_says() {
        let random = simulated("loss 5%", 1_000);
        is_near(f64::from(random.lost), 1_000.0, 0.1);
        let bursts = simulated("loss gemodel 1% 10%", 1_000);
        is_near(f64::from(bursts.lost), 20_000.0 / 11.0, 0.15);
        is_near(f64::from(bursts.lost) / f64::from(bursts.bursts), 10.0, 0.15);
        assert_eq!(simulated("loss every 4", 1_000).lost, 5_000);
    }

    #[test]
    fn a_queue_that_is_full_has_no_room() {
        // Twice as much as it carries: half of it has to go.
        let full = simulated("rate 4mbit queue 20ms", 1_000);
        is_near(f64::from(full.overflowed), 10_000.0, 0.02);
        is_near(full.per_mille(500).as_secs_f64(), 0.022, 0.1);
        let few = simulated("rate 4mbit limit 5", 1_000);
        is_near(few.per_mille(990).as_secs_f64(), 0.010, 0.2);
        assert_eq!(simulated("rate 80mbit", 1_000).per_mille(1_000), Duration::from_micros(100));
    }

    #[test]
    fn other_effects_are_counted() {
        let all = simulated("delay 10ms reorder 25% duplicate 1% corrupt 2%", 1_000);
        for (count, expected) in [(all.reordered, 5_000.0), (all.duplicated, 200.0), (all.corrupted, 400.0)] {
            is_near(f64::from(count), expected, 0.2);
        }
        assert_eq!(simulated("", 1_000).mean(), Duration::ZERO);
        let slots = simulated("slot 10ms", 1_000);
        is_near(slots.mean().as_secs_f64(), 0.005, 0.3);
    }
}
