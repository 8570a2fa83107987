//! Results of every version, converted into every version.

use std::cell::RefCell;

use cni::{result::CniResult, version::SUPPORTED};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Map, Value, json};

use crate::oracle::Oracle;

/// Generated results; each is converted into each version.
const RESULTS: u32 = 5000;

/// A key that is there or not; some Go plugins print `null` or an empty list for "not".
fn maybe(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    prop_oneof![3 => Just(None), 1 => Just(Some(Value::Null)), 6 => value.prop_map(Some)].boxed()
}

fn list(element: BoxedStrategy<Value>) -> BoxedStrategy<Option<Value>> {
    maybe(prop::collection::vec(element, 0..4).prop_map(Value::Array))
}

fn object(keys: Vec<(&'static str, BoxedStrategy<Option<Value>>)>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    let build = move |values: Vec<Option<Value>>| {
        let pairs = names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
        Value::Object(pairs.collect::<Map<_, _>>())
    };
    values.prop_map(build).boxed()
}

fn always(value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Option<Value>> {
    value.prop_map(Some).boxed()
}

fn one_of(values: &[Value]) -> BoxedStrategy<Value> {
    prop::sample::select(values.to_vec()).boxed()
}

fn v4() -> BoxedStrategy<Value> {
    one_of(&[json!("192.0.2.5/24"), json!("10.0.0.1/8"), json!("0.0.0.0/0"), json!("203.0.113.7/32")])
}

fn v6() -> BoxedStrategy<Value> {
    one_of(&[json!("2001:db8::5/64"), json!("2001:DB8:0:0::1/128"), json!("::/0"), json!("fe80::1/10")])
}

fn subnet() -> BoxedStrategy<Value> {
    prop_oneof![8 => v4(), 8 => v6(), 1 => one_of(&[json!("::ffff:192.0.2.1/120")])].boxed()
}

fn address() -> BoxedStrategy<Value> {
    one_of(&[
        json!("192.0.2.1"),
        json!("2001:db8::1"),
        json!("::ffff:192.0.2.1"),
        json!("2001:DB8::0:1"),
        json!(""),
    ])
}

fn number() -> BoxedStrategy<Value> {
    one_of(&[json!(0), json!(1), json!(1500), json!(-1), json!(253), json!(4_294_967_296_i64)])
}

fn text() -> BoxedStrategy<Value> {
    one_of(&[json!(""), json!("net1"), json!("02:00:00:00:00:01"), json!("/run/netns/x"), json!("é <&>")])
}

fn dns() -> BoxedStrategy<Option<Value>> {
    let texts = || list(text());
    let dns = object(vec![
        ("nameservers", texts()),
        ("domain", maybe(text())),
        ("search", texts()),
        ("options", texts()),
    ]);
    maybe(dns)
}

fn routes() -> BoxedStrategy<Option<Value>> {
    let mut keys = vec![("dst", always(subnet())), ("gw", maybe(address()))];
    keys.extend(["mtu", "advmss", "priority", "table", "scope"].map(|key| (key, maybe(number()))));
    list(object(keys))
}

fn oldest() -> BoxedStrategy<Value> {
    let ip = |subnet: fn() -> BoxedStrategy<Value>| {
        let routes = list(object(vec![("dst", always(subnet())), ("gw", maybe(address()))]));
        maybe(object(vec![("ip", always(subnet())), ("gateway", maybe(address())), ("routes", routes)]))
    };
    object(vec![("ip4", ip(v4)), ("ip6", ip(v6)), ("dns", dns())])
}

/// `version` says the family of its address, as it must.
fn middle() -> BoxedStrategy<Value> {
    let ip = |version: &str, address_of: BoxedStrategy<Value>| {
        let version = always(Just(json!(version)));
        let index = maybe(one_of(&[json!(0), json!(1), json!(7), json!(-1)]));
        object(vec![
            ("version", version),
            ("address", always(address_of)),
            ("gateway", maybe(address())),
            ("interface", index),
        ])
    };
    let ips = list(prop_oneof![ip("4", v4()), ip("6", v6())].boxed());
    let interfaces =
        list(object(vec![("name", maybe(text())), ("mac", maybe(text())), ("sandbox", maybe(text()))]));
    object(vec![("interfaces", interfaces), ("ips", ips), ("routes", routes()), ("dns", dns())])
}

fn current() -> BoxedStrategy<Value> {
    let index = || maybe(one_of(&[json!(0), json!(1), json!(7), json!(-1)]));
    let ips = list(object(vec![
        ("address", always(subnet())),
        ("gateway", maybe(address())),
        ("interface", index()),
    ]));
    let mut keys: Vec<_> =
        ["name", "mac", "sandbox", "socketPath", "pciID"].map(|key| (key, maybe(text()))).to_vec();
    keys.push(("mtu", maybe(number())));
    let interfaces = list(object(keys));
    object(vec![("interfaces", interfaces), ("ips", ips), ("routes", routes()), ("dns", dns())])
}

fn result() -> BoxedStrategy<Value> {
    let of = |versions: &'static [&'static str], shape: BoxedStrategy<Value>| {
        (prop::sample::select(versions), shape).prop_map(|(version, mut result)| {
            result["cniVersion"] = json!(version);
            result
        })
    };
    prop_oneof![
        of(&["0.1.0", "0.2.0"], oldest()),
        of(&["0.3.0", "0.3.1", "0.4.0"], middle()),
        of(&["1.0.0", "1.1.0"], current()),
    ]
    .boxed()
}

