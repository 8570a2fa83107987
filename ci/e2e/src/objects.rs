//! The objects that tests create, and the namespace that a test has for itself.

use anyhow::Result;
use serde_json::{Value, json};

use crate::{Cluster, cluster::NODE};

/// Annotation by which a pod asks for networks.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// Annotation that says what it got.
pub const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// A pod that sleeps on [`NODE`]; with networks, it asks for them. What else a test wants of it, it sets in the object.
pub fn pod(name: &str, networks: Option<&str>) -> Value {
    let annotations = networks.map_or(json!({}), |text| json!({ NETWORKS: text }));
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "nodeName": NODE, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "localhost/multus-rs-test:dev", "imagePullPolicy": "Never", "command": ["sleep", "infinity"]}],
        },
    })
}

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

    /// Creates one pod; see [`pod`].
    ///
    /// # Errors
    /// kubectl's own words.
    pub fn pod(&self, name: &str, networks: Option<&str>) -> Result<()> {
        self.create(&[pod(name, networks)])
    }

    /// Creates objects in this namespace, all at once.
    ///
    /// # Errors
    /// kubectl's own words.
    pub fn create(&self, objects: &[Value]) -> Result<()> {
        let mut objects = objects.to_vec();
        for object in &mut objects {
            object["metadata"]["namespace"] = json!(self.name);
        }
        self.cluster.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": objects }))
    }

    /// Waits until a pod is Ready.
    ///
    /// # Errors
    /// When it is not within `seconds`, with what happened to it.
    pub fn ready(&self, pod: &str, seconds: u32) -> Result<()> {
        self.all_ready(&[pod], seconds)
    }

    /// Waits until all these pods are Ready.
    ///
    /// # Errors
    /// When one is not within `seconds`, with what happened to those that are not.
    pub fn all_ready<S: AsRef<str>>(&self, pods: &[S], seconds: u32) -> Result<()> {
        let timeout = format!("--timeout={seconds}s");
        let names: Vec<String> = pods.iter().map(|pod| format!("pod/{}", pod.as_ref())).collect();
        let mut args = vec!["wait", "--for=condition=Ready", &timeout];
        args.extend(names.iter().map(String::as_str));
        let Err(mut error) = self.kubectl(&args) else { return Ok(()) };
        for pod in pods.iter().map(AsRef::as_ref) {
            if !self.is_ready(pod).unwrap_or_default() {
                error = match self.events(pod) {
                    Ok(events) => error.context(format!("{pod}: {}", events.join("\n"))),
                    Err(unknown) => error.context(unknown),
                };
            }
        }
        Err(error)
    }

    /// Whether a pod is Ready now.
    ///
    /// # Errors
    /// kubectl's own words.
    pub fn is_ready(&self, pod: &str) -> Result<bool> {
        let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        Ok(self.kubectl(&["get", "pod", pod, "-o", ready])? == "True")
    }

    /// Creates pods and waits until all are Ready, a minute at most.
    ///
    /// # Errors
    /// As [`Namespace::create`] and [`Namespace::all_ready`].
    pub fn start(&self, pods: &[Value]) -> Result<()> {
        self.create(pods)?;
        let names: Vec<&str> = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
        self.all_ready(&names, 60)
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
        // Not awaited: what leaves does so in its own time, and the checks of the next test look again until it has.
        if let Err(error) = self.kubectl(&["delete", "namespace", &self.name, "--wait=false"]) {
            eprintln!("namespace {} stays: {error:#}", self.name);
        }
    }
}
