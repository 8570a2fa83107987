//! The client that the daemon holds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use meta::cluster::{
    ClusterError, EventRequest, Network, NetworkRef, PublishRequest, ResolveRequest, ResolveResponse,
};
use tokio::time::timeout;

use crate::{
    cache::Cache,
    connect::{ConnectError, Options},
    definition::{Definition, RESOURCE},
    errors::{Asked, INVALID, RETRY, SHORT, failure, map, one_line, status, unavailable},
    event::{self, Limiter},
    pod, publish, validate,
};

/// All reads of one `resolve` together.
const RESOLVE: Duration = Duration::from_secs(3);
/// More networks than a pod can use; the plugin has the same bound.
const MOST_SELECTIONS: usize = 64;
const READS_AT_ONCE: usize = 8;

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
            reached: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Keeps the cache current; never ends by itself.
    pub async fn watch(&self) {
        self.inner.cache.run(self.inner.kube.clone()).await;
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

    /// Looks up networks, and the pod's annotations when asked.
    ///
    /// # Errors
    /// When a network does not exist, or the API server gives no answer in time.
    pub async fn resolve(&self, request: &ResolveRequest) -> Result<ResolveResponse, ClusterError> {
        if request.selections.len() > MOST_SELECTIONS {
            let message = format!(
                "pod {}/{} asks for {} networks, at most {MOST_SELECTIONS} are possible: remove some",
                request.pod.namespace,
                request.pod.name,
                request.selections.len()
            );
            return Err(failure(INVALID, "TOO_MANY_NETWORKS", &message));
        }
        for selection in &request.selections {
            validate::name("namespace of a network", &selection.namespace)?;
            validate::name("network", &selection.name)?;
        }
        // Made before the stream: a closure inside it would keep the whole future from being `Send`.
        let lookups: Vec<_> = request.selections.iter().map(|selection| self.network(selection)).collect();
        let networks = stream::iter(lookups).buffered(READS_AT_ONCE).try_collect::<Vec<_>>();
        let annotations = async {
            if !request.want_annotations {
                return Ok(None);
            }
            validate::pod(&request.pod)?;
            let annotations = self.noted(pod::annotations(&self.inner.kube, &request.pod).await)?;
            Ok(Some(annotations))
        };
        let both = async { tokio::try_join!(networks, annotations) };
        let (networks, annotations) = timeout(RESOLVE, both).await.unwrap_or_else(|_| {
            let message = format!(
                "looking up the networks of pod {}/{} took longer than 3 s: no answer from the API server; this is \
                 retried, check that the node reaches the API server",
                request.pod.namespace, request.pod.name
            );
            Err(failure(RETRY, "API_UNAVAILABLE", &message))
        })?;
        Ok(ResolveResponse { networks, annotations, ..ResolveResponse::default() })
    }

    /// Writes the `network-status` annotation of that very generation of the pod.
    ///
    /// # Errors
    /// When the pod is gone or replaced, or the API server gives no answer in time.
    pub async fn publish(&self, request: &PublishRequest) -> Result<(), ClusterError> {
        validate::pod(&request.pod)?;
        self.noted(publish::publish(&self.inner.kube, request).await)
    }

    /// Tells the pod's owner about a failure.
    ///
    /// # Errors
    /// When the API server does not take the event.
    pub async fn event(&self, request: &EventRequest) -> Result<(), ClusterError> {
        validate::pod(&request.pod)?;
        let inner = &self.inner;
        self.noted(event::send(&inner.kube, &inner.limiter, &inner.node_name, request).await)
    }

    async fn network(&self, selection: &NetworkRef) -> Result<Network, ClusterError> {
        match self.inner.cache.get(selection) {
            Some(network) => Ok(network),
            None => self.noted(self.read(selection).await),
        }
    }

    /// One live read; a cache that does not know a network may only be late.
    async fn read(&self, selection: &NetworkRef) -> Result<Network, ClusterError> {
        let NetworkRef { namespace, name } = selection;
        let asked = Asked { verb: "get", resource: RESOURCE, namespace, name };
        let api: Api<Definition> = Api::namespaced(self.inner.kube.clone(), namespace);
        match timeout(RESOLVE, api.get(name)).await {
            Ok(Ok(definition)) => Ok(definition.shrink().network),
            Ok(Err(error)) => Err(match status(&error) {
                Some(status) if status.code == 404 => missing(selection, status),
                _ => map(asked, &error),
            }),
            Err(_) => Err(unavailable(asked, "deadline of 3 s passed")),
        }
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

/// The API server names the object only where it knows the kind.
fn missing(selection: &NetworkRef, status: &kube::core::Status) -> ClusterError {
    let kind_known = status.details.as_ref().is_some_and(|details| details.name == selection.name);
    let (namespace, name) = (one_line(&selection.namespace, SHORT), one_line(&selection.name, SHORT));
    if kind_known {
        let message = format!(
            "network {namespace}/{name}: no such NetworkAttachmentDefinition; create it in namespace {namespace}, or \
             correct the pod's networks annotation"
        );
        failure(INVALID, "NAD_NOT_FOUND", &message)
    } else {
        let message = format!(
            "network {namespace}/{name}: the cluster has no CRD {RESOURCE}; install it, it is part of the chart"
        );
        failure(INVALID, "CRD_MISSING", &message)
    }
}
