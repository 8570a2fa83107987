//! The world of one instance: a folder with configs and plugins, objects in the cluster, a network namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, bail};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use serde_json::{Map, Value, json};

use crate::{
    api::Api,
    case::{Case, Change},
    corpus::{self, Instance},
    model::{Model, Network},
};

const NETWORK_DEFINITIONS: &str = "network-attachment-definitions";

/// Everything that one instance has to itself.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The case, its words replaced.
    pub case: Case,
    /// What the words stand for.
    pub words: BTreeMap<String, String>,
    api: &'a Api,
    root: PathBuf,
    netns: Option<Netns>,
    namespaces: BTreeSet<String>,
}

impl<'a> Stage<'a> {
    /// Writes files, makes plugins and creates objects. `namespace` is one that nobody else has.
    pub fn set(
        api: &'a Api,
        instance: &Instance,
        root: &Path,
        namespace: &str,
        shared: &Netns,
    ) -> Result<Self> {
        fs::create_dir_all(root)?;
        let needs_own = !instance.case.links.is_empty() || has_link_change(&instance.case);
        let netns = needs_own.then(|| Netns::new(&root.join("netns"))).transpose()?;
        let path = netns.as_ref().unwrap_or(shared).path.display().to_string();
        let words = [
            ("ns", namespace.to_owned()),
            ("other", format!("{namespace}-other")),
            ("pod", format!("pod-{namespace}")),
            ("id", format!("sandbox-{namespace}")),
            ("netns", path),
            ("root", root.display().to_string()),
            ("bin", root.join("bin").display().to_string()),
            ("v", instance.version.clone()),
        ];
        let mut words: BTreeMap<String, String> = words.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let each = instance.each.as_deref().map(|each| corpus::fill(each, &words));
        words.insert("each".to_owned(), each.unwrap_or_default());
        let case = instance.read(&words)?;
        let mut stage = Self { case, words, api, root: root.to_owned(), netns, namespaces: BTreeSet::new() };
        stage.write_files()?;
        stage.make_plugins()?;
        for link in &stage.case.links {
            stage.netns()?.link(link)?;
        }
        stage.create_objects()?;
        stage.case = instance.read(&stage.words)?;
        Ok(stage)
    }

