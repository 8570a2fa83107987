//! Reading what the user named: files, folders, standard input.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::source::Source;

/// Largest file that is read, in bytes; manifests of a cluster fit a hundred times.
const MAX_SIZE: u64 = 16 << 20;

/// Reads each path: a file, a folder with all `.yaml`, `.yml` and `.json` below it, or `-` for standard input.
///
/// # Errors
/// When a path cannot be read, is no UTF-8, or a folder holds no manifest.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin()
                .take(MAX_SIZE)
                .read_to_string(&mut text)
                .context("cannot read standard input")?;
            sources.push(Source { name: "-".to_owned(), text });
        } else if path.is_dir() {
            let mut files = Vec::new();
            collect(path, &mut files)?;
            if files.is_empty() {
                bail!("{}: no .yaml, .yml or .json file in this folder", path.display());
            }
            files.sort();
            for file in files {
                sources.push(one(&file)?);
            }
        } else {
            sources.push(one(path)?);
        }
    }
    Ok(sources)
}

fn one(path: &Path) -> Result<Source> {
    let shown = path.display();
    let size = fs::metadata(path).with_context(|| format!("{shown}: cannot be read"))?.len();
    if size > MAX_SIZE {
        bail!("{shown}: {size} bytes are more than the {MAX_SIZE} that are read");
    }
    let bytes = fs::read(path).with_context(|| format!("{shown}: cannot be read"))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{shown}: is no UTF-8 text"))?;
    Ok(Source { name: shown.to_string(), text })
}

/// Hidden entries are no manifests: `.git` and the like.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}: cannot be listed", folder.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("{}: cannot be listed", folder.display()))?;
        let (path, kind) = (entry.path(), entry.file_type());
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // A link to a folder may lead back up.
        if kind.with_context(|| format!("{}: cannot be read", path.display()))?.is_dir() {
            collect(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known))
        {
            files.push(path);
        }
    }
    Ok(())
}
