//! The classes of datagrams that come in fragments. The first fragment alone has the ports; the later ones follow it.

use aya_ebpf::{btf_maps::LruHashMap, macros::btf_map};
use shaper_common::{policy::Address, random::mix};

use crate::{
    headers::{Transport, address},
    skb::Skb,
};

/// The classes of datagrams of which a first fragment came, by a number for each. One that is forgotten is as one whose
/// first fragment has not come yet.
#[btf_map]
static FRAGMENTS: LruHashMap<u64, u32, 1> = LruHashMap::new();

/// Returns the class of a packet's first fragment, if the packet is a later one and the first one came.
#[inline(always)]
pub(crate) fn followed(skb: &Skb, transport: &Transport) -> Option<u32> {
    if !transport.is_later_fragment() {
        return None;
    }
    // SAFETY: at worst the entry is another datagram's by now.
    unsafe { FRAGMENTS.get(datagram(skb, transport)?) }.copied()
}

/// Has later fragments follow a packet of `class`, if it is a first fragment.
#[inline(always)]
pub(crate) fn lead(skb: &Skb, transport: &Transport, class: u32) {
    if transport.is_first_fragment()
        && let Some(datagram) = datagram(skb, transport)
    {
        // Without room, the later ones are as without the first.
        let _ = FRAGMENTS.insert(datagram, class, 0);
    }
}

/// Returns a number for what the fragments of a datagram share (RFC 791, RFC 8200). The BPF stack has no room for all of
/// it, and two of some thousand datagrams hardly ever have the same number.
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
