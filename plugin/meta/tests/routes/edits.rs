//! What the results say afterwards.

use cni::{result::CniResult, version};
use meta::routes::{Change, Cidr, Route, destinations, edit};
use proptest::prelude::*;
use serde_json::Value;

fn edited(result: &str, change: &Change) -> String {
    let result = CniResult::parse(result.as_bytes(), "0.4.0").unwrap();
    let after = edit(&result, change).unwrap();
    assert_eq!(after.version(), result.version());
    after.raw().to_owned()
}

fn forget() -> Change {
    Change::default()
}

fn replace() -> Change {
    let route = |gateway: &str, order| Route::default_via(gateway.parse().unwrap(), 1, order);
    Change { add: vec![route("10.2.0.1", 0), route("fd02::1", 0), route("10.2.0.2", 1)], ..forget() }
}

#[test]
fn a_result_that_keeps_its_default_routes_stays_as_printed() {
    let text = r#"{ "cniVersion": "0.4.0", "routes": [ {"dst":"0.0.0.0/0"} ] }"#;
    assert_eq!(edited(text, &Change { keep: true, ..replace() }), text);
}

// Holds: B20
#[test]
fn default_routes_go_from_results_of_every_version() {
    for version in version::SUPPORTED {
        let (before, after) = if version::at_least(version, "0.3.0") {
            (
                format!(
                    r#"{{"cniVersion":"{version}","x":1.50,"routes":[{{"dst":"0.0.0.0/0","gw":"10.0.0.1"}},{{"dst":"::/0"}},{{ "dst": "10.5.0.0/16" }}],"ips":[]}}"#
                ),
                format!(
                    r#"{{"cniVersion":"{version}","x":1.50,"routes":[{{ "dst": "10.5.0.0/16" }}],"ips":[]}}"#
                ),
            )
        } else {
            (
                format!(
                    r#"{{"cniVersion":"{version}","x":1.50,"ip4":{{"ip":"10.0.0.5/24","gateway":"10.0.0.1","routes":[{{"dst":"0.0.0.0/0"}},{{ "dst": "10.5.0.0/16" }}]}},"ip6":{{"ip":"fd00::5/64","routes":[{{"dst":"::/0","gw":"fd00::1"}}],"y":0}}}}"#
                ),
                format!(
                    r#"{{"cniVersion":"{version}","x":1.50,"ip4":{{"ip":"10.0.0.5/24","gateway":"10.0.0.1","routes":[{{ "dst": "10.5.0.0/16" }}]}},"ip6":{{"ip":"fd00::5/64","y":0}}}}"#
                ),
            )
        };
        assert_eq!(edited(&before, &forget()), after);
    }
}

