//! Plugin binaries that cannot be run, or not yet, and which of several is run.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::bench::{Bench, attachment};
use cni::{chain::Runner, error::code, process::TERM_GRACE};
use serde_json::json;

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A copy of a working plugin that this process holds open for writing, as an installer does.
fn being_written(bench: &Bench, name: &str) -> fs::File {
    let path = bench.plugins.bin().join(name);
    fs::copy(testkit::recording_delegate().unwrap(), &path).unwrap();
    fs::OpenOptions::new().append(true).open(path).unwrap()
}

// Holds: D19
#[test]
fn a_binary_that_is_being_written_is_awaited() {
    let bench = Bench::new(&[]);
    let file = being_written(&bench, "one");
    let network = bench.list("1.0.0", json!([{"type": "one"}]));
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            // Nothing shows that the first try has failed; any time will do.
            thread::sleep(Duration::from_millis(300));
            drop(file);
        });
        bench.runner().add(&network, &attachment()).unwrap();
    });
    assert!(begin.elapsed() > Duration::from_millis(300), "{:?}", begin.elapsed());
    assert_eq!(bench.records().len(), 1);
}

// Holds: D19
#[test]
fn a_binary_that_stays_being_written_is_awaited_for_five_seconds_or_to_the_deadline() {
    let bench = Bench::new(&[]);
    let file = being_written(&bench, "one");
    let network = bench.list("1.0.0", json!([{"type": "one"}]));
    for (deadline, least, most) in [(60_000, 5000, 10_000), (400, 300, 3000)] {
        let begin = Instant::now();
        let runner = bench.runner_for(Duration::from_millis(deadline));
        let error = runner.add(&network, &attachment()).unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN_LATER, "{error}");
        assert!(error.msg.contains("one is still being written") || deadline == 400, "{error}");
        let took = begin.elapsed();
        assert!(took > Duration::from_millis(least) && took < Duration::from_millis(most), "{took:?}");
    }
    drop(file);
    bench.runner().add(&network, &attachment()).unwrap();
}

#[test]
fn a_file_that_has_just_been_begun_is_awaited_too() {
    let bench = Bench::new(&[]);
    let path = bench.plugins.bin().join("one");
    executable(&path, "");
    let network = bench.list("1.0.0", json!([{"type": "one"}]));
    let error = bench.runner_for(Duration::from_millis(300)).add(&network, &attachment()).unwrap_err();
    assert_eq!(error.code, code::TRY_AGAIN_LATER, "{error}");
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            executable(&path, "#!/bin/sh\necho '{}'\n");
        });
        bench.runner().add(&network, &attachment()).unwrap();
    });
}

#[test]
fn a_file_that_can_never_run_fails_at_once_and_is_not_given_to_a_shell() {
    let bench = Bench::new(&[]);
    let proof = bench.plugins.root().join("a-shell-ran-it");
    for (text, mode, word) in [
        (format!("touch {}\n", proof.display()), 0o755, "neither an ELF binary nor a script"),
        ("\u{0}\u{0}\u{0}\u{0}".to_owned(), 0o755, "neither an ELF binary nor a script"),
        ("#!/absent/interpreter\n".to_owned(), 0o755, "interpreter is missing"),
        ("#!/bin/sh\n".to_owned(), 0o644, "not executable"),
    ] {
        let path = bench.plugins.bin().join("one");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let network = bench.list("1.0.0", json!([{"type": "one"}]));
        let begin = Instant::now();
        let error = bench.runner().add(&network, &attachment()).unwrap_err();
        assert!(error.code == code::IO && error.msg.contains(word), "{word}: {error}");
        assert!(begin.elapsed() < Duration::from_secs(3), "{word}: {:?}", begin.elapsed());
    }
    assert!(!proof.exists());
}

// Holds: D17
#[test]
fn the_first_file_of_that_name_in_the_path_is_run() {
    let bench = Bench::new(&["one"]);
    let dirs: Vec<PathBuf> = ["absent", "a", "b", "c"].map(|name| bench.plugins.root().join(name)).into();
    fs::create_dir_all(dirs[1].join("one")).unwrap();
    for dir in &dirs[2..] {
        fs::create_dir(dir).unwrap();
    }
    // A link counts, a folder of that name does not.
    symlink(bench.plugins.bin().join("one"), dirs[2].join("one")).unwrap();
    executable(&dirs[3].join("one"), "#!/bin/sh\nexit 1\n");
    let deadline = Instant::now() + Duration::from_secs(60);
    let runner = Runner { path: &dirs, deadline, grace: TERM_GRACE, watcher: &bench.log };
    runner.add(&bench.list("1.0.0", json!([{"type": "one"}])), &attachment()).unwrap();
    let paths: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    assert_eq!(bench.records()[0].var("CNI_PATH"), paths.join(":"));
}

#[test]
fn a_binary_that_is_gone_is_an_error_of_del_too() {
    let bench = Bench::new(&["one"]);
    let network = bench.list("1.0.0", json!([{"type": "one"}]));
    bench.runner().add(&network, &attachment()).unwrap();
    fs::remove_file(bench.plugins.bin().join("one")).unwrap();
    let error = bench.runner().del(&network, &attachment(), None).unwrap_err();
    let text = error.to_string().to_lowercase();
    assert!(
        text.contains("cni_path") && !text.contains("not found") && !text.contains("no such file"),
        "{text}"
    );
}
