//! Binaries that were built of this very source, by whichever clone was the first: they are kept in the cache.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::tidy::tracked;

/// How many sets of binaries are kept: of the clones that somebody works on.
const KEPT: usize = 6;

/// The folder with the binaries of this source; `build` makes them, as `files`, unless they are kept already.
pub(crate) fn ensure(
    repository: &Path,
    cache: &Path,
    architecture: &str,
    files: &[PathBuf],
    build: impl FnOnce() -> Result<()>,
) -> Result<PathBuf> {
    let all = cache.join("images/built");
    fs::create_dir_all(&all).with_context(|| format!("cannot create {}", all.display()))?;
    let source = digest(repository)?;
    let folder = all.join(format!("{architecture}-{source}"));
    if folder.is_dir() {
        println!("this very source has been built before: {}", folder.display());
        fs::File::open(&folder)
            .and_then(|folder| folder.set_modified(SystemTime::now()))
            .with_context(|| format!("cannot touch {}", folder.display()))?;
        return Ok(folder);
    }
    build()?;
    if digest(repository)? != source {
        bail!("the source changed while it was built; run this again");
    }
    // Aside and renamed, so that the folder is there as a whole or not at all.
    let aside = tempfile::tempdir_in(&all).with_context(|| format!("cannot write to {}", all.display()))?;
    for file in files {
        let name = file.file_name().unwrap_or(OsStr::new("unnamed"));
        fs::copy(file, aside.path().join(name)).with_context(|| format!("cannot keep {}", file.display()))?;
    }
    match fs::rename(aside.path(), &folder) {
        // Another clone was as quick.
        Err(_) if folder.is_dir() => {}
        other => other.with_context(|| format!("cannot write {}", folder.display()))?,
    }
    forget_old(&all)?;
    Ok(folder)
}

/// Of all that the binaries are made of: contents and names of files, and what else the compiler is told.
fn digest(repository: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(std::env::var_os("RUSTFLAGS").unwrap_or_default().as_encoded_bytes());
    let mut paths = tracked(repository)?;
    paths.sort();
    for path in paths.iter().filter(|path| goes_in(path)) {
        let bytes = match fs::read(repository.join(path)) {
            Ok(bytes) => bytes,
            // Deleted in the work tree and not yet in the index.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
        };
        hash.update(path.as_bytes());
        hash.update([0]);
        hash.update(bytes.len().to_le_bytes());
        hash.update(bytes);
    }
    Ok(hash.finalize().iter().take(10).map(|byte| format!("{byte:02x}")).collect())
}

/// Everything but what surely is in no binary.
fn goes_in(path: &str) -> bool {
    const ELSEWHERE: [&str; 6] = ["docs/", "chart/", "ci/", ".ci/", "tools/", "plugin/testkit/"];
    let elsewhere = ELSEWHERE.iter().any(|folder| path.starts_with(folder));
    // How they are built.
    let recipe = path == "tools/xtask/src/binaries.rs";
    recipe || !(elsewhere || path.contains("/tests/") || path.ends_with(".md"))
}

fn forget_old(all: &Path) -> Result<()> {
    let mut sets = Vec::new();
    for entry in fs::read_dir(all).with_context(|| format!("cannot list {}", all.display()))? {
        let entry = entry?;
        sets.push((entry.metadata()?.modified()?, entry.path()));
    }
    sets.sort();
    for (_, old) in sets.iter().rev().skip(KEPT) {
        fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A repository with one crate, whose binary is built elsewhere.
    fn repository() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("plugin/a/src")).unwrap();
        fs::create_dir_all(folder.path().join("docs")).unwrap();
        fs::write(folder.path().join("plugin/a/src/main.rs"), "fn main() {}").unwrap();
        assert!(Command::new("git").arg("init").arg("-q").arg(folder.path()).status().unwrap().success());
        folder
    }

    #[test]
    fn a_source_is_built_once_and_again_when_it_changed() {
        let (repository, cache) = (repository(), tempfile::tempdir().unwrap());
        let output = cache.path().join("binary");
        let ensure = |text: Option<&str>| {
            ensure(repository.path(), cache.path(), "any", std::slice::from_ref(&output), || {
                let text = text.context("built again")?;
                Ok(fs::write(&output, text)?)
            })
        };
        let first = ensure(Some("one")).unwrap();
        assert_eq!(fs::read_to_string(first.join("binary")).unwrap(), "one");

        fs::write(repository.path().join("docs/page.md"), "text").unwrap();
        assert_eq!(ensure(None).unwrap(), first);

        fs::write(repository.path().join("plugin/a/src/new.rs"), "").unwrap();
        let second = ensure(Some("two")).unwrap();
        assert_eq!(fs::read_to_string(second.join("binary")).unwrap(), "two");

        fs::remove_file(repository.path().join("plugin/a/src/new.rs")).unwrap();
        assert_eq!(ensure(None).unwrap(), first);
    }

    #[test]
    fn a_source_that_changes_under_the_build_is_not_kept() {
        let (repository, cache) = (repository(), tempfile::tempdir().unwrap());
        let change =
            || Ok(fs::write(repository.path().join("plugin/a/src/main.rs"), "fn main() { loop {} }")?);
        let error = ensure(repository.path(), cache.path(), "any", &[], change).unwrap_err();
        assert!(error.to_string().contains("changed while it was built"), "{error}");
        assert_eq!(fs::read_dir(cache.path().join("images/built")).unwrap().count(), 0);
    }
}
