//! The examples of the documentation run as they are written, or say what the machine lacks.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use e2e::{
    Cluster,
    cluster::NODE,
    objects::{Namespace, STATUS},
    sight::addresses,
};
use serde_json::{Value, json};

use crate::invariants_hold;

#[test]
fn the_examples_of_the_documentation_run_on_a_real_node() {
    let cluster = Cluster::ready().unwrap();
    let mut ran = 0;
    for file in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/networks")).unwrap() {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let objects = objects(cluster, &file).unwrap();
        if let Some(lack) = lack(cluster, &objects).unwrap() {
            testkit::skip(&format!("docs/examples {name}: {lack}"));
            continue;
        }
        runs(cluster, &name, &objects);
        ran += 1;
    }
    assert!(ran > 1, "only {ran} examples ran");
    invariants_hold(cluster);
}

/// Applies the objects of an example in a namespace of its own and looks at what its pods have.
#[track_caller]
fn runs(cluster: &Cluster, name: &str, objects: &[Value]) {
    let space = Namespace::new(cluster, &format!("example-{name}")).unwrap();
    let (networks, pods): (Vec<&Value>, Vec<&Value>) =
        objects.iter().partition(|object| object["kind"] == "NetworkAttachmentDefinition");
    for network in networks {
        let mut network = network.clone();
        if network["metadata"]["namespace"] == "default" {
            network["metadata"]["namespace"] = json!(space.name);
        }
        cluster.apply(&network).unwrap();
    }
    let pods: Vec<Value> = pods.into_iter().map(|pod| here(pod, &space.name)).collect();
    space.create(&pods).unwrap();
    let names: Vec<&str> = pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap()).collect();
    space.all_ready(&names, 60).unwrap();
    for (pod, name) in pods.iter().zip(&names) {
        let has = addresses(cluster, &space.name, name).unwrap();
        let live = space.json(&["get", "pod", name]).unwrap();
        let status = live["metadata"]["annotations"][STATUS].as_str().unwrap_or_default();
        let status: Vec<Value> =
            serde_json::from_str(status).unwrap_or_else(|e| panic!("{name}: {e}: {live}"));
        for entry in &status {
            let interface = entry["interface"].as_str().unwrap();
            let there = has.get(interface).unwrap_or_else(|| panic!("{name} has no {interface}: {has:?}"));
            for ip in entry["ips"].as_array().into_iter().flatten() {
                assert!(
                    there.iter().any(|known| Some(known.as_str()) == ip.as_str()),
                    "{name}: {ip} of {has:?}"
                );
            }
        }
        asked_for(pod, &status, cluster, &space.name);
    }
    for name in names {
        space.delete(name).unwrap();
    }
}

/// What the annotation asks for in so many words is what the status says.
#[track_caller]
fn asked_for(pod: &Value, status: &[Value], cluster: &Cluster, namespace: &str) {
    let annotations = &pod["metadata"]["annotations"];
    if annotations.get("v1.multus-cni.io/default-network").is_some() {
        assert!(status[0]["name"].as_str().unwrap().starts_with("kube-system/"), "{status:?}");
    }
    let text = annotations["k8s.v1.cni.cncf.io/networks"].as_str().unwrap_or_default();
    let elements: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    for (element, entry) in elements.iter().zip(&status[1..]) {
        for key in ["interface", "mac", "default-route"] {
            if !element[key].is_null() {
                assert_eq!(element[key], entry[key], "{key}");
            }
        }
        if let Some(ip) = element["ips"][0].as_str() {
            assert_eq!(entry["ips"][0], json!(ip.split('/').next().unwrap()));
        }
        if let Some(gateway) = element["default-route"][0].as_str() {
            let name = pod["metadata"]["name"].as_str().unwrap();
            let routes = cluster
                .kubectl(&["--namespace", namespace, "exec", name, "--", "ip", "route", "show", "default"])
                .unwrap();
            let defaults: Vec<&str> = routes.lines().filter(|line| line.starts_with("default")).collect();
            assert!(defaults.len() == 1 && defaults[0].contains(&format!("via {gateway} ")), "{routes}");
        }
    }
}

/// The pod on the node and with the image that the tests have.
fn here(pod: &Value, namespace: &str) -> Value {
    let mut pod = pod.clone();
    if let Some(networks) = pod["metadata"]["annotations"].get_mut("k8s.v1.cni.cncf.io/networks") {
        let text = networks.as_str().unwrap_or_default();
        let text = text.replace("default/", &format!("{namespace}/"));
        *networks =
            json!(text.replace(r#""namespace": "default""#, &format!(r#""namespace": "{namespace}""#)));
    }
    pod["spec"]["nodeName"] = json!(NODE);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(0);
    pod["spec"]["affinity"] = Value::Null;
    for container in pod["spec"]["containers"].as_array_mut().unwrap() {
        container["image"] = json!("localhost/multus-rs-test:dev");
        container["imagePullPolicy"] = json!("Never");
        container["command"] = json!(["sleep", "infinity"]);
        container["args"] = Value::Null;
        container["resources"] = Value::Null;
    }
    pod
}

/// What the node lacks for an example.
fn lack(cluster: &Cluster, objects: &[Value]) -> Result<Option<String>> {
    for object in objects {
        let config = object["spec"]["config"].as_str().unwrap_or_default();
        let config: Value = serde_json::from_str(config).unwrap_or_default();
        let plugins = config["plugins"].as_array().cloned().unwrap_or_else(|| vec![config.clone()]);
        for plugin in plugins {
            for kind in [&plugin["type"], &plugin["ipam"]["type"]].into_iter().filter_map(Value::as_str) {
                if cluster.on_node(&format!("test -x /opt/cni/bin/{kind} && echo yes || true"))?.trim()
                    != "yes"
                {
                    return Ok(Some(format!("the plugin {kind} is not among the reference plugins")));
                }
                let link = match kind {
                    "ipvlan" => "ip link add probe0 link lo type ipvlan mode l2",
                    "vlan" => "ip link add probe0 link lo type vlan id 5",
                    _ => continue,
                };
                let probe = format!("unshare --net sh -c '{link} && echo yes' 2>/dev/null || true");
                if cluster.on_node(&probe)?.trim() != "yes" {
                    return Ok(Some(format!("the kernel has no {kind}")));
                }
            }
        }
    }
    Ok(None)
}

fn objects(cluster: &Cluster, file: &Path) -> Result<Vec<Value>> {
    let file = file.to_str().context("the path is no text")?;
    let text = cluster.kubectl(&["create", "--dry-run=client", "-o", "json", "-f", file])?;
    // One object after another, or one list.
    let mut objects = Vec::new();
    for object in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
        let object = object?;
        match object["items"].as_array() {
            Some(items) => objects.extend(items.iter().cloned()),
            None => objects.push(object),
        }
    }
    Ok(objects)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
