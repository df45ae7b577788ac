//! The five buttons, as the Traffic Control plugin had them, those of presets, and what they do.

use std::time::Duration;

use serde::Deserialize;

use crate::shaping::{ContainerView, Latency, Loss, Request, Shaper};

/// What follows a container's id in a node's id.
pub(super) const NODE_SUFFIX: &str = ";<container>";

/// A button and what it does.
pub(super) struct Button {
    pub(super) id: &'static str,
    pub(super) human: &'static str,
    pub(super) icon: &'static str,
    pub(super) rank: u32,
    action: Action,
}

#[derive(Clone, Copy)]
enum Action {
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

impl Buttons {
    /// The five, and one for each of `presets`, names and titles, in this order.
    pub(crate) fn with_presets<'a>(presets: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        // They are made once, and asked for all the time.
        let leak = |text: String| -> &'static str { text.leak() };
        let preset = |(rank, (name, title)): (u32, (&str, &str))| Button {
            id: leak(format!("traffic-control-table-preset-{name}")),
            human: leak(format!("Network: {title}")),
            icon: "fa-signal",
            rank,
            action: Action::Preset(leak(name.to_owned())),
        };
        let presets = (PRESET_RANK..).zip(presets).map(preset);
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

/// What the probe sends when a button is pressed. `AppID` and `ControlArgs` say nothing to us.
#[derive(Debug, Deserialize)]
pub(super) struct ControlRequest {
    #[serde(rename = "NodeID")]
    pub(super) node_id: String,
    #[serde(rename = "Control")]
    pub(super) control: String,
}

/// Does what the button says and returns all containers that it changed: those of one network namespace.
pub(super) async fn carry_out(
    shaper: &impl Shaper,
    buttons: Buttons,
    request: &ControlRequest,
) -> Result<Vec<ContainerView>, String> {
    let id = request.node_id.strip_suffix(NODE_SUFFIX).filter(|id| !id.is_empty()).ok_or_else(|| {
        format!("node {:?} is no container: its id should end in {NODE_SUFFIX}", request.node_id)
    })?;
    let button = buttons
        .iter()
        .find(|button| button.id == request.control)
        .ok_or_else(|| format!("there is no control {:?}: reload the page", request.control))?;
    let changed = act(shaper, id, button.action).await?;
    Ok(with_neighbours(shaper, changed).await)
}

async fn act(shaper: &impl Shaper, id: &str, action: Action) -> Result<ContainerView, String> {
    let request = match action {
        Action::Latency(latency) => Request::of_latency(Latency::new(latency)?),
        Action::LossPercent(percent) => Request::of_loss(Loss::from_percent(percent)?),
        Action::Preset(name) => Request::of_preset(name),
        Action::Clear => return shaper.clear(id).await.map_err(|error| error.to_string()),
    };
    shaper.set(id, request).await.map_err(|error| error.to_string())
}

/// The changed container and those that share its network namespace, and so its shaping.
async fn with_neighbours(shaper: &impl Shaper, changed: ContainerView) -> Vec<ContainerView> {
    let Some(netns) = changed.container.netns.as_ref().map(|netns| netns.id) else {
        return vec![changed];
    };
    let mut views: Vec<ContainerView> = shaper
        .sharing(netns)
        .await
        .into_iter()
        .filter(|view| view.container.id != changed.container.id)
        .map(|view| ContainerView { container: view.container, ..changed.clone() })
        .collect();
    views.push(changed);
    views
}
