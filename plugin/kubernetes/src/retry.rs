//! Trying again: bounded in time, slower each time, never where the answer is final.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meta::cluster::ClusterError;
use tokio::time::{Instant, sleep, timeout_at};

use crate::errors::{self, Asked};

/// One attempt: short enough for a second one on another connection.
const ATTEMPT: Duration = Duration::from_millis(2500);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// What the API server asks for when it is overloaded; its header does not reach us.
const OVERLOADED: Duration = Duration::from_secs(1);

/// How long a caller has, and whether it wants more than one attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    deadline: Instant,
    once: bool,
}

impl Patience {
    /// Until `within` from now.
    pub(crate) fn of(within: Duration) -> Self {
        Self { deadline: Instant::now() + within, once: false }
    }

    /// One attempt.
    pub(crate) fn once(self) -> Self {
        Self { once: true, ..self }
    }

    pub(crate) fn tries(self) -> Tries {
        Tries { patience: self, pause: FIRST_PAUSE }
    }
}

/// What came of an attempt that did not succeed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The API server or the network said so.
    Answer(Box<kube::Error>),
    /// Nobody said anything in time.
    Silence,
}

impl Trouble {
    /// The status that the API server answered with, if it answered at all.
    pub(crate) fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Answer(error) => errors::status(error),
            Self::Silence => None,
        }
    }

    /// Code of [`Trouble::status`]; 0 without one.
    pub(crate) fn code(&self) -> u16 {
        self.status().map_or(0, |status| status.code)
    }

    /// The line for people.
    pub(crate) fn told(&self, asked: Asked<'_>) -> ClusterError {
        match self {
            Self::Answer(error) => errors::map(asked, error),
            Self::Silence => errors::unavailable(asked, "silent until the deadline"),
        }
    }

    fn transient(&self) -> bool {
        match self {
            Self::Answer(error) => errors::transient(error),
            Self::Silence => true,
        }
    }

    /// The least pause that the API server asks for.
    fn wanted_pause(&self) -> Duration {
        match self.status() {
            Some(status) if status.code == 429 => {
                let said = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                Duration::from_secs(said.into()).max(OVERLOADED)
            }
            _ => Duration::ZERO,
        }
    }
}

/// A row of attempts at one call.
#[derive(Debug)]
pub(crate) struct Tries {
    patience: Patience,
    pause: Duration,
}

impl Tries {
    /// One attempt, within its own bound and that of all attempts.
    pub(crate) async fn attempt<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
        let end = self.patience.deadline.min(Instant::now() + ATTEMPT);
        match timeout_at(end, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Trouble::Answer(Box::new(error))),
            Err(_) => Err(Trouble::Silence),
        }
    }

    /// Pauses before another attempt. False where none makes sense: the answer is final or the time is up.
    pub(crate) async fn again(&mut self, trouble: &Trouble) -> bool {
        trouble.transient() && self.pause(trouble.wanted_pause()).await
    }

    /// Pauses before another attempt, whatever the trouble. False where the time is up.
    pub(crate) async fn pause(&mut self, wanted: Duration) -> bool {
        let pause = scattered(self.pause.max(wanted));
        if self.patience.once || Instant::now() + pause >= self.patience.deadline {
            return false;
        }
        sleep(pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

/// Up to a quarter longer, so that the plugins of a node do not all come back at once.
fn scattered(pause: Duration) -> Duration {
    let noise = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos() % 1024);
    pause + pause * noise / 4096
}
