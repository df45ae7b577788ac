//! Finds the containers that selectors choose.

use super::Daemon;
use crate::shaping::{
    Chosen, Container, ContainerView, Insistence, Known, Order, Refusal, Selection, Selector, ShapingError,
};

impl Daemon {
    /// The containers that a selection chooses, and those that have pins that could not be taken over.
    pub(super) fn list_selected(&self, selection: &Selection) -> Result<Vec<ContainerView>, ShapingError> {
        let mut all = self.all();
        all.extend(self.strangers());
        let selected = self
            .with_known(&all, |known| Ok(selection.list(known)?.into_iter().cloned().collect::<Vec<_>>()))?;
        Ok(selected.into_iter().map(|container| self.view(container)).collect())
    }

    /// The containers to change.
    pub(super) fn choose(&self, selection: &Selection, order: &Order) -> Result<Vec<Chosen>, ShapingError> {
        self.with_known(&self.all(), |known| selection.choose(known, order, &self.protection))
    }

    /// The containers that a selector fits.
    ///
    /// # Errors
    ///
    /// When a name in it means several, or none fits.
    pub(super) fn fitting(&self, selector: Selector) -> Result<Vec<Container>, ShapingError> {
        let selection = Selection::of(selector);
        self.with_known(&self.all(), |known| Ok(selection.list(known)?.into_iter().cloned().collect()))
    }

    /// Refuses to shape a container that is protected, unless a person insists who called it so.
    pub(super) fn refuse_protected(
        &self,
        container: &Container,
        called: &str,
        insistence: Insistence,
    ) -> Result<(), ShapingError> {
        if insistence.reaches(container, Some(called)) {
            return Ok(());
        }
        let netns = container.netns.as_ref().map(|netns| netns.id);
        let registry = self.registry.lock();
        let sharing = netns.into_iter().flat_map(|netns| registry.sharing(netns));
        match sharing.chain([container]).find_map(|one| self.protection.of(one)) {
            Some(reason) => Err(Refusal::Protected { container: container.name.clone(), reason }.into()),
            None => Ok(()),
        }
    }

    fn all(&self) -> Vec<Container> {
        self.registry.lock().iter().cloned().collect()
    }

    /// Does `work` with all containers, and a way to find one by its name.
    fn with_known<T>(
        &self,
        all: &[Container],
        work: impl FnOnce(&Known<'_>) -> Result<T, ShapingError>,
    ) -> Result<T, ShapingError> {
        work(&Known { all, resolve: &|name| self.resolve(name) })
    }
}
