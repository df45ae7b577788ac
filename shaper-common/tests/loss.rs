//! Losses, duplicates, corruption and reordering are what their models' theory says.

mod bits;

use bits::{correlation_bits, probability};
use proptest::prelude::*;
use shaper_common::{
    policy::{Effects, LOSS_EVERY, LOSS_GEMODEL, LOSS_MARKOV, LOSS_NONE, LOSS_RANDOM, State},
    random::RandomStreams,
};
use shaper_statistics::{
    all_runs, assert_binomial, assert_correlation, assert_mean, assert_share_of_runs, count, numbers,
};

const COUNT: usize = 100_000;
const SEED: u64 = 5;

/// Returns the fates of the first packets, by `decide`.
fn outcomes(of: usize, mut decide: impl FnMut(&mut State, u64, RandomStreams) -> bool) -> Vec<bool> {
    let mut state = State::default();
    (0..of as u64).map(|number| decide(&mut state, number, RandomStreams::new(SEED, number))).collect()
}

fn losses_of(effects: Effects, of: usize) -> Vec<bool> {
    outcomes(of, |state, number, streams| effects.loses(state, number, streams))
}

fn losses(loss_model: u32, loss: [u32; 5]) -> Vec<bool> {
    losses_of(Effects { loss_model, loss, ..Effects::default() }, COUNT)
}

fn model(loss_model: u32, shares: [f64; 5], of: usize) -> Vec<bool> {
    losses_of(Effects { loss_model, loss: shares.map(probability), ..Effects::default() }, of)
}

#[test]
fn independent_losses_are_binomial() {
    for share in [0.001, 0.01, 0.1, 0.5, 0.999] {
        let lost = losses(LOSS_RANDOM, [probability(share), 0, 0, 0, 0]);
        assert_binomial("lost", count(&lost) as u64, COUNT as u64, share);
        let lost = numbers(&lost);
        (1..=4).for_each(|lag| assert_correlation(&lost, lag, 0.0));
    }
}

#[test]
fn independent_losses_come_in_geometric_runs() {
    let lost = losses(LOSS_RANDOM, [probability(0.3), 0, 0, 0, 0]);
    assert_mean(&all_runs(&lost), 1.0 / 0.7);
}

#[test]
fn none_or_all_are_lost_exactly() {
    assert_eq!(count(&losses(LOSS_NONE, [u32::MAX; 5])), 0);
    for correlation in [0, 1 << 31, u32::MAX] {
        assert_eq!(count(&losses(LOSS_RANDOM, [0, correlation, 0, 0, 0])), 0);
        assert_eq!(count(&losses(LOSS_RANDOM, [u32::MAX, correlation, 0, 0, 0])), COUNT);
    }
}

#[test]
fn a_loss_that_has_become_none_ends_at_once_however_correlated() {
    let effects = Effects { loss_model: LOSS_RANDOM, loss: [0, u32::MAX, 0, 0, 0], ..Effects::default() };
    let mut state = State { drawn: u32::MAX, ..State::default() };
    assert!(!effects.loses(&mut state, 0, RandomStreams::new(SEED, 0)));
}

#[test]
fn correlated_losses_keep_their_share_and_have_their_correlation() {
    for share in [0.01, 0.1, 0.5, 0.9] {
        for correlation in [0.1, 0.25, 0.5, 0.9] {
            let lost = losses(LOSS_RANDOM, [probability(share), correlation_bits(correlation), 0, 0, 0]);
            assert_share_of_runs(count(&lost), COUNT, share, correlation);
            // A run ends when it is drawn anew, and comes out otherwise.
            assert_mean(&all_runs(&lost), 1.0 / ((1.0 - correlation) * (1.0 - share)));
            if share == 0.5 {
                (1..=3)
                    .for_each(|lag| assert_correlation(&numbers(&lost), lag, correlation.powi(lag as i32)));
            }
        }
    }
}

