//! What Debian and Ubuntu have packages for: looked for, and installed where it is missing.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::run;

/// What must be there, a program in `PATH` or a file, and the package that has it. The thing itself is looked for, not
/// the package: it may have come another way, and the package could conflict with that.
pub(crate) type Need = (&'static str, &'static str);

/// Installs the packages of what is missing.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let missing = needs.iter().filter(|(what, _)| !is_there(what)).map(|(_, package)| *package);
    install(&missing.collect::<Vec<_>>())
}

/// Whether a program is in `PATH`, or a file with this absolute path exists.
pub(crate) fn is_there(what: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    // An absolute path that is joined to a folder replaces it.
    std::env::split_paths(&folders).any(|folder| folder.join(what).is_file())
}

/// Installs packages; quick when there are none.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    if !is_there("apt-get") {
        bail!("missing, and there is no apt-get to install them: {names}");
    }
    println!("installing from Debian: {names}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        run(command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-y"]).args(arguments))
    };
    apt(&["update"])
        .and_then(|_| apt(&[&["install", "--no-install-recommends"], packages].concat()))
        .map(drop)
        .with_context(|| format!("cannot install {names}: install them by hand as root, then run this again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_and_files_by_path() {
        assert!(is_there("sh") && is_there("/etc/passwd"));
        assert!(!is_there("no-such-program") && !is_there("/etc"));
    }
}
