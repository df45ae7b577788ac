//! The parts of a policy, in types that no invalid value fits in.
//!
//! Knows none of the other rooms: not how any of it is written, asked for, or carried out.

mod bounded;
mod direction;
mod distribution;
mod effects;
mod error;
mod interfaces;
mod match_rule;
mod mean;
mod named;
mod overall;
mod policy;
mod quote;
mod schedule;
mod shaping;
mod trace;
mod units;

pub use bounded::{Latency, Loss};
pub use direction::{Direction, Directions};
pub(crate) use distribution::MAX_ENTRIES;
pub use distribution::{Distribution, Measured};
pub use effects::Effects;
pub(crate) use effects::{
    Bottleneck, Bounds, Chance, Corruption, Delay, Jitter, LossModel, Losses, Reordering, Slot, SlotTime,
};
pub use error::{Hint, PolicyError, Problem, Segment};
pub use interfaces::{Interfaces, Patterns, check_interface, check_network};
pub(crate) use match_rule::{MAX_PREFIXES, PROTOCOLS};
pub use match_rule::{MatchRule, Name};
pub(crate) use match_rule::{Peer, PeerOf, Ports, Protocol};
pub use named::Named;
pub use policy::Policy;
pub(crate) use policy::Target;
pub use quote::{quoted, short};
pub(crate) use schedule::{Schedule, Step};
pub use shaping::Shaping;
pub(crate) use trace::MAX_OPPORTUNITIES;
pub use trace::Trace;
pub(crate) use units::{Percent, Rate};
pub(crate) use units::{Unitless, as_ns, parse_size, parse_time, show_size};
pub use units::{parse_duration, show_time};
