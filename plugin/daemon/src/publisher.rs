//! Publishes what no request publishes: the status of plain pods, of static pods whose mirror comes late, and what a
//! pod lost or never got while the daemon or the API server was away. No pod ever waits for it.
//!
//! ```text
//! journal/, plain/ ──notice or rescan──▶ records: who is attached ──▶ jobs: due now, later, done ──▶ one PATCH a pod
//! ```

mod folders;
mod jobs;
mod records;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use kubernetes::Client;
use meta::cluster::{ClusterError, PublishRequest};
use tokio::time::{Instant, sleep, sleep_until};

pub(crate) use self::jobs::Told;
use self::{folders::Folders, jobs::Jobs, records::Records};

/// Folders are looked at this often, whatever the kernel says: notices get lost.
const RESCAN: Duration = Duration::from_secs(30);
/// A folder that is not there yet is looked for this often: the plugin makes it with the first pod.
const AWAITED: Duration = Duration::from_secs(2);
/// Files change several times while a pod is attached; they are read once.
const QUIET: Duration = Duration::from_millis(200);
/// Between two pods: a node that publishes all its pods after a restart leaves others their turn.
const PACE: Duration = Duration::from_millis(20);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Keeps the statuses of this node's pods published.
pub(crate) struct Publisher {
    client: Client,
    jobs: Jobs,
    records: Records,
    folders: Folders,
    /// Grows while the API server is away, for all pods together.
    pause: Duration,
    /// Until then it is left alone.
    not_before: Instant,
}

impl Publisher {
    /// `journal` and `plain` are the plugin's folders; `told` is what requests publish.
    pub(crate) fn new(
        client: Client,
        journal: PathBuf,
        plain: PathBuf,
        told: Arc<Told>,
    ) -> anyhow::Result<Self> {
        let folders = Folders::new(vec![journal.clone(), plain.clone()]);
        let records = Records::new(&journal, &plain)?;
        let (pause, not_before) = (FIRST_PAUSE, Instant::now());
        Ok(Self { client, jobs: Jobs::new(told), records, folders, pause, not_before })
    }

    /// Never ends by itself, but with an error.
    pub(crate) async fn run(mut self) -> anyhow::Error {
        loop {
            // Before the look, so that nothing falls in between.
            let rescan = if self.folders.watch() { RESCAN } else { AWAITED };
            self = match self.look().await {
                Ok(looked) => looked,
                Err(error) => return error,
            };
            let next = self.round().await.min(Instant::now() + rescan);
            tokio::select! {
                () = self.folders.changed() => sleep(QUIET).await,
                () = sleep_until(next) => {}
            }
        }
    }

    /// Reads what changed, off the threads that serve requests.
    async fn look(mut self) -> anyhow::Result<Self> {
        let looked = tokio::task::spawn_blocking(move || {
            let found = self.records.look();
            self.jobs.set(found);
            self
        });
        looked.await.context("looking at the plugin's records broke off")
    }

    /// Publishes what is due, one pod after the other; says when to come again.
    async fn round(&mut self) -> Instant {
        if Instant::now() < self.not_before {
            return self.not_before;
        }
        for sandbox in self.jobs.due(Instant::now()) {
            let Some((request, fresh)) = self.jobs.request(&sandbox) else { continue };
            let outcome = if fresh {
                self.client.publish(&request).await.map(|()| true)
            } else {
                self.client.ensure(&request).await
            };
            if let Err(error) = self.settle(&sandbox, &request, outcome) {
                log::warn!("statuses wait for {} s: {error}", self.pause.as_secs());
                self.not_before = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                return self.not_before;
            }
            self.pause = FIRST_PAUSE;
            sleep(PACE).await;
        }
        self.jobs.next().unwrap_or_else(|| Instant::now() + RESCAN)
    }

    /// Notes what came of one pod. An error that other pods would meet as well is given back.
    fn settle(
        &mut self,
        sandbox: &str,
        request: &PublishRequest,
        outcome: Result<bool, ClusterError>,
    ) -> Result<(), ClusterError> {
        let pod = format!("{}/{}", request.pod.namespace, request.pod.name);
        match outcome {
            Ok(written) => {
                if written {
                    log::info!("published the network status of {pod}");
                }
                self.jobs.done(sandbox);
            }
            Err(error) => match error.reason.as_str() {
                // Its own sandbox is another one; this one's DEL is on its way.
                "POD_REPLACED" => self.jobs.done(sandbox),
                // A mirror pod that comes late, or a pod that is gone and whose DEL comes.
                "POD_NOT_FOUND" => self.jobs.later(sandbox, FIRST_PAUSE, LONGEST_PAUSE),
                // Admission: of this pod alone.
                "API_REFUSED" | "INVALID_REQUEST" => {
                    log::warn!("the network status of {pod} is refused: {error}");
                    self.jobs.later(sandbox, LONGEST_PAUSE, 10 * LONGEST_PAUSE);
                }
                // The others have their turn before it comes again: what fails may be of this pod alone after all.
                _ => {
                    self.jobs.later(sandbox, FIRST_PAUSE, LONGEST_PAUSE);
                    return Err(error);
                }
            },
        }
        Ok(())
    }
}
