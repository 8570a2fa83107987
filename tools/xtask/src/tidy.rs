//! The rules of the repository that a machine can hold: which crate may see which, and the shape of files.
//!
//! Runs as `cargo xtask tidy` and as a test of this crate, so it is part of the gate.
//! Every finding is one line: where, what is wrong, what to do.

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest Rust file that one person still reads in one go.
const MAX_LINES: usize = 500;

/// An essay says what the crate is for and what it leaves to others; one line cannot.
const MIN_ESSAY_LINES: usize = 3;

/// Which workspace crates a crate may use in what it ships. A crate that is missing here may see none.
const EDGES: &[(&str, &[&str])] = &[
    ("cni", &[]),
    ("meta", &["cni"]),
    ("kubernetes", &["meta", "cni"]),
    ("multus-shim", &["meta", "cni"]),
    ("multus", &["kubernetes", "meta"]),
    ("passthru", &["cni"]),
    ("multus-daemon", &["kubernetes", "meta"]),
    ("hostfs", &["cni"]),
    ("install", &["hostfs"]),
    ("config", &["hostfs", "meta", "cni"]),
    ("multus-try", &["meta", "cni"]),
    ("testkit", &[]),
];

/// Tools and end-to-end tests see anything; nobody sees them.
const OUTERMOST: &[&str] = &["xtask", "e2e", "conformance", "bench"];

/// The one that an outermost crate may see: it starts API servers and namespaces for others.
const LENDING: (&str, &str) = ("bench", "conformance");

/// The only shipped crates that may hold async code, TLS or a Kubernetes client.
const ASYNC_CRATES: &[&str] = &["kubernetes", "multus", "multus-daemon"];

/// What those are recognised by, anywhere in the closure of normal dependencies.
const ASYNC_PACKAGES: &[&str] = &["tokio", "hyper", "kube", "rustls", "tonic"];

/// Checks the whole repository and prints what it found.
pub(crate) fn run() -> Result<()> {
    let findings = findings()?;
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} finding(s), see above; the rules are in CONTRIBUTING.md", findings.len());
    }
    println!("tidy: ok");
    Ok(())
}

/// Every broken rule, one line each.
fn findings() -> Result<Vec<String>> {
    let root = repository();
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .exec()
        .context("tidy: cargo metadata failed; is Cargo.toml valid?")?;
    let mut found = Vec::new();
    for package in metadata.workspace_packages() {
        edges(package, &metadata, &mut found);
        if !ASYNC_CRATES.contains(&package.name.as_str()) && !OUTERMOST.contains(&package.name.as_str()) {
            asynchronous(package, &metadata, &mut found);
        }
        let manifest = std::fs::read_to_string(&package.manifest_path)
            .with_context(|| format!("tidy: cannot read {}", package.manifest_path))?;
        let name =
            package.manifest_path.strip_prefix(&metadata.workspace_root).unwrap_or(&package.manifest_path);
        member_manifest(name.as_str(), &manifest, &mut found);
    }
    for path in tracked(&root)? {
        let bytes = match std::fs::read(root.join(&path)) {
            Ok(bytes) => bytes,
            // Deleted in the work tree and not yet in the index.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("tidy: cannot read {path}")),
        };
        // Pictures and the like have no lines to judge.
        if let Ok(text) = String::from_utf8(bytes) {
            file(&path, &text, &mut found);
        }
    }
    Ok(found)
}

/// The folder of the workspace. The compiled-in place is right, since xtask is only ever run by cargo.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_path_buf()
}

/// Files that are in git or would be with the next `git add`.
pub(crate) fn tracked(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        // A clone made by another user is refused otherwise; reading its file list is harmless.
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("tidy: cannot run git; install git")?;
    if !output.status.success() {
        bail!("tidy: git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let list = String::from_utf8(output.stdout).context("tidy: a file name is not UTF-8; rename it")?;
    Ok(list.split_terminator('\0').map(str::to_owned).collect())
}

/// No edge between workspace crates but those of [`EDGES`].
fn edges(package: &Package, metadata: &Metadata, found: &mut Vec<String>) {
    let members: BTreeSet<&str> = metadata.workspace_packages().iter().map(|p| p.name.as_str()).collect();
    let name = package.name.as_str();
    for dependency in &package.dependencies {
        let to = dependency.name.as_str();
        if members.contains(to) && !edge_allowed(name, to, dependency.kind) {
            found.push(format!(
                "{name} depends on {to}, which the architecture forbids; move the code or change EDGES with a reason"
            ));
        }
    }
}

/// Whether crate `from` may name crate `to` in its manifest.
fn edge_allowed(from: &str, to: &str, kind: DependencyKind) -> bool {
    if OUTERMOST.contains(&to) {
        return (from, to) == LENDING;
    }
    if OUTERMOST.contains(&from) || (to == "testkit" && kind == DependencyKind::Development) {
        return true;
    }
    EDGES.iter().any(|(crate_name, sees)| *crate_name == from && sees.contains(&to))
}

/// No async runtime, TLS or Kubernetes client anywhere below a crate that runs once per pod as root.
fn asynchronous(package: &Package, metadata: &Metadata, found: &mut Vec<String>) {
    let Some(resolve) = &metadata.resolve else { return };
    let nodes: HashMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut seen = BTreeSet::from([&package.id]);
    let mut todo = vec![&package.id];
    while let Some(id) = todo.pop() {
        let Some(node) = nodes.get(id) else { continue };
        for dependency in &node.deps {
            let normal = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if normal && seen.insert(&dependency.pkg) {
                todo.push(&dependency.pkg);
            }
        }
    }
    for id in seen {
        let name = metadata[id].name.as_str();
        if ASYNC_PACKAGES.contains(&name) {
            found.push(format!("{} reaches {name}; only {} may", package.name, ASYNC_CRATES.join(" and ")));
        }
    }
}

/// Versions live in the root manifest alone.
fn member_manifest(name: &str, text: &str, found: &mut Vec<String>) {
    let mut in_dependencies = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            in_dependencies = section.trim_end_matches(']').ends_with("dependencies");
            continue;
        }
        let key = line.split('=').next().unwrap_or_default().trim();
        let inherits = line.contains("workspace = true");
        if (in_dependencies && !inherits) || key == "version" {
            found.push(format!(
                "{name}:{}: write `{}.workspace = true`; versions belong in the root Cargo.toml",
                number + 1,
                key.split('.').next().unwrap_or_default()
            ));
        }
    }
}

