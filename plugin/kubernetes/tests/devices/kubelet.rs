//! A kubelet's PodResources socket: gRPC as the specification writes it, over HTTP/2 frames, messages by hand.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, Response};
use tokio::net::UnixListener;

/// What one pod was given, by container: resource and ids.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) containers: Vec<Vec<(String, Vec<String>)>>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) given: Vec<Given>,
    /// gRPC status that `Get` fails with.
    pub(crate) get: Option<u32>,
    /// gRPC status that `List` fails with.
    pub(crate) list: Option<u32>,
    /// Takes requests and never answers.
    pub(crate) hangs: bool,
    asked: Vec<String>,
}

pub(crate) struct Kubelet {
    state: Arc<Mutex<State>>,
    _runtime: tokio::runtime::Runtime,
}

impl Kubelet {
    pub(crate) fn start(socket: &Path) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let listener = runtime.block_on(async { UnixListener::bind(socket).unwrap() });
        let served = Arc::clone(&state);
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let served = Arc::clone(&served);
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(answer(request, respond, Arc::clone(&served)));
                    }
                });
            }
        });
        Self { state, _runtime: runtime }
    }

    pub(crate) fn set<T>(&self, change: impl FnOnce(&mut State) -> T) {
        change(&mut self.state.lock().unwrap());
    }

    /// The methods called so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }
}

async fn answer(
    request: http::Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    state: Arc<Mutex<State>>,
) {
    let (head, mut body) = request.into_parts();
    let mut message = BytesMut::new();
    while let Some(part) = body.data().await {
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        message.extend_from_slice(&part);
    }
    let method = head.uri.path().to_owned();
    let (hangs, outcome) = {
        let mut state = state.lock().unwrap();
        state.asked.push(method.clone());
        (state.hangs, state.answer(&method, &message[5..]))
    };
    if hangs {
        std::future::pending::<()>().await;
    }
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut stream = respond.send_response(head, false).unwrap();
    let (status, text) = match outcome {
        Ok(message) => {
            let mut frame = BytesMut::new();
            frame.put_u8(0);
            frame.put_u32(u32::try_from(message.len()).unwrap());
            frame.extend_from_slice(&message);
            // A client that has heard enough hangs up; that is its right.
            drop(stream.send_data(frame.freeze(), false));
            (0, "")
        }
        Err(status) => (status, "as the test says"),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.into());
    trailers.insert("grpc-message", text.parse().unwrap());
    drop(stream.send_trailers(trailers));
}

impl State {
    fn answer(&self, method: &str, request: &[u8]) -> Result<Vec<u8>, u32> {
        match method {
            "/v1.PodResourcesLister/Get" => {
                if let Some(status) = self.get {
                    return Err(status);
                }
                let wanted = |pod: &&Given| {
                    request == [field(1, pod.name.as_bytes()), field(2, pod.namespace.as_bytes())].concat()
                };
                self.given.iter().find(wanted).map(|pod| field(1, &encode(pod))).ok_or(5)
            }
            "/v1.PodResourcesLister/List" => match self.list {
                Some(status) => Err(status),
                None => Ok(self.given.iter().flat_map(|pod| field(1, &encode(pod))).collect()),
            },
            _ => Err(12),
        }
    }
}

/// `PodResources`, with fields of later kubelets that nobody here reads.
fn encode(pod: &Given) -> Vec<u8> {
    let mut message = [field(1, pod.name.as_bytes()), field(2, pod.namespace.as_bytes())].concat();
    for (number, container) in pod.containers.iter().enumerate() {
        let mut encoded = field(1, format!("c{number}").as_bytes());
        for (resource, ids) in container {
            let mut devices = field(1, resource.as_bytes());
            devices.extend(ids.iter().flat_map(|id| field(2, id.as_bytes())));
            // Topology: one NUMA node.
            devices.extend(field(3, &field(1, &[0x08, 0x01])));
            encoded.extend(field(2, &devices));
        }
        // CPU ids, packed.
        encoded.extend(field(3, &[1, 2, 3]));
        message.extend(field(3, &encoded));
    }
    message
}

/// One field of wire type 2: bytes with their length before them.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        encoded.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    encoded.push(u8::try_from(length).unwrap());
    encoded.extend_from_slice(bytes);
    encoded
}
