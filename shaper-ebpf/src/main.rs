//! The tc classifiers that shape one interface in one direction: `shape` for a plain policy, `shape_policy` for any;
//! and `shape_detour`, which leads packets through a device in which they can wait.
//!
//! A classifier sits on the egress hook, TCX or clsact, of one device, in front of the device's root `fq`; or, where no
//! packet is to wait, on the ingress hook. Each instance has maps of its own, so it never asks which interface it runs
//! on. A failure passes the packet, and is counted.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "the target has atomic instructions, and core no methods for them")]
#![allow(missing_docs, unreachable_pub, reason = "the classifier macro writes a public function of its own")]
#![allow(
    unsafe_code,
    reason = "the kernel's packet context and maps are raw pointers; the verifier checks them"
)]

mod bottleneck;
mod copies;
mod corrupt;
mod counters;
mod detour;
mod fragments;
mod headers;
mod kernel;
mod log;
mod own;
mod policy;
mod queue;
mod schedule;
mod shaping;
mod shared;
mod skb;
mod socket;
mod state;
mod target;
mod uses;

use aya_ebpf::{
    Global,
    bindings::{TC_ACT_SHOT, TC_ACT_STOLEN, TC_ACT_UNSPEC},
    macros::classifier,
    programs::TcContext,
};
use shaper_common::{MAX_DELAY_NS, Shaping};

use crate::{copies::Sent, skb::Skb};

/// 1 on the TCX hook, 0 under clsact; the kernel then removes the other one's verdict when it loads the program.
#[unsafe(no_mangle)]
static TCX: Global<u32> = Global::new(0);

/// 1 on the ingress hook of a device, else 0.
#[unsafe(no_mangle)]
static RECEIVES: Global<u32> = Global::new(0);

/// The verdict on a packet.
enum Outcome {
    /// It is sent at once.
    Pass,
    /// It is sent unshaped, as the policy is invalid.
    PassInvalid,
    /// It waits in the queue until `departure_ns`.
    Delay { departure_ns: u64, orphan_failed: bool },
    /// It is dropped without its sender's knowledge.
    Lose,
    /// It is dropped by a full queue, and its sender is told.
    Overflow,
    /// A copy without a socket took its place, and has had its own verdict.
    Replaced,
    /// A copy without a socket took its place, and something behind the classifier dropped the copy.
    Refused,
}

impl Outcome {
    /// Turns a delay into a pass on a device without the queue that `shaping` needs: no packet waits, so none is counted.
    #[inline(always)]
    fn on(self, shaping: &Shaping) -> Self {
        match self {
            Self::Delay { .. } if shaping.queueless != 0 => Self::Pass,
            outcome => outcome,
        }
    }
}

/// Classifies by a plain policy: a constant delay and a random loss.
#[classifier]
pub fn shape(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(ctx);
    let outcome = shaping::current().map_or(Outcome::Pass, |shaping| outcome(&skb, shaping).on(shaping));
    execute(outcome, &mut skb)
}

/// Classifies by a policy: all effects, by target and by time.
#[classifier]
pub fn shape_policy(ctx: TcContext) -> i32 {
    let mut skb = Skb::new(ctx);
    let outcome = shaping::current().map_or(Outcome::Pass, |shaping| match shaping.in_maps {
        0 => outcome(&skb, shaping).on(shaping),
        _ => policy::outcome(&skb, shaping).on(shaping),
    });
    execute(outcome, &mut skb)
}

/// Leads packets through a detour.
#[classifier]
pub fn shape_detour(ctx: TcContext) -> i32 {
    detour::lead(&mut Skb::new(ctx))
}

/// Executes the verdict on a packet.
///
/// A loss is silent, as `TC_ACT_SHOT` would tell a local sender, which then retransmits. A full queue does tell, as that
/// of any qdisc. `TC_ACT_UNSPEC` passes, and lets other programs on the hook run (`tcf_classify`, Linux 6.1; `tcx_run`,
/// Linux 6.6, which calls it `TCX_NEXT`).
#[inline(always)]
fn execute(outcome: Outcome, skb: &mut Skb) -> i32 {
    match outcome {
        Outcome::Pass => {
            counters::passed(skb);
            TC_ACT_UNSPEC
        }
        Outcome::PassInvalid => {
            counters::invalid_policy(skb);
            TC_ACT_UNSPEC
        }
        Outcome::Delay { departure_ns, orphan_failed } => {
            skb.depart_at(departure_ns);
            counters::delayed(skb, orphan_failed);
            TC_ACT_UNSPEC
        }
        Outcome::Lose => {
            counters::lost(skb);
            free_silently()
        }
        Outcome::Overflow => {
            counters::overflowed(skb);
            TC_ACT_SHOT
        }
        Outcome::Replaced => free_silently(),
        Outcome::Refused => {
            counters::refused(skb);
            TC_ACT_SHOT
        }
    }
}

/// Returns the verdict that frees a packet while its sender is told that it was sent.
///
/// TCX takes `TC_ACT_STOLEN` for `TCX_NEXT`. A redirection to a device that does not exist frees the packet
/// (`skb_do_redirect`, Linux 6.12).
#[inline(always)]
fn free_silently() -> i32 {
    if TCX.load() == 0 {
        return TC_ACT_STOLEN;
    }
    kernel::redirect(0, 0)
}

#[inline(always)]
fn outcome(skb: &Skb, shaping: &Shaping) -> Outcome {
    if shaping.is_noop() {
        return Outcome::Pass;
    }
    if shaping.expires_at_ns == 0 && shaping.delay_ns == 0 {
        return if loses(shaping) { Outcome::Lose } else { Outcome::Pass };
    }
    let now_ns = kernel::now_ns();
    if shaping.has_expired(now_ns) {
        return Outcome::Pass;
    }
    if shaping.delay_ns > MAX_DELAY_NS {
        return Outcome::PassInvalid;
    }
    if shaping.delay_ns == 0 {
        return if loses(shaping) { Outcome::Lose } else { Outcome::Pass };
    }
    let due_ns = shaping.departure_ns(skb.stamp_ns(), skb.arrived_ns(now_ns));
    // Before the loss is drawn: the copy comes through here again, and the draw must be made once.
    let mut orphan_failed = false;
    if shaping.orphan != 0 && skb.must_be_orphaned(due_ns, now_ns) {
        match skb.orphan(now_ns) {
            Sent::Queued => return Outcome::Replaced,
            Sent::Dropped => return Outcome::Refused,
            Sent::Failed => orphan_failed = true,
        }
    }
    if loses(shaping) {
        return Outcome::Lose;
    }
    let departure_ns = queue::departure_ns(shaping, due_ns);
    Outcome::Delay { departure_ns: queue::apart_ns(departure_ns, skb.is_charged()), orphan_failed }
}

#[inline(always)]
fn loses(shaping: &Shaping) -> bool {
    shaping.loss != 0 && shaping.loses(kernel::random())
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// None of the helpers used here is reserved to GPL programs, but the kernel's conversions of the context are.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
