//! The five buttons, as the Traffic Control plugin had them, and those of presets.

use std::time::Duration;

/// A button and what it does.
pub(super) struct Button {
    pub(super) id: &'static str,
    pub(super) human: &'static str,
    pub(super) icon: &'static str,
    pub(super) rank: u32,
    pub(super) action: Action,
}

#[derive(Clone, Copy)]
pub(super) enum Action {
    Latency(Duration),
    LossPercent(f64),
    Clear,
    Preset(&'static str),
}

/// All buttons: they are the same as long as the daemon runs.
#[derive(Clone, Copy)]
pub(crate) struct Buttons(&'static [Button]);

/// The rank of the first button of a preset, behind the five.
const PRESET_RANK: u32 = 25;
/// Scope's panel has room for twelve buttons in a line: Docker's five and our five take ten of them.
const PRESETS_IN_A_LINE: usize = 2;
/// The icons of presets' buttons, in their order: none is one of the five's or of Docker's.
const PRESET_ICONS: [&str; 10] = [
    "fa-signal",
    "fa-wifi",
    "fa-globe",
    "fa-plug",
    "fa-mobile",
    "fa-road",
    "fa-rss",
    "fa-plane",
    "fa-ship",
    "fa-leaf",
];

impl Buttons {
    /// The five, and one for each of `presets`, names and titles, in this order.
    pub(crate) fn with_presets<'a>(presets: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        // They are made once, and asked for all the time.
        let leak = |text: String| -> &'static str { text.leak() };
        let preset = |((rank, icon), (name, title)): ((u32, &&'static str), (&str, &str))| Button {
            id: leak(format!("traffic-control-table-preset-{name}")),
            human: leak(format!("Network: {title}")),
            icon,
            rank,
            action: Action::Preset(leak(name.to_owned())),
        };
        let places = (PRESET_RANK..).zip(PRESET_ICONS.iter().cycle());
        let presets: Vec<_> = places.zip(presets).map(preset).collect();
        if presets.len() > PRESETS_IN_A_LINE {
            tracing::warn!(
                presets = presets.len(),
                "Scope shows {PRESETS_IN_A_LINE} presets' buttons in its line: more may be cut off"
            );
        }
        Self(BUTTONS.into_iter().chain(presets).collect::<Vec<_>>().leak())
    }

    pub(super) fn iter(self) -> impl Iterator<Item = &'static Button> {
        self.0.iter()
    }
}

/// Ids, labels and icons are what people's scripts and eyes know: they stay.
const BUTTONS: [Button; 5] = [
    Button {
        id: "traffic-control-table-slow",
        human: "Traffic speed: slow",
        icon: "fa-hourglass-1",
        rank: 20,
        action: Action::Latency(Duration::from_millis(2000)),
    },
    Button {
        id: "traffic-control-table-medium",
        human: "Traffic speed: medium",
        icon: "fa-hourglass-2",
        rank: 21,
        action: Action::Latency(Duration::from_millis(1000)),
    },
    Button {
        id: "traffic-control-table-fast",
        human: "Traffic speed: fast",
        icon: "fa-hourglass-3",
        rank: 22,
        action: Action::Latency(Duration::from_millis(500)),
    },
    Button {
        id: "traffic-control-table-pkt-drop-low",
        human: "Packet drop: low",
        icon: "fa-cut",
        rank: 23,
        action: Action::LossPercent(10.0),
    },
    Button {
        id: "traffic-control-table-clear",
        human: "Clear traffic control settings",
        icon: "fa-times-circle",
        rank: 24,
        action: Action::Clear,
    },
];
