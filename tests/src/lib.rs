//! The harness that the tests on real kernels and the demo share: namespaces of their own, a daemon in them, traffic.
//!
//! Nothing here touches an interface, qdisc or namespace that it did not make.

pub mod capture;
pub mod containerd;
pub mod daemon;
pub mod docker;
pub mod documents;
pub mod frame;
pub mod http;
pub mod netns;
pub mod odd_frames;
pub mod odd_traffic;
pub mod probe;
pub mod require;
pub mod scene;
pub mod senders;
pub mod subject;
pub mod tcx;
pub mod torture;
pub mod tracer;
pub mod traffic;
pub mod world;

pub use shaper_statistics as statistics;

use std::time::Duration;

/// So many milliseconds.
pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
