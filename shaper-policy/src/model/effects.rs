//! The effects on packets: netem's, and some of our own.
//!
//! Knows nothing of time and targets, which are a policy's.

use std::time::Duration;

use shaper_common::policy::MAX_QUEUE_PACKETS;

use super::{
    bounded::{Latency, Loss},
    distribution::Distribution,
    error::PolicyError,
    trace::Trace,
    units::{Percent, Rate},
};

/// The effects on packets at one time; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The delay.
    pub delay: Option<Delay>,
    /// The loss.
    pub loss: Option<Losses>,
    /// Duplication.
    pub duplicate: Option<Chance>,
    /// Corruption: one bit is flipped.
    pub corrupt: Option<Corruption>,
    /// Reordering: some packets overtake those that wait.
    pub reorder: Option<Reordering>,
    /// The bottleneck that they pass.
    pub bottleneck: Option<Bottleneck>,
    /// The bounds of the queue.
    pub queue: Bounds,
    /// The bounds of the queue beyond which packets are marked (ECN).
    pub mark: Bounds,
    /// The slots in which they depart in bursts.
    pub slot: Option<Slot>,
    /// The seed of random numbers; the policy's if none.
    pub seed: Option<u64>,
}

/// The delay of packets. Never nothing: without jitter the time is more than zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delay {
    /// The time, or its mean; at most five minutes.
    pub time: Duration,
    /// By how much it differs.
    pub jitter: Option<Jitter>,
}

/// By how much a delay differs from packet to packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jitter {
    /// The standard deviation, or half the width of a uniform one: more than zero, at most five minutes.
    pub spread: Duration,
    /// The correlation with the packet before.
    pub correlation: Percent,
    /// The distribution.
    pub distribution: Distribution,
    /// True if it may reorder packets.
    pub reorders: bool,
}

/// Something that happens to a packet now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance {
    /// The probability: more than zero.
    pub probability: Percent,
    /// The correlation with the packet before.
    pub correlation: Percent,
}

/// The loss of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Losses {
    /// The loss model.
    pub model: LossModel,
    /// True if packets that can be marked (ECN) are marked instead.
    pub ecn: bool,
}

/// The model by which lost packets are chosen; each loses some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossModel {
    /// By chance.
    Random(Chance),
    /// Gilbert-Elliott: p, r, 1-h and 1-k.
    Gemodel([Percent; 4]),
    /// Four states: p13, p31, p32, p23 and p14.
    State([Percent; 5]),
    /// Every n-th packet.
    Every(u32),
}

/// The corruption of packets: one bit is flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The probability.
    pub chance: Chance,
    /// True if checksums are corrected, so that the receiver cannot tell.
    pub fixed: bool,
}

/// The reordering of packets: some are not delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reordering {
    /// The probability.
    pub chance: Chance,
    /// The distance in packets between those that may be: at least 1.
    pub gap: u32,
}

/// The limit on the throughput.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bottleneck {
    /// So much in a time.
    Rate {
        /// The rate.
        rate: Rate,
        /// Bytes that it adds to each packet.
        overhead: i32,
        /// The bytes of packets that one cell carries; 0 without cells.
        cell_bytes: u32,
        /// Bytes that it adds to each cell.
        cell_overhead: i32,
    },
    /// Whenever the trace says.
    Trace(Trace),
}

/// The bounds of a queue, in up to three ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The longest time; more than zero, at most five minutes.
    pub time: Option<Duration>,
    /// The most bytes; more than zero.
    pub bytes: Option<u32>,
    /// The most packets; more than zero, at most [`MAX_QUEUE_PACKETS`].
    pub packets: Option<u32>,
}

/// When packets depart in bursts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The time from one slot to the next.
    pub opens: SlotTime,
    /// The most packets that pass in one; 0 is no limit.
    pub packets: u32,
    /// The most bytes that pass in one; 0 is no limit.
    pub bytes: u32,
}

/// The time from one slot to the next; at most five minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotTime {
    /// From the first to the second, alike often.
    Between(Duration, Duration),
    /// About a mean, with a spread that is more than zero.
    About {
        /// The shape.
        distribution: Distribution,
        /// The mean.
        mean: Duration,
        /// The standard deviation, or half the width of a uniform one.
        spread: Duration,
    },
}