/// Rules for one file.
fn file(path: &str, text: &str, found: &mut Vec<String>) {
    if path.ends_with(".rs") {
        let lines = text.lines().count();
        if lines > MAX_LINES {
            found.push(format!("{path}: {lines} lines, at most {MAX_LINES}; split it"));
        }
        // Put together here, so that this file does not find itself.
        let ignore = concat!("#[", "ignore");
        if let Some(number) = text.lines().position(|line| line.trim_start().starts_with(ignore)) {
            found.push(format!(
                "{path}:{}: an ignored test is invisible; use testkit::skip with a reason",
                number + 1
            ));
        }
    }
    if path.ends_with("src/lib.rs") {
        let essay = text.lines().take_while(|line| line.starts_with("//!")).count();
        if essay < MIN_ESSAY_LINES {
            found.push(format!(
                "{path}: begin with at least {MIN_ESSAY_LINES} lines of //! that say what the crate is for"
            ));
        }
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(folder) = developer_path(line) {
            found.push(format!(
                "{path}:{}: a path under {folder} exists on one machine only; remove it",
                number + 1
            ));
        }
    }
}

/// The first mention of a folder that only a developer's machine has.
fn developer_path(line: &str) -> Option<String> {
    // A folder of every GKE node.
    let line = &line.replace("/home/kubernetes/bin", "");
    ["work", "root", "home"].iter().map(|folder| format!("/{folder}/")).find(|path| {
        line.match_indices(path.as_str()).any(|(at, _)| {
            // `$DIR/home/x` and a URL's middle are not absolute paths.
            !line[..at].ends_with(|c: char| c.is_alphanumeric() || "-_.}".contains(c))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        assert_eq!(findings().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn only_the_edges_of_the_architecture_pass() {
        use DependencyKind::{Development, Normal};
        assert!(edge_allowed("meta", "cni", Normal));
        assert!(edge_allowed("cni", "testkit", Development));
        assert!(edge_allowed("e2e", "meta", Normal));
        assert!(!edge_allowed("cni", "meta", Normal));
        assert!(!edge_allowed("cni", "testkit", Normal));
        assert!(!edge_allowed("multus-shim", "kubernetes", Normal));
        assert!(!edge_allowed("e2e", "xtask", Normal));
        assert!(!edge_allowed("meta", "kubernetes", Development));
    }

    #[test]
    fn a_version_in_a_member_is_found() {
        let mut found = Vec::new();
        let good = "[package]\nversion.workspace = true\n[dependencies]\n# why\na.workspace = true\nb = { workspace = true }\n";
        member_manifest("good", good, &mut found);
        assert!(found.is_empty(), "{found:?}");
        for bad in [
            "[dependencies]\na = \"1\"\n",
            "[package]\nversion = \"1\"\n",
            "[target.'cfg(unix)'.dev-dependencies]\na = { path = \"..\" }\n",
            "[dependencies.a]\nversion = \"1\"\n",
        ] {
            found.clear();
            member_manifest("bad", bad, &mut found);
            assert_eq!(found.len(), 1, "{bad}");
        }
    }

    #[test]
    fn each_rule_for_files_finds_its_case() {
        let long = "x\n".repeat(MAX_LINES + 1);
        let ignored = format!("#[test]\n{}]\nfn a() {{}}\n", concat!("#[", "ignore"));
        let path = format!("see /{}/someone/notes\n", "home");
        for (name, text) in [("a.rs", &long), ("a.rs", &ignored), ("a.md", &path)] {
            let mut found = Vec::new();
            file(name, text, &mut found);
            assert_eq!(found.len(), 1, "{name}: {found:?}");
        }
        let mut found = Vec::new();
        file("x/src/lib.rs", "//! Short.\n", &mut found);
        assert_eq!(found.len(), 1, "{found:?}");
    }
}
