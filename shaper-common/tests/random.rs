//! Random numbers are uniform, do not depend on one another, and are the same again.

use proptest::prelude::*;
use shaper_common::random::{RandomStream, RandomStreams};
use shaper_statistics::{assert_even, assert_independent, assert_stepped};

const STREAMS: [RandomStream; 9] = [
    RandomStream::Duplicate,
    RandomStream::Loss,
    RandomStream::LossState,
    RandomStream::Corrupt,
    RandomStream::CorruptBit,
    RandomStream::Reorder,
    RandomStream::Jitter,
    RandomStream::Slot,
    RandomStream::Carry,
];
const SEEDS: [u64; 4] = [0, 1, 0x0123_4567_89ab_cdef, u64::MAX];
const COUNT: u64 = 100_000;

fn numbers(seed: u64, stream: RandomStream) -> Vec<f64> {
    (0..COUNT).map(|number| unit(RandomStreams::new(seed, number).number(stream))).collect()
}

fn unit(number: u32) -> f64 {
    f64::from(number) / 4_294_967_296.0
}

#[test]
fn numbers_of_each_purpose_are_uniform() {
    for seed in SEEDS {
        for stream in STREAMS {
            assert_stepped(numbers(seed, stream), |it| (it, it));
        }
    }
}

#[test]
fn the_highest_and_the_lowest_bits_are_even() {
    for seed in SEEDS {
        let (mut high, mut low) = ([0; 256], [0; 256]);
        for number in 0..COUNT {
            let drawn = RandomStreams::new(seed, number).number(RandomStream::Loss);
            high[(drawn >> 24) as usize] += 1;
            low[(drawn & 255) as usize] += 1;
        }
        assert_even(&high);
        assert_even(&low);
    }
}

#[test]
fn pairs_of_neighbours_are_even() {
    let mut counts = [0; 256];
    for number in 0..COUNT {
        let [one, next] =
            [number, number + 1].map(|it| RandomStreams::new(7, it).number(RandomStream::Jitter) >> 28);
        counts[(one * 16 + next) as usize] += 1;
    }
    assert_even(&counts);
}

#[test]
fn a_packet_tells_nothing_of_those_after_it() {
    for seed in SEEDS {
        let numbers = numbers(seed, RandomStream::Loss);
        for lag in 1..=8 {
            assert_independent(&numbers, &numbers[lag..]);
        }
    }
}

#[test]
fn a_purpose_tells_nothing_of_another() {
    let samples = STREAMS.map(|stream| numbers(3, stream));
    for (place, one) in samples.iter().enumerate() {
        for other in &samples[place + 1..] {
            assert_independent(one, other);
            assert_independent(one, &other[1..]);
        }
    }
}

#[test]
fn a_seed_tells_nothing_of_the_next_one() {
    assert_independent(&numbers(1, RandomStream::Loss), &numbers(2, RandomStream::Loss));
}

proptest! {
    #[test]
    fn the_same_seed_gives_the_same_packet_the_same_numbers(seed: u64, number: u64) {
        for stream in STREAMS {
            prop_assert_eq!(RandomStreams::new(seed, number).number(stream), RandomStreams::new(seed, number).number(stream));
        }
    }
}
