//! Random numbers, and what is decided by them.

/// The odd number next to 2^64 divided by the golden ratio.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A random stream: the numbers that one decision draws from, so that no effect changes what another one does.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "they are the effects")]
pub enum RandomStream {
    Duplicate = 1,
    Loss,
    LossState,
    Corrupt,
    CorruptBit,
    Reorder,
    Jitter,
    Slot,
    Carry,
}

/// The random numbers of one packet: the same for the same seed and the same number of the packet.
///
/// `SplitMix64` (Steele, Lea and Flood: Fast Splittable Pseudorandom Number Generators, 2014), indexed.
#[derive(Clone, Copy, Debug)]
pub struct RandomStreams(u64);

impl RandomStreams {
    /// Returns the numbers of packet `number`. Seeds that differ by n times `GAMMA` have the same numbers, n packets
    /// apart.
    #[inline(always)]
    pub const fn new(seed: u64, number: u64) -> Self {
        Self(mix(seed.wrapping_add(number.wrapping_mul(GAMMA))))
    }

    /// The uniform number for `stream`.
    #[inline(always)]
    pub const fn number(self, stream: RandomStream) -> u32 {
        (self.wide_number(stream) >> 32) as u32
    }

    /// That number with 32 more bits below its own.
    #[inline(always)]
    pub(crate) const fn wide_number(self, stream: RandomStream) -> u64 {
        mix(self.0.wrapping_add((stream as u64).wrapping_mul(GAMMA)))
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

/// Returns true if something of this probability happens where `random` was drawn.
#[inline(always)]
pub(crate) const fn happens(probability: u32, random: u32) -> bool {
    (random as u64) < share(probability)
}

/// Returns true if it happens where that depends on whether it happened the last time.
///
/// A chain of two states: the last one stays with the probability `correlation`, else it is drawn anew. So the share of
/// those to whom it happens is the probability, and the correlation between one and the next is `correlation`, both
/// exactly. What happens never or always does so whatever was before. netem mixes random numbers instead
/// (`get_crandom`, Linux 6.1), which makes rare what is not about one half.
#[inline(always)]
pub(crate) const fn happens_again(probability: u32, correlation: u32, last: bool, random: u64) -> bool {
    let stays = probability != 0 && probability != u32::MAX && (random as u32) < correlation;
    if stays { last } else { happens(probability, (random >> 32) as u32) }
}

/// Draws a number that depends on the last one: that one again with the probability `correlation`, else another.
///
/// The numbers stay uniform, and the correlation between one and the next is `correlation`, both exactly. netem mixes
/// the two instead (`get_crandom`, Linux 6.1), which draws them to the mean, or takes a remainder that leaves no
/// correlation (`tabledist`).
#[inline(always)]
pub(crate) const fn drawn_again(correlation: u32, last: u32, random: u64) -> u32 {
    if (random as u32) < correlation { last } else { (random >> 32) as u32 }
}

/// The share `random / 2^32` of `whole`, which is less than 2^40, in steps of a sixteen-millionth.
#[inline(always)]
pub(crate) const fn part(random: u32, whole: u64) -> u64 {
    ((random as u64 >> 8) * whole) >> 24
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_those_of_split_mix() {
        // The first output of the authors' generator from each seed.
        assert_eq!(mix(GAMMA), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(1_234_567_u64.wrapping_add(GAMMA)), 6_457_827_717_110_365_317);
    }

    #[test]
    fn what_has_no_probability_never_happens_and_what_is_certain_always_does() {
        for random in [0, 1, u32::MAX - 1, u32::MAX] {
            assert!(!happens(0, random));
            assert!(happens(u32::MAX, random));
            for last in [false, true] {
                let random = u64::from(random) << 32;
                assert!(!happens_again(0, u32::MAX, last, random));
                assert!(happens_again(u32::MAX, u32::MAX, last, random));
            }
        }
    }

    #[test]
    fn a_probability_is_the_share_of_numbers_for_which_it_happens() {
        for probability in [1, 2, 1 << 31, u32::MAX - 1] {
            assert!(happens(probability, 0) && happens(probability, probability));
            assert!(!happens(probability, probability + 1));
        }
    }

    #[test]
    fn a_number_is_drawn_anew_without_correlation_and_stays_with_all_of_it() {
        assert_eq!(drawn_again(0, 99, 17 << 32), 17);
        assert_eq!(drawn_again(u32::MAX, 99, 17 << 32), 99);
    }

    #[test]
    fn the_rarest_begins_and_ends_however_correlated() {
        let correlation = u32::MAX / 100 * 99;
        let anew = |high: u32| u64::from(high) << 32 | u64::from(u32::MAX);
        assert!(happens_again(1, correlation, false, anew(1)));
        assert!(!happens_again(1, correlation, true, anew(2)));
        assert!(!happens_again(u32::MAX - 1, correlation, true, anew(u32::MAX)));
    }

    proptest! {
        #[test]
        fn it_happens_again_as_it_would_be_drawn_or_as_it_was(probability: u32, correlation: u32, last: bool, random: u64) {
            let happens_now = happens(probability, (random >> 32) as u32);
            let again = happens_again(probability, correlation, last, random);
            prop_assert!(again == happens_now || again == last);
        }

        #[test]
        fn a_part_is_less_than_the_whole(random: u32, whole in 1_u64..1 << 40) {
            let part = part(random, whole);
            prop_assert!(part < whole);
            let exact = (u128::from(random) * u128::from(whole)) >> 32;
            prop_assert!(exact.abs_diff(u128::from(part)) <= u128::from(whole >> 24) + 1);
        }
    }
}
