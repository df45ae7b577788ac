//! The classes of datagrams that come in fragments. The first fragment alone has the ports; the later ones follow it.

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use shaper_common::{FRAGMENTS, policy::Address, random::mix};

use crate::{
    headers::{Transport, address},
    skb::Skb,
};

/// The last first fragments, each in the place that its datagram's number gives it: the number, with the class in its last
/// byte. A datagram whose place another one takes is as one whose first fragment has not come yet.
#[btf_map]
static LEADERS: Array<u64, 1> = Array::new();

const CLASS: u64 = 0xff;

/// Returns the class of a packet's first fragment, if the packet is a later one and the first one came.
#[inline(always)]
pub(crate) fn followed(skb: &Skb, transport: &Transport) -> Option<u32> {
    if !transport.is_later_fragment() {
        return None;
    }
    let datagram = datagram(skb, transport)?;
    let leader = *LEADERS.get(place(datagram))?;
    ((leader ^ datagram) & !CLASS == 0).then_some((leader & CLASS) as u32)
}

/// Has later fragments follow a packet of `class`, if it is a first fragment.
#[inline(always)]
pub(crate) fn lead(skb: &Skb, transport: &Transport, class: u32) {
    if transport.is_first_fragment()
        && let Some(datagram) = datagram(skb, transport)
    {
        // It fails where there is no such place, as no rule asks for ports.
        let _ = LEADERS.set(place(datagram), datagram & !CLASS | u64::from(class) & CLASS, 0);
    }
}

#[inline(always)]
const fn place(datagram: u64) -> u32 {
    (datagram >> 32) as u32 % FRAGMENTS
}

/// Returns a number for what the fragments of a datagram share (RFC 791, RFC 8200): two hardly ever have the same.
#[inline(always)]
fn datagram(skb: &Skb, transport: &Transport) -> Option<u64> {
    let of = u64::from(transport.identification) << 8 | u64::from(transport.protocol);
    Some(mixed(mixed(of, address(skb, true)?), address(skb, false)?))
}

#[inline(always)]
fn mixed(number: u64, address: Address) -> u64 {
    let bits = u128::from_ne_bytes(address.bytes);
    mix(mix(number ^ bits as u64) ^ (bits >> 64) as u64)
}
