//! The tasks that the daemon cannot do without.

use std::collections::BTreeMap;

use tokio::task::{Id, JoinError, JoinSet};

/// Tasks, by what they do, none of which is to end.
#[derive(Default)]
pub(super) struct Tasks {
    running: JoinSet<()>,
    names: BTreeMap<Id, &'static str>,
}

impl Tasks {
    /// Starts a task that `name` says in the words of a person.
    pub(super) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits for the first one that ends, and says why the daemon has to end as well: it would answer as if it still did
    /// its work.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        let (id, reason) = match self.running.join_next_with_id().await {
            None => return std::future::pending().await,
            Some(Ok((id, ()))) => (id, "it came to its end".to_owned()),
            Some(Err(error)) => (error.id(), reason(error)),
        };
        let name = self.names.get(&id).copied().unwrap_or("?");
        anyhow::anyhow!(
            "the task that {name} has ended: {reason}; shaping stays as it is: start the daemon again"
        )
    }

    /// Ends all of them.
    pub(super) async fn shut_down(mut self) {
        self.running.shutdown().await;
    }
}

/// The reason why a task did not come to its end.
pub(super) fn reason(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "it was cancelled".to_owned() };
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("it panicked: {}", text.unwrap_or("see the log"))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_returns_ends_the_daemon_with_a_reason() {
        for (task, reason) in [("panics", "it panicked: on 7"), ("returns", "it came to its end")] {
            let mut tasks = Tasks::default();
            tasks.spawn("goes on", pending());
            tasks.spawn("is tested", async move { assert!(task == "returns", "on {}", 7) });
            let error = tasks.ended().await.to_string();
            assert_eq!(
                error,
                format!(
                    "the task that is tested has ended: {reason}; shaping stays as it is: start the daemon again"
                )
            );
            tasks.shut_down().await;
        }
    }
}