// Holds: N31, B20
#[test]
fn gateways_come_into_results_of_every_version() {
    for version in version::SUPPORTED {
        if !version::at_least(version, "0.3.0") {
            let before = format!(
                r#"{{"cniVersion":"{version}","ip4":{{"ip":"10.2.0.5/24","routes":null}},"ip6":{{"ip":"fd02::5/64"}}}}"#
            );
            let after = format!(
                r#"{{"cniVersion":"{version}","ip4":{{"ip":"10.2.0.5/24","routes":[{{"dst":"0.0.0.0/0","gw":"10.2.0.1"}},{{"dst":"0.0.0.0/0","gw":"10.2.0.2"}}]}},"ip6":{{"ip":"fd02::5/64","routes":[{{"dst":"::/0","gw":"fd02::1"}}]}}}}"#
            );
            assert_eq!(edited(&before, &replace()), after);
            continue;
        }
        let metric = if version == "1.1.0" { r#","priority":1"# } else { "" };
        let before =
            format!(r#"{{"cniVersion":"{version}","routes":[{{"dst":"0.0.0.0/0","gw":"10.2.0.9"}}]}}"#);
        let after = format!(
            r#"{{"cniVersion":"{version}","routes":[{{"dst":"0.0.0.0/0","gw":"10.2.0.1"}},{{"dst":"::/0","gw":"fd02::1"}},{{"dst":"0.0.0.0/0","gw":"10.2.0.2"{metric}}}]}}"#
        );
        assert_eq!(edited(&before, &replace()), after);
        assert_eq!(edited(&format!(r#"{{"cniVersion":"{version}"}}"#), &replace()), after);
    }
}

#[test]
fn an_oldest_result_without_an_address_of_a_family_cannot_say_its_routes() {
    let before = r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.2.0.5/24"},"dns":{}}"#;
    let after = r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.2.0.5/24","routes":[{"dst":"0.0.0.0/0","gw":"10.2.0.1"},{"dst":"0.0.0.0/0","gw":"10.2.0.2"}]},"dns":{}}"#;
    assert_eq!(edited(before, &replace()), after);
}

// Holds: B20
#[test]
fn what_is_no_default_route_of_the_main_table_stays_as_printed() {
    let kept = [
        r#"{}"#,
        r#"{"gw":"10.0.0.1"}"#,
        r#"{"dst":"0.0.0.0/1"}"#,
        r#"{"dst":"::/1"}"#,
        r#"{"dst":"0.0.0.0"}"#,
        r#"{"dst":"nonsense/0"}"#,
        r#"{"dst":"0.0.0.0/0","table":100}"#,
        r#"{"dst":5}"#,
        r#"[1]"#,
        r#"null"#,
    ];
    let gone = [
        r#"{"dst":"0.0.0.0/0"}"#,
        r#"{"dst":"::/0"}"#,
        r#"{"dst":"::0/0"}"#,
        r#"{"dst":"0:0:0:0:0:0:0:0/0"}"#,
        r#"{"dst":"10.0.0.1/0"}"#,
        r#"{"dst":"0.0.0.0/0","table":254}"#,
        r#"{"dst":"0.0.0.0/0","priority":99999999999999999999}"#,
    ];
    for route in kept {
        let text = format!(r#"{{"cniVersion":"1.1.0","routes":[{route}]}}"#);
        assert_eq!(edited(&text, &forget()), text);
    }
    for route in gone {
        let text = format!(r#"{{"cniVersion":"1.1.0","routes":[{route}]}}"#);
        assert_eq!(edited(&text, &forget()), r#"{"cniVersion":"1.1.0"}"#, "{route}");
    }
}

#[test]
fn a_destination_that_the_result_leads_to_already_is_not_said_twice() {
    let former = Route::default_via("10.1.0.1".parse().unwrap(), 1, 0);
    let change = Change { add: vec![former.to("10.96.0.0/12".parse().unwrap())], ..forget() };
    let text = r#"{"cniVersion":"1.0.0","routes":[{"dst":"10.96.0.0/12","gw":"10.1.0.7"}]}"#;
    assert_eq!(edited(text, &change), text);
}

#[test]
fn routes_that_are_no_list_are_an_error_and_not_dropped() {
    for text in [
        r#"{"cniVersion":"1.0.0","routes":{"dst":"0.0.0.0/0"}}"#,
        r#"{"cniVersion":"0.2.0","ip4":[]}"#,
        r#"{"cniVersion":"0.1.0","ip6":{"routes":7}}"#,
    ] {
        let result = CniResult::parse(text.as_bytes(), "1.0.0").unwrap();
        assert_eq!(edit(&result, &forget()).unwrap_err().code, 6, "{text}");
    }
}

#[test]
fn destinations_of_the_configuration_are_read_or_refused_by_name() {
    let read = |list: &[&str]| {
        let list: Vec<String> = list.iter().map(|text| (*text).to_owned()).collect();
        destinations("clusterDestinations", &list)
            .map(|found| found.iter().map(Cidr::to_string).collect::<Vec<String>>())
    };
    assert_eq!(
        read(&["10.96.0.0/12", "10.96.3.7/12", "10.96.0.10", "fd00:10::1/108", "fd00::a"]).unwrap(),
        ["10.96.0.0/12", "10.96.0.0/12", "10.96.0.10/32", "fd00:10::/108", "fd00::a/128"]
    );
    for wrong in
        ["0.0.0.0/0", "::/0", "10.0.0.0/33", "fd00::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "", "x"]
    {
        let fault = read(&["10.96.0.0/12", wrong]).unwrap_err();
        assert_eq!((fault.code, fault.slug.as_str()), (7, "NETCONF_INVALID"), "{wrong}");
        assert!(
            fault.message.contains("clusterDestinations") && fault.line().chars().count() < 300,
            "{fault}"
        );
    }
}

/// One route of a result, as a plugin might print it.
fn route() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        "0\\.0\\.0\\.0/0",
        "::/0",
        "10\\.[0-9]{1,3}\\.0\\.0/[0-9]{1,2}",
        "fd[0-9]{2}::/[0-9]{1,3}",
        "[a-z0-9:./ ]{0,12}"
    ];
    prop_oneof![
        text.clone().prop_map(|dst| format!(r#"{{ "dst":"{dst}"}}"#)),
        (text.clone(), text, 0..300_u16).prop_map(|(dst, gw, table)| {
            format!(r#"{{"gw":"{gw}","dst":"{dst}","new":1.50e0,"table":{table}}}"#)
        }),
        "null|-?[1-9][0-9]{0,30}|\\[\\]|\"0\\.0\\.0\\.0/0\"",
    ]
}

/// True for what may go: a destination of length 0, and no table of its own.
fn may_go(route: &str) -> bool {
    let route: Value = serde_json::from_str(route).unwrap();
    let prefix = route["dst"].as_str().and_then(|dst| dst.split_once('/')).map(|(_, prefix)| prefix);
    prefix.is_some_and(|prefix| !prefix.is_empty() && prefix.trim_matches('0').is_empty())
        && route["table"].as_i64().is_none_or(|table| [0, 254].contains(&table))
}

/// True for what has to go.
fn must_go(route: &str) -> bool {
    may_go(route) && [r#""dst":"0.0.0.0/0""#, r#""dst":"::/0""#].iter().any(|dst| route.contains(dst))
}

proptest! {
    #[test]
    fn editing_leaves_every_other_route_as_printed(
        routes in prop::collection::vec(route(), 0..8),
        version in prop::sample::select(&version::SUPPORTED[..]),
    ) {
        let (holder, end) = if version::at_least(version, "0.3.0") { ("", "") } else { (r#""ip4":{"ip":"10.2.0.5/24","#, "}") };
        let before = format!(r#"{{"big":1.50e400,"cniVersion":"{version}",{holder}"routes":[{}]{end}}}"#, routes.join(","));
        let result = CniResult::parse(before.as_bytes(), version)?;
        let after = edit(&result, &forget())?;
        let kept: Vec<&String> = routes.iter().filter(|route| after.raw().contains(route.as_str())).collect();
        prop_assert!(routes.iter().all(|route| may_go(route) || kept.contains(&route)), "{}", after.raw());
        prop_assert!(!kept.iter().any(|route| must_go(route)), "{}", after.raw());
        let list = kept.iter().map(|route| route.as_str()).collect::<Vec<_>>().join(",");
        let list = if kept.is_empty() && !routes.is_empty() { String::new() } else { format!(r#""routes":[{list}]"#) };
        let wanted = format!(r#"{{"big":1.50e400,"cniVersion":"{version}",{holder}{list}{end}}}"#);
        prop_assert_eq!(after.raw(), wanted.replace(",}", "}"));
    }

    #[test]
    fn any_result_is_edited_or_refused(text in r#"\{("(routes|ip4|ip6|cniVersion|ips)":(\[(\{"dst":"[0-9:./]{0,9}"\},?|null,?|7,?){0,3}\]|\{"routes":(\[\]|\[null\]|5|null)\}|"(0.2.0|1.0.0)"|null|3),?){0,5}\}"#) {
        if let Ok(result) = CniResult::parse(text.as_bytes(), "1.0.0") {
            drop(edit(&result, &replace()));
        }
    }
}
