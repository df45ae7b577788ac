//! The tc classifiers that shape one interface in one direction: one of them, as much as its policy needs.
//!
//! It sits on the clsact egress hook of one device, in front of the device's root `fq`. Each instance has maps of its
//! own, so it never asks which interface it runs on. What goes wrong passes the packet and is counted.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "the target has atomic instructions, and core no methods for them")]
#![allow(missing_docs, unreachable_pub, reason = "the classifier macro writes a public function of its own")]
#![allow(
    unsafe_code,
    reason = "the kernel's packet context and maps are raw pointers; the verifier checks them"
)]

mod corrupt;
mod counters;
mod course;
mod headers;
mod link;
mod log;
mod packet;
mod plan;
mod policy;
mod queue;
mod state;
mod target;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_STOLEN, TC_ACT_UNSPEC},
    helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns},
    macros::classifier,
    programs::TcContext,
};
use packet::Orphaned;
use shaper_common::{MAX_DELAY_NS, Policy};

/// What becomes of a packet.
enum Outcome {
    /// It goes on at once.
    Pass,
    /// It goes on unshaped, as the policy asks for what cannot be.
    PassInvalid,
    /// It waits in the queue until its departure.
    Delay { departure_ns: u64, orphan_failed: bool },
    /// It is lost, and its sender is not told.
    Lose,
    /// There is no room for it in the link's queue, and its sender is told.
    Overflow,
    /// A copy without a socket has taken its place and gone through all this already.
    Replaced,
    /// As `Replaced`, but something behind us dropped the copy.
    Refused,
}

impl Outcome {
    /// The same on a device with the queue that `policy` needs; without it no packet waits, so none is counted as such.
    #[inline(always)]
    fn on(self, policy: &Policy) -> Self {
        match self {
            Self::Delay { .. } if policy.queueless != 0 => Self::Pass,
            outcome => outcome,
        }
    }
}

/// The classifier of a plain delay and loss.
#[classifier]
pub fn shape(ctx: TcContext) -> i32 {
    let outcome = policy::current().map_or(Outcome::Pass, |policy| outcome(&ctx, policy).on(policy));
    carry_out(outcome, &ctx)
}

/// The classifier of a plan, with all effects by target and by time.
#[classifier]
pub fn shape_plan(ctx: TcContext) -> i32 {
    let outcome = policy::current().map_or(Outcome::Pass, |policy| match policy.plan {
        0 => outcome(&ctx, policy).on(policy),
        _ => plan::outcome(&ctx, policy).on(policy),
    });
    carry_out(outcome, &ctx)
}

/// Carries out what was decided on a packet.
///
/// A loss is `TC_ACT_STOLEN`: `TC_ACT_SHOT` would tell a local sender, which then retries. A full queue does tell, as
/// any qdisc's does. Passing is `TC_ACT_UNSPEC`, so that other classifiers on the hook get their turn (`tcf_classify`,
/// Linux 6.1).
#[inline(always)]
fn carry_out(outcome: Outcome, ctx: &TcContext) -> i32 {
    match outcome {
        Outcome::Pass => {
            counters::passed(ctx);
            TC_ACT_UNSPEC
        }
        Outcome::PassInvalid => {
            counters::invalid_policy(ctx);
            TC_ACT_UNSPEC
        }
        Outcome::Delay { departure_ns, orphan_failed } => {
            packet::depart_at(ctx, departure_ns);
            counters::delayed(ctx, orphan_failed);
            TC_ACT_UNSPEC
        }
        Outcome::Lose => {
            counters::lost(ctx);
            TC_ACT_STOLEN
        }
        Outcome::Overflow => {
            counters::overflowed(ctx);
            TC_ACT_SHOT
        }
        Outcome::Replaced => TC_ACT_STOLEN,
        Outcome::Refused => {
            counters::refused(ctx);
            TC_ACT_SHOT
        }
    }
}

#[inline(always)]
fn outcome(ctx: &TcContext, policy: &Policy) -> Outcome {
    if policy.is_noop() {
        return Outcome::Pass;
    }
    if policy.expires_at_ns == 0 && policy.delay_ns == 0 {
        return if loses(policy) { Outcome::Lose } else { Outcome::Pass };
    }
    // SAFETY: a helper without arguments.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    if policy.has_expired(now_ns) {
        return Outcome::Pass;
    }
    if policy.delay_ns > MAX_DELAY_NS {
        return Outcome::PassInvalid;
    }
    // Before the loss is drawn: the copy comes through here again, and a packet's fate is drawn once.
    let mut orphan_failed = false;
    if policy.orphan != 0 && packet::must_leave_its_socket(ctx, policy.delay_ns, now_ns) {
        match packet::orphan(ctx, now_ns) {
            Orphaned::Sent => return Outcome::Replaced,
            Orphaned::Dropped => return Outcome::Refused,
            Orphaned::Failed => orphan_failed = true,
        }
    }
    if loses(policy) {
        Outcome::Lose
    } else if policy.delay_ns == 0 {
        Outcome::Pass
    } else {
        let due_ns = policy.departure_ns(packet::stamp_ns(ctx), packet::came_at_ns(ctx, now_ns));
        Outcome::Delay { departure_ns: queue::departure_ns(policy, due_ns), orphan_failed }
    }
}

#[inline(always)]
fn loses(policy: &Policy) -> bool {
    // SAFETY: a helper without arguments.
    policy.loss != 0 && policy.loses(unsafe { bpf_get_prandom_u32() })
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// Of the helpers used here none is reserved to GPL programs, but the kernel's own conversions of the context are.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
