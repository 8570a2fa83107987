//! Texts that cannot be read: YAML, and the JSON inside of it.

use crate::{
    json::{Mistake, Problem},
    lint::{
        Found, Rule, World,
        near::nearest,
        pods::{Wish, template},
        rules,
        world::{Config, GROUP},
    },
    node::{Node, Value},
    yaml::Broken,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "yaml-syntax",
        why: "the API server refuses the file, so nothing in it exists",
        fix: "correct the YAML at this place; if the file is a template, render it first",
        check: yaml_syntax,
    },
    Rule {
        name: "yaml-tab",
        why: "YAML indents with spaces only, so the API server refuses the file",
        fix: "replace the tab by spaces",
        check: yaml_tab,
    },
    Rule {
        name: "json-syntax",
        why: "the text is no JSON, so no pod that asks for the network starts",
        fix: "correct the JSON at this place",
        check: json_syntax,
    },
    Rule {
        name: "json-trailing-comma",
        why: "JSON allows no comma behind the last value, so no pod that asks for the network starts",
        fix: "remove the comma",
        check: json_trailing_comma,
    },
    Rule {
        name: "json-missing-comma",
        why: "JSON needs a comma between two values, so no pod that asks for the network starts",
        fix: "add a comma",
        check: json_missing_comma,
    },
    Rule {
        name: "json-quotes",
        why: "JSON knows no quotes but \", so no pod that asks for the network starts; word processors turn them round",
        fix: "write \" instead",
        check: json_quotes,
    },
    Rule {
        name: "json-comment",
        why: "JSON has no comments, so no pod that asks for the network starts",
        fix: "remove the comment, or put it outside of the JSON",
        check: json_comment,
    },
    Rule {
        name: "duplicate-key",
        why: "only the last one counts, and which one was meant cannot be told",
        fix: "remove one of the two",
        check: duplicate_key,
    },
    Rule {
        name: "unknown-rule",
        why: "the comment silences nothing, because no rule has this name",
        fix: "write the name of a rule of this page",
        check: unknown_rule,
    },
];

fn yaml_syntax(world: &World, found: &mut Found) {
    for (file, source) in world.files.iter().zip(&world.sources) {
        let Some(broken) = &file.broken else { continue };
        if let Broken::Yaml(words) = &broken.kind {
            let template = source.text.contains("{{") || source.text.contains("<no value>");
            let fix = if template {
                "this looks like a template: give the rendered text, as from `helm template`"
            } else {
                "correct the YAML here; the mistake may stand a line earlier"
            };
            found.add(broken.at, format!("no YAML: {words}"), fix);
        }
    }
}

fn yaml_tab(world: &World, found: &mut Found) {
    for broken in world.files.iter().filter_map(|file| file.broken.as_ref()) {
        if matches!(broken.kind, Broken::Tab) {
            found.add(broken.at, "a tab in the indentation", "replace the tab by spaces");
        }
    }
}

/// Every text that should be JSON and is not, with what it is for people.
fn problems(world: &World) -> impl Iterator<Item = (String, Problem)> {
    let files = world.files.iter().filter_map(|file| match file.broken.as_ref()?.clone() {
        crate::yaml::Unreadable { at, kind: Broken::Json(kind) } => {
            Some(("the file".to_owned(), Problem { kind, at }))
        }
        _ => None,
    });
    let configs = world.networks.iter().filter_map(|network| match &network.config {
        Config::Broken(problem) => Some((format!("spec.config of {}", network.shown()), problem.clone())),
        _ => None,
    });
    let pods = world.pods.iter().flat_map(|pod| {
        pod.asks.iter().filter_map(move |asks| match &asks.wish {
            Wish::Broken(problem) => Some((format!("{} of {}", asks.key, pod.shown()), problem.clone())),
            _ => None,
        })
    });
    files.chain(configs).chain(pods)
}

fn json_syntax(world: &World, found: &mut Found) {
    for (text, problem) in problems(world) {
        match problem.kind {
            Mistake::Other(words) => {
                found.add(problem.at, format!("{text} is no JSON: {words}"), "correct it here")
            }
            Mistake::Open(bracket) => {
                let close = if bracket == '{' { '}' } else { ']' };
                found.add(
                    problem.at,
                    format!("{text} is no JSON: this {bracket:?} is never closed"),
                    format!("add the missing {close:?}"),
                );
            }
            _ => {}
        }
    }
}

fn json_trailing_comma(world: &World, found: &mut Found) {
    for (text, problem) in problems(world).filter(|(_, problem)| problem.kind == Mistake::TrailingComma) {
        found.add(problem.at, format!("{text} has a comma behind the last value"), "remove the comma");
    }
}

fn json_missing_comma(world: &World, found: &mut Found) {
    for (text, problem) in problems(world).filter(|(_, problem)| problem.kind == Mistake::MissingComma) {
        found.add(problem.at, format!("{text} has no comma behind this value"), "add a comma");
    }
}

fn json_quotes(world: &World, found: &mut Found) {
    for (text, problem) in problems(world) {
        if let Mistake::Quote(quote) = problem.kind {
            found.add(problem.at, format!("{text} has a {quote} where JSON wants \""), "write \" instead");
        }
    }
}

fn json_comment(world: &World, found: &mut Found) {
    for (text, problem) in problems(world).filter(|(_, problem)| problem.kind == Mistake::Comment) {
        found.add(
            problem.at,
            format!("{text} has a comment"),
            "remove the comment, or put it outside of the JSON",
        );
    }
}

fn duplicate_key(world: &World, found: &mut Found) {
    let ours = |object: &Node| {
        let text = |key: &str| object.get(key).and_then(Node::text).unwrap_or_default();
        text("apiVersion").starts_with(GROUP) || template(text("kind"), object).is_some()
    };
    let objects = world.objects();
    let roots = world.networks.iter().filter_map(|network| network.parsed()).map(|parsed| &parsed.root);
    let elements = world.selections().filter_map(|(_, selection, _)| selection.object.as_ref());
    for root in objects.iter().filter(|object| ours(object)).chain(roots).chain(elements) {
        twice(root, found);
    }
}

fn twice(node: &Node, found: &mut Found) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| twice(item, found)),
        Value::Map(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                if entries.iter().take(index).any(|earlier| earlier.key == entry.key) {
                    let message = format!("the key {:?} is given twice in this object", entry.key);
                    found.add(entry.at, message, "remove one of the two");
                }
                twice(&entry.node, found);
            }
        }
        _ => {}
    }
}

fn unknown_rule(world: &World, found: &mut Found) {
    for silence in super::super::silences(world) {
        let names = || rules::all().map(|rule| rule.name);
        if names().all(|name| name != silence.rule) {
            let fix = match nearest(&silence.rule, names()) {
                Some(name) => format!("write {name}"),
                None => "see docs/lint for the names; remove what is none".to_owned(),
            };
            found.add(silence.at, format!("{:?} is no rule", silence.rule), fix);
        }
    }
}
