//! Explains effects to people: in sentences, and by what they do to simulated packets.

mod sentences;
mod simulation;

pub use self::simulation::{Pace, Simulation};
