//! Packet-delivery traces, as Mahimahi has them: one opportunity to deliver a packet per line, in milliseconds.

use std::sync::Arc;

/// A link that carries packets when its trace says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deliveries {
    /// What it is called.
    pub(crate) name: String,
    /// The times of the opportunities, in milliseconds from its beginning, in order; the last one is its length.
    pub(crate) times_ms: Arc<[u32]>,
}