#[test]
fn rare_losses_keep_their_share_at_a_high_correlation() {
    let (share, correlation) = (2e-4, 0.95);
    let of = 4_000_000;
    let loss = [probability(share), correlation_bits(correlation), 0, 0, 0];
    let lost = losses_of(Effects { loss_model: LOSS_RANDOM, loss, ..Effects::default() }, of);
    assert_share_of_runs(count(&lost), of, share, correlation);
}

#[test]
fn a_gilbert_elliott_channel_loses_what_its_theory_says() {
    for [p, r, h, k] in
        [[0.01, 0.1, 1.0, 0.0], [0.05, 0.5, 0.8, 0.0], [0.1, 0.3, 0.5, 0.02], [0.3, 0.7, 1.0, 0.1]]
    {
        let lost = model(LOSS_GEMODEL, [p, r, h, k, 0.0], 10 * COUNT);
        let bad = p / (p + r);
        // States are a chain with the correlation 1 - p - r; losses in them vary at most as much.
        assert_share_of_runs(count(&lost), 10 * COUNT, bad * h + (1.0 - bad) * k, 1.0 - p - r);
    }
}

#[test]
fn a_gilbert_channel_loses_in_bursts_of_1_by_r() {
    for (p, r) in [(0.01, 0.1), (0.05, 0.5), (0.2, 0.25)] {
        let lost = model(LOSS_GEMODEL, [p, r, 1.0, 0.0, 0.0], COUNT * 10);
        assert_mean(&all_runs(&lost), 1.0 / r);
        let kept: Vec<bool> = lost.iter().map(|it| !it).collect();
        assert_mean(&all_runs(&kept), 1.0 / p);
    }
}

/// netem's `loss_gilb_ell` (Linux 6.1): the state changes first, but the one before it says what is lost.
#[test]
fn the_first_packet_of_a_bad_state_is_lost_by_the_good_ones_share() {
    let lost = model(LOSS_GEMODEL, [1.0, 1.0, 1.0, 0.0, 0.0], 6);
    assert_eq!(lost, [false, true, false, true, false, true]);
}

const CHAINS: [[f64; 5]; 4] = [
    // p13, p31, p32, p23, p14.
    [0.01, 0.3, 0.2, 0.4, 0.005],
    [0.05, 0.5, 0.0, 0.0, 0.0],
    [0.1, 0.2, 0.6, 0.5, 0.1],
    [0.002, 0.05, 0.3, 0.7, 0.02],
];

/// The probabilities of what follows each of Salsano's four states: received in a gap, received in a burst, lost in a
/// burst, lost alone.
fn transitions([p13, p31, p32, p23, p14]: [f64; 5]) -> [[f64; 4]; 4] {
    [
        [1.0 - p13 - p14, 0.0, p13, p14],
        [0.0, 1.0 - p23, p23, 0.0],
        [p31, p32, 1.0 - p31 - p32, 0.0],
        [1.0, 0.0, 0.0, 0.0],
    ]
}

fn next(from: [f64; 4], transitions: &[[f64; 4]; 4]) -> [f64; 4] {
    std::array::from_fn(|to| (0..4).map(|state| from[state] * transitions[state][to]).sum())
}

/// Returns the variance of the sum of losses, by packet, and their share, of a chain in its stationary state.
fn theory_of_chain(transitions: &[[f64; 4]; 4]) -> (f64, f64) {
    let stationary = (0..20_000).fold([1.0, 0.0, 0.0, 0.0], |state, _| next(state, transitions));
    let share = stationary[2] + stationary[3];
    let mut after_loss = [0.0, 0.0, stationary[2], stationary[3]];
    let mut variance = share * (1.0 - share);
    for _ in 0..5_000 {
        after_loss = next(after_loss, transitions);
        variance += 2.0 * (after_loss[2] + after_loss[3] - share * share);
    }
    (share, variance)
}

