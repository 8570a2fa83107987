//! `default-route`, with a bridge as the primary and macvlan beside it.

use serde_json::{Value, json};

use crate::{
    host::Host,
    pod::{Pod, Second, bare, live, reach, said},
    primaries::bridge,
};

const FAR: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const SERVICE: [&str; 2] = ["10.96.0.10", "fd96::a"];

/// A host that serves two cluster addresses, with a far world behind the machine outside.
fn host() -> Option<Host> {
    let mut host = Host::or_skip(&["bridge", "host-local", "macvlan", "static"])?;
    host.options = json!({"clusterCIDRs": ["10.96.0.0/12", "fd96::/108"]});
    for ((far, service), length) in FAR.into_iter().zip(SERVICE).zip([32, 128]) {
        host.outside.ip(&format!("address add {far}/{length} dev lo")).unwrap();
        host.net.ip(&format!("address add {service}/{length} dev lo")).unwrap();
    }
    Some(host)
}

fn macvlan(routes: &Value) -> Second {
    let ipam = json!({"type": "static", "routes": routes, "addresses": [{"address": "10.9.0.50/24"}, {"address": "fd09::50/64"}]});
    Second::new("above", json!({"type": "macvlan", "master": "up0", "ipam": ipam}))
}

/// The default routes of the pod, as `via GATEWAY dev INTERFACE`.
fn defaults(pod: &Pod) -> Vec<String> {
    let both = pod.ip("route show default") + &pod.ip("-6 route show default");
    let words = |line: &str| line.split_whitespace().skip(1).take(4).collect::<Vec<_>>().join(" ");
    both.lines().map(words).collect()
}

/// The far world is reached over net1 and sees its address; the services are reached over eth0 and see its.
#[track_caller]
fn world_over_net1_and_services_over_eth0(host: &Host, pod: &Pod, result: &Value) {
    let said = said(result);
    for (v6, own) in [(false, "10.9.0.50"), (true, "fd09::50")] {
        let place = usize::from(v6);
        let seen_as = |side, address| reach(side, &pod.netns, address).to_string();
        assert_eq!(seen_as(&host.outside, FAR[place]), own);
        assert_eq!(seen_as(&host.net, SERVICE[place]), bare(&said, v6));
    }
}

/// The routes of a result of any version.
fn routes(result: &Value) -> Vec<Value> {
    let holders = [&result["routes"], &result["ip4"]["routes"], &result["ip6"]["routes"]];
    holders.into_iter().filter_map(Value::as_array).flatten().cloned().collect()
}

// Holds: N31, N43, B1, B20
#[test]
fn gateways_lead_the_pod_over_the_second_network_and_services_over_the_first() {
    let Some(host) = host() else { return };
    for version in host.versions("macvlan") {
        let make = || {
            let asks = json!({"default-route": ["10.9.0.2", "fd09::2"]});
            Pod::new(bridge()).with(macvlan(&json!([])).asking(asks))
        };
        live(&host, version, make, |pod, result| {
            assert_eq!(defaults(pod), ["via 10.9.0.2 dev net1", "via fd09::2 dev net1"]);
            world_over_net1_and_services_over_eth0(&host, pod, result);
            let expected = [
                json!({"dst": "10.96.0.0/12", "gw": "10.88.0.1"}),
                json!({"dst": "fd96::/108", "gw": "fd88::1"}),
            ];
            assert_eq!(routes(result), expected, "the primary's result");
            let published = host.daemon.published.lock().unwrap().last().unwrap().clone();
            assert_eq!(published[0]["gateway"], Value::Null, "{published}");
            assert_eq!(published[1]["gateway"], json!(["10.9.0.2", "fd09::2"]), "{published}");
        });
    }
}

// Holds: N31
#[test]
fn an_empty_list_leaves_the_default_routes_to_the_second_network_itself() {
    let Some(host) = host() else { return };
    let own = json!([{"dst": "0.0.0.0/0", "gw": "10.9.0.2"}, {"dst": "::/0", "gw": "fd09::2"}]);
    for version in host.versions("macvlan") {
        let make = || Pod::new(bridge()).with(macvlan(&own).asking(json!({"default-route": []})));
        live(&host, version, make, |pod, result| {
            assert_eq!(defaults(pod), ["via 10.9.0.2 dev net1", "via fd09::2 dev net1"]);
            world_over_net1_and_services_over_eth0(&host, pod, result);
        });
    }
}

// Holds: B29
#[test]
fn a_gateway_out_of_reach_fails_the_pod_and_leaves_nothing() {
    let Some(host) = host() else { return };
    let pod = || Pod::new(bridge()).with(macvlan(&json!([])).asking(json!({"default-route": ["10.7.7.7"]})));
    let (first, again) = (pod(), pod());
    host.call("ADD", "1.0.0", &first).failure();
    let before = host.state();
    let (code, line) = host.call("ADD", "1.0.0", &again).failure();
    assert_eq!(code, 7);
    for part in ["DEFAULT_ROUTE_FAILED", "10.7.7.7", "net1", "10.9.0.50/24"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert_eq!(again.interfaces(), Vec::<String>::new());
    host.settles_to(&before);
    assert!(!before.iter().any(|line| line.contains(&first.id)), "{before:?}");
}
