//! What can be done to packets, as people say it: in netem's words, and some of our own.
//!
//! Knows nothing of time and targets, which are a plan's.

use std::time::Duration;

use shaper_common::plan::MAX_QUEUE_PACKETS;

use super::{
    bounded::{Latency, Loss},
    distribution::Distribution,
    trace::Deliveries,
    units::{Percent, Rate},
};

/// All that is done to packets at one time; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// They wait.
    pub delay: Option<Delay>,
    /// They vanish.
    pub loss: Option<Losses>,
    /// They come twice.
    pub duplicate: Option<Chance>,
    /// One of their bits is turned.
    pub corrupt: Option<Corruption>,
    /// They overtake those that wait.
    pub reorder: Option<Reordering>,
    /// They pass a link.
    pub link: Option<Link>,
    /// What may wait.
    pub queue: Bounds,
    /// What may wait before packets are marked (ECN).
    pub mark: Bounds,
    /// They depart in bursts.
    pub slot: Option<Slot>,
    /// What random numbers are drawn from; the plan's seed if none.
    pub seed: Option<u64>,
}

/// How long packets wait. Not nothing: without jitter the time is more than zero.
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
    /// How much it depends on the packet before.
    pub correlation: Percent,
    /// Its shape.
    pub distribution: Distribution,
    /// Whether packets may overtake one another by it.
    pub reorders: bool,
}

/// Something that happens to a packet now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance {
    /// How often: more than never.
    pub probability: Percent,
    /// How much it depends on whether it happened to the packet before.
    pub correlation: Percent,
}

/// Which packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Losses {
    /// How they are chosen.
    pub model: LossModel,
    /// Whether those that can be are marked instead (ECN).
    pub ecn: bool,
}

/// How packets are chosen that are lost; each loses some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossModel {
    /// By chance.
    Random(Chance),
    /// Gilbert-Elliott: p, r, 1-h and 1-k.
    Gemodel([Percent; 4]),
    /// Four states: p13, p31, p32, p23 and p14.
    State([Percent; 5]),
    /// Every so manieth.
    Every(u32),
}

/// Which packets have a bit turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// How often.
    pub chance: Chance,
    /// Whether their checksums are made right, so that who receives them cannot tell.
    pub fixed: bool,
}

/// Which packets are not delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reordering {
    /// How often.
    pub chance: Chance,
    /// How many packets, the last one included, before one may be: at least 1.
    pub gap: u32,
}

/// What limits how much passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// So much in a time.
    Rate {
        /// How much.
        rate: Rate,
        /// Bytes that it adds to each packet.
        overhead: i32,
        /// How many bytes of packets one of its cells carries, if it has cells.
        cell_bytes: u32,
        /// Bytes that it adds to each cell.
        cell_overhead: i32,
    },
    /// Whenever the trace says.
    Trace(Deliveries),
}

/// How much may wait, in up to three ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// How long; more than zero, at most five minutes.
    pub time: Option<Duration>,
    /// How many bytes; more than zero.
    pub bytes: Option<u32>,
    /// How many packets; more than zero, at most [`MAX_QUEUE_PACKETS`].
    pub packets: Option<u32>,
}

/// When packets depart in bursts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// How long after one slot the next one opens.
    pub opens: SlotTime,
    /// How many packets pass in one; 0 is any number.
    pub packets: u32,
    /// How many bytes pass in one; 0 is any number.
    pub bytes: u32,
}

/// How long after one slot the next one opens; times are at most five minutes.
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
    /// Whether they leave all packets alone.
    pub fn is_empty(&self) -> bool {
        Self { seed: None, queue: Bounds::default(), ..self.clone() } == Self::default()
    }

    /// Whether packets wait anywhere.
    pub const fn needs_queue(&self) -> bool {
        self.delay.is_some() || self.link.is_some() || self.slot.is_some()
    }

    /// Whether they act on single packets, so that several may not pass as one (GSO).
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
    pub fn checked(self) -> Result<Self, String> {
        if self.reorder.is_some() && self.delay.is_none() {
            return Err(
                "reorder needs a delay that packets can escape: add for example `delay 10ms`".to_owned()
            );
        }
        let waits = self.queue.time.is_some() || self.queue.bytes.is_some();
        if self.link.is_none() && (waits || self.mark != Bounds::default()) {
            let what = if waits { "queue" } else { "mark" };
            return Err(format!("{what} needs a link to wait for: add for example `rate 10mbit`"));
        }
        self.mark.check_below(&self.queue)?;
        Ok(self)
    }
}

impl Bounds {
    fn check_below(&self, queue: &Self) -> Result<(), String> {
        let reached = |mark: bool, what: &str| match mark {
            true => Err(format!(
                "mark is at or beyond the end of the queue in {what}, and never reached: make it smaller"
            )),
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
    pub fn packets(number: u32) -> Result<u32, String> {
        if number > MAX_QUEUE_PACKETS {
            return Err(format!("{number} packets are too many to wait: the most are {MAX_QUEUE_PACKETS}"));
        }
        Ok(number)
    }
}

impl LossModel {
    /// Whether it loses nothing.
    pub const fn is_nothing(&self) -> bool {
        match self {
            Self::Random(chance) => chance.probability.is_zero(),
            Self::Gemodel([p, _, _, lost_in_good]) => p.is_zero() && lost_in_good.is_zero(),
            Self::State([p13, _, _, _, p14]) => p13.is_zero() && p14.is_zero(),
            Self::Every(_) => false,
        }
    }
}
