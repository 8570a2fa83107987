//! Every case of the corpus through `multus-shim` with its daemon and through `multus`: one line for each, as
//! other test programs print them. `cargo test -p conformance --test corpus -- WORDS` runs those whose name has
//! the words; `--with-not-yet` shows why a case that is known to fail does.

use std::{
    collections::BTreeSet,
    process::ExitCode,
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result};
use conformance::{
    api,
    corpus::{self, Instance},
    session::Session,
    subject::Subject,
};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let all = std::env::args().any(|word| word == "--with-not-yet");
    let list = std::env::args().any(|word| word == "--list");
    match corpus::load() {
        Ok(instances) if list => {
            instances.iter().for_each(|instance| println!("{}: test", instance.name));
            ExitCode::SUCCESS
        }
        Ok(instances) => {
            let chosen = |instance: &Instance| words.iter().all(|word| instance.name.contains(word));
            let mut instances: Vec<Instance> = instances.into_iter().filter(chosen).collect();
            for instance in instances.iter_mut().filter(|_| all) {
                instance.case.not_yet = None;
            }
            run(&instances)
        }
        Err(error) => {
            println!("the corpus cannot be read: {error:#}");
            println!("test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
            ExitCode::FAILURE
        }
    }
}

fn run(instances: &[Instance]) -> ExitCode {
    let tally = Mutex::new(Tally::default());
    if let Some(reason) = cannot_run() {
        locked(&tally).skip("corpus", &reason);
    } else if let Err(error) = run_all(instances, &tally) {
        locked(&tally).count("corpus", Err(format!("{error:#}")));
    }
    tally.into_inner().unwrap_or_else(PoisonError::into_inner).report()
}

fn cannot_run() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    api::missing()
}

/// Both subjects at once: each spends half of its time waiting for the other side.
fn run_all(instances: &[Instance], tally: &Mutex<Tally>) -> Result<()> {
    let first = Session::start()?;
    let second = first.beside()?;
    let shim = Subject::shim(&first.api, &first.subfolder("shim")?).context("multus-shim")?;
    let thin = Subject::thin(&second.api, &second.subfolder("thin")?).context("multus")?;
    std::thread::scope(|scope| {
        for (session, subject) in [(&first, &shim), (&second, &thin)] {
            scope.spawn(move || {
                for (number, instance) in instances.iter().enumerate() {
                    let outcome = run_one(session, subject, instance, number);
                    locked(tally).judge(subject, instance, outcome);
                }
            });
        }
    });
    Ok(())
}

fn run_one(session: &Session, subject: &Subject, instance: &Instance, number: usize) -> Result<(), String> {
    match session.run(subject, instance, number) {
        Ok(found) if found.is_empty() => Ok(()),
        Ok(found) => Err(found.iter().map(|d| format!("  {d}")).collect::<Vec<_>>().join("\n")),
        Err(error) => Err(format!("  {error:#}")),
    }
}

/// A panic of the other thread fails the run by itself.
fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<(String, String)>,
    skipped: BTreeSet<String>,
}

impl Tally {
    fn judge(&mut self, subject: &Subject, instance: &Instance, outcome: Result<(), String>) {
        let name = format!("{}/{}", subject.name, instance.name);
        match (&outcome, &instance.case.not_yet) {
            (Err(_), Some(why)) => {
                self.skip(&format!("{}/{}/{}", subject.name, instance.file, instance.case.name), why);
            }
            (Ok(()), Some(_)) => {
                println!("{name}: holds now; take `not-yet` away");
                self.count(&name, outcome);
            }
            _ => self.count(&name, outcome),
        }
    }

    fn count(&mut self, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                println!("test {name} ... ok");
                self.passed += 1;
            }
            Err(why) => {
                println!("test {name} ... FAILED");
                self.failed.push((name.to_owned(), why));
            }
        }
    }

    /// Once for each name, whatever number of its instances is skipped.
    fn skip(&mut self, name: &str, reason: &str) {
        if self.skipped.insert(name.to_owned()) {
            println!("test {name} ... ok");
            println!("SKIPPED {name}: {reason}");
            // As other tests do: a skipped one has passed, and the line above takes that back.
            self.passed += 1;
        }
    }

    fn report(self) -> ExitCode {
        for (name, why) in &self.failed {
            println!("\n---- {name}\n{why}");
        }
        let word = if self.failed.is_empty() { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {word}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out",
            self.passed,
            self.failed.len()
        );
        if self.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
