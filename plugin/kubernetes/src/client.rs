//! The client that the daemon holds.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use meta::cluster::{ClusterError, EventRequest, PublishRequest, ResolveRequest, ResolveResponse};

use crate::{
    cache::Cache,
    connect::{ConnectError, Options},
    definition::RESOURCE,
    event::{self, Limiter},
    lookup, publish,
    retry::Patience,
    validate,
};

/// All reads of one `resolve` together.
const RESOLVE: Duration = Duration::from_secs(3);
/// All attempts of one `publish` together.
const PUBLISH: Duration = Duration::from_secs(5);
/// An event is worth one attempt.
const EVENT: Duration = Duration::from_secs(3);

/// Whether the client can serve, for `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// The cache is complete, or the API server answered once.
    Ready,
    /// Not yet, and why.
    Waiting(String),
}

/// Asks the API server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    kube: kube::Client,
    cache: Cache,
    limiter: Limiter,
    node_name: String,
    kubelet: PathBuf,
    reached: AtomicBool,
}

impl Client {
    /// Prepares a client; does not ask the API server anything, so it works while that is away.
    ///
    /// # Errors
    /// When token, CA or kubeconfig cannot be used.
    pub async fn connect(options: &Options) -> Result<Self, ConnectError> {
        let config = options.config().await?;
        log::info!("API server is {}", config.cluster_url);
        let kube = kube::Client::try_from(config).map_err(Box::new)?;
        let inner = Inner {
            kube,
            cache: Cache::default(),
            limiter: Limiter::default(),
            node_name: options.node_name.clone(),
            kubelet: options.kubelet.clone(),
            reached: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Keeps the cache current; never ends by itself.
    pub async fn watch(&self) {
        self.inner.cache.run(self.inner.kube.clone()).await;
    }

    /// For the parts of this crate that ask about the node.
    pub(crate) fn kube(&self) -> kube::Client {
        self.inner.kube.clone()
    }

    pub(crate) fn node_name(&self) -> &str {
        &self.inner.node_name
    }

    /// Whether requests can be served.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if self.inner.cache.synced() || self.inner.reached.load(Ordering::Relaxed) {
            return Readiness::Ready;
        }
        let trouble = self.inner.cache.trouble();
        Readiness::Waiting(trouble.unwrap_or_else(|| format!("the first list of {RESOURCE} is under way")))
    }

    /// Looks up networks, the pod's annotations when asked, and its devices when a network needs them.
    ///
    /// # Errors
    /// When a network does not exist, or the API server or the kubelet gives no answer in time.
    pub async fn resolve(&self, request: &ResolveRequest) -> Result<ResolveResponse, ClusterError> {
        lookup::check(request)?;
        let inner = &self.inner;
        let outcome =
            lookup::resolve(&inner.kube, &inner.cache, &inner.kubelet, request, Patience::of(RESOLVE)).await;
        if request.selections.is_empty() && !request.want_annotations { outcome } else { self.noted(outcome) }
    }

    /// Writes the `network-status` annotation of that very generation of the pod.
    ///
    /// # Errors
    /// When the pod is gone or replaced, or the API server gives no answer in time.
    pub async fn publish(&self, request: &PublishRequest) -> Result<(), ClusterError> {
        validate::pod(&request.pod)?;
        self.noted(publish::publish(&self.inner.kube, request, Patience::of(PUBLISH)).await)
    }

    /// Like [`Client::publish`], but looks first, and leaves alone what says the same. True when it was written.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub async fn ensure(&self, request: &PublishRequest) -> Result<bool, ClusterError> {
        validate::pod(&request.pod)?;
        self.noted(publish::ensure(&self.inner.kube, request, Patience::of(PUBLISH)).await)
    }

    /// Tells the pod's owner about a failure.
    ///
    /// # Errors
    /// When the API server does not take the event.
    pub async fn event(&self, request: &EventRequest) -> Result<(), ClusterError> {
        validate::pod(&request.pod)?;
        let inner = &self.inner;
        self.noted(
            event::send(&inner.kube, &inner.limiter, &inner.node_name, request, Patience::of(EVENT)).await,
        )
    }

    /// Remembers that the API server answered; an answer that refuses the daemon does not count.
    fn noted<T>(&self, outcome: Result<T, ClusterError>) -> Result<T, ClusterError> {
        let answered = match &outcome {
            Ok(_) => true,
            Err(error) => matches!(error.reason.as_str(), "NAD_NOT_FOUND" | "POD_NOT_FOUND" | "POD_REPLACED"),
        };
        if answered {
            self.inner.reached.store(true, Ordering::Relaxed);
        }
        outcome
    }
}
