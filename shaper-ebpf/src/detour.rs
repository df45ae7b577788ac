//! The way of packets through a detour, on which they can wait: into it from the interface that received them, and from
//! its far end back to the interface.

use aya_ebpf::{
    Global,
    bindings::{BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC},
};

use crate::{kernel::redirect, skb::Skb};

/// Index of the interface.
#[unsafe(no_mangle)]
static DETOUR_FROM: Global<u32> = Global::new(0);
/// Index of the end by which packets go in.
#[unsafe(no_mangle)]
static DETOUR_INTO: Global<u32> = Global::new(0);

/// The traffic control index of packets that are on their way: a random number, so that none has it by chance, whose last
/// bits are whom the packet was for. Nothing that a packet meets on the way changes it (`tc_run` does for verdicts that
/// nobody gives there, Linux 6.12).
const LED: u16 = 0xc090;
const ADDRESSEE: u16 = 0b11;

/// Sends a packet on its way; one that has been on it goes on to the container.
///
/// The far end sees no other packets but those that the kernel sends on the detour by itself; they end there.
#[inline(always)]
pub(crate) fn lead(skb: &mut Skb) -> i32 {
    let from = DETOUR_FROM.load();
    let index = skb.traffic_index();
    let is_led = index & !ADDRESSEE == LED;
    match (skb.fields().ifindex == from, is_led) {
        (true, false) => {
            skb.set_traffic_index(LED | (skb.addressee() as u16 & ADDRESSEE));
            redirect(DETOUR_INTO.load(), 0)
        }
        (true, true) => {
            skb.set_traffic_index(0);
            skb.address_to((index & ADDRESSEE).into());
            TC_ACT_UNSPEC
        }
        (false, true) => redirect(from, BPF_F_INGRESS.into()),
        (false, false) => TC_ACT_SHOT,
    }
}
