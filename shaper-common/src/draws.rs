//! Random numbers, and what is decided by them.

/// 2^32: a probability of one.
const WHOLE: u64 = 1 << 32;
/// The odd number next to 2^64 divided by the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a random number is drawn for. Each has numbers of its own, so that no effect changes what another one does.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "they are the effects")]
pub enum Purpose {
    Duplicate = 1,
    Loss,
    LossState,
    Corrupt,
    CorruptBit,
    Reorder,
    Jitter,
    Slot,
}

/// The random numbers of one packet: the same for the same seed and the same number of the packet.
///
/// `SplitMix64` (Steele, Lea and Flood: Fast Splittable Pseudorandom Number Generators, 2014), indexed.
#[derive(Clone, Copy, Debug)]
pub struct Draws(u64);

impl Draws {
    /// Those of packet `number`.
    #[inline(always)]
    pub const fn new(seed: u64, number: u64) -> Self {
        Self(mix(seed.wrapping_add(number.wrapping_mul(GAMMA))))
    }

    /// The uniform number for `purpose`.
    #[inline(always)]
    pub const fn number(self, purpose: Purpose) -> u32 {
        (mix(self.0.wrapping_add((purpose as u64).wrapping_mul(GAMMA))) >> 32) as u32
    }
}

/// A number that differs in about half its bits from that of any other argument.
#[inline(always)]
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A probability as a share of 2^32; 0 stands for none, anything else for one more.
#[inline(always)]
pub(crate) const fn share(probability: u32) -> u64 {
    if probability == 0 { 0 } else { probability as u64 + 1 }
}

/// Whether what has this probability happens to whom drew `random`.
#[inline(always)]
pub(crate) const fn happens(probability: u32, random: u32) -> bool {
    (random as u64) < share(probability)
}

/// Whether it happens where that depends on whether it happened the last time.
///
/// A chain of two states, with the probability asked for and `correlation` between one draw and the next. netem mixes
/// random numbers instead (`get_crandom`, Linux 6.1), which makes rare what is not about one half.
#[inline(always)]
pub(crate) const fn happens_again(probability: u32, correlation: u32, last: bool, random: u32) -> bool {
    let share = share(probability);
    let rest = if last { WHOLE - share } else { share };
    let changed = (rest * (WHOLE - correlation as u64)) >> 32;
    (random as u64) < if last { WHOLE - changed } else { changed }
}

/// Mixes a random number with the last one, as netem's `get_crandom` does (Linux 6.1).
#[inline(always)]
pub(crate) const fn correlated(random: u32, last: u32, correlation: u32) -> u32 {
    if correlation == 0 {
        return random;
    }
    let rho = correlation as u64 + 1;
    ((random as u64 * (WHOLE - rho) + last as u64 * rho) >> 32) as u32
}

/// The share `random / 2^32` of `whole`, which is less than 2^40, in steps of a sixteen-millionth.
#[inline(always)]
pub(crate) const fn part(random: u32, whole: u64) -> u64 {
    ((random as u64 >> 8) * whole) >> 24
}
