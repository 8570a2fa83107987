//! Runs an instance and says where what happened is not what was expected.

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use testkit::Record;

use crate::{
    case::{Call, Change, Expected, Failure, OneOrMore, Step},
    diff::{self, Difference, difference},
    model::{Expectation, Model, status_entry, without_own_keys},
    pod,
    stage::Stage,
    subject::{Outcome, Subject},
};

/// Events are written beside the answer, so they may come a little later.
const EVENTS_WITHIN: Duration = Duration::from_secs(5);

/// Versions of the specification.
const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Runs all steps; an error means that the case could not be run.
pub fn run(subject: &Subject, stage: &Stage<'_>) -> Result<Vec<Difference>> {
    let mut run = Run { subject, stage, model: stage.model(), seen: 0, pod_gone: false, found: Vec::new() };
    run.seen = testkit::records(&subject.record_file(stage))?.len();
    let steps = &stage.case.steps;
    if steps.is_empty() {
        run.add_and_undo()?;
    }
    for (position, step) in steps.iter().enumerate() {
        run.step(&format!("step {}", position + 1), step)?;
    }
    Ok(run.found)
}

struct Run<'a> {
    subject: &'a Subject,
    stage: &'a Stage<'a>,
    model: Model,
    /// Records that earlier steps left.
    seen: usize,
    pod_gone: bool,
    found: Vec<Difference>,
}

