//! A fake Kubernetes API server over plain HTTP, with the few paths that Multus asks.
//!
//! It stands where a real one cannot be told to fail at will: it refuses, answers 503 a number of times, is slow or
//! keeps silent, and breaks its watches. What it answers was taken from a real API server, which other tests use.
//!
//! Like a real one it merges patches, guards the uid, and answers 404 for what it does not have.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

const NADS: &str = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions";

/// How the server behaves now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// As it should.
    Works,
    /// Answers this HTTP status to every request.
    Refuses(u16),
    /// Answers this HTTP status to so many requests, then works.
    Fails(u16, u32),
    /// Refuses requests whose method and path contain these, with this HTTP status.
    RefusesOnly(u16, &'static str, &'static str),
    /// Answers after this time.
    Slow(Duration),
    /// Takes requests and never answers.
    Silent,
    /// Does not know the kind NetworkAttachmentDefinition.
    NoCrd,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// HTTP method.
    pub method: String,
    /// Path with its query.
    pub path: String,
    /// Value of the header `Authorization`.
    pub authorization: String,
    /// The decoded body; `null` where there is none.
    pub body: Value,
}

/// What the server has and how it behaves; tests change it at any time.
#[derive(Debug)]
pub struct State {
    /// How it behaves.
    pub mode: Mode,
    /// Definitions in the list that a cache is filled from, and found one by one.
    pub listed: Vec<Value>,
    /// Definitions only found one by one, as those are that a watch has not brought yet.
    pub unlisted: Vec<Value>,
    /// Pods.
    pub pods: Vec<Value>,
    /// Every request so far.
    pub seen: Vec<Seen>,
    watches: Vec<TcpStream>,
}

/// The server; it ends with the test's process.
#[derive(Debug, Clone)]
pub struct Api {
    /// `host:port`.
    pub address: String,
    state: Arc<Mutex<State>>,
}

/// A definition in namespace `default`.
pub fn nad(name: &str, config: &str) -> Value {
    nad_in("default", name, config)
}

/// A definition, with an annotation that is none of our business.
pub fn nad_in(namespace: &str, name: &str, config: &str) -> Value {
    json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": namespace, "name": name, "uid": name, "resourceVersion": "5",
            "annotations": {"kubectl/other": "x"}},
        "spec": {"config": config}})
}

/// A pod with annotations.
pub fn pod(namespace: &str, name: &str, uid: &str, annotations: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "uid": uid, "annotations": annotations}})
}

/// A kubeconfig for a server without TLS.
pub fn kubeconfig(address: &str) -> String {
    kubeconfig_with(address, &json!({ "token": "none" }))
}

/// A kubeconfig with these keys as its user.
pub fn kubeconfig_with(address: &str, user: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "c", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]})
    .to_string()
}

impl Api {
    /// Starts on a free port, with the definitions `default/known` and `default/late` and the pod `default/pod1`.
    pub fn start() -> Result<Self> {
        Self::start_at("127.0.0.1:0")
    }

    /// Starts on an address.
    pub fn start_at(address: &str) -> Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| address.to_owned())?;
        let state = State {
            mode: Mode::Works,
            listed: vec![nad("known", "{ \"type\":\"bridge\", \"z\": 1 }")],
            unlisted: vec![nad("late", "{}")],
            pods: vec![pod("default", "pod1", "uid1", &json!({"a": "b"}))],
            seen: vec![],
            watches: vec![],
        };
        let api = Self { address: listener.local_addr()?.to_string(), state: Arc::new(Mutex::new(state)) };
        let served = api.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let api = served.clone();
                thread::spawn(move || api.connection(&stream));
            }
        });
        Ok(api)
    }

    /// Looks at the state or changes it.
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.lock())
    }

    /// From now on it behaves like this.
    pub fn set(&self, mode: Mode) {
        self.with(|state| state.mode = mode);
    }

    /// The requests with this method.
    pub fn seen(&self, method: &str) -> Vec<Seen> {
        self.with(|state| state.seen.iter().filter(|seen| seen.method == method).cloned().collect())
    }

    /// The annotations of a pod now.
    pub fn annotations(&self, namespace: &str, name: &str) -> Value {
        self.with(|state| state.pod(namespace, name).map(|pod| pod["metadata"]["annotations"].clone()))
            .unwrap_or_default()
    }

    /// Ends every watch, as a restarted server does.
    pub fn break_watches(&self) {
        for watch in self.with(|state| std::mem::take(&mut state.watches)) {
            // One that its client has closed is gone already.
            drop(watch.shutdown(Shutdown::Both));
        }
    }

    /// Sends an event on every watch: `ADDED`, `MODIFIED`, `DELETED` or `ERROR`, and the object.
    pub fn notify(&self, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        self.with(|state| state.watches.retain_mut(|watch| watch.write_all(line.as_bytes()).is_ok()));
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        self.with(|state| state.watches.len())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(seen) = read(&mut reader) {
            let (answer, pause) = self.with(|state| {
                state.seen.push(seen.clone());
                let pause = if let Mode::Slow(pause) = state.mode { pause } else { Duration::ZERO };
                (state.answer(&seen), pause)
            });
            thread::sleep(pause);
            if self.send(stream, &seen, answer).is_err() {
                return;
            }
        }
    }

    fn send(&self, mut stream: &TcpStream, seen: &Seen, answer: Option<(u16, Value)>) -> std::io::Result<()> {
        let Some((status, body)) = answer else {
            if seen.path.contains("watch=") && self.with(|state| state.mode != Mode::Silent) {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")?;
                let copy = stream.try_clone()?;
                self.with(|state| state.watches.push(copy));
            }
            // Until the other side goes, or the watch is broken.
            let mut end = stream.try_clone()?;
            return end.read_to_end(&mut Vec::new()).map(drop);
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes())
    }
}

