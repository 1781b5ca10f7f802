//! The documentation is run: what it shows is what `abuser` prints.
//!
//! A block of code with a line that begins with `$ abuser` or `$ sudo abuser`, or one in the
//! language `console`, is a session. Its commands are run in order, a file of the documentation after the other, each on a host of its
//! own ([`stage`]); what they print is compared with what the file shows, but for what differs
//! each time ([`likeness`]). Comments, which readers do not see, say what happens meanwhile
//! ([`document`]). What is shown is never written by hand:
//!
//! ```text
//! ABUSER_UPDATE_GUIDE=1 cargo test -p abuser-tests --test e2e guide
//! ```
//!
//! puts what commands print in the place of what differs from it.

pub(crate) mod document;
pub(crate) mod likeness;
mod play;
mod stage;
mod terminal;
pub(crate) mod traffic;

use std::{
    collections::BTreeSet,
    fs,
    panic::resume_unwind,
    path::{Path, PathBuf},
    thread,
};

use testkit::{
    markdown::{Code, Piece, pieces},
    require_root,
};

use self::{
    document::{Document, Step},
    play::Played,
};
use crate::support::abuser;

/// In the environment: what is shown is written anew.
const UPDATE: &str = "ABUSER_UPDATE_GUIDE";

#[test]
fn what_the_documentation_shows_is_what_abuser_prints() {
    require_root!();
    let update = std::env::var_os(UPDATE).is_some();
    let documents = documents();
    let played: Vec<_> = thread::scope(|scope| {
        let plays = documents.iter().filter(|document| document.has_sessions());
        let plays: Vec<_> = plays
            .map(|play| scope.spawn(move || play::play(play)))
            .collect();
        plays
            .into_iter()
            .map(|play| play.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    let mut told = String::new();
    for Played { differences, .. } in &played {
        if update {
            play::rewrite(differences);
        } else {
            told.extend(differences.iter().map(ToString::to_string));
        }
    }
    if !told.is_empty() {
        eprintln!("what is shown (-) is not what is printed (+):\n\n{told}");
    }
    for Played { broken, .. } in played {
        if let Some(panic) = broken {
            resume_unwind(panic);
        }
    }
    assert!(
        told.is_empty(),
        "the documentation shows something else than is printed, see above; if what is printed \
         is right: {UPDATE}=1 cargo test -p abuser-tests --test e2e guide"
    );
}

#[test]
fn every_command_is_shown_in_the_guide() {
    let mut shown = BTreeSet::new();
    for document in documents() {
        for step in document.steps {
            if let Step::Command { command, .. } = step {
                shown.extend(subcommands(&command));
            }
        }
    }
    let missing: Vec<_> = leaves(&[])
        .into_iter()
        .filter(|leaf| !shown.iter().any(|shown| shown.starts_with(leaf)))
        .map(|leaf| format!("abuser {}", leaf.join(" ")))
        .collect();
    assert!(
        missing.is_empty(),
        "no session of README.md or docs/ shows {missing:?}"
    );
}

#[test]
fn every_configuration_in_the_documentation_is_sound() {
    let folder = tempfile::tempdir().expect("a folder for a test");
    let mut checked = 0;
    for (path, text) in texts() {
        for piece in pieces(&text) {
            let Piece::Code(code) = piece else { continue };
            if !is_configuration(&code) {
                continue;
            }
            let file = folder.path().join("abuser.toml");
            fs::write(&file, code.text()).expect("writing a configuration");
            let said = abuser(&["check", "-c", file.to_str().expect("UTF-8")]);
            let place = format!("{}:{}", path.display(), code.line);
            assert!(said.status.success(), "{place}: {}", said.stderr);
            checked += 1;
        }
    }
    assert!(checked > 5, "only {checked} configurations were found");
}

/// Whether it is TOML: says so, or begins like it.
fn is_configuration(code: &Code) -> bool {
    let mut lines = code.lines.iter().map(|line| line.trim());
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    let begins_so = first.is_some_and(|line| {
        let is_key = |text: &str| {
            let is_of_key = |c: char| c.is_ascii_lowercase() || c == '_';
            !text.is_empty() && text.chars().all(is_of_key)
        };
        let table = line.trim_start_matches('[').split(']').next();
        line.split_once(" = ").is_some_and(|(key, _)| is_key(key))
            || (line.starts_with('[') && table.is_some_and(is_key))
    });
    code.language == "toml" || (code.language.is_empty() && begins_so)
}

/// The words that follow each `abuser` of a shell's line.
fn subcommands(line: &str) -> Vec<Vec<String>> {
    line.split(['|', ';', '&'])
        .filter_map(|part| {
            let mut words = part.split_whitespace().skip_while(|word| *word == "sudo");
            let is_abuser = words.next() == Some("abuser");
            is_abuser.then(|| words.map(str::to_owned).collect())
        })
        .collect()
}

/// The commands that have no commands, as `--help` lists them.
fn leaves(path: &[String]) -> Vec<Vec<String>> {
    let mut arguments = path.to_vec();
    arguments.push("--help".to_owned());
    let help = abuser(&arguments).success().stdout;
    let listed: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    if listed.is_empty() {
        return vec![path.to_vec()];
    }
    listed
        .into_iter()
        .flat_map(|name| leaves(&[path, &[name.to_owned()]].concat()))
        .collect()
}

fn documents() -> Vec<Document> {
    texts()
        .iter()
        .map(|(path, text)| Document::parse(path, text).unwrap_or_else(|error| panic!("{error}")))
        .collect()
}

/// README.md and what is in docs/, in the order of their names.
fn texts() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = root.canonicalize().expect("the repository is there");
    let folder = fs::read_dir(root.join("docs")).expect("docs/ is there");
    let mut paths: Vec<_> = folder.map(|entry| entry.expect("a name").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.push(root.join("README.md"));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path);
            let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path, text)
        })
        .collect()
}
