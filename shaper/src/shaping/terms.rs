//! The terms of a request to change a container.

use std::{
    hash::{DefaultHasher, Hasher as _},
    io,
};

use super::{Author, ContainerView, Insistence, InterfaceView};

/// The terms of a request to change a container.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// The one who asks.
    pub(crate) by: Author,
    /// The right to change it though it is protected.
    pub(crate) insistence: Insistence,
    /// The tag that its shaping has to have still, if it matters.
    pub(crate) if_match: Option<Tag>,
}

impl Terms {
    /// The terms of a request that says no more than whose it is.
    pub(crate) const fn of(by: Author) -> Self {
        Self { by, insistence: Insistence::ById, if_match: None }
    }
}

/// A tag of a container's shaping, which is another one whenever that has changed (RFC 9110, section 8.8.3): the strong
/// entity tag without its quotation marks. Counters, and the time that passes, do not change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag(pub(crate) String);

impl ContainerView {
    /// The tag of the shaping in force.
    pub(crate) fn tag(&self) -> Tag {
        let mut hash = Hash(DefaultHasher::new());
        for InterfaceView { interface, direction, shaping, .. } in &self.interfaces {
            // What is shown of a policy is all of it.
            let _ = serde_json::to_writer(&mut hash, &(interface, direction, shaping));
        }
        Tag(format!("{:016x}", hash.0.finish()))
    }
}

/// Takes in what is written.
struct Hash(DefaultHasher);

impl io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::shaping::fake::{shaped_web, web};

    #[test]
    fn a_tag_is_that_of_the_shaping_alone() {
        let mut view = shaped_web();
        let tag = view.tag();
        assert_ne!(tag, web().tag());
        view.interfaces[0].remaining_ms = Some(1);
        view.interfaces[0].queue.waiting = 7;
        assert_eq!(view.tag(), tag);
        view.interfaces[0].shaping = Default::default();
        assert_ne!(view.tag(), tag);
    }
}