#[test]
fn a_chain_of_four_states_loses_what_its_stationary_state_does() {
    for chain in CHAINS {
        let (share, variance) = theory_of_chain(&transitions(chain));
        let of = 10 * COUNT;
        let lost = count(&model(LOSS_MARKOV, chain, of)) as f64;
        let bound = 5.0 * (variance * of as f64).sqrt();
        assert!((lost - share * of as f64).abs() <= bound, "{chain:?}: {lost} of {of}, expected {share}");
    }
}

#[test]
fn a_chain_of_four_states_loses_in_runs_of_its_theory() {
    for chain in CHAINS {
        let [p13, p31, p32, p23, p14] = chain;
        let transitions = transitions(chain);
        let stationary = (0..20_000).fold([1.0, 0.0, 0.0, 0.0], |state, _| next(state, &transitions));
        // Runs begin alone, or in a burst, from a gap or from within the burst.
        let alone = stationary[0] * p14;
        let in_burst = stationary[0] * p13 + stationary[1] * p23;
        let expected = (alone + in_burst / (p31 + p32)) / (alone + in_burst);
        assert_mean(&all_runs(&model(LOSS_MARKOV, chain, 10 * COUNT)), expected);
    }
}

/// The chain as it is documented, in floating point, from the same random numbers: Salsano, Ludovici and Ordine, 2009.
#[test]
fn a_chain_of_four_states_goes_where_the_documented_one_goes() {
    use shaper_common::random::RandomStream;
    for chain in CHAINS {
        let lost = model(LOSS_MARKOV, chain, COUNT);
        let transitions = transitions(chain);
        // netem's order of comparing: the rarest end of a gap first, the gap within a burst before the burst's end.
        let orders = [[3, 2, 0], [2, 1, 1], [1, 0, 2], [0, 0, 0]];
        let mut state = 0;
        for (number, is_lost) in lost.into_iter().enumerate() {
            let random = f64::from(RandomStreams::new(SEED, number as u64).number(RandomStream::LossState))
                / 4_294_967_296.0;
            let mut sum = 0.0;
            let order: [usize; 3] = orders[state];
            state = order
                .into_iter()
                .find(|to| {
                    sum += transitions[state][*to];
                    random < sum
                })
                .unwrap_or(order[2]);
            assert_eq!(is_lost, state >= 2, "packet {number} of {chain:?}");
        }
    }
}

#[test]
fn a_chain_whose_probabilities_exceed_one_leaves_the_gap_each_time() {
    // netem's sum of both wraps at 2^32, and leaves the gap for an isolated loss or not at all.
    let lost = model(LOSS_MARKOV, [0.7, 1.0, 0.0, 0.0, 0.6], COUNT);
    let singles = all_runs(&lost);
    assert_eq!(count(&lost), COUNT / 2);
    assert!(singles.iter().all(|length| *length == 1.0));
}

#[test]
fn every_nth_packet_is_lost() {
    for every in [1, 2, 7, 1_000] {
        let lost = losses(LOSS_EVERY, [every, 0, 0, 0, 0]);
        let expected: Vec<bool> = (1..=COUNT).map(|number| number % every as usize == 0).collect();
        assert_eq!(lost, expected);
    }
    assert_eq!(count(&losses(LOSS_EVERY, [0; 5])), 0);
}

#[test]
fn duplicates_and_corruption_keep_their_share_and_correlation() {
    for (share, correlation) in [(0.01, 0.0), (0.2, 0.0), (0.2, 0.6)] {
        let bits = correlation_bits(correlation);
        let (duplicate, corrupt) = (probability(share), probability(share));
        let effects = Effects {
            duplicate,
            corrupt,
            duplicate_correlation: bits,
            corrupt_correlation: bits,
            ..Effects::default()
        };
        let twice = outcomes(COUNT, |state, _, streams| effects.duplicates(state, streams));
        let turned = outcomes(COUNT, |state, _, streams| effects.corrupts(state, streams));
        for happened in [&twice, &turned] {
            assert_share_of_runs(count(happened), COUNT, share, correlation);
            assert_mean(&all_runs(happened), 1.0 / ((1.0 - correlation) * (1.0 - share)));
        }
        let both = twice.iter().zip(&turned).filter(|(one, other)| **one && **other).count();
        assert_share_of_runs(both, COUNT, share * share, correlation);
    }
}

