//! Writing a plugin: one call, from its environment and standard input to its answer and exit code.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use cni::{
//!     dispatch::{self, Manifest, Plugin},
//!     env::Request,
//!     error::Error,
//!     result::CniResult,
//!     version,
//! };
//!
//! struct Nothing;
//!
//! impl Plugin for Nothing {
//!     fn add(&self, request: &Request) -> Result<CniResult, Error> {
//!         Ok(CniResult::empty(&request.cni_version))
//!     }
//!
//!     fn del(&self, _: &Request) -> Result<(), Error> {
//!         Ok(())
//!     }
//!
//!     fn check(&self, _: &Request) -> Result<(), Error> {
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     let manifest = Manifest {
//!         about: "nothing 1.0: a CNI plugin that attaches nothing",
//!         versions: &version::SUPPORTED,
//!         refuse_own_netns: true,
//!     };
//!     dispatch::main(&manifest, &Nothing)
//! }
//! ```

use std::{
    collections::BTreeMap,
    fs,
    io::{self, IsTerminal, Read, Write},
    os::unix::fs::MetadataExt,
    process::ExitCode,
};

use crate::{
    env::{Command, MAX_STDIN, Request},
    error::{Error, code},
    raw::Object,
    result::CniResult,
    version,
};

/// What a plugin does. The call that it gets is validated (see [`Request::from_env`]), and its version is one
/// that the plugin speaks. A DEL may come in any version and with any configuration: it cleans up what it can.
pub trait Plugin {
    /// ADD: attach. The result is printed in the version of the call.
    fn add(&self, request: &Request) -> Result<CniResult, Error>;
    /// DEL: detach; success when there is nothing left to do.
    fn del(&self, request: &Request) -> Result<(), Error>;
    /// CHECK, called from 0.4.0 on: fails when the attachment is not what `prevResult` says.
    fn check(&self, request: &Request) -> Result<(), Error>;
    /// STATUS, called from 1.1.0 on: fails when an ADD could not be served. Ready, unless overridden.
    fn status(&self, _request: &Request) -> Result<(), Error> {
        Ok(())
    }
    /// GC, called from 1.1.0 on: removes what belongs to no valid attachment. Nothing, unless overridden.
    fn gc(&self, _request: &Request) -> Result<(), Error> {
        Ok(())
    }
}

/// How a plugin presents itself.
#[derive(Debug, Clone, Copy)]
pub struct Manifest<'a> {
    /// One line for whoever runs it by hand, without `CNI_COMMAND`.
    pub about: &'a str,
    /// The versions that it speaks, oldest first: some of [`version::SUPPORTED`].
    pub versions: &'a [&'a str],
    /// Refuse, with code 8, an ADD or DEL whose `CNI_NETNS` is the plugin's own namespace, unless
    /// `CNI_NETNS_OVERRIDE` is `1` or `true`. Such a call would change the host's interfaces.
    pub refuse_own_netns: bool,
}

/// Why a call failed, and the version that the error object is printed in.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct Failure {
    /// The error.
    pub error: Error,
    /// The version of the call, else the newest that the plugin speaks.
    pub cni_version: String,
}

