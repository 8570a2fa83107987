//! Mutation tests on stable Rust: a moment in the gate, as long as asked in a soak.
//!
//! A corpus is a folder of seeds, one file each. [`run`] gives a target every seed as it is, and then mutations
//! of them: bytes and JSON-like tokens changed, removed, doubled, exchanged between seeds. A case is a function
//! of the seed number and the case's own number, so that a failure can be repeated.
//!
//! - `FUZZ_SECONDS`: run each target for so long, instead of a fixed number of cases.
//! - `FUZZ_SEED`: another number, other mutations; 1 unless set.
//!
//! What makes a target fail becomes a file of the corpus, so that it is tried first from then on.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::random::{Random, number};

/// Cases without `FUZZ_SECONDS`: about a second for a parser.
const CASES: u64 = 5000;
/// Most mutations on one case.
const MOST_CHANGES: usize = 6;
/// Longest input.
const MAX_INPUT: usize = 64 * 1024;
/// Longest time for one case: a parser that needs more has found input that stops a node.
const SLOW: Duration = Duration::from_secs(5);

/// Tokens that parsers trip over.
const TOKENS: [&str; 36] = [
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "[null]",
    "[[]]",
    "{\"\":null}",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"../x\"",
    "\"a/b@c\"",
    "\"0.1.0\"",
    "\"1.1.0\"",
    "\"::1/128\"",
    "\"0.0.0.0/0\"",
    "\"10.0.0.1/33\"",
    "0",
    "-0",
    "-1",
    "1e999",
    "1.0",
    "4294967296",
    "9223372036854775808",
    "123456789012345678901234567890",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "\u{feff}",
    "é",
    "\u{202e}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

/// Gives `target` the seeds of `corpus` and mutations of them; fails when it panics or takes too long. What the
/// target asserts about its input is up to it.
///
/// # Errors
/// The case that failed and the file that holds its input; or a corpus that cannot be read or is empty.
pub fn run(corpus: &Path, target: impl Fn(&[u8])) -> Result<()> {
    let end = number("FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    run_until(corpus, number("FUZZ_SEED").unwrap_or(1), end, target)
}

fn run_until(corpus: &Path, seed: u64, end: Option<Instant>, target: impl Fn(&[u8])) -> Result<()> {
    let seeds = read(corpus)?;
    for (index, bytes) in seeds.iter().enumerate() {
        attempt(corpus, &format!("seed file {index}"), bytes, &target)?;
    }
    for case in 0.. {
        if end.map_or(case >= CASES, |end| Instant::now() >= end) {
            break;
        }
        // Two numbers far apart for neighbouring cases.
        let mut random =
            Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ case.wrapping_mul(0xd1b5_4a32_d192_ed03));
        let input = mutate(&seeds, &mut random);
        attempt(corpus, &format!("case {case} of FUZZ_SEED={seed}"), &input, &target)?;
    }
    Ok(())
}

/// The seeds in the order of their names.
fn read(corpus: &Path) -> Result<Vec<Vec<u8>>> {
    let entries = fs::read_dir(corpus).with_context(|| corpus.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    let seeds = files
        .iter()
        .map(|file| fs::read(file).with_context(|| file.display().to_string()))
        .collect::<Result<Vec<_>>>()?;
    ensure!(!seeds.is_empty(), "{}: a corpus needs a seed", corpus.display());
    Ok(seeds)
}

fn attempt(corpus: &Path, what: &str, input: &[u8], target: &impl Fn(&[u8])) -> Result<()> {
    let begin = Instant::now();
    let why = match catch_unwind(AssertUnwindSafe(|| target(input))) {
        Ok(()) if begin.elapsed() < SLOW => return Ok(()),
        Ok(()) => format!("took {:?}", begin.elapsed()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            format!("panicked: {text}")
        }
    };
    let name = corpus.file_name().unwrap_or_default().to_string_lossy();
    let file = std::env::temp_dir().join(format!("fuzz-{name}-{}", std::process::id()));
    fs::write(&file, input).with_context(|| file.display().to_string())?;
    let (file, corpus) = (file.display(), corpus.display());
    bail!("{what} {why}; its input is {file}: copy it to {corpus} once it is understood")
}

fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(seeds).cloned().unwrap_or_default();
    for _ in 0..=random.below(MOST_CHANGES) {
        if random.below(3) == 0 {
            change_bytes(&mut input, seeds, random);
        } else {
            change_tokens(&mut input, seeds, random);
        }
        input.truncate(MAX_INPUT);
    }
    input
}

fn change_bytes(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let length = input.len();
    match random.below(5) {
        0 => {
            let bit = 1 << random.below(8);
            let place = random.below(length);
            if let Some(byte) = input.get_mut(place) {
                *byte ^= bit;
            }
        }
        1 => input.truncate(random.below(length)),
        2 => drop(input.drain(random.range(length, 16))),
        3 => {
            let doubled = input.get(random.range(length, 64)).unwrap_or_default().to_vec();
            let place = random.below(length + 1);
            input.splice(place..place, doubled);
        }
        _ => {
            let other = random.pick(seeds).cloned().unwrap_or_default();
            input.truncate(random.below(length));
            input.extend_from_slice(other.get(random.below(other.len())..).unwrap_or_default());
        }
    }
}

fn change_tokens(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let mut tokens: Vec<&[u8]> = tokens(input);
    let place = random.below(tokens.len() + 1);
    let whole = place.min(tokens.len())..(place + 1).min(tokens.len());
    match random.below(5) {
        0 => {
            let token = random.pick(&TOKENS).copied().unwrap_or_default();
            tokens.splice(whole, [token.as_bytes()]);
        }
        1 => {
            let token = random.pick(&TOKENS).copied().unwrap_or_default();
            tokens.splice(place..place, [token.as_bytes()]);
        }
        2 => {
            let other = random.pick(seeds).map(|seed| self::tokens(seed)).unwrap_or_default();
            let taken = other.get(random.range(other.len(), 8)).unwrap_or_default().to_vec();
            tokens.splice(whole, taken);
        }
        3 => {
            let doubled = tokens.get(random.range(tokens.len(), 8)).unwrap_or_default().to_vec();
            tokens.splice(place..place, doubled);
        }
        _ => drop(tokens.drain(random.range(tokens.len(), 4))),
    }
    *input = tokens.concat();
}

/// Strings, words and numbers, single signs, and the blanks between them.
fn tokens(text: &[u8]) -> Vec<&[u8]> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.first() {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._/@".contains(byte) || *byte >= 128;
        let length = match first {
            b'"' => rest.iter().skip(1).position(|byte| *byte == b'"').map_or(rest.len(), |at| at + 2),
            byte if is_word(byte) => rest.iter().take_while(|byte| is_word(byte)).count(),
            _ => 1,
        };
        let (token, left) = rest.split_at(length.min(rest.len()));
        tokens.push(token);
        rest = left;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn corpus(seeds: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (index, seed) in seeds.iter().enumerate() {
            fs::write(dir.path().join(index.to_string()), seed).unwrap();
        }
        dir
    }

    #[test]
    fn the_seeds_come_first_and_the_same_cases_come_again() {
        let dir = corpus(&[r#"{"a":[1,"b"]}"#, "other"]);
        let once = || {
            let seen = RefCell::new(Vec::new());
            run_until(dir.path(), 1, None, |input| seen.borrow_mut().push(input.to_vec())).unwrap();
            seen.into_inner()
        };
        let first = once();
        assert_eq!(first[0], br#"{"a":[1,"b"]}"#);
        assert_eq!(first[1], b"other");
        assert_eq!(first, once());
        let mut distinct = first.clone();
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() > first.len() / 2, "{} of {}", distinct.len(), first.len());
    }

    #[test]
    fn a_failure_names_the_case_and_keeps_its_input() {
        let dir = corpus(&[r#"{"a":1}"#]);
        let target = |input: &[u8]| assert!(!input.windows(4).any(|part| part == b"null"), "it has a null");
        let error = run_until(dir.path(), 1, None, target).unwrap_err().to_string();
        assert!(error.contains("it has a null") && error.contains("FUZZ_SEED=1"), "{error}");
        let file = std::env::temp_dir().join(format!(
            "fuzz-{}-{}",
            dir.path().file_name().unwrap().display(),
            std::process::id()
        ));
        assert!(fs::read(&file).unwrap().windows(4).any(|part| part == b"null"));
        fs::remove_file(file).unwrap();
    }

    #[test]
    fn an_empty_corpus_is_no_success() {
        run(corpus(&[]).path(), |_| {}).unwrap_err();
    }
}