impl Run<'_> {
    /// The one ADD of a case, and the DEL that every ADD is followed by.
    fn add_and_undo(&mut self) -> Result<()> {
        let add = Step { verb: Some("ADD".into()), expected: self.stage.case.add.clone(), ..Step::default() };
        self.step("ADD", &add)?;
        // What a failed ADD left is its own affair; the DEL that follows must succeed all the same.
        let calls = add.expected.error.is_none().then(|| self.model.undo());
        let expected = Expected { calls, ..Expected::default() };
        self.step("DEL after it", &Step { verb: Some("DEL".into()), expected, ..Step::default() })
    }

    fn step(&mut self, place: &str, step: &Step) -> Result<()> {
        self.pod_gone |= step.change.iter().any(|change| matches!(change, Change::DeletePod));
        for change in &step.change {
            let changed = match change {
                Change::Age => self.subject.age(self.stage),
                other => self.stage.change(other),
            };
            changed.with_context(|| place.to_owned())?;
        }
        let Some(verb) = &step.verb else { return Ok(()) };
        let place = if place.contains(verb.as_str()) { place.to_owned() } else { format!("{place} {verb}") };
        let stdin =
            step.stdin.clone().unwrap_or_else(|| self.subject.config(self.stage, &step.config).to_string());
        let begin = Instant::now();
        let outcome = self.subject.call(self.stage, &self.env(verb, step), &stdin)?;
        let took = begin.elapsed();
        let file = self.subject.record_file(self.stage);
        let records: Vec<Record> = testkit::records(&file)?.split_off(self.seen);
        self.seen += records.len();
        let expected = &step.expected;
        if let Some(limit) = expected.within_ms.map(Duration::from_millis).filter(|limit| took > *limit) {
            self.differ(&format!("{place}: time"), format!("at most {limit:?}"), format!("{took:?}"));
        }
        if let Some(calls) = &expected.calls {
            self.check_calls(&place, calls, &records)?;
        }
        match &expected.error {
            Some(failure) => self.check_failure(&place, verb, failure, &stdin, &outcome),
            None => self.check_success(&place, verb, expected, &outcome),
        }
        self.check_status(&place, verb, expected)?;
        self.check_events(&place, &expected.events)?;
        Ok(())
    }

    fn env(&self, verb: &str, step: &Step) -> BTreeMap<String, String> {
        let runtime = &self.stage.case.runtime;
        let mut env = BTreeMap::from([("CNI_COMMAND", verb.to_owned()), ("CNI_PATH", self.stage.path())]);
        if matches!(verb, "ADD" | "DEL" | "CHECK") {
            env.insert("CNI_CONTAINERID", self.stage.word("id").to_owned());
            env.insert("CNI_NETNS", self.stage.word("netns").to_owned());
            env.insert("CNI_IFNAME", runtime.ifname.clone());
            env.insert("CNI_ARGS", self.stage.args());
        }
        let mut env: BTreeMap<String, String> = env.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        for (key, value) in &step.env {
            match value {
                Some(value) => env.insert(key.clone(), value.clone()),
                None => env.remove(key),
            };
        }
        env
    }

    fn differ(&mut self, place: &str, expected: impl Into<String>, got: impl Into<String>) {
        self.found.push(difference(place, expected, got));
    }

    fn check_calls(&mut self, place: &str, calls: &[Call], records: &[Record]) -> Result<()> {
        let expected = self.model.expect(calls).with_context(|| place.to_owned())?;
        let wanted: Vec<String> = expected.iter().map(|call| line(&call.plugin, &call.env)).collect();
        let got: Vec<String> = records.iter().map(|record| line(&record.plugin, &record.env)).collect();
        if wanted != got {
            self.differ(&format!("{place}: calls"), wanted.join(", "), got.join(", "));
            return Ok(());
        }
        for ((expected, record), what) in expected.iter().zip(records).zip(&wanted) {
            self.check_call(&format!("{place}: {what}"), expected, record);
        }
        Ok(())
    }

    fn check_call(&mut self, place: &str, expected: &Expectation, record: &Record) {
        let mut env = record.env.clone();
        let args = env.remove("CNI_ARGS").unwrap_or_default();
        // Unset and empty mean the same.
        env.retain(|_, value| !value.is_empty());
        for key in env.keys().chain(expected.env.keys()).collect::<std::collections::BTreeSet<_>>() {
            let of = |env: &BTreeMap<String, String>| env.get(key).cloned().unwrap_or_default();
            if of(&env) != of(&expected.env) {
                self.found.push(difference(&format!("{place}: {key}"), of(&expected.env), of(&env)));
            }
        }
        let mut pairs: Vec<&str> = args.split(';').filter(|pair| !pair.is_empty()).collect();
        pairs.sort_unstable();
        if pairs != expected.args {
            self.differ(&format!("{place}: CNI_ARGS"), expected.args.join(";"), args);
        }
        let mut stdin = without_own_keys(record.config());
        if !self.subject.ours
            && let Some(prev) = stdin.get_mut("prevResult")
        {
            // libcni writes results anew, with an empty dns.
            *prev = tidy(prev.take());
        }
        diff::values(&format!("{place}: stdin"), &expected.stdin, &stdin, &mut self.found);
        for text in expected.bytes.iter().filter(|text| !record.stdin.contains(text.as_str())) {
            self.found.push(difference(&format!("{place}: stdin, byte for byte"), text, &record.stdin));
        }
        // Plugins run in the runtime's networking domain (CNI specification, section 2).
        let own = fs::read_link("/proc/self/ns/net").unwrap_or_default().display().to_string();
        if record.netns != own {
            self.differ(&format!("{place}: network namespace of the delegate"), own, &record.netns);
        }
    }

    fn check_success(&mut self, place: &str, verb: &str, expected: &Expected, outcome: &Outcome) {
        if outcome.code != 0 {
            self.differ(&format!("{place}: outcome"), "success", outcome.stdout.trim());
            return;
        }
        let printed: Value = serde_json::from_str(&outcome.stdout).unwrap_or_default();
        let derived = self.model.primary_result().cloned().filter(|_| verb == "ADD");
        match expected.prints.clone().or(derived) {
            Some(prints) => {
                diff::values(&format!("{place}: prints"), &tidy(prints), &tidy(printed), &mut self.found);
            }
            None if matches!(verb, "ADD" | "VERSION") => {}
            None if outcome.stdout.trim().is_empty() => {}
            None => self.differ(&format!("{place}: prints"), "", outcome.stdout.trim()),
        }
    }

    fn check_failure(&mut self, place: &str, verb: &str, failure: &Failure, stdin: &str, outcome: &Outcome) {
        let place = format!("{place}: outcome");
        if outcome.code == 0 {
            let wanted = failure.slug.as_deref().unwrap_or("a failure");
            self.differ(&place, wanted, format!("success: {}", outcome.stdout.trim()));
            return;
        }
        let Ok(error) = serde_json::from_str::<Value>(&outcome.stdout) else {
            let got =
                format!("exit {}: {}{}", outcome.code, outcome.stdout.trim(), last_lines(&outcome.stderr));
            self.differ(&format!("{place}, form"), "an error object on standard output", got);
            return;
        };
        let code = error["code"].as_u64().unwrap_or_default();
        let codes = match &failure.code {
            OneOrMore::One(code) => vec![*code],
            OneOrMore::More(codes) => codes.clone(),
        };
        if !codes.is_empty() && !codes.iter().any(|wanted| u64::from(*wanted) == code) {
            self.differ(&format!("{place}, code"), format!("{codes:?}"), error.to_string());
        }
        let message = error["msg"].as_str().unwrap_or_default();
        for word in &failure.says {
            if !message.contains(word) {
                self.found.push(difference(&format!("{place}, words"), word, message));
            }
        }
        if let Some(slug) = failure.slug.as_deref().filter(|_| self.subject.ours)
            && !message.starts_with(slug)
        {
            self.differ(&format!("{place}, slug"), slug, message);
        }
        self.check_error_form(&place, verb, &error, stdin);
    }

    /// What holds for every error.
    fn check_error_form(&mut self, place: &str, verb: &str, error: &Value, stdin: &str) {
        let config: Value = serde_json::from_str(stdin).unwrap_or_default();
        let known = |version: &&str| VERSIONS.contains(version);
        let said = config["cniVersion"].as_str().filter(known);
        let got = error["cniVersion"].as_str().unwrap_or_default();
        if !known(&got) || said.is_some_and(|said| said != got) {
            self.differ(&format!("{place}, cniVersion"), said.unwrap_or("a known version"), got);
        }
        let message = error["msg"].as_str().unwrap_or_default();
        if self.subject.ours && (message.contains('\n') || message.chars().count() >= 300) {
            self.differ(&format!("{place}, form"), "one line under 300 characters", message);
        }
        let success_words = ["not found", "no such file"];
        if verb == "DEL" && success_words.iter().any(|words| message.contains(words)) {
            self.differ(&format!("{place}, form"), "no words that runtimes take for success", message);
        }
    }

    fn check_status(&mut self, place: &str, verb: &str, expected: &Expected) -> Result<()> {
        let annotations = self.stage.annotations();
        if self.pod_gone || self.stage.case.pod.absent {
            return Ok(());
        }
        let pod = self.stage.pod()?;
        for (key, value) in annotations.iter().filter(|(key, _)| *key != pod::NETWORK_STATUS) {
            let now = pod["metadata"]["annotations"][key].as_str().unwrap_or_default();
            if now != value {
                self.found.push(difference(&format!("{place}: annotation {key}"), value, now));
            }
        }
        let asks = annotations.get(pod::NETWORKS).is_some_and(|text| !text.trim().is_empty());
        let wanted = match &expected.status {
            Some(Value::String(word)) if word == "any" => return Ok(()),
            Some(Value::String(_)) => Value::Null,
            Some(entries) => whole_entries(entries),
            None if verb == "ADD" && expected.error.is_none() && asks => {
                match self.model.status() {
                    Some(entries) => entries.into(),
                    // The calls differ already, or the case is to say what it expects.
                    None if self.found.is_empty() => {
                        self.differ(&format!("{place}: network-status"), "to be said by the case", "");
                        return Ok(());
                    }
                    None => return Ok(()),
                }
            }
            None => return Ok(()),
        };
        let text = pod["metadata"]["annotations"][pod::NETWORK_STATUS].as_str().unwrap_or("null");
        let got: Value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
        diff::values(&format!("{place}: network-status"), &wanted, &tidy(got), &mut self.found);
        Ok(())
    }

    fn check_events(&mut self, place: &str, texts: &[String]) -> Result<()> {
        let until = Instant::now() + EVENTS_WITHIN;
        for text in texts {
            loop {
                let events = self.stage.events()?;
                if events.iter().any(|event| event.contains(text)) {
                    break;
                }
                if Instant::now() > until {
                    self.differ(&format!("{place}: events"), text, events.join(" | "));
                    break;
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

/// A call as a case writes it.
fn line(plugin: &str, env: &BTreeMap<String, String>) -> String {
    let var = |name: &str| env.get(name).map(String::as_str).unwrap_or_default();
    format!("{} {plugin} {}", var("CNI_COMMAND"), var("CNI_IFNAME")).trim().to_owned()
}

fn last_lines(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().take(3).collect();
    format!("; stderr: {}", lines.join(" | "))
}

fn whole_entries(entries: &Value) -> Value {
    let short = |text: &str| -> Option<Value> {
        let (name, ifname) = text.split_once(' ')?;
        let plain = ifname.trim_end_matches(" default");
        Some(status_entry(name, plain, plain != ifname))
    };
    let whole = |entry: &Value| entry.as_str().and_then(short).unwrap_or_else(|| tidy(entry.clone()));
    entries.as_array().into_iter().flatten().map(whole).collect()
}

/// Without what says nothing: an empty `dns`.
fn tidy(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let says = |(key, value): &(String, Value)| {
                key != "dns" || value.as_object().is_none_or(|dns: &Map<String, Value>| !dns.is_empty())
            };
            Value::Object(object.into_iter().filter(says).collect())
        }
        Value::Array(list) => list.into_iter().map(tidy).collect(),
        other => other,
    }
}
