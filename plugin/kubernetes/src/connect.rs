//! Where the API server is and who asks it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use kube::config::{Config, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};

/// A connect that takes longer is tried again rather than awaited.
const CONNECT: Duration = Duration::from_secs(3);

/// How to reach the API server.
#[derive(Debug, Clone)]
pub struct Options {
    /// `https://host:port` instead of the service address of the cluster, with the pod's own token and CA.
    pub api_server: Option<String>,
    /// A kubeconfig instead of the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Name of the node, for events.
    pub node_name: String,
    /// The kubelet's folder, where it says which devices it gave to whom.
    pub kubelet: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        let kubelet = PathBuf::from("/var/lib/kubelet");
        Self { api_server: None, kubeconfig: None, node_name: String::new(), kubelet }
    }
}

/// Why no client could be made. The API server being away is not among the reasons.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not in a pod, or no token mounted.
    #[error("no service account to ask the API server with ({0}): mount a token, or give --kubeconfig")]
    InCluster(#[from] InClusterError),
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {path}: {source}: correct the file, or the value of --kubeconfig")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// The token file that the kubeconfig names cannot be read.
    #[error("token file {path}: {source}: correct tokenFile in the kubeconfig, or put the file there")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The explicit endpoint is not a URL.
    #[error("API server {0:?} is not of the form https://host:port")]
    Endpoint(String),
    /// TLS or token could not be prepared.
    #[error("cannot prepare the connection to the API server: {0}")]
    Client(#[from] Box<kube::Error>),
}

impl Options {
    pub(crate) async fn config(&self) -> Result<Config, ConnectError> {
        let mut config = match (&self.kubeconfig, &self.api_server) {
            (Some(path), _) => from_file(path).await.map_err(|source| ConnectError::Kubeconfig {
                path: path.clone(),
                source: Box::new(source),
            })?,
            // The variables of the service may be absent where an endpoint is given; the token is the same.
            (None, Some(_)) => Config::incluster_dns()?,
            (None, None) => Config::incluster()?,
        };
        if let Some(endpoint) = &self.api_server {
            config.cluster_url = endpoint.parse().map_err(|_| ConnectError::Endpoint(endpoint.clone()))?;
            if config.cluster_url.scheme_str().is_none() || config.cluster_url.host().is_none() {
                return Err(ConnectError::Endpoint(endpoint.clone()));
            }
        }
        config.connect_timeout = Some(CONNECT);
        // Every call here has a deadline and its own rule for trying again.
        config.default_retry = false;
        Ok(config)
    }
}

async fn from_file(path: &Path) -> Result<Config, KubeconfigError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    let names_a_proxy =
        kubeconfig.clusters.iter().flat_map(|named| &named.cluster).any(|c| c.proxy_url.is_some());
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // The environment of a container runtime names the proxy that it pulls images through.
    if !names_a_proxy {
        config.proxy_url = None;
    }
    // A token file wins over a token, as everywhere else in Kubernetes.
    if config.auth_info.token_file.is_some() {
        config.auth_info.token = None;
    }
    Ok(config)
}

/// Reads the token file once, for a process too short-lived to see another token; it may end with a line break.
pub(crate) fn freeze_token(config: &mut Config) -> Result<(), ConnectError> {
    let Some(file) = &config.auth_info.token_file else { return Ok(()) };
    let token = std::fs::read_to_string(file)
        .map_err(|source| ConnectError::TokenFile { path: PathBuf::from(file), source })?;
    config.auth_info.token = Some(token.trim().to_owned().into());
    Ok(())
}
