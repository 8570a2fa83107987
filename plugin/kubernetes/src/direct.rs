//! The cluster as one CNI call of the thin plugin asks it: synchronous, every question a live read.

use std::{
    cell::{Cell, OnceCell},
    time::{Duration, Instant},
};

use meta::cluster::{
    Cluster, ClusterError, EventRequest, Pending, PublishRequest, ResolveRequest, ResolveResponse,
};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::{
    connect::{self, ConnectError, Options},
    errors::{INVALID, RETRY, SHORT, failure, one_line},
    event::{self, Limiter},
    lookup, publish,
    retry::Patience,
    validate,
};

/// All questions of one CNI call together. Delegates that run between them do not count.
const BUDGET: Duration = Duration::from_secs(10);
/// What looking up leaves of it: a pod that got its networks is not to be undone for want of time.
const KEPT_TO_PUBLISH: Duration = Duration::from_secs(4);
/// For a caller that can do without the answer.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A pod that fails is not kept waiting for its event.
const EVENT: Duration = Duration::from_secs(2);

/// The API server, asked live. It is reached with the first question and not before, so a pod that needs no answer
/// costs no connection, and a kubeconfig that cannot be used disturbs nobody who does not need it.
pub struct Direct {
    options: Options,
    budget: Duration,
    spent: Cell<Duration>,
    connected: OnceCell<Connected>,
}

struct Connected {
    runtime: Runtime,
    client: kube::Client,
    limiter: Limiter,
}

/// What stands behind a config: the kubeconfig that it names, else the pod that this runs in, else no cluster.
#[must_use]
pub fn direct(options: Options) -> Box<dyn Cluster> {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let in_a_pod = set("KUBERNETES_SERVICE_HOST") && set("KUBERNETES_SERVICE_PORT");
    if options.kubeconfig.is_none() && !in_a_pod {
        return Box::new(NoCluster);
    }
    Box::new(Direct::new(options, BUDGET))
}

impl Direct {
    /// Asks nothing yet. `budget` bounds all calls together, in time spent in them.
    #[must_use]
    pub fn new(options: Options, budget: Duration) -> Self {
        Self { options, budget, spent: Cell::new(Duration::ZERO), connected: OnceCell::new() }
    }

    /// Runs one call on what is left of the budget, `keep` of it untouched.
    fn call<T>(
        &self,
        keep: Duration,
        at_most: Duration,
        work: impl AsyncFnOnce(&kube::Client, &Limiter, Patience) -> Result<T, ClusterError>,
    ) -> Result<T, ClusterError> {
        let started = Instant::now();
        let left = self.budget.saturating_sub(self.spent.get()).saturating_sub(keep);
        let connected = self.connected()?;
        let within = left.min(at_most);
        let bounded = async {
            let work = work(&connected.client, &connected.limiter, Patience::of(within));
            // Every attempt ends by itself; what is between them must not go on either.
            timeout(within + Duration::from_millis(200), work).await.unwrap_or_else(|_| Err(self.silent()))
        };
        let outcome = if within.is_zero() { Err(self.silent()) } else { connected.runtime.block_on(bounded) };
        self.spent.set(self.spent.get() + started.elapsed());
        outcome.map_err(|error| self.with_credentials(error))
    }

    fn connected(&self) -> Result<&Connected, ClusterError> {
        if let Some(connected) = self.connected.get() {
            return Ok(connected);
        }
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            failure(
                RETRY,
                "API_UNAVAILABLE",
                &format!("cannot start what asks the API server: {error}; this is retried"),
            )
        })?;
        let connect = async {
            let mut config = self.options.config().await?;
            connect::freeze_token(&mut config)?;
            kube::Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))
        };
        let client = runtime.block_on(connect).map_err(|error| {
            failure(RETRY, "KUBECONFIG_UNUSABLE", &format!("cannot ask the API server: {error}"))
        })?;
        let connected = Connected { runtime, client, limiter: Limiter::default() };
        Ok(self.connected.get_or_init(|| connected))
    }

    fn silent(&self) -> ClusterError {
        let message = format!(
            "no answer from the API server within {} s: this is retried, check that the node reaches it",
            self.budget.as_secs()
        );
        failure(RETRY, "API_UNAVAILABLE", &message)
    }

    /// A refused token is of this file, and whoever reads the line has to know which.
    fn with_credentials(&self, error: ClusterError) -> ClusterError {
        let Some(kubeconfig) = self.options.kubeconfig.as_ref().filter(|_| error.reason == "UNAUTHORIZED")
        else {
            return error;
        };
        let message = format!(
            "the API server does not accept the credentials of {}: the token expired or was revoked; write a fresh one \
             there (what installed Multus on this node does that), and check the node's clock",
            one_line(&kubeconfig.display().to_string(), 120)
        );
        failure(RETRY, "UNAUTHORIZED", &message)
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        // A name lookup that hangs must not hold up the end.
        if let Some(Connected { runtime, .. }) = self.connected.take() {
            runtime.shutdown_background();
        }
    }
}

impl Cluster for Direct {
    fn resolve(&self, request: &ResolveRequest) -> Result<ResolveResponse, ClusterError> {
        lookup::check(request)?;
        let at_most = if request.at_once { AT_ONCE } else { self.budget };
        self.call(KEPT_TO_PUBLISH.min(self.budget / 2), at_most, async |client, _, patience| {
            let patience = if request.at_once { patience.once() } else { patience };
            lookup::resolve(client, &lookup::Nothing, &self.options.kubelet, request, patience).await
        })
    }

    /// Nothing works for it before it is awaited.
    fn publish<'a>(&'a self, request: &'a PublishRequest) -> Pending<'a> {
        Box::new(|| {
            validate::pod(&request.pod)?;
            self.call(Duration::ZERO, self.budget, async |client, _, patience| {
                publish::publish(client, request, patience).await
            })?;
            if let Some(Err(error)) = request.event().map(|event| self.event(&event)) {
                log::warn!("event not sent: {error}");
            }
            Ok(())
        })
    }

    fn event(&self, request: &EventRequest) -> Result<(), ClusterError> {
        validate::pod(&request.pod)?;
        self.call(Duration::ZERO, EVENT, async |client, limiter, patience| {
            event::send(client, limiter, &self.options.node_name, request, patience).await
        })
    }
}

/// Nobody to ask: a config without a kubeconfig, run outside of any pod.
#[derive(Debug, Clone, Copy)]
pub struct NoCluster;

impl Cluster for NoCluster {
    fn resolve(&self, request: &ResolveRequest) -> Result<ResolveResponse, ClusterError> {
        if let Some(selection) = request.selections.first() {
            let message = format!(
                "network {}/{}: there is no cluster to look it up in; set kubeconfig in the config of Multus",
                one_line(&selection.namespace, SHORT),
                one_line(&selection.name, SHORT)
            );
            return Err(failure(INVALID, "NAD_NOT_FOUND", &message));
        }
        let annotations = request.want_annotations.then(Default::default);
        Ok(ResolveResponse { annotations, ..ResolveResponse::default() })
    }

    fn publish<'a>(&'a self, _request: &'a PublishRequest) -> Pending<'a> {
        Box::new(|| Ok(()))
    }

    fn event(&self, _request: &EventRequest) -> Result<(), ClusterError> {
        Ok(())
    }
}