/// Serves the call that this process was started for. An answer or an error object goes to standard output,
/// and the exit code is 1 after an error.
pub fn main(manifest: &Manifest<'_>, plugin: &dyn Plugin) -> ExitCode {
    if std::env::var_os("CNI_COMMAND").is_none_or(|command| command.is_empty()) {
        let versions = manifest.versions.join(", ");
        // Nobody is left to tell when standard error is closed.
        drop(writeln!(io::stderr(), "{}\nCNI versions supported: {versions}", manifest.about));
        return ExitCode::SUCCESS;
    }
    let answer = read_call()
        .map_err(|error| Failure { error, cni_version: newest(manifest).to_owned() })
        .and_then(|(env, stdin)| answer(manifest, plugin, &env, &stdin));
    let (text, code) = match answer {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(failure) => (failure.error.to_json(&failure.cni_version), ExitCode::FAILURE),
    };
    match print(&text) {
        Ok(()) => code,
        Err(e) => {
            log::error!("the runtime does not read the answer: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Answers one call: the text for standard output, empty where the verb has no answer. For plugins with a
/// `main` of their own, and for tests.
///
/// # Errors
/// Code 1 for a version that the plugin does not speak or that has no such verb, code 8 for the plugin's own
/// namespace, what [`Request::from_env`] says of a bad call, and the plugin's own errors.
pub fn answer(
    manifest: &Manifest<'_>,
    plugin: &dyn Plugin,
    env: &BTreeMap<String, String>,
    stdin: &[u8],
) -> Result<String, Failure> {
    let request = Request::from_env(env, stdin)
        .map_err(|error| Failure { error, cni_version: version_of(manifest, stdin).to_owned() })?;
    let known = manifest.versions.contains(&&*request.cni_version);
    let cni_version = if known { &request.cni_version } else { newest(manifest) };
    serve(manifest, plugin, env, &request)
        .map_err(|error| Failure { error, cni_version: cni_version.to_owned() })
}

fn serve(
    manifest: &Manifest<'_>,
    plugin: &dyn Plugin,
    env: &BTreeMap<String, String>,
    request: &Request,
) -> Result<String, Error> {
    check_version(manifest, request)?;
    if manifest.refuse_own_netns && matches!(request.command, Command::Add | Command::Del) {
        refuse_own_netns(env, request)?;
    }
    let nothing = |()| String::new();
    match request.command {
        Command::Add => {
            plugin.add(request)?.convert(&request.cni_version).map(|result| result.raw().to_owned())
        }
        Command::Del => plugin.del(request).map(nothing),
        Command::Check => plugin.check(request).map(nothing),
        Command::Status => plugin.status(request).map(nothing),
        Command::Gc => plugin.gc(request).map(nothing),
        Command::Version => Ok(versions(manifest, &request.cni_version)),
    }
}

/// A DEL must clean up whatever its version; VERSION is how a runtime finds one.
fn check_version(manifest: &Manifest<'_>, request: &Request) -> Result<(), Error> {
    let since = match request.command {
        Command::Del | Command::Version => return Ok(()),
        Command::Add => version::DEFAULT,
        Command::Check => "0.4.0",
        Command::Status | Command::Gc => "1.1.0",
    };
    let (command, cni_version) = (request.command.as_str(), &request.cni_version);
    let refused = |msg: String| Err(Error::new(code::INCOMPATIBLE_VERSION, msg));
    if !manifest.versions.contains(&&**cni_version) {
        let versions = manifest.versions.join(", ");
        return refused(format!("cniVersion {cni_version:?} is not spoken here: use one of {versions}"));
    }
    if !version::at_least(cni_version, since) {
        return refused(format!("cniVersion {cni_version} has no {command}, which came with {since}"));
    }
    Ok(())
}

/// A namespace that cannot be looked at is left to the plugin: at DEL it may be gone for good reason.
fn refuse_own_netns(env: &BTreeMap<String, String>, request: &Request) -> Result<(), Error> {
    let allowed = env.get("CNI_NETNS_OVERRIDE").is_some_and(|v| v == "1" || v.eq_ignore_ascii_case("true"));
    let Some(netns) = request.netns.as_deref().filter(|_| !allowed) else { return Ok(()) };
    let own = fs::metadata("/proc/thread-self/ns/net")
        .map_err(|e| Error::new(code::INVALID_NETNS, format!("our network namespace is unknown: {e}")))?;
    match fs::metadata(netns) {
        Ok(given) if (given.dev(), given.ino()) == (own.dev(), own.ino()) => Err(Error::new(
            code::INVALID_NETNS,
            "CNI_NETNS is the network namespace that this plugin runs in: give the container's",
        )),
        _ => Ok(()),
    }
}

/// The answer to VERSION. The specification wants the version of the question back.
fn versions(manifest: &Manifest<'_>, asked: &str) -> String {
    let known = manifest.versions.contains(&asked);
    let cni_version = if known { asked } else { newest(manifest) };
    serde_json::json!({ "cniVersion": cni_version, "supportedVersions": manifest.versions }).to_string()
}

/// The version that a call which cannot be served is answered in: its own, where that much can be read.
fn version_of<'a>(manifest: &Manifest<'a>, stdin: &[u8]) -> &'a str {
    let config = std::str::from_utf8(stdin).ok().and_then(|text| Object::parse_capped(text, MAX_STDIN).ok());
    let own: Option<String> = config.and_then(|config| config.get_known("cniVersion").ok().flatten());
    let known = manifest.versions.iter().copied().find(|version| own.as_deref() == Some(*version));
    known.unwrap_or_else(|| newest(manifest))
}

fn newest<'a>(manifest: &Manifest<'a>) -> &'a str {
    manifest.versions.last().copied().unwrap_or(version::DEFAULT)
}

fn read_call() -> Result<(BTreeMap<String, String>, Vec<u8>), Error> {
    let mut env = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("CNI_")) else { continue };
        let Ok(value) = value.into_string() else {
            return Err(Error::new(code::BAD_ENVIRONMENT, format!("{name} is not UTF-8")));
        };
        env.insert(name.to_owned(), value);
    }
    let mut stdin = Vec::new();
    let input = io::stdin();
    // Somebody who asks for the versions by hand gives no configuration and would wait for ever.
    if env.get("CNI_COMMAND").is_none_or(|command| command != "VERSION") || !input.is_terminal() {
        // One byte more than allowed, so that the parser sees and names the excess.
        let read = input.lock().take(MAX_STDIN as u64 + 1).read_to_end(&mut stdin);
        read.map_err(|e| Error::new(code::IO, format!("the configuration on stdin cannot be read: {e}")))?;
    }
    Ok((env, stdin))
}

/// In one go, so that a reader sees all of it or nothing.
fn print(text: &str) -> io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(format!("{text}\n").as_bytes())?;
    stdout.flush()
}
