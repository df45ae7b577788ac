//! The containers that a command is for, and the bounds of what it does to them.

use clap_complete::engine::ArgValueCompleter;
use form_urlencoded::Serializer;

use super::{
    client::{Client, ClientError},
    complete,
};
use crate::shaping::{ContainerView, Count, Selector, SelectorError};

/// The containers that a command is for.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Selected {
    /// Containers, by name, id, beginning of an id, or pattern: web, 'shop-*'; by what they have: label:app=web,
    /// service:web, project:shop, pod:shop/web-*, ns:shop, image:nginx, runtime:docker, re:^web-[0-9]+$; or all. A comma
    /// is "or", as between arguments, + is "and", ! is "not"
    #[arg(value_name = "SELECTOR", value_parser = checked, add = ArgValueCompleter::new(complete::selectors))]
    pub(super) selector: Vec<String>,
    /// Choose only so many of them: 2, or a share, 30%. The same ones each time
    #[arg(long, value_name = "COUNT", value_parser = str::parse::<Count>)]
    count: Option<Count>,
    /// Succeed if there are none
    #[arg(long)]
    allow_none: bool,
}

/// The bounds of a change.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Bounds {
    /// Show the containers and what would become of them, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Change the containers that can be changed, even if others cannot
    #[arg(long)]
    partial: bool,
    /// Refuse to change more containers than this
    #[arg(long, value_name = "NUMBER")]
    max_containers: Option<usize>,
}

/// The text of a selector, checked.
fn checked(text: &str) -> Result<String, SelectorError> {
    Selector::parse([text]).map(|_| text.to_owned())
}

impl Selected {
    /// The selector.
    ///
    /// # Errors
    ///
    /// When all arguments together are longer than a selector may be.
    pub(super) fn selector(&self) -> Result<Selector, SelectorError> {
        Selector::parse(self.selector.iter().cloned())
    }

    /// The number of containers to choose.
    pub(super) const fn count(&self) -> Option<Count> {
        self.count
    }

    /// The name of the one container that it means, if it is no more than that.
    pub(super) fn as_name(&self) -> Option<String> {
        if self.count.is_some() || self.allow_none {
            return None;
        }
        Selector::parse(self.selector.iter().cloned()).ok()?.as_name().map(str::to_owned)
    }

    /// Tells whether it means all containers because it says nothing.
    fn is_nothing(&self) -> bool {
        self.selector.is_empty() && self.count.is_none()
    }

    /// The containers that it means, as they are now; all of them if it says nothing.
    ///
    /// # Errors
    ///
    /// The daemon's.
    pub(super) async fn views(&self, client: &Client) -> Result<Vec<ContainerView>, ClientError> {
        match self.is_nothing() {
            true => client.list().await,
            false => client.select(&self.query()).await,
        }
    }

    /// The parameters of a request for these.
    pub(super) fn query(&self) -> String {
        self.add_to(Serializer::new(String::new())).finish()
    }

    /// The parameters of a change of these.
    pub(super) fn query_of_change(&self, bounds: &Bounds, force: bool) -> String {
        let mut query = self.add_to(Serializer::new(String::new()));
        let flags = [("dry_run", bounds.dry_run), ("partial", bounds.partial), ("force", force)];
        for (name, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
            query.append_pair(name, "true");
        }
        if let Some(most) = bounds.max_containers {
            query.append_pair("max_containers", &most.to_string());
        }
        query.finish()
    }

    fn add_to(&self, mut query: Serializer<'static, String>) -> Serializer<'static, String> {
        for selector in &self.selector {
            query.append_pair("selector", selector);
        }
        if let Some(count) = self.count {
            query.append_pair("count", &count.to_string());
        }
        if self.allow_none {
            query.append_pair("allow_none", "true");
        }
        query
    }
}

impl Bounds {
    /// Tells whether it bounds nothing.
    pub(super) const fn is_nothing(&self) -> bool {
        !self.dry_run && !self.partial && self.max_containers.is_none()
    }
}
