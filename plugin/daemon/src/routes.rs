//! What each path answers.

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
};
use kubernetes::{Client, Readiness, failure, one_line};
use meta::cluster::{ClusterError, EventRequest, PublishRequest, ResolveRequest};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{
    journal::Journal,
    publisher::Told,
    socket::{Found, Socket},
};

const LARGEST_BODY: usize = 1024 * 1024;
const BODY_DEADLINE: Duration = Duration::from_secs(5);
/// Longer than any deadline of the client, which has the better message; shorter than the plugin's patience.
const WORK_DEADLINE: Duration = Duration::from_secs(14);
/// Events under way that nobody waits for; more than these are dropped.
const BACKGROUND_EVENTS: usize = 128;
/// Good news waits until the plugin has ended: the same API server is busy with it.
const GOOD_NEWS_AFTER: Duration = Duration::from_millis(10);
const INVALID: u32 = 7;
const RETRY: u32 = 11;

/// What requests need.
pub(crate) struct Routes {
    client: Client,
    journal: Journal,
    socket: Arc<Socket>,
    told: Arc<Told>,
    background: Arc<Semaphore>,
}

type Answer = Response<Full<Bytes>>;

/// A failure and its HTTP status.
struct Refusal(StatusCode, ClusterError);

impl From<ClusterError> for Refusal {
    fn from(error: ClusterError) -> Self {
        let status = match (error.reason.as_str(), error.code) {
            ("NAD_NOT_FOUND" | "POD_NOT_FOUND" | "UNKNOWN_SANDBOX", _) => StatusCode::NOT_FOUND,
            ("INVALID_REQUEST", _) => StatusCode::BAD_REQUEST,
            ("POD_REPLACED", _) => StatusCode::CONFLICT,
            (_, RETRY) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self(status, error)
    }
}

impl Routes {
    pub(crate) fn new(client: Client, journal: Journal, socket: Arc<Socket>, told: Arc<Told>) -> Self {
        Self { client, journal, socket, told, background: Arc::new(Semaphore::new(BACKGROUND_EVENTS)) }
    }

    /// Answers one request, within a bounded time.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let what = format!("{} {}", request.method(), one_line(request.uri().path(), 80));
        let outcome = timeout(WORK_DEADLINE, self.route(request)).await.unwrap_or_else(|_| {
            let message =
                format!("{what} took the multus daemon longer than {} s; retry", WORK_DEADLINE.as_secs());
            Err(failure(RETRY, "DEADLINE", &message).into())
        });
        match outcome {
            Ok(answer) => {
                log::debug!("{what}: {}", answer.status());
                answer
            }
            Err(Refusal(status, error)) => {
                log::warn!("{what}: {} {}", error.reason, error.message);
                json(status, &error)
            }
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let path = request.uri().path().to_owned();
        let needed = match path.as_str() {
            "/livez" | "/readyz" => Method::GET,
            "/v1/resolve" | "/v1/publish" | "/v1/event" => Method::POST,
            "/delegate" => {
                let message = "this multus daemon runs no delegates, the plugin on the host does: remove what asks \
                               /delegate (hot-plug is not in this version)";
                return Err(Refusal(
                    StatusCode::NOT_IMPLEMENTED,
                    failure(INVALID, "NOT_IMPLEMENTED", message),
                ));
            }
            _ => {
                let message = format!(
                    "the multus daemon has no path {}: check the version of who asks",
                    one_line(&path, 80)
                );
                return Err(Refusal(StatusCode::NOT_FOUND, failure(INVALID, "UNKNOWN_PATH", &message)));
            }
        };
        if request.method() != needed {
            let message = format!("{path} takes {needed}, not {}", one_line(request.method().as_str(), 20));
            return Err(Refusal(
                StatusCode::METHOD_NOT_ALLOWED,
                failure(INVALID, "INVALID_REQUEST", &message),
            ));
        }
        match path.as_str() {
            "/livez" => Ok(text(self.alive())),
            "/readyz" => Ok(text(match self.client.readiness() {
                Readiness::Ready => Ok(()),
                Readiness::Waiting(why) => Err(why),
            })),
            "/v1/resolve" => {
                let request: ResolveRequest = body(request).await?;
                Ok(json(StatusCode::OK, &self.client.resolve(&request).await?))
            }
            "/v1/publish" => {
                let request: PublishRequest = body(request).await?;
                self.journal.knows(&request.sandbox)?;
                self.client.publish(&request).await?;
                self.told.note(&request.sandbox, &request.status);
                if let Some(event) = request.event() {
                    self.tell_later(event);
                }
                Ok(json(StatusCode::OK, &serde_json::json!({})))
            }
            _ => {
                let request: EventRequest = body(request).await?;
                if request.kind == "Normal" {
                    self.tell_later(request);
                } else {
                    self.client.event(&request).await?;
                }
                Ok(json(StatusCode::OK, &serde_json::json!({})))
            }
        }
    }

    /// Good news may come late or not at all: no pod waits for it.
    fn tell_later(&self, request: EventRequest) {
        let pod = format!("{}/{}", one_line(&request.pod.namespace, 80), one_line(&request.pod.name, 80));
        let Ok(slot) = Arc::clone(&self.background).try_acquire_owned() else {
            log::warn!("an event of pod {pod} was dropped: {BACKGROUND_EVENTS} are under way");
            return;
        };
        let client = self.client.clone();
        tokio::spawn(async move {
            sleep(GOOD_NEWS_AFTER).await;
            if let Err(error) = client.event(&request).await {
                log::warn!("an event of pod {pod} was not sent: {error}");
            }
            drop(slot);
        });
    }

    /// That this runs at all shows the runtime at work; clients must also find us behind the socket's name.
    fn alive(&self) -> Result<(), String> {
        let path = self.socket.path().display();
        match self.socket.look() {
            Ok(Found::Ours) => Ok(()),
            Ok(Found::Nothing) => Err(format!("socket {path} is gone, it is made anew within a second")),
            Ok(Found::Foreign) => {
                Err(format!("socket {path} was replaced by another process: restart this one"))
            }
            Err(error) => Err(format!("cannot look at socket {path}: {error}")),
        }
    }
}

/// Reads a bounded body in a bounded time.
async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let invalid = |status, message: &str| Refusal(status, failure(INVALID, "INVALID_REQUEST", message));
    let read = Limited::new(request.into_body(), LARGEST_BODY).collect();
    let bytes = match timeout(BODY_DEADLINE, read).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the request is larger than {LARGEST_BODY} bytes");
            return Err(invalid(StatusCode::PAYLOAD_TOO_LARGE, &message));
        }
        Ok(Err(error)) => {
            return Err(invalid(StatusCode::BAD_REQUEST, &format!("the request broke off: {error}")));
        }
        Err(_) => {
            return Err(invalid(StatusCode::REQUEST_TIMEOUT, "the request's body did not arrive within 5 s"));
        }
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        let message = format!("the request is not the expected JSON: {error}; check the version of who asks");
        invalid(StatusCode::BAD_REQUEST, &message)
    })
}

fn text(state: Result<(), String>) -> Answer {
    let (status, line) = match state {
        Ok(()) => (StatusCode::OK, "ok".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, one_line(&why, 299)),
    };
    answer(status, "text/plain; charset=utf-8", format!("{line}\n").into())
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    match serde_json::to_vec(body) {
        Ok(bytes) => answer(status, "application/json", bytes.into()),
        Err(error) => {
            let line = one_line(&format!("cannot write the answer: {error}"), 299);
            answer(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", line.into())
        }
    }
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
