//! The effects on packets of a class at a time.

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray},
    macros::btf_map,
};
use shaper_common::{
    policy::{Effects, Schedule, Step},
    uses,
};

use crate::{own, uses::uses};

/// The depth of recursion: a packet, and its duplicate.
const DEPTHS: usize = 2;

#[btf_map]
static SCHEDULES: Array<Schedule, 1> = Array::new();

#[btf_map]
static STEPS: Array<Step, 1> = Array::new();

#[btf_map]
static DISTRIBUTIONS: Array<i32, 1> = Array::new();

/// The effects between two steps, during a ramp: for a packet, and for its duplicate.
#[btf_map]
static BETWEEN: PerCpuArray<Effects, DEPTHS> = PerCpuArray::new();

/// Returns the schedule of a class; none where packets are left alone.
#[inline(always)]
pub(crate) fn of(class: u32) -> Option<&'static Schedule> {
    SCHEDULES.get(class).filter(|schedule| schedule.count != 0)
}

/// Returns the effects on a packet, or on a duplicate, at `now_ns`.
#[inline(always)]
pub(crate) fn effects(schedule: &Schedule, now_ns: u64, is_duplicate: bool) -> Option<&'static Effects> {
    let changes = uses(uses::STEPS);
    let position_ns = if changes { schedule.position_ns(now_ns) } else { 0 };
    let number = match changes && schedule.count > 1 {
        true => step_at(schedule.first, schedule.count, position_ns),
        false => 0,
    };
    let step = STEPS.get(schedule.first + number)?;
    if !changes || step.ramp == 0 {
        return Some(&step.effects);
    }
    let next = if number + 1 < schedule.count { number + 1 } else { 0 };
    let next = STEPS.get(schedule.first + next)?;
    // While a packet uses it, nothing but its duplicate, or a copy whose departure is decided, runs on this processor.
    let between = own::entry(&BETWEEN, is_duplicate.into())?;
    between.set_between(&step.effects, &next.effects, step.over(position_ns));
    Some(between)
}

/// Returns the number, among the `count` steps from `first` on, of the one at `position_ns`; a global function, which the
/// kernel verifies by itself.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn step_at(first: u32, count: u32, position_ns: u64) -> u32 {
    let ends_ns = |step| STEPS.get(first + step).map_or(u64::MAX, |step| step.ends_ns);
    shaper_common::schedule::step_at(count, position_ns, ends_ns)
}

/// Returns an entry of a distribution.
#[inline(always)]
pub(crate) fn time(entry: u32) -> i32 {
    DISTRIBUTIONS.get(entry).copied().unwrap_or(0)
}
