//! Completions and manual pages, with the shells and programs that they are for.

use std::{fs, path::Path, process::Command};

use testkit::{CommandOutput, Namespace, peers, require_root};

use crate::support::{Complains as _, abuser, finish};

/// A folder with the completions of this shell in a file of this name.
fn completions(shell: &str, name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let script = abuser(&["completions", shell]).success().stdout;
    fs::write(folder.path().join(name), script).expect("writing it");
    folder
}

fn peer(program: &str) -> Command {
    let namespace = Namespace::new().unwrap_or_else(|error| panic!("{error}"));
    peers::command(&namespace, program).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a script in a folder.
fn run(mut command: Command, folder: &Path) -> CommandOutput {
    finish(command.current_dir(folder).env("TERM", "dumb")).success()
}

#[test]
fn bash_completes_commands_and_options() {
    let folder = completions("bash", "abuser");
    let script = r#"
        source ./abuser
        complete_line() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            "$(complete -p abuser | sed 's/.*-F \([^ ]*\).*/\1/')" abuser "${!#}" "${@:$#-1:1}"
            echo "${COMPREPLY[*]}"
        }
        complete_line abuser ban a
        complete_line abuser thr
        complete_line abuser run --obs
        complete_line abuser run --log-format j
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-euc", script]);
    let said = run(bash, folder.path());
    assert_eq!(
        said.stdout, "add\nthrottle\n--observe\njson journal\n",
        "{said}"
    );
}

#[test]
fn zsh_completes_commands() {
    require_root!();
    let folder = completions("zsh", "_abuser");
    // A shell within the shell, at whose prompt the line is typed.
    let script = r"
        zmodload zsh/zpty
        zpty inner zsh -f
        zpty -w inner 'PS1=; fpath=($PWD $fpath); autoload -U compinit; compinit -u -D; echo rea''dy'
        zpty -r -m inner line '*ready*'
        zpty -n -w inner $'abuser throttle rem\t\C-a echo \C-e done\n'
        zpty -r -m inner line '*remove*done*'
        print -r -- $line
    ";
    let mut zsh = peer("zsh");
    zsh.args(["-f", "-c", script]);
    let said = run(zsh, folder.path());
    assert!(said.stdout.contains("throttle remove"), "{said}");
}

#[test]
fn fish_completes_commands_and_tells_what_they_do() {
    require_root!();
    let folder = completions("fish", "abuser.fish");
    let mut fish = peer("fish");
    fish.env("HOME", folder.path())
        .args(["--no-config", "-c"])
        .arg("source ./abuser.fish; complete -C 'abuser ban a'; complete -C 'abuser run --log-format j'");
    let said = run(fish, folder.path());
    let lines: Vec<_> = said.stdout.lines().collect();
    assert!(
        lines.contains(
            &"add\tBan addresses and prefixes; at once, established connections included"
        ),
        "{said}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("journal\t")),
        "{said}"
    );
}

#[test]
fn each_command_has_a_manual_page_that_renders_without_a_warning() {
    require_root!();
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("new/man1");
    abuser(&["man", pages.to_str().expect("UTF-8")]).success();
    let mut names: Vec<_> = fs::read_dir(&pages)
        .expect("a folder")
        .map(|entry| entry.expect("a name").file_name())
        .map(|name| name.into_string().expect("UTF-8"))
        .collect();
    names.sort();
    for name in ["abuser.1", "abuser-run.1", "abuser-ban-add.1"] {
        assert!(names.iter().any(|page| page == name), "{names:?}");
    }
    let mut lint = peer("mandoc");
    lint.args(["-T", "lint", "-W", "warning"]).args(&names);
    let said = run(lint, &pages);
    assert_eq!(said.stdout, "", "{said}");
    let mut page = peer("mandoc");
    page.args(["-T", "utf8", "abuser-ban-add.1"]);
    let said = run(page, &pages);
    let text = plain(&said.stdout);
    for part in ["ABUSER-BAN-ADD(1)", "--permanent", "For good"] {
        assert!(text.contains(part), "no {part:?}: {text}");
    }
}

/// Without what has a printer strike twice: a character and a step back.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        if c == '\u{8}' {
            plain.pop();
        } else {
            plain.push(c);
        }
    }
    plain
}

#[test]
fn pages_that_are_made_twice_are_the_same_and_bear_the_day_they_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = |name: &str| {
        let folder = folder.path().join(name);
        let mut command = crate::support::command(&["man", folder.to_str().expect("UTF-8")]);
        finish(command.env("SOURCE_DATE_EPOCH", "1000000000")).success();
        fs::read_to_string(folder.join("abuser.1")).expect("a page")
    };
    let first = page("first");
    assert_eq!(first, page("second"));
    assert!(first.contains(".TH ABUSER 1 2001-09-09"), "{first}");
}

#[test]
fn pages_that_cannot_be_written_are_an_error() {
    abuser(&["man", "/proc/nowhere"]).complains(1, &["cannot write to /proc/nowhere"]);
}