impl State {
    /// The pod of that name.
    pub fn pod(&mut self, namespace: &str, name: &str) -> Option<&mut Value> {
        self.pods
            .iter_mut()
            .find(|pod| pod["metadata"]["namespace"] == namespace && pod["metadata"]["name"] == name)
    }

    fn nad(&self, namespace: &str, name: &str) -> Option<Value> {
        let is = |nad: &&Value| nad["metadata"]["namespace"] == namespace && nad["metadata"]["name"] == name;
        self.listed.iter().chain(&self.unlisted).find(is).cloned()
    }

    fn answer(&mut self, seen: &Seen) -> Option<(u16, Value)> {
        match self.mode {
            Mode::Silent => return None,
            Mode::Refuses(code) => return Some(refusal(code, "")),
            Mode::RefusesOnly(code, method, path) if seen.method == method && seen.path.contains(path) => {
                return Some(refusal(code, ""));
            }
            Mode::Fails(_, 0) => self.mode = Mode::Works,
            Mode::Fails(code, left) => {
                self.mode = Mode::Fails(code, left - 1);
                return Some(refusal(code, ""));
            }
            _ => {}
        }
        let path = seen.path.split('?').next().unwrap_or_default();
        if path.contains("k8s.cni.cncf.io") && self.mode == Mode::NoCrd {
            return Some((404, Value::String("404 page not found".into())));
        }
        if path == NADS {
            let list = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinitionList",
                "metadata": {"resourceVersion": "5"}, "items": self.listed});
            return if seen.path.contains("watch=") { None } else { Some((200, list)) };
        }
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        Some(match (seen.method.as_str(), parts.as_slice()) {
            ("GET", ["apis", _, _, "namespaces", namespace, "network-attachment-definitions", name]) => {
                self.nad(namespace, name).map_or_else(|| refusal(404, name), |nad| (200, nad))
            }
            ("GET", ["api", "v1", "namespaces", namespace, "pods", name]) => {
                self.pod(namespace, name).map_or_else(|| refusal(404, name), |pod| (200, pod.clone()))
            }
            ("PATCH", ["api", "v1", "namespaces", namespace, "pods", name, "status"]) => {
                match self.pod(namespace, name) {
                    Some(pod) => patched(pod, &seen.body),
                    None => refusal(404, name),
                }
            }
            ("POST", ["api", "v1", "namespaces", _, "events"]) => {
                let sent = |other: &Seen| other.body["metadata"]["name"] == seen.body["metadata"]["name"];
                let same = self.seen.iter().filter(|other| other.method == "POST" && sent(other)).count();
                if same > 1 { refusal(409, "") } else { (201, seen.body.clone()) }
            }
            ("PATCH", ["api", "v1", "namespaces", _, "events", _]) => (200, seen.body.clone()),
            _ => refusal(404, parts.last().unwrap_or(&"")),
        })
    }
}

/// A patch of annotations, guarded by the uid in it, which nothing can change.
fn patched(pod: &mut Value, patch: &Value) -> (u16, Value) {
    let uid = &patch["metadata"]["uid"];
    if !uid.is_null() && *uid != pod["metadata"]["uid"] {
        return refusal(422, "");
    }
    if let Some(changes) = patch["metadata"]["annotations"].as_object() {
        for (key, value) in changes {
            pod["metadata"]["annotations"][key] = value.clone();
        }
    }
    (200, pod.clone())
}

fn refusal(code: u16, name: &str) -> (u16, Value) {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "message": format!("fake: {reason}"), "reason": reason, "details": {"name": name}});
    (code, status)
}

fn read(reader: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let (method, rest) = line.split_once(' ')?;
    let path = rest.split(' ').next()?.to_owned();
    let method = method.to_owned();
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => authorization = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { method, path, authorization, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}