    /// What a word stands for.
    pub fn word(&self, name: &str) -> &str {
        self.words.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The pod's namespace.
    pub fn pod_namespace(&self) -> &str {
        self.case.pod.namespace.as_deref().unwrap_or_else(|| self.word("ns"))
    }

    fn pod_path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.pod_namespace(), self.word("pod"))
    }

    /// The pod as the cluster knows it.
    pub fn pod(&self) -> Result<Value> {
        self.api.get(&self.pod_path())
    }

    /// What is said of the pod, as `TYPE REASON: MESSAGE`.
    pub fn events(&self) -> Result<Vec<String>> {
        let list = self.api.get(&format!("/api/v1/namespaces/{}/events", self.pod_namespace()))?;
        let events = list["items"].as_array().cloned().unwrap_or_default();
        let mine = |event: &&Value| event["involvedObject"]["name"] == self.word("pod");
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let line = |event: &Value| {
            format!("{} {}: {}", text(event, "type"), text(event, "reason"), text(event, "message"))
        };
        Ok(events.iter().filter(mine).map(line).collect())
    }

    /// The annotations as the runtime would hand them over.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.case.pod.annotations.iter().map(|(key, value)| (key.clone(), text_of(value))).collect()
    }

    /// What containerd sends as `CNI_ARGS`, unless the case says otherwise.
    pub fn args(&self) -> String {
        self.case.runtime.args.clone().unwrap_or_else(|| {
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
                self.pod_namespace(),
                self.word("pod"),
                self.word("id"),
                self.word("uid")
            )
        })
    }

    /// `CNI_PATH`.
    pub fn path(&self) -> String {
        self.case.runtime.path.clone().unwrap_or_else(|| self.word("bin").to_owned())
    }

    /// The rules of the specifications for this case.
    pub fn model(&self) -> Model {
        Model::new(self.networks(), self.word("id"), self.word("netns"), &self.path(), &self.args())
    }

    fn networks(&self) -> Vec<Network> {
        let case = &self.case;
        let mut networks = Vec::new();
        if let Some(mut primary) = Network::read("primary", "", "", &self.primary()) {
            primary.shown = primary.name.clone();
            primary.plugins.extend(self.appended(&primary.name));
            networks.push(primary);
        }
        if let Some(Value::Array(delegates)) = case.config.get("delegates") {
            for (index, delegate) in delegates.iter().enumerate() {
                let found = Network::read(&format!("delegate{index}"), "", "", delegate);
                networks.extend(found.map(|n| Network { shown: n.name.clone(), ..n }));
            }
        }
        for (key, config) in &case.networks {
            let (namespace, name) = self.located(key);
            let config = as_json(&with_version(config, self.word("v")));
            networks.extend(Network::read(key, &format!("{namespace}/{name}"), &name, &config));
        }
        for (path, content) in
            case.files.iter().filter(|(path, _)| !path.ends_with(".conf") || !path.starts_with("net.d/"))
        {
            let found = Network::read(path, "", "", &as_json(content));
            networks.extend(found.map(|n| Network { shown: n.name.clone(), ..n }));
        }
        networks.extend(self.auxiliary());
        networks
    }

    /// The chain that `auxiliaryCNIChainName` names: a plugin that does nothing, and those of the folder.
    fn auxiliary(&self) -> Option<Network> {
        let name = self.case.config.get("auxiliaryCNIChainName")?.as_str()?;
        let mut plugins: Vec<_> = json!({"type": "passthru"}).as_object().cloned().into_iter().collect();
        plugins.extend(self.beside_primary(name));
        let (key, version) = ("auxiliary".to_owned(), self.word("v").to_owned());
        Some(Network { key, shown: name.to_owned(), version, name: name.to_owned(), plugins })
    }

    /// Plugins from the folder beside the primary's file that has its name (CNI 1.1.0, section 1).
    fn appended(&self, name: &str) -> Vec<Map<String, Value>> {
        if self.primary().get("loadOnlyInlinedPlugins") == Some(&Value::Bool(true)) {
            return Vec::new();
        }
        self.beside_primary(name)
    }

    fn beside_primary(&self, name: &str) -> Vec<Map<String, Value>> {
        let folder = format!("net.d/{name}/");
        let inside =
            self.case.files.iter().filter(|(path, _)| path.starts_with(&folder) && path.ends_with(".conf"));
        inside.filter_map(|(_, content)| as_json(content).as_object().cloned()).collect()
    }

    /// The primary's config with what the format lets one leave out.
    fn primary(&self) -> Value {
        match with_version(&self.case.primary, self.word("v")) {
            Value::Object(mut config) => {
                config.entry("name").or_insert_with(|| "cluster".into());
                Value::Object(config)
            }
            text => as_json(&text),
        }
    }

    /// The primary's file; nothing where the case has none.
    pub fn primary_file(&self) -> Option<PathBuf> {
        let single = self.case.primary.get("type").is_some() && self.case.primary.get("plugins").is_none();
        let name = if single { "net.d/10-primary.conf" } else { "net.d/10-primary.conflist" };
        (!self.case.primary.is_null()).then(|| self.root.join(name))
    }

    /// The name that our own config takes.
    pub fn network_name(&self) -> String {
        self.primary()["name"].as_str().unwrap_or("cluster").to_owned()
    }

    fn write_files(&self) -> Result<()> {
        fs::create_dir_all(self.root.join("net.d"))?;
        if let Some(file) = self.primary_file() {
            let text = match &self.case.primary {
                Value::String(text) => text.clone(),
                _ => self.primary().to_string(),
            };
            fs::write(file, text)?;
        }
        self.case.files.iter().try_for_each(|(path, content)| self.write(path, content))
    }

    fn write(&self, path: &str, content: &Value) -> Result<()> {
        let path = self.root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text_of(content)).with_context(|| path.display().to_string())
    }

    /// Every `type` of the case is a plugin, and nothing else is.
    fn make_plugins(&self) -> Result<()> {
        let mut types = BTreeSet::new();
        let case = &self.case;
        collect_types(&self.primary(), &mut types);
        for value in case.networks.values().chain(case.files.values()).chain(case.config.values()) {
            collect_types(&as_json(value), &mut types);
        }
        for change in case.steps.iter().flat_map(|step| &step.change) {
            if let Change::SetNetwork(_, value) | Change::Write(_, value) = change {
                collect_types(&as_json(value), &mut types);
            }
        }
        if self.auxiliary().is_some() {
            types.insert("passthru".to_owned());
        }
        fs::create_dir_all(self.root.join("bin"))?;
        for kind in types.iter().filter(|kind| !case.missing.contains(kind)) {
            self.install(kind)?;
        }
        Ok(())
    }

    fn install(&self, kind: &str) -> Result<()> {
        let folder = self.case.plugin_folders.get(kind).map_or("bin", String::as_str);
        let folder = self.root.join(folder);
        fs::create_dir_all(&folder)?;
        let (from, to) = (testkit::recording_delegate()?, folder.join(kind));
        // A link where it can be one: a copied binary may still count as being written when it is run.
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).with_context(|| to.display().to_string())?;
        }
        Ok(())
    }

    fn create_objects(&mut self) -> Result<()> {
        let namespace = self.pod_namespace().to_owned();
        self.need_namespace(&namespace)?;
        for key in self.case.networks.keys().cloned().collect::<Vec<_>>() {
            let (namespace, name) = self.located(&key);
            self.need_namespace(&namespace)?;
            let config = self.case.networks.get(&key).cloned().unwrap_or_default();
            let object = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": name}, "spec": self.spec(&config)});
            let path = format!("/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/{NETWORK_DEFINITIONS}");
            self.api.create(&path, &object)?;
        }
        let mut uid = "00000000-0000-4000-8000-000000000000".to_owned();
        if !self.case.pod.absent {
            let object = json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": self.word("pod"), "annotations": self.annotations()},
                "spec": {"nodeName": "node1", "containers": [{"name": "main", "image": "example.invalid/none"}]}});
            let path = format!("/api/v1/namespaces/{}/pods", self.pod_namespace());
            let created = self.api.create(&path, &object)?;
            uid = created["metadata"]["uid"].as_str().context("a pod without uid")?.to_owned();
        }
        let uid = self.case.pod.uid.clone().unwrap_or(uid);
        self.words.insert("uid".to_owned(), uid);
        Ok(())
    }

    fn spec(&self, config: &Value) -> Value {
        match with_version(config, self.word("v")) {
            Value::Null => json!({}),
            config => json!({ "config": text_of(&config) }),
        }
    }

    fn need_namespace(&mut self, name: &str) -> Result<()> {
        if matches!(name, "default" | "kube-system") || !self.namespaces.insert(name.to_owned()) {
            return Ok(());
        }
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.api.create("/api/v1/namespaces", &object).map(drop)
    }

    fn located(&self, key: &str) -> (String, String) {
        let (namespace, name) = key.split_once('/').unwrap_or((self.word("ns"), key));
        (namespace.to_owned(), name.to_owned())
    }

    fn netns(&self) -> Result<&Netns> {
        self.netns.as_ref().context("the case has no network namespace of its own")
    }

    /// Changes the world between two calls.
    pub fn change(&self, change: &Change) -> Result<()> {
        let definition = |key: &str| {
            let (namespace, name) = self.located(key);
            format!("/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/{NETWORK_DEFINITIONS}/{name}")
        };
        match change {
            Change::DeleteNetwork(key) => self.api.delete(&definition(key)),
            Change::SetNetwork(key, config) => {
                self.api.patch(&definition(key), &json!({"spec": self.spec(config)})).map(drop)
            }
            Change::DeletePod => self.api.delete(&self.pod_path()),
            Change::Write(path, content) => self.write(path, content),
            Change::Remove(path) => {
                let path = self.root.join(path);
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.with_context(|| path.display().to_string())
            }
            // The plugin's own files are known to the subject.
            Change::Age => Ok(()),
            Change::Link(name) => self.netns()?.link(name),
            Change::Install(kind) => self.install(kind),
        }
    }
}

