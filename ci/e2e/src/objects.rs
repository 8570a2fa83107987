//! The objects that tests create, and the namespace that a test has for itself.

use anyhow::Result;
use serde_json::{Value, json};

use crate::Cluster;

/// Annotation by which a pod asks for networks.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// Annotation that says what it got.
pub const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// A namespace that goes with all that is in it, also when its test fails.
#[derive(Debug)]
pub struct Namespace<'a> {
    cluster: &'a Cluster,
    /// Its name.
    pub name: String,
}

impl<'a> Namespace<'a> {
    /// Makes it, and waits until pods may be created in it.
    ///
    /// # Errors
    /// kubectl's own words.
    pub fn new(cluster: &'a Cluster, name: &str) -> Result<Self> {
        cluster.kubectl(&["delete", "namespace", name, "--ignore-not-found", "--timeout=90s"])?;
        cluster.kubectl(&["create", "namespace", name])?;
        let namespace = Self { cluster, name: name.to_owned() };
        namespace.kubectl(&["wait", "--for=create", "serviceaccount/default", "--timeout=60s"])?;
        Ok(namespace)
    }

    /// kubectl inside the namespace.
    ///
    /// # Errors
    /// kubectl's own words.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["--namespace", &self.name], args].concat())
    }

    /// Like [`Namespace::kubectl`], as JSON.
    ///
    /// # Errors
    /// As [`Cluster::json`].
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        self.cluster.json(&[&["--namespace", &self.name], args].concat())
    }

    /// A network by its definition's name and `spec.config`.
    ///
    /// # Errors
    /// kubectl's own words.
    pub fn network(&self, name: &str, config: &str) -> Result<()> {
        self.cluster.apply(&json!({
            "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": name, "namespace": self.name}, "spec": {"config": config},
        }))
    }

    /// A bridge network with addresses from `10.SECOND.THIRD.0/24`.
    ///
    /// # Errors
    /// kubectl's own words.
    pub fn bridge(&self, name: &str, third: u8) -> Result<()> {
        let config = json!({
            "cniVersion": "1.0.0", "name": format!("{}-{name}", self.name), "type": "bridge", "bridge": format!("br{third}"),
            "ipam": {"type": "host-local", "ranges": [[{"subnet": format!("10.99.{third}.0/24")}]]},
        });
        self.network(name, &config.to_string())
    }

    /// Creates a pod that sleeps; with networks, it asks for them.
    ///
    /// # Errors
    /// kubectl's own words.
    pub fn pod(&self, name: &str, networks: Option<&str>) -> Result<()> {
        let annotations = networks.map_or(json!({}), |text| json!({ NETWORKS: text }));
        self.cluster.apply(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": self.name, "annotations": annotations},
            "spec": {
                "nodeName": crate::cluster::NODE, "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "main", "image": "localhost/multus-rs-test:dev", "imagePullPolicy": "Never", "command": ["sleep", "infinity"]}],
            },
        }))
    }

    /// Waits until a pod is Ready.
    ///
    /// # Errors
    /// When it is not within `seconds`, with what happened to it.
    pub fn ready(&self, pod: &str, seconds: u32) -> Result<()> {
        let timeout = format!("--timeout={seconds}s");
        let waited = self.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), &timeout]);
        waited.map(drop).map_err(|error| match self.events(pod) {
            Ok(events) => error.context(events.join("\n")),
            Err(unknown) => error.context(unknown),
        })
    }

    /// Deletes a pod and waits until it is gone.
    ///
    /// # Errors
    /// kubectl's own words.
    pub fn delete(&self, pod: &str) -> Result<()> {
        self.kubectl(&["delete", "pod", pod, "--timeout=60s"]).map(drop)
    }

    /// `REASON: MESSAGE` of a pod's events.
    ///
    /// # Errors
    /// kubectl's own words.
    pub fn events(&self, pod: &str) -> Result<Vec<String>> {
        let events =
            self.json(&["get", "events", "--field-selector", &format!("involvedObject.name={pod}")])?;
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let events = events["items"].as_array().cloned().unwrap_or_default();
        Ok(events
            .iter()
            .map(|event| format!("{}: {}", text(event, "reason"), text(event, "message")))
            .collect())
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.kubectl(&["delete", "namespace", &self.name, "--timeout=90s"]) {
            eprintln!("namespace {} stays: {error:#}", self.name);
        }
    }
}
