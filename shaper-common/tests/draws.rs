//! Random numbers are uniform, do not depend on one another, and are the same again.

mod statistics;

use proptest::prelude::*;
use shaper_common::draws::{Draws, Purpose};
use statistics::{assert_distribution, assert_even, assert_independent};

const PURPOSES: [Purpose; 9] = [
    Purpose::Duplicate,
    Purpose::Loss,
    Purpose::LossState,
    Purpose::Corrupt,
    Purpose::CorruptBit,
    Purpose::Reorder,
    Purpose::Jitter,
    Purpose::Slot,
    Purpose::Carry,
];
const SEEDS: [u64; 4] = [0, 1, 0x0123_4567_89ab_cdef, u64::MAX];
const COUNT: u64 = 100_000;

fn numbers(seed: u64, purpose: Purpose) -> Vec<f64> {
    (0..COUNT).map(|number| unit(Draws::new(seed, number).number(purpose))).collect()
}

fn unit(number: u32) -> f64 {
    f64::from(number) / 4_294_967_296.0
}

#[test]
fn numbers_of_each_purpose_are_uniform() {
    for seed in SEEDS {
        for purpose in PURPOSES {
            assert_distribution(numbers(seed, purpose), |it| (it, it));
        }
    }
}

#[test]
fn the_highest_and_the_lowest_bits_are_even() {
    for seed in SEEDS {
        let (mut high, mut low) = ([0; 256], [0; 256]);
        for number in 0..COUNT {
            let drawn = Draws::new(seed, number).number(Purpose::Loss);
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
        let [one, next] = [number, number + 1].map(|it| Draws::new(7, it).number(Purpose::Jitter) >> 28);
        counts[(one * 16 + next) as usize] += 1;
    }
    assert_even(&counts);
}

#[test]
fn a_packet_tells_nothing_of_those_after_it() {
    for seed in SEEDS {
        let numbers = numbers(seed, Purpose::Loss);
        for lag in 1..=8 {
            assert_independent(&numbers, &numbers[lag..]);
        }
    }
}

#[test]
fn a_purpose_tells_nothing_of_another() {
    let samples = PURPOSES.map(|purpose| numbers(3, purpose));
    for (place, one) in samples.iter().enumerate() {
        for other in &samples[place + 1..] {
            assert_independent(one, other);
            assert_independent(one, &other[1..]);
        }
    }
}

#[test]
fn a_seed_tells_nothing_of_the_next_one() {
    assert_independent(&numbers(1, Purpose::Loss), &numbers(2, Purpose::Loss));
}

proptest! {
    #[test]
    fn the_same_seed_gives_the_same_packet_the_same_numbers(seed: u64, number: u64) {
        for purpose in PURPOSES {
            prop_assert_eq!(Draws::new(seed, number).number(purpose), Draws::new(seed, number).number(purpose));
        }
    }
}
