//! Ramps: which effects can turn into which, as all of their numbers can be interpolated.

use shaper_common::policy::{Effects, LOSS_EVERY, LOSS_GEMODEL, LOSS_MARKOV, LOSS_NONE, LOSS_RANDOM};

use super::effects::{borrow, differing};
use crate::model::{self, Bottleneck, PolicyError};

/// Checks that the one can turn into the other, as far as their words alone tell.
///
/// # Errors
///
/// When they have bottlenecks of different kinds.
pub(super) fn check(from: &model::Effects, to: &model::Effects) -> Result<(), PolicyError> {
    match (&from.bottleneck, &to.bottleneck) {
        (None, None) | (Some(Bottleneck::Rate { .. }), Some(Bottleneck::Rate { .. })) => Ok(()),
        (Some(Bottleneck::Trace(one)), Some(Bottleneck::Trace(other))) if one == other => Ok(()),
        (Some(Bottleneck::Trace(_)), _) | (_, Some(Bottleneck::Trace(_))) => {
            let what = "a trace has nothing between itself and another bottleneck";
            Err(PolicyError::contradiction(what, "leave out the ramp"))
        }
        _ => {
            let what = "there is nothing between no rate and a rate";
            Err(PolicyError::contradiction(what, "give both steps one, for example `rate 10gbit`"))
        }
    }
}

/// The two, such that the kernel can draw numbers between them ([`Effects::set_between`]): what only one of them needs, the
/// other has as well. Each by itself does what it did.
///
/// # Errors
///
/// When they differ in more than such numbers.
pub(super) fn aligned(mut from: Effects, mut to: Effects) -> Result<(Effects, Effects), PolicyError> {
    borrow(&mut from, &to);
    borrow(&mut to, &from);
    align_loss(&mut from, &mut to)?;
    let orphan = from.orphan | to.orphan;
    (from.orphan, to.orphan) = (orphan, orphan);
    let mut rest = from;
    rest.set_between(&from, &to, 1 << 24);
    let rest_differs = differing(&rest, &to);
    for (differ, what, advice) in [
        (from.queue_ns.min(1) != to.queue_ns.min(1), "queue", "bound both in the same units"),
        (from.queue_bytes.min(1) != to.queue_bytes.min(1), "queue", "bound both in the same units"),
        (from.queue_packets.min(1) != to.queue_packets.min(1), "queue", "bound both in the same units"),
        (from.mark_ns.min(1) != to.mark_ns.min(1), "mark", "give it to both in the same units"),
        (from.mark_bytes.min(1) != to.mark_bytes.min(1), "mark", "give it to both in the same units"),
        (from.mark_packets.min(1) != to.mark_packets.min(1), "mark", "give it to both in the same units"),
        (rest != to, rest_differs, "make it the same in both"),
    ] {
        if differ {
            let advice = format!("{advice}, or leave out the ramp");
            return Err(PolicyError::contradiction(format!("{what} cannot change gradually"), advice));
        }
    }
    Ok((from, to))
}

