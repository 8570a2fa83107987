//! A pod: its namespace, what it asks for, and its life from ADD to DEL.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::netns::Netns;

use crate::host::Host;

/// How long a connection, or the host's way back to where it was, may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A second network of the pod.
#[derive(Clone)]
pub(crate) struct Second {
    pub(crate) name: &'static str,
    /// Its config; the name and, unless it has one, the runtime's version come to it.
    pub(crate) config: Value,
    /// Keys of the selection beside the name.
    pub(crate) request: Value,
}

impl Second {
    pub(crate) fn new(name: &'static str, config: Value) -> Self {
        Self { name, config, request: json!({}) }
    }

    pub(crate) fn asking(self, request: Value) -> Self {
        Self { request, ..self }
    }
}

pub(crate) struct Pod {
    pub(crate) netns: Netns,
    pub(crate) id: String,
    pub(crate) ifname: &'static str,
    /// The `plugins` of the primary network.
    pub(crate) primary: Value,
    pub(crate) seconds: Vec<Second>,
    /// What the runtime hands over beside the annotations.
    pub(crate) runtime_config: Value,
}

impl Pod {
    pub(crate) fn new(primary: Value) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let netns = Netns::new().unwrap();
        let no_waiting = || Ok(std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0")?);
        netns.inside(no_waiting).unwrap();
        Self {
            netns,
            id: format!("sandbox{}", COUNT.fetch_add(1, Ordering::Relaxed)),
            ifname: "eth0",
            primary,
            seconds: Vec::new(),
            runtime_config: json!({}),
        }
    }

    pub(crate) fn with(mut self, second: Second) -> Self {
        self.seconds.push(second);
        self
    }

    pub(crate) fn annotations(&self) -> Value {
        if self.seconds.is_empty() {
            return json!({});
        }
        let elements = self.seconds.iter().map(|second| {
            let mut element = json!({ "name": second.name });
            element.as_object_mut().unwrap().extend(second.request.as_object().unwrap().clone());
            element
        });
        json!({ "k8s.v1.cni.cncf.io/networks": elements.collect::<Value>().to_string() })
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        self.netns.ip(arguments).unwrap()
    }

    /// Names of its interfaces but `lo`.
    pub(crate) fn interfaces(&self) -> Vec<String> {
        let list = self.ip("-o link");
        let name = |line: &str| Some(line.split_whitespace().nth(1)?.split(['@', ':']).next()?.to_owned());
        list.lines().filter_map(name).filter(|name| name != "lo").collect()
    }

    /// Addresses with prefix length of an interface, but link-local ones.
    pub(crate) fn addresses(&self, ifname: &str) -> Vec<String> {
        let list = self.ip(&format!("-o address show dev {ifname} scope global"));
        let mut addresses: Vec<String> =
            list.lines().filter_map(|line| line.split_whitespace().nth(3)).map(str::to_owned).collect();
        addresses.sort();
        addresses
    }

    /// Asserts that a TCP connection from `from` reaches the pod by `address`; the address that it came from, as the
    /// pod sees it.
    #[track_caller]
    pub(crate) fn is_reached(&self, from: &Netns, address: &str) -> IpAddr {
        reach(&self.netns, from, address)
    }
}

/// Asserts that a connection from `from` to `address` arrives in `to`; where it comes from, seen there.
#[track_caller]
pub(crate) fn reach(to: &Netns, from: &Netns, address: &str) -> IpAddr {
    let listener = listen(to, 0);
    let port = listener.local_addr().unwrap().port();
    arrives(&listener, from, address, port)
}

/// Listens on a port, or on any for 0. One port of a namespace can be taken once: a process that another test starts
/// at that moment holds it on for an instant.
pub(crate) fn listen(netns: &Netns, port: u16) -> TcpListener {
    netns.inside(|| Ok(TcpListener::bind(("::", port))?)).unwrap()
}

/// Asserts that a connection from `from` to `address` and `port` arrives at `listener`.
#[track_caller]
pub(crate) fn arrives(listener: &TcpListener, from: &Netns, address: &str, port: u16) -> IpAddr {
    let address = SocketAddr::new(address.parse().unwrap(), port);
    let stream = from.inside(|| Ok(TcpStream::connect_timeout(&address, PATIENCE)?));
    let _stream = stream.unwrap_or_else(|error| panic!("{address}: {error}"));
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((_, peer)) => return peer.ip().to_canonical(),
            Err(error) if Instant::now() > deadline => panic!("{address} reached another: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Attaches, checks and detaches a pod of each kind that `make` gives, and asserts that the host is afterwards as it
/// was after a pod before it. `look` sees the attached pod and its result.
#[track_caller]
pub(crate) fn live(host: &Host, version: &str, make: impl Fn() -> Pod, look: impl Fn(&Pod, &Value)) {
    if !host.used.swap(true, Ordering::Relaxed) {
        // The first pod leaves what every plugin leaves once: bridges, empty chains, lock files.
        let first = make();
        host.call("ADD", version, &first).worked();
        host.call("DEL", version, &first).worked();
    }
    let before = host.state();

    let pod = make();
    let result = host.call("ADD", version, &pod).result();
    assert_eq!(result["cniVersion"], version);
    look(&pod, &result);
    // Runtimes call CHECK from 0.4.0 on.
    if cni::version::at_least(version, "0.4.0") {
        host.call("CHECK", version, &pod).worked();
    }
    assert_ne!(host.state(), before, "the pod left no trace on the host: nothing is asserted");
    host.call("DEL", version, &pod).worked();
    assert_eq!(pod.interfaces(), Vec::<String>::new(), "cniVersion {version}");
    host.settles_to(&before);
    host.call("DEL", version, &pod).worked();
}

/// The addresses that a result of any version says, with prefix length, sorted.
pub(crate) fn said(result: &Value) -> Vec<String> {
    let old = ["ip4", "ip6"].iter().filter_map(|key| result[key]["ip"].as_str());
    let new = result["ips"].as_array().into_iter().flatten().filter_map(|ip| ip["address"].as_str());
    let mut addresses: Vec<String> = old.chain(new).map(str::to_owned).collect();
    addresses.sort();
    addresses
}

/// The address of a family out of [`said`], without prefix length.
pub(crate) fn bare(addresses: &[String], v6: bool) -> &str {
    let one = addresses.iter().find(|address| address.contains(':') == v6).unwrap();
    one.split('/').next().unwrap()
}