// Holds: C30, D12
#[test]
fn results_of_every_version_become_in_every_version_what_libcni_makes_of_them() {
    let Some(oracle) = Oracle::start() else { return };
    let oracle = RefCell::new(oracle);
    let config = Config { cases: RESULTS, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let compared = runner.run(&result(), |value| {
        let text = value.to_string();
        let ours = SUPPORTED.map(|to| {
            CniResult::parse(text.as_bytes(), "1.1.0")
                .and_then(|result| result.typed().map(|_| result))
                .and_then(|result| result.convert(to))
        });
        let raw = |result: &Result<CniResult, _>| {
            result.as_ref().map(|result| result.raw().to_owned()).unwrap_or_default()
        };
        let questions = SUPPORTED
            .iter()
            .zip(&ours)
            .map(|(to, ours)| json!({"op": "convert", "text": text, "to": to, "ours": raw(ours)}));
        let answers = oracle.borrow_mut().ask_all(&questions.collect::<Vec<_>>());
        for ((to, ours), theirs) in SUPPORTED.iter().zip(&ours).zip(answers) {
            prop_assert_eq!(
                ours.is_ok(),
                theirs.error.is_empty(),
                "to {}: {:?}; libcni: {:?}",
                to,
                ours,
                theirs
            );
            // What libcni reads in ours is what it made itself.
            prop_assert_eq!(&theirs.ours, &theirs.text, "to {}: {:?}", to, ours);
            prop_assert_eq!(&theirs.ours_error, "");
        }
        Ok(())
    });
    compared.unwrap();
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::default() })]

    // Holds: C30
    #[test]
    fn a_result_that_goes_through_a_newer_version_comes_back_unchanged(value in result()) {
        let original = CniResult::parse(value.to_string().as_bytes(), "1.1.0").unwrap();
        let typed = original.typed().unwrap();
        let from = SUPPORTED.iter().position(|version| *version == original.version()).unwrap();
        for to in &SUPPORTED[from..] {
            let back = original.convert(to).unwrap().convert(original.version());
            match back {
                Ok(back) => prop_assert_eq!(back.typed().unwrap(), typed.clone(), "by way of {}", to),
                // The oldest versions cannot say that there is no address.
                Err(_) => prop_assert!(typed.ips.is_empty() && original.version() < "0.3.0"),
            }
        }
    }

    #[test]
    fn converting_twice_is_converting_once(value in result(), to in prop::sample::select(SUPPORTED.to_vec())) {
        let original = CniResult::parse(value.to_string().as_bytes(), "1.1.0").unwrap();
        if let Ok(once) = original.convert(to) {
            let twice = once.convert(to).unwrap();
            prop_assert_eq!(twice.raw(), once.raw());
            prop_assert_eq!(once.version(), to);
        }
    }
}
