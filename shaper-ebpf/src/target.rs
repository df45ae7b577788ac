//! The class of a packet: by the longest prefix of its peer's address, then by that prefix's rules.

use aya_ebpf::{
    Global,
    bindings::__sk_buff,
    btf_maps::{Array, LpmTrie, lpm_trie::Key},
    macros::btf_map,
    programs::TcContext,
};
use shaper_common::policy::{Address, MAX_RULES, Ports, Rule, RuleList};

use crate::{
    fragments,
    headers::{Transport, address},
    skb::Skb,
};

#[btf_map]
static TARGETS: LpmTrie<Address, RuleList, 1> = LpmTrie::new();

#[btf_map]
static RULES: Array<Rule, 1> = Array::new();

/// 1 if there are targets, else 0; the kernel then removes the look-up when it loads the program.
#[unsafe(no_mangle)]
static TARGETED: Global<u32> = Global::new(0);

/// 1 if a packet's peer is its source, as in what a container receives; else 0.
#[unsafe(no_mangle)]
static PEER_SENDS: Global<u32> = Global::new(0);

/// Returns the class of a packet; 0 if no target matches, or if it is not IP.
#[inline(always)]
pub(crate) fn class(skb: &Skb) -> u32 {
    if TARGETED.load() == 0 { 0 } else { class_of(skb.as_ptr()) }
}

/// A global function, which the kernel verifies by itself.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn class_of(skb: *mut __sk_buff) -> u32 {
    find(&Skb::new(TcContext::new(skb)))
}

#[inline(always)]
fn find(skb: &Skb) -> u32 {
    let transport = Transport::read(skb);
    fragments::followed(skb, &transport).unwrap_or_else(|| {
        let class = by_rules(skb, &transport).unwrap_or(0);
        fragments::lead(skb, &transport, class);
        class
    })
}

#[inline(always)]
fn by_rules(skb: &Skb, transport: &Transport) -> Option<u32> {
    let peer_sends = PEER_SENDS.load() != 0;
    let peer = address(skb, peer_sends)?;
    let list = TARGETS.get(&Key::new(128, peer))?;
    let ports = transport.ports(skb, peer_sends);
    for number in 0..MAX_RULES {
        if number >= list.count {
            break;
        }
        let class = class_if_fits(list.first + number, transport.protocol.into(), ports.to_bits());
        if class != u32::MAX {
            return Some(class);
        }
    }
    None
}

/// Returns the class of a rule if it fits a packet, else `u32::MAX`; a global function.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn class_if_fits(rule: u32, protocol: u32, ports: u64) -> u32 {
    match RULES.get(rule) {
        Some(rule) if rule.fits(protocol as u8, Ports::from_bits(ports)) => rule.class,
        _ => u32::MAX,
    }
}