impl Effects {
    /// Returns true if they leave all packets alone.
    pub fn is_empty(&self) -> bool {
        Self { seed: None, queue: Bounds::default(), ..self.clone() } == Self::default()
    }

    /// Returns true if packets wait anywhere.
    pub const fn needs_queue(&self) -> bool {
        self.delay.is_some() || self.bottleneck.is_some() || self.slot.is_some()
    }

    /// Returns true if they act on single packets, so that several may not pass as one (GSO).
    pub fn needs_single_segments(&self) -> bool {
        let jitter = self.delay.as_ref().is_some_and(|delay| delay.jitter.is_some());
        let by_chance = self.loss.is_some()
            || self.duplicate.is_some()
            || self.corrupt.is_some()
            || self.reorder.is_some();
        let counted = self.needs_queue() && (self.queue.packets.is_some() || self.mark.packets.is_some());
        jitter || by_chance || counted || self.slot.is_some()
    }

    /// The delay and the loss, if there is nothing but a constant delay and independent loss.
    pub fn simple(&self) -> Option<(Option<Latency>, Option<Loss>)> {
        let latency = match &self.delay {
            None => None,
            Some(Delay { time, jitter: None }) => Latency::new(*time).ok()?,
            Some(_) => return None,
        };
        let loss = match self.loss {
            None => None,
            Some(Losses { model: LossModel::Random(chance), ecn: false }) if chance.correlation.is_zero() => {
                Loss::new(chance.probability)
            }
            Some(_) => return None,
        };
        let rest = Self { delay: None, loss: None, ..self.clone() };
        (rest == Self::default()).then_some((latency, loss))
    }

    /// Itself, if its parts make sense together.
    ///
    /// # Errors
    ///
    /// When one needs another that is not there, or contradicts it.
    pub fn checked(self) -> Result<Self, PolicyError> {
        if self.reorder.is_some() && self.delay.is_none() {
            let missing = PolicyError::missing(
                "reorder",
                "a delay that packets can escape",
                "add for example `delay 10ms`",
            );
            return Err(missing.at("reorder"));
        }
        let waits = self.queue.time.is_some() || self.queue.bytes.is_some();
        if self.bottleneck.is_none() && (waits || self.mark != Bounds::default()) {
            let what = if waits { "queue" } else { "mark" };
            let missing =
                PolicyError::missing(what, "a bottleneck to wait for", "add for example `rate 10mbit`");
            return Err(missing.at(what));
        }
        self.mark.check_below(&self.queue)?;
        Ok(self)
    }
}

impl Bounds {
    fn check_below(&self, queue: &Self) -> Result<(), PolicyError> {
        let reached = |mark: bool, what: &str| match mark {
            true => Err(PolicyError::contradiction(
                format!("mark is at or beyond the end of the queue in {what}, and never reached"),
                "make it smaller",
            )
            .at("mark")),
            false => Ok(()),
        };
        reached(self.time.zip(queue.time).is_some_and(|(mark, queue)| mark >= queue), "time")?;
        reached(self.bytes.zip(queue.bytes).is_some_and(|(mark, queue)| mark >= queue), "bytes")?;
        reached(self.packets.zip(queue.packets).is_some_and(|(mark, queue)| mark >= queue), "packets")
    }

    /// Takes a number of packets.
    ///
    /// # Errors
    ///
    /// When `fq` does not hold so many.
    pub fn packets(number: u32) -> Result<u32, PolicyError> {
        if number > MAX_QUEUE_PACKETS {
            return Err(PolicyError::too_many("packets to wait", MAX_QUEUE_PACKETS as usize, ""));
        }
        Ok(number)
    }
}

impl LossModel {
    /// All packets.
    pub const fn certain() -> Self {
        Self::Random(Chance { probability: Percent::ALL, correlation: Percent::ZERO })
    }

    /// Returns true if it loses nothing.
    pub const fn is_nothing(&self) -> bool {
        match self {
            Self::Random(chance) => chance.probability.is_zero(),
            Self::Gemodel([p, _, _, lost_in_good]) => p.is_zero() && lost_in_good.is_zero(),
            Self::State([p13, _, _, _, p14]) => p13.is_zero() && p14.is_zero(),
            Self::Every(_) => false,
        }
    }
}
