//! Talks to the kernel's networking: namespaces, links, qdiscs and filters.
//!
//! A [`Socket`] belongs to the namespace that it was opened in; every function that takes one acts there, wherever it
//! is called. Knows nothing of BPF, containers or policies.

mod address;
mod filter;
mod inside;
mod link;
mod netns;
mod pair;
mod qdisc;
mod route;
mod search;
mod socket;

pub(crate) use filter::{Filter, Side, delete_filter, filters, has_filters};
pub(crate) use inside::{FIRST, Inside, addresses, leads_out};
pub(crate) use link::{
    Link, Peer, link_at, links, netns_id_of, packets_received, packets_sent, set_gso_max_segs,
    set_tx_queue_len,
};
pub(crate) use netns::Netns;
pub(crate) use pair::{add_pair, delete_link};
pub(crate) use qdisc::{FqLimits, Qdisc, add_clsact, add_fq, delete_clsact, delete_root, hook, root};
use route::default_route_devices;
pub(crate) use search::{NamespaceKind, Search, own_namespace};
pub(crate) use socket::{NetlinkError, Socket};
