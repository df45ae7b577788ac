//! The actions of the buttons.

use std::sync::Arc;

use serde::Deserialize;

use super::buttons::{Action, Buttons};
use crate::shaping::{
    Author, ContainerView, Insistence, Latency, Loss, Request, Shaper, ShapingError, Terms, quoted,
};

/// The suffix of a container's id in a node's id.
pub(super) const NODE_SUFFIX: &str = ";<container>";

/// The request of the probe when a button is pressed. `AppID` and `ControlArgs` say nothing to us.
#[derive(Debug, Deserialize)]
pub(super) struct ControlRequest {
    #[serde(rename = "NodeID")]
    pub(super) node_id: String,
    #[serde(rename = "Control")]
    pub(super) control: String,
}

/// Does what the button says and returns all containers that it changed: those of one network namespace.
pub(super) async fn carry_out(
    shaper: &Arc<impl Shaper>,
    buttons: Buttons,
    request: &ControlRequest,
) -> Result<Vec<ContainerView>, String> {
    let id = request.node_id.strip_suffix(NODE_SUFFIX).filter(|id| !id.is_empty()).ok_or_else(|| {
        format!("node {} is not a container: its id should end in {NODE_SUFFIX}", quoted(&request.node_id))
    })?;
    let button = buttons
        .iter()
        .find(|button| button.id == request.control)
        .ok_or_else(|| format!("unknown control {}: reload the page", quoted(&request.control)))?;
    let changed = act(shaper, id, button.action).await?;
    Ok(with_neighbours(&**shaper, changed).await)
}

async fn act(shaper: &Arc<impl Shaper>, id: &str, action: Action) -> Result<ContainerView, String> {
    let terms = Terms { insistence: Insistence::None, ..Terms::of(Author::Scope) };
    let request = match action {
        Action::Latency(latency) => {
            Request::of_latency(Latency::new(latency).map_err(|error| error.to_string())?)
        }
        Action::LossPercent(percent) => {
            Request::of_loss(Loss::from_percent(percent).map_err(|error| error.to_string())?)
        }
        Action::Preset(name) => Request::of_preset(name),
        Action::Clear => {
            return shaper
                .clear(id, terms)
                .await
                .map(|cleared| cleared.view)
                .map_err(|error| reason_first(&error));
        }
    };
    shaper.set(id, request, terms).await.map_err(|error| reason_first(&error))
}

/// The error with its reason at the beginning: Scope shows some 24 characters of it beside the buttons, and the rest only
/// when the mouse is over them.
fn reason_first(error: &ShapingError) -> String {
    if let ShapingError::NotRunning { name, state } = error {
        return format!("{state}: only a running container can be shaped (container {name})");
    }
    let (whole, reason) = (error.to_string(), error.reason().to_string());
    match whole.strip_suffix(&reason).map(|subject| subject.trim_end_matches(": ")) {
        Some(subject) if !subject.is_empty() => format!("{reason} ({subject})"),
        _ => whole,
    }
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