fn has_link_change(case: &Case) -> bool {
    case.steps.iter().flat_map(|step| &step.change).any(|change| matches!(change, Change::Link(_)))
}

/// A mapping without version gets the instance's.
fn with_version(config: &Value, version: &str) -> Value {
    let mut config = config.clone();
    if let Some(object) = config.as_object_mut()
        && !object.contains_key("cniVersion")
        && !object.contains_key("cniVersions")
    {
        object.insert("cniVersion".to_owned(), version.into());
    }
    config
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A text that is JSON becomes what it says; one that is none stays a text.
fn as_json(value: &Value) -> Value {
    value.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| value.clone())
}

fn collect_types(value: &Value, types: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            let kind = object.get("type").and_then(Value::as_str);
            let bare = |kind: &&str| !matches!(*kind, "" | "." | "..") && !kind.contains('/');
            types.extend(kind.filter(bare).map(str::to_owned));
            object.values().for_each(|value| collect_types(value, types));
        }
        Value::Array(list) => list.iter().for_each(|value| collect_types(value, types)),
        _ => {}
    }
}

/// A network namespace that lives as long as this value.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
}

impl Netns {
    /// Makes an empty one and binds it to a file.
    pub fn new(path: &Path) -> Result<Self> {
        fs::write(path, "").with_context(|| path.display().to_string())?;
        let target = path.to_owned();
        let made = thread::spawn(move || -> Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let own = format!("/proc/self/task/{}/ns/net", nix::unistd::gettid());
            Ok(mount(Some(own.as_str()), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
        });
        made.join()
            .map_err(|_| anyhow::anyhow!("the thread that made a network namespace ended"))?
            .context("cannot make a network namespace; run as root")?;
        Ok(Self { path: path.to_owned() })
    }

    /// The file that it is bound to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn link(&self, name: &str) -> Result<()> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path.display()));
        command.args(["ip", "link", "add", name, "type", "bridge"]);
        let done = command.output().context("cannot run nsenter")?;
        if !done.status.success() {
            bail!("cannot make the interface {name}: {}", String::from_utf8_lossy(&done.stderr));
        }
        Ok(())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.path, MntFlags::MNT_DETACH) {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}
