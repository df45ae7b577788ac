//! Shaping in words.

use std::time::Duration;

use crate::shaping::{ContainerView, InterfaceView, Shaping, ShapingState};

/// `web (c0ffee000000)`.
pub(super) fn title(view: &ContainerView) -> String {
    format!("{} ({})", view.container.name, view.container.id.short())
}

/// `latency 120ms, loss 10%, ends in 9m 58s; broken: queue removed`.
pub(super) fn state(view: &InterfaceView) -> String {
    if let ShapingState::Unknown(_) = &view.state {
        return view.state.to_string();
    }
    let mut parts = effects(&view.shaping);
    if parts.is_empty() {
        return format!("nothing any more; {}", waiting(view.queue.waiting));
    }
    if let Some(ms) = view.remaining_ms {
        parts.push(format!("ends in {}", duration(Duration::from_secs(ms.div_ceil(1000)))));
    }
    match &view.state {
        ShapingState::Intact => parts.join(", "),
        fault => format!("{}; {fault}", parts.join(", ")),
    }
}

/// `120ms, 2.5%` if that is all there is, else netem's words, and how many targets there are.
pub(super) fn short(shaping: &Shaping) -> String {
    if shaping.policy.prepared && effects(shaping) == [PREPARED] {
        return PREPARED.to_owned();
    }
    if shaping.is_simple() {
        let latency = shaping.latency().map(|latency| latency.to_string());
        let loss = shaping.loss().map(|loss| loss.to_string());
        return latency.into_iter().chain(loss).collect::<Vec<_>>().join(", ");
    }
    let words = Some(shaping.words()).filter(|words| !words.is_empty());
    let targets = match shaping.targets().count() {
        0 => None,
        1 => Some("1 target".to_owned()),
        number => Some(format!("{number} targets")),
    };
    words.into_iter().chain(targets).collect::<Vec<_>>().join(", ")
}

/// Stands for effects where there are none yet.
const PREPARED: &str = "prepared";

/// Latency and loss if they are all there is, else all in netem's words; then the targets.
fn effects(shaping: &Shaping) -> Vec<String> {
    let own = if shaping.is_simple() {
        let latency = shaping.latency().map(|latency| format!("latency {latency}"));
        let loss = shaping.loss().map(|loss| format!("loss {loss}"));
        latency.into_iter().chain(loss).collect()
    } else {
        Vec::from_iter(Some(shaping.words()).filter(|words| !words.is_empty()))
    };
    let targets = shaping.targets().map(|(rule, words)| format!("to {rule}: {words}"));
    let all: Vec<_> = own.into_iter().chain(targets).collect();
    if all.is_empty() && shaping.policy.prepared { vec![PREPARED.to_owned()] } else { all }
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

/// Returns what is in force, a line for each interface and direction.
pub(super) fn in_force(view: &ContainerView) -> String {
    if view.interfaces.is_empty() {
        return format!("{} is not shaped\n", title(view));
    }
    let line = |view: &InterfaceView| format!("  {} {}: {}\n", view.interface, view.direction, state(view));
    format!("{}\n{}", title(view), view.interfaces.iter().map(line).collect::<String>())
}

/// A sentence in lines of at most so many columns, as far as its words allow.
pub(super) fn wrapped(sentence: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in sentence.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
