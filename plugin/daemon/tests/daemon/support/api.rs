//! A fake Kubernetes API server over plain HTTP, with the few paths that the daemon asks.
//!
//! It stands where a real one is too heavy and cannot be told to fail at will: it can refuse, answer 503 a number
//! of times, or keep silent. What it answers was taken from a real API server; the end-to-end tests use one.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

const NADS: &str = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions";

/// How the server behaves now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Works,
    Forbids,
    /// Answers 503 to so many requests, then works.
    Fails(u32),
    /// Takes requests and never answers.
    Silent,
    /// Does not know the kind NetworkAttachmentDefinition.
    NoCrd,
}

#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Value,
}

pub(crate) struct State {
    pub(crate) mode: Mode,
    /// Only in the list that the cache is filled from.
    pub(crate) listed: Vec<Value>,
    /// Only found by a single read.
    pub(crate) unlisted: Vec<Value>,
    /// The pod `default/pod1`.
    pub(crate) pod: Option<Value>,
    pub(crate) seen: Vec<Seen>,
}

/// The server; it ends with the test's process.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
}

pub(crate) fn nad(name: &str, config: &str) -> Value {
    json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": "default", "name": name, "uid": name, "resourceVersion": "5", "annotations":
            {"k8s.v1.cni.cncf.io/resourceName": "vendor.example/vf", "kubectl/other": "x"}},
        "spec": {"config": config}})
}

pub(crate) fn kubeconfig(address: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "c", "user": {"token": "none"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]})
    .to_string()
}

impl Api {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    pub(crate) fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata":
            {"namespace": "default", "name": "pod1", "uid": "uid1", "annotations": {"a": "b"}}});
        let state = State {
            mode: Mode::Works,
            listed: vec![nad("known", "{ \"type\":\"bridge\", \"z\": 1 }")],
            unlisted: vec![nad("late", "{}")],
            pod: Some(pod),
            seen: vec![],
        };
        let api =
            Self { address: listener.local_addr().unwrap().to_string(), state: Arc::new(Mutex::new(state)) };
        let served = api.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let api = served.clone();
                thread::spawn(move || api.connection(&stream));
            }
        });
        api
    }

    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    pub(crate) fn seen(&self, method: &str) -> Vec<Seen> {
        self.with(|state| state.seen.iter().filter(|seen| seen.method == method).cloned().collect())
    }

    fn connection(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some(seen) = read(&mut reader) {
            let target = seen.path.clone();
            let answer = self.with(|state| {
                state.seen.push(seen.clone());
                state.answer(&seen)
            });
            let mut stream = stream;
            let sent = match answer {
                // Silent, or a watch without events: until the other side goes.
                None => {
                    if target.contains("watch=") {
                        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n";
                        stream.write_all(head.as_bytes()).unwrap_or_default();
                    }
                    reader.read_to_end(&mut Vec::new()).map(drop)
                }
                Some((status, body)) => {
                    let body = body.to_string();
                    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json");
                    stream.write_all(
                        format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
                    )
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

impl State {
    fn answer(&mut self, seen: &Seen) -> Option<(u16, Value)> {
        match self.mode {
            Mode::Works | Mode::NoCrd => {}
            Mode::Silent => return None,
            Mode::Forbids => return Some(refusal(403, "Forbidden", "")),
            Mode::Fails(0) => self.mode = Mode::Works,
            Mode::Fails(left) => {
                self.mode = Mode::Fails(left - 1);
                return Some(refusal(503, "ServiceUnavailable", ""));
            }
        }
        let path = seen.path.split('?').next().unwrap();
        let name = path.rsplit('/').next().unwrap();
        match (seen.method.as_str(), path) {
            ("GET", path) if path.contains("k8s.cni.cncf.io") && self.mode == Mode::NoCrd => {
                Some((404, Value::String("404 page not found".into())))
            }
            ("GET", NADS) if seen.path.contains("watch=") => None,
            ("GET", NADS) => Some((
                200,
                json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinitionList",
                    "metadata": {"resourceVersion": "5"}, "items": self.listed}),
            )),
            ("GET", path) if path.contains("/network-attachment-definitions/") => {
                let found =
                    self.listed.iter().chain(&self.unlisted).find(|nad| nad["metadata"]["name"] == name);
                Some(found.map_or_else(|| refusal(404, "NotFound", name), |nad| (200, nad.clone())))
            }
            ("GET", "/api/v1/namespaces/default/pods/pod1") => Some(match &self.pod {
                Some(pod) => (200, pod.clone()),
                None => refusal(404, "NotFound", name),
            }),
            ("PATCH", "/api/v1/namespaces/default/pods/pod1/status") => Some(match &self.pod {
                Some(pod) if seen.body["metadata"]["uid"] == pod["metadata"]["uid"] => (200, pod.clone()),
                Some(_) => refusal(409, "Conflict", name),
                None => refusal(404, "NotFound", name),
            }),
            ("POST", "/api/v1/namespaces/default/events") => Some((201, seen.body.clone())),
            _ => Some(refusal(404, "NotFound", name)),
        }
    }
}

fn refusal(code: u16, reason: &str, name: &str) -> (u16, Value) {
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
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { method, path, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}
