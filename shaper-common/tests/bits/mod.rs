//! Numbers as the maps have them.
#![allow(dead_code, reason = "no file of tests needs all of it")]

/// A probability as the maps have it: 0 is none, else the number and one, of 2^32.
pub(crate) fn probability(share: f64) -> u32 {
    if share == 0.0 { 0 } else { (share * 4_294_967_296.0 - 1.0).round() as u32 }
}

/// A correlation as the maps have it, of 2^32.
pub(crate) fn correlation_bits(share: f64) -> u32 {
    (share * 4_294_967_296.0).round() as u32
}