#[test]
fn effects_remember_their_last_draws_apart() {
    let effects = Effects {
        duplicate: probability(0.5),
        duplicate_correlation: correlation_bits(0.9),
        corrupt: probability(0.5),
        corrupt_correlation: correlation_bits(0.5),
        ..Effects::default()
    };
    let alone = outcomes(COUNT, |state, _, streams| effects.corrupts(state, streams));
    let beside = outcomes(COUNT, |state, _, streams| {
        effects.duplicates(state, streams);
        effects.corrupts(state, streams)
    });
    assert_eq!(alone, beside);
}

fn reordered(share: f64, gap: u32) -> Vec<bool> {
    let effects = Effects { reorder: probability(share), reorder_gap: gap, ..Effects::default() };
    outcomes(COUNT, |state, _, streams| effects.reorders(state, streams))
}

#[test]
fn with_a_gap_and_certainty_every_nth_packet_is_reordered() {
    for gap in [1, 2, 5] {
        let expected: Vec<bool> = (1..=COUNT).map(|number| number % gap == 0).collect();
        assert_eq!(reordered(1.0, gap as u32), expected);
    }
    assert_eq!(reordered(1.0, 0), reordered(1.0, 1));
    assert_eq!(count(&reordered(0.0, 1)), 0);
}

#[test]
fn after_the_gap_packets_are_reordered_by_chance() {
    for (share, gap) in [(0.25, 0), (0.25, 1), (0.5, 5), (0.1, 3)] {
        let reordered = reordered(share, gap);
        let places: Vec<f64> = (1..).zip(&reordered).filter(|it| *it.1).map(|it| f64::from(it.0)).collect();
        let distances: Vec<f64> = places.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let least = f64::from(gap.max(1) - 1);
        assert!(distances.iter().all(|distance| *distance > least));
        // So many less one are delayed for certain, then it is a geometric wait.
        assert_mean(&distances, least + 1.0 / share);
    }
}

prop_compose! {
    fn any_effects()(
        loss_model in 0_u32..6,
        loss: [u32; 5],
        chances: [u32; 6],
        reorder_gap: u32,
    ) -> Effects {
        let [duplicate, duplicate_correlation, corrupt, corrupt_correlation, reorder, reorder_correlation] = chances;
        Effects {
            loss_model,
            loss,
            duplicate,
            duplicate_correlation,
            corrupt,
            corrupt_correlation,
            reorder,
            reorder_correlation,
            reorder_gap,
            ..Effects::default()
        }
    }
}

proptest! {
    #[test]
    fn no_map_is_too_much(effects in any_effects(), seed: u64, number in 0_u64..1 << 62, states: [u32; 3]) {
        let [loss_state, drawn, since_reorder] = states;
        let mut state = State { loss_state, drawn, since_reorder, ..State::default() };
        for number in number..number + 3 {
            let streams = RandomStreams::new(seed, number);
            effects.duplicates(&mut state, streams);
            effects.loses(&mut state, number, streams);
            effects.corrupts(&mut state, streams);
            effects.reorders(&mut state, streams);
        }
    }

    #[test]
    fn counting_to_a_reordering_never_ends_in_an_overflow(reorder_gap: u32, since_reorder in u32::MAX - 2..) {
        let effects = Effects { reorder: 1, reorder_gap, ..Effects::default() };
        let mut state = State { since_reorder, ..State::default() };
        for number in 0..4 {
            effects.reorders(&mut state, RandomStreams::new(1, number));
        }
    }
}