/// Makes no loss the other's model such that it loses nothing: one that never comes to lose.
fn align_loss(from: &mut Effects, to: &mut Effects) -> Result<(), PolicyError> {
    let never = |effects: &mut Effects, other: &Effects| {
        effects.loss_model = other.loss_model;
        effects.loss_ecn = other.loss_ecn;
        let [first, second, third, fourth, _] = other.loss;
        effects.loss = match other.loss_model {
            LOSS_RANDOM => [0, second, 0, 0, 0],
            LOSS_GEMODEL => [0, second, third, 0, 0],
            LOSS_MARKOV => [0, second, third, fourth, 0],
            _ => [first, 0, 0, 0, 0],
        };
    };
    match (from.loss_model, to.loss_model) {
        (from, to) if from == to => Ok(()),
        (LOSS_NONE, LOSS_EVERY) | (LOSS_EVERY, LOSS_NONE) => {
            let what = "there is nothing between no loss and `loss every`";
            Err(PolicyError::contradiction(what, "leave out the ramp"))
        }
        (LOSS_NONE, _) => {
            never(from, to);
            Ok(())
        }
        (_, LOSS_NONE) => {
            never(to, from);
            Ok(())
        }
        _ => Err(PolicyError::contradiction(
            "there is nothing between two models of loss",
            "use the same one in both, or leave out the ramp",
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        compile::effects::Tables,
        samples::{any_effects, effects},
    };

    fn ramp(from: &str, to: &str) -> Result<(Effects, Effects), PolicyError> {
        let mut tables = Tables::default();
        let (from, to) = (effects(from), effects(to));
        check(&from, &to)?;
        aligned(from.to_map(&mut tables), to.to_map(&mut tables))
    }

    #[test]
    fn what_one_has_and_the_other_lacks_comes_and_goes_by_and_by() {
        for (one, other) in [
            ("", "delay 100ms 20ms 25% distribution normal reordering"),
            ("delay 1ms", "loss 10% 25% ecn"),
            ("", "loss gemodel 1% 10% 80% 1%"),
            ("loss state 1 10 5 30 2", ""),
            ("loss every 100", "loss every 10"),
            ("delay 10ms", "delay 10ms reorder 25% 10% gap 5"),
            ("duplicate 1% 10%", "corrupt 1% 20% fixed"),
            ("rate 1mbit queue 100ms 50packets mark 10ms", "rate 2mbit queue 10ms limit 20 mark 1ms"),
            ("trace lte delay 1ms", "trace lte delay 2ms"),
        ] {
            let (from, to) = ramp(one, other).unwrap_or_else(|error| panic!("{one} -> {other}: {error}"));
            let (mut begin, mut end) = (from, from);
            begin.set_between(&from, &to, 0);
            end.set_between(&from, &to, 1 << 24);
            assert_eq!((begin, end), (from, to), "{one} -> {other}");
        }
    }

    #[test]
    fn no_loss_is_a_model_that_does_not_come_to_lose() {
        let (from, to) = ramp("", "loss gemodel 1% 10%").expect("a ramp");
        assert_eq!((from.loss_model, from.loss[0], from.loss[3]), (LOSS_GEMODEL, 0, 0));
        assert_eq!(from.loss[1..3], to.loss[1..3]);
    }

    #[test]
    fn what_has_nothing_between_is_refused() {
        for (from, to, said) in [
            ("", "rate 1mbit", "between no rate and a rate"),
            ("trace lte", "rate 1mbit", "a trace has nothing between"),
            ("loss 1%", "loss gemodel 1%", "between two models of loss"),
            ("", "loss every 5", "between no loss and `loss every`"),
            (
                "delay 9ms 1ms",
                "delay 9ms 1ms distribution normal",
                "the jitter's distribution or correlation cannot",
            ),
            ("loss 1%", "loss 2% ecn", "ecn cannot change gradually"),
            ("rate 1mbit", "rate 1mbit queue 10ms", "queue cannot change gradually"),
            ("rate 1mbit", "rate 1mbit mark 10ms", "mark cannot change gradually"),
            ("rate 1mbit", "rate 1mbit 14", "the rate's overhead cannot"),
            ("slot 1ms", "slot 2ms", "slot cannot change gradually"),
        ] {
            let error = ramp(from, to).expect_err(to);
            let error = error.to_string();
            assert!(error.contains(said), "{from} -> {to}: {error:?} lacks {said:?}");
        }
    }

    proptest! {
        #[test]
        fn what_turns_into_another_begins_and_ends_as_it_was(one in any_effects(), other in any_effects()) {
            let mut tables = Tables::default();
            let maps = (one.to_map(&mut tables), other.to_map(&mut tables));
            if let (Ok(()), Ok((from, to))) = (check(&one, &other), aligned(maps.0, maps.1)) {
                let mut end = from;
                end.set_between(&from, &to, 1 << 24);
                prop_assert_eq!(end, to);
                prop_assert_eq!((from.delay_ns, from.rate, from.slots), (maps.0.delay_ns, maps.0.rate, maps.0.slots));
            }
        }
    }
}
