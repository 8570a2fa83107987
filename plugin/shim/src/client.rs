//! The daemon's socket, from the plugin's side: HTTP/1.1, one request a connection, every step with a deadline.
//!
//! The daemon is asked, not believed: an answer is capped, parsed strictly, and what it says is checked by `meta`.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use meta::cluster::{
    Cluster, ClusterError, EventRequest, Pending, PublishRequest, ResolveRequest, ResolveResponse,
};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, UnixAddr, getsockopt, sockopt::PeerCredentials,
};
use serde::{Serialize, de::DeserializeOwned};

/// Largest answer, in bytes.
const MAX_ANSWER: u64 = 4 << 20;
/// How long the daemon may take for one answer; publishing retries for 5 s behind it.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// How long it may take for a caller that can do without the answer.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long a failing pod waits for its event to be taken.
const EVENT_WITHIN: Duration = Duration::from_secs(2);
/// Pause between two looks at a socket that is not there yet.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The daemon behind its socket.
pub(crate) struct Daemon {
    socket: PathBuf,
    wait: Duration,
}

impl Daemon {
    /// `wait`: how long to await a socket that is not there or refuses.
    pub(crate) fn new(socket: PathBuf, wait: Duration) -> Self {
        Self { socket, wait }
    }

    /// Sends a question. Its answer may take `within` from when it is awaited.
    fn ask(
        &self,
        path: &str,
        body: &impl Serialize,
        wait: Duration,
        within: Duration,
    ) -> Result<Asked, ClusterError> {
        let body = serde_json::to_string(body).map_err(|error| unusable(&error.to_string()))?;
        let mut stream = self.connect(wait)?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: multus\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream
            .set_write_timeout(Some(within))
            .and_then(|()| stream.write_all((head + &body).as_bytes()))
            .map_err(|error| lost(&error))?;
        Ok(Asked { stream, within })
    }

    fn connect(&self, wait: Duration) -> Result<UnixStream, ClusterError> {
        let until = Instant::now() + wait;
        loop {
            let error = match connect(&self.socket) {
                Ok(stream) => return self.trusted(stream),
                Err(error) => error,
            };
            if Instant::now() >= until {
                return Err(self.away(&error, wait));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Only root's daemon may speak for the cluster.
    fn trusted(&self, stream: UnixStream) -> Result<UnixStream, ClusterError> {
        match getsockopt(&stream.as_fd(), PeerCredentials) {
            Ok(peer) if peer.uid() == 0 => Ok(stream),
            Ok(peer) => Err(error(
                "DAEMON_UNTRUSTED",
                format!(
                    "{} is served by uid {}, not by root; find out who took its place",
                    self.socket.display(),
                    peer.uid()
                ),
            )),
            Err(errno) => Err(error(
                "DAEMON_UNTRUSTED",
                format!("{}: its owner cannot be told: {errno}", self.socket.display()),
            )),
        }
    }

    fn away(&self, cause: &io::Error, wait: Duration) -> ClusterError {
        error(
            "DAEMON_AWAITED",
            format!(
                "the pod asks for networks and awaits the multus daemon of this node: {} did not answer for {} s ({}); see: kubectl get pods -A -l app.kubernetes.io/name=multus -o wide",
                self.socket.display(),
                wait.as_secs(),
                cause.kind()
            ),
        )
    }
}

/// A question that the daemon was sent.
struct Asked {
    stream: UnixStream,
    within: Duration,
}

impl Asked {
    fn answer<T: DeserializeOwned>(mut self) -> Result<T, ClusterError> {
        let deadline = Instant::now() + self.within;
        let answer = receive(&mut self.stream, deadline).map_err(|error| lost(&error))?;
        read(&answer)
    }
}

fn lost(cause: &io::Error) -> ClusterError {
    error(
        "DAEMON_AWAITED",
        format!(
            "the multus daemon of this node broke off while it was asked ({}); the pod is tried again",
            cause.kind()
        ),
    )
}

impl Cluster for Daemon {
    fn resolve(&self, request: &ResolveRequest) -> Result<ResolveResponse, ClusterError> {
        let (wait, within) =
            if request.at_once { (Duration::ZERO, AT_ONCE) } else { (self.wait, ANSWER_WITHIN) };
        self.ask("/v1/resolve", request, wait, within)?.answer()
    }

    fn publish<'a>(&'a self, request: &'a PublishRequest) -> Pending<'a> {
        let asked = self.ask("/v1/publish", request, self.wait, ANSWER_WITHIN);
        Box::new(|| asked?.answer::<Empty>().map(drop))
    }

    fn event(&self, request: &EventRequest) -> Result<(), ClusterError> {
        self.ask("/v1/event", request, Duration::ZERO, EVENT_WITHIN)?.answer::<Empty>().map(drop)
    }
}

#[derive(serde::Deserialize)]
struct Empty {}

/// Like [`UnixStream::connect`], which would wait without end while the queue of a stopped daemon is full.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// What an answer says; nothing of it is believed yet.
fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, ClusterError> {
    let (status, body) = split(answer).ok_or_else(|| unusable("it is no HTTP answer"))?;
    if status == 200 {
        return serde_json::from_slice(body).map_err(|error| unusable(&error.to_string()));
    }
    let refused: ClusterError =
        serde_json::from_slice(body).map_err(|_| unusable(&format!("status {status} without a reason")))?;
    // Codes below 100 belong to the spec; the daemon may use those for its own domain only.
    let code = if matches!(refused.code, 7 | 11) { refused.code } else { 11 };
    Err(ClusterError { code, ..refused })
}

fn receive(stream: &mut UnixStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut part = [0; 4 * 1024];
    loop {
        // A daemon that trickles bytes must not outlive the deadline.
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return Err(io::ErrorKind::TimedOut.into()),
            left => stream.set_read_timeout(Some(left))?,
        }
        let read = stream.read(&mut part)?;
        if read == 0 {
            return Ok(answer);
        }
        answer.extend_from_slice(&part[..read]);
        if answer.len() as u64 > MAX_ANSWER {
            return Err(io::Error::other("its answer is larger than 4 MB"));
        }
    }
}

/// Status and body of an answer that ends with its connection and says its length.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let body = &answer[end + 4..];
    let length = head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    (body.len() == length).then_some((status, body))
}

fn unusable(why: &str) -> ClusterError {
    error(
        "DAEMON_MISMATCH",
        format!(
            "the multus daemon's answer cannot be used ({}); nothing was attached",
            cni::error::one_line(why, 120)
        ),
    )
}

fn error(reason: &str, message: String) -> ClusterError {
    ClusterError { code: 11, reason: reason.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use meta::cluster::ResolveResponse;

    #[test]
    fn an_answer_of_any_bytes_is_read_or_one_line() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/answer");
        let read = |bytes: &[u8]| {
            if let Err(error) = super::read::<ResolveResponse>(bytes) {
                let line = meta::error::Fault::from(error).line();
                assert!(line.chars().count() < 300 && !line.chars().any(char::is_control), "{line}");
            }
        };
        assert!(testkit::fuzz::run(&corpus, read).is_ok());
    }
}
