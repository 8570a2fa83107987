//! What the forms of the networks annotation mean.

use meta::selection;

// Holds: N9, N10, N13, N34
#[test]
fn the_common_forms_mean_what_the_standard_says() {
    let chosen = |text: &str| -> Vec<(String, String, Option<String>)> {
        let selections = selection::parse(text, "demo", false).expect(text);
        selections.into_iter().map(|s| (s.network.namespace, s.network.name, s.interface)).collect()
    };
    let one = |namespace: &str, name: &str, interface: Option<&str>| {
        (namespace.to_owned(), name.to_owned(), interface.map(str::to_owned))
    };
    assert_eq!(chosen("a,b"), [one("demo", "a", None), one("demo", "b", None)]);
    assert_eq!(chosen(" ns/a@if0 , b "), [one("ns", "a", Some("if0")), one("demo", "b", None)]);
    assert_eq!(
        chosen(r#"[{"name":"a","namespace":"ns","interface":"if0","unknown":1}]"#),
        [one("ns", "a", Some("if0"))]
    );
    assert_eq!(
        chosen("a,a"),
        [one("demo", "a", None), one("demo", "a", None)],
        "the same network twice is two attachments"
    );
}
