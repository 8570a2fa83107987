//! Networks as files: which of a folder's files make a network, and how one is found by its name.

use std::{fs, os::unix::fs::symlink};

use cni::{
    config::{self, NetworkConfig, find_network},
    error::{Error, code},
};
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = folder.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn find(&self, name: &str) -> Result<Vec<String>, Error> {
        find_network(self.0.path(), name).map(|network| {
            assert_eq!(network.name, name);
            kinds(&network)
        })
    }

    fn load(&self, file: &str) -> Result<Vec<String>, Error> {
        NetworkConfig::load_file(&self.0.path().join(file)).map(|network| kinds(&network))
    }
}

fn kinds(network: &NetworkConfig) -> Vec<String> {
    network.plugins.iter().map(|plugin| config::plugin_type(plugin).unwrap()).collect()
}

// Holds: N5
#[test]
fn a_list_wins_over_a_single_plugin_of_the_same_name_and_the_first_file_over_later_ones() {
    let list = |kind: &str| format!(r#"{{"name":"net","plugins":[{{"type":"{kind}"}}]}}"#);
    let single = |kind: &str| format!(r#"{{"name":"net","type":"{kind}"}}"#);
    let files = [
        ("10.conf", single("conf-10")),
        ("05.json", single("json-05")),
        ("30.conflist", list("list-30")),
        ("20.conflist", list("list-20")),
        ("00.conflist", r#"{"name":"other","plugins":[{"type":"o"}]}"#.to_owned()),
    ];
    // Which of the five are there decides who wins.
    for present in 0_u32..32 {
        let there: Vec<_> = files.iter().enumerate().filter(|(i, _)| present & (1 << i) != 0).collect();
        let there: Vec<(&str, &str)> = there.iter().map(|(_, (name, text))| (*name, text.as_str())).collect();
        let winner = ["20.conflist", "30.conflist", "05.json", "10.conf"]
            .into_iter()
            .find(|file| there.iter().any(|(name, _)| name == file));
        let folder = Folder::new(&there);
        match (folder.find("net"), winner) {
            (Ok(found), Some(file)) => assert_eq!(found, folder.load(file).unwrap(), "{there:?}"),
            (Err(error), None) => assert_eq!(error.code, code::INVALID_CONFIG),
            (found, winner) => panic!("{there:?}: {found:?}, not {winner:?}"),
        }
    }
}

// Holds: N5, N6
#[test]
fn a_broken_file_elsewhere_is_passed_over_and_named_when_nothing_is_found() {
    let folder = Folder::new(&[
        ("00-broken.conflist", "{"),
        ("01-empty.conflist", ""),
        ("02-binary.conf", "\u{0}\u{1}"),
        ("50.conflist", r#"{"name":"net","plugins":[{"type":"a"}]}"#),
    ]);
    symlink("nowhere", folder.0.path().join("03-dangling.conf")).unwrap();
    fs::create_dir(folder.0.path().join("04-folder.conf")).unwrap();
    symlink("04-folder.conf", folder.0.path().join("05-link-to-folder.conf")).unwrap();
    nix::unistd::mkfifo(&folder.0.path().join("06-pipe.conf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(folder.find("net").unwrap(), ["a"]);
    let error = folder.find("absent").unwrap_err();
    assert!(error.msg.contains("absent") && error.msg.contains("00-broken.conflist"), "{error}");
    let text = error.to_string().to_lowercase();
    assert!(!text.contains("not found") && !text.contains("no such file"), "{text}");
    assert!(text.chars().count() < 300);
}

#[test]
fn a_broken_file_that_has_the_name_is_an_error_and_no_other_file_stands_in() {
    let folder = Folder::new(&[
        ("10.conflist", r#"{"name":"net","plugins":[{"type":"../a"}]}"#),
        ("20.conflist", r#"{"name":"net","plugins":[{"type":"b"}]}"#),
        ("30.conflist", r#"{"name":"other","plugins":[]}"#),
    ]);
    let error = folder.find("net").unwrap_err();
    assert!(error.code == code::INVALID_CONFIG && error.msg.contains("10.conflist"), "{error}");
    assert!(folder.find("other").unwrap_err().msg.contains("30.conflist"));
}

// Holds: D3, N6
#[test]
fn a_folder_that_is_absent_and_a_name_that_is_none_find_nothing() {
    let folder = Folder::new(&[("a.conflist", r#"{"name":"../x","plugins":[{"type":"a"}]}"#)]);
    for name in ["", "../x", "a/b"] {
        assert_eq!(folder.find(name).unwrap_err().code, code::INVALID_CONFIG);
    }
    assert_eq!(find_network(&folder.0.path().join("absent"), "net").unwrap_err().code, code::INVALID_CONFIG);
    assert_eq!(find_network(&folder.0.path().join("a.conflist"), "net").unwrap_err().code, code::IO);
}

// Holds: C14
#[test]
fn a_file_that_is_missing_is_said_without_the_words_of_success() {
    let dir = tempfile::tempdir().unwrap();
    let error = NetworkConfig::load_file(&dir.path().join("x.conf")).unwrap_err();
    let text = error.to_string().to_lowercase();
    assert!(error.code == code::IO && text.contains("x.conf") && text.contains("missing"), "{text}");
    assert!(!text.contains("not found") && !text.contains("no such file"), "{text}");
}

// Holds: D5
#[test]
fn a_list_gets_the_plugins_of_its_folder_in_the_order_of_their_names() {
    let folder = Folder::new(&[
        ("a.conflist", r#"{"name":"net","plugins":[{"type":"a"}]}"#),
        ("b.conflist", r#"{"name":"net","loadOnlyInlinedPlugins":"TRUE","plugins":[{"type":"b"}]}"#),
        ("c.conflist", r#"{"name":"net"}"#),
        ("d.conflist", r#"{"name":"alone"}"#),
        ("e.conflist", r#"{"name":"net","loadOnlyInlinedPlugins":true}"#),
        ("f.conflist", r#"{"name":"broken","plugins":[{"type":"f"}]}"#),
        ("net/2.conf", r#"{"type":"second"}"#),
        ("net/10.conf", r#"{"type":"first"}"#),
        ("net/.conf", r#"{"type":"hidden"}"#),
        ("net/3.conflist", "{"),
        ("net/sub.conf/4.conf", "{"),
        ("broken/1.conf", "{"),
    ]);
    assert_eq!(folder.load("a.conflist").unwrap(), ["a", "hidden", "first", "second"]);
    assert_eq!(folder.load("b.conflist").unwrap(), ["b"]);
    assert_eq!(folder.load("c.conflist").unwrap(), ["hidden", "first", "second"]);
    for (file, word) in
        [("d.conflist", "no plugin"), ("e.conflist", "loadOnlyInlinedPlugins"), ("f.conflist", "1.conf")]
    {
        let error = folder.load(file).unwrap_err();
        assert!(error.msg.contains(word), "{file}: {error}");
    }
}

#[test]
fn the_extension_and_the_type_tell_a_list_from_a_single_plugin() {
    let both = r#"{"name":"net","type":"single","plugins":[{"type":"listed"}]}"#;
    let list = r#"{"name":"net","plugins":[{"type":"listed"}]}"#;
    let folder = Folder::new(&[("a.conflist", both), ("a.conf", both), ("a.json", both), ("b.conf", list)]);
    assert_eq!(folder.load("a.conflist").unwrap(), ["listed"]);
    assert_eq!(folder.load("a.conf").unwrap(), ["single"]);
    assert_eq!(folder.load("a.json").unwrap(), ["single"]);
    assert_eq!(folder.load("b.conf").unwrap(), ["listed"]);
    // A list stays one when it is written and read again.
    let read = NetworkConfig::load_file(&folder.0.path().join("a.conflist")).unwrap();
    assert_eq!(kinds(&NetworkConfig::parse(&read.to_json(), None).unwrap()), ["listed"]);
}

// Holds: D6
#[test]
fn the_highest_version_that_is_known_is_chosen() {
    for (versions, expected) in [
        (r#""cniVersion":"0.4.0","cniVersions":["0.3.1","1.0.0","9.9.9"]"#, Ok("1.0.0")),
        (r#""cniVersion":"1.1.0","cniVersions":["0.3.1"]"#, Ok("1.1.0")),
        (r#""cniVersions":["0.4.0","0.3.0"]"#, Ok("0.4.0")),
        (r#""cniVersions":[]"#, Ok("0.1.0")),
        (r#""cniVersion":"""#, Ok("0.1.0")),
        (r#""x":1"#, Ok("0.1.0")),
        (r#""cniVersions":["9.9.9"]"#, Err(code::INCOMPATIBLE_VERSION)),
        (r#""cniVersion":"0.5.0""#, Err(code::INCOMPATIBLE_VERSION)),
        (r#""cniVersion":"1.0.0","cniVersions":["one"]"#, Err(code::INVALID_CONFIG)),
        (r#""cniVersions":"1.0.0""#, Err(code::INVALID_CONFIG)),
        (r#""cniVersion":1"#, Err(code::INVALID_CONFIG)),
    ] {
        let text = format!(r#"{{"name":"n",{versions},"plugins":[{{"type":"a"}}]}}"#);
        let chosen = NetworkConfig::parse(&text, None).map(|network| network.cni_version);
        assert_eq!(chosen.as_deref().map_err(|e| e.code), expected, "{versions}");
    }
}
