//! `--install-plugins`, with a `go` that is a shell script.
#![expect(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

/// A `go` that builds the plugins it is asked for, or fails.
fn run(home: &Path, builds: &str) -> Output {
    let bin = home.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = env ]; then echo go1.24.0; exit; fi\necho \"$@\" >> {}\n{builds}\n",
        home.join("asked").display()
    );
    fs::write(bin.join("go"), script).unwrap();
    fs::set_permissions(bin.join("go"), fs::Permissions::from_mode(0o755)).unwrap();
    let manifest = home.join("a.yaml");
    let config =
        r#"{"cniVersion":"1.0.0","type":"ptp","ipam":{"type":"host-local","subnet":"10.61.0.0/24"}}"#;
    let text = "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: { name: a }\nspec: { config: 'CONFIG' }\n";
    fs::write(&manifest, text.replace("CONFIG", config)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_multus-try"))
        .args(["--install-plugins", "--plugin-dir"])
        .arg(home.join("none"))
        .arg(&manifest)
        .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
        .env("MULTUS_CACHE", home.join("cache"))
        .output()
        .unwrap()
}

#[test]
fn missing_plugins_are_built_once_at_the_pinned_version_into_the_own_cache() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("none")).unwrap();
    let builds = r#"for word in "$@"; do case $word in */plugins/*@*) name=${word##*/}; echo x > "$GOBIN/${name%@*}" ;; esac; done"#;
    let output = run(home.path(), builds);
    let pinned = multus_try::run::plugins::version().unwrap();
    let folder = home.path().join("cache").join(format!("plugins-{pinned}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(folder.join("ptp").is_file() && folder.join("host-local").is_file(), "{said}");
    assert!(said.contains("building host-local, ptp"), "{said}");
    let asked = fs::read_to_string(home.path().join("asked")).unwrap();
    assert!(
        asked.contains(&format!("github.com/containernetworking/plugins/plugins/main/ptp@{pinned}")),
        "{asked}"
    );
    run(home.path(), builds);
    assert_eq!(fs::read_to_string(home.path().join("asked")).unwrap(), asked);
}

#[test]
fn a_build_that_fails_says_why_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("none")).unwrap();
    let output = run(home.path(), "echo no network >&2; exit 1");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("go could not build the plugins: no network"), "{said}");
    assert_eq!(fs::read_dir(home.path().join("cache")).unwrap().count(), 0);
}
