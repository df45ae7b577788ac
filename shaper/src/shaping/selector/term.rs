//! The kinds of what is known of a container, by which it is selected.

use regex::Regex;

use super::pattern::Pattern;
use crate::shaping::Container;

/// One thing that a container has, or is called.
#[derive(Clone, Debug)]
pub(super) enum Term {
    /// All containers.
    All,
    /// A name, an id, or the beginning of an id.
    Name(String),
    /// A pattern of names.
    Like(Pattern),
    /// A regular expression that fits somewhere in the name.
    Regex(Regex),
    /// A label, with any value or with one that fits.
    Label(String, Option<Pattern>),
    /// Something whose value fits a pattern.
    Of(Fits, Pattern),
}

/// Tells whether something of a container fits a pattern.
pub(super) type Fits = fn(&Container, &Pattern) -> bool;

/// A kind of what is known of a container.
pub(super) struct Kind {
    /// The word before the colon.
    pub(super) name: &'static str,
    /// A use of it.
    pub(super) example: &'static str,
    /// The form of its value.
    pub(super) value: Value,
}

/// The form of a value.
pub(super) enum Value {
    /// A key, and perhaps `=` and a pattern.
    Label,
    /// A regular expression.
    Regex,
    /// A pattern.
    Pattern(Fits),
}

/// All kinds.
pub(super) static KINDS: [Kind; 8] = [
    Kind { name: "label", example: "label:app=web", value: Value::Label },
    Kind { name: "service", example: "service:web", value: Value::Pattern(service) },
    Kind { name: "project", example: "project:shop", value: Value::Pattern(project) },
    Kind { name: "pod", example: "pod:shop/web-*", value: Value::Pattern(pod) },
    Kind { name: "ns", example: "ns:shop", value: Value::Pattern(namespace) },
    Kind { name: "image", example: "image:nginx", value: Value::Pattern(image) },
    Kind { name: "runtime", example: "runtime:docker", value: Value::Pattern(runtime) },
    Kind { name: "re", example: "re:^web-[0-9]+$", value: Value::Regex },
];

impl Term {
    pub(super) fn fits(&self, container: &Container, is_meant: &dyn Fn(&str) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::Name(name) => is_meant(name),
            Self::Like(pattern) => pattern.fits(&container.name),
            Self::Regex(regex) => regex.is_match(&container.name),
            Self::Label(key, value) => match (container.labels.get(key), value) {
                (Some(own), Some(value)) => value.fits(own),
                (own, None) => own.is_some(),
                (None, Some(_)) => false,
            },
            Self::Of(fits, pattern) => fits(container, pattern),
        }
    }
}

fn fits(own: Option<&str>, pattern: &Pattern) -> bool {
    own.is_some_and(|own| pattern.fits(own))
}

/// Swarm puts the name of its stack before that of a service, which nobody types.
fn service(container: &Container, pattern: &Pattern) -> bool {
    let Some(service) = container.service() else { return false };
    let own = container.project().and_then(|project| service.strip_prefix(project)?.strip_prefix('_'));
    pattern.fits(service) || fits(own, pattern)
}

fn project(container: &Container, pattern: &Pattern) -> bool {
    fits(container.project(), pattern)
}

/// The pod's name, or its namespace and name.
fn pod(container: &Container, pattern: &Pattern) -> bool {
    let Some(pod) = &container.pod else { return false };
    let whole = pod.namespace.as_ref().map(|namespace| format!("{namespace}/{}", pod.name));
    pattern.fits(&pod.name) || fits(whole.as_deref(), pattern)
}

fn namespace(container: &Container, pattern: &Pattern) -> bool {
    fits(container.pod.as_ref().and_then(|pod| pod.namespace.as_deref()), pattern)
}

fn runtime(container: &Container, pattern: &Pattern) -> bool {
    pattern.fits(&container.runtime.to_string())
}

/// The image as it was named, with or without where Docker's are by default, and with or without its tag or digest.
fn image(container: &Container, pattern: &Pattern) -> bool {
    let Some(image) = container.image.as_deref() else { return false };
    let docker = image.strip_prefix("docker.io/").unwrap_or(image);
    let official = docker.strip_prefix("library/").unwrap_or(docker);
    [image, docker, official].iter().any(|image| pattern.fits(image) || pattern.fits(untagged(image)))
}

/// An image without its tag and its digest: a colon before the last slash belongs to a registry's port.
fn untagged(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(image, _)| image);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}
