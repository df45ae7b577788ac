//! Shaping in words.

use std::time::Duration;

use crate::shaping::{ContainerView, InterfaceView, Policy};

/// `web (c0ffee000000)`.
pub(super) fn title(view: &ContainerView) -> String {
    format!("{} ({})", view.container.name, view.container.id.short())
}

/// `latency 120ms, loss 10%, ends in 9m 58s`.
pub(super) fn state(view: &InterfaceView) -> String {
    let mut parts = effects(&view.policy);
    if parts.is_empty() {
        return format!("nothing any more; {}", waiting(view.queue.waiting));
    }
    if let Some(ms) = view.remaining_ms {
        parts.push(format!("ends in {}", duration(Duration::from_secs(ms.div_ceil(1000)))));
    }
    parts.join(", ")
}

fn effects(policy: &Policy) -> Vec<String> {
    let latency = policy.latency.map(|latency| format!("latency {latency}"));
    let loss = policy.loss.map(|loss| format!("loss {loss}"));
    latency.into_iter().chain(loss).collect()
}

/// `12 packets still wait`.
pub(super) fn waiting(packets: u64) -> String {
    match packets {
        1 => "1 packet still waits".to_owned(),
        _ => format!("{packets} packets still wait"),
    }
}

/// `9m 58s`.
pub(super) fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// What is in force, a line for each interface and direction.
pub(super) fn in_force(view: &ContainerView) -> String {
    if view.interfaces.is_empty() {
        return format!("{} is not shaped\n", title(view));
    }
    let line = |view: &InterfaceView| format!("  {} {}: {}\n", view.interface, view.direction, state(view));
    format!("{}\n{}", title(view), view.interfaces.iter().map(line).collect::<String>())
}
