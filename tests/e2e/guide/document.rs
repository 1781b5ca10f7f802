//! A file of the documentation as steps that can be taken.
//!
//! | comment | what it does |
//! | --- | --- |
//! | `file: PATH` | the next block of code is written there |
//! | `guide: file PATH`, and lines | those lines are written there |
//! | `guide: sql PATH`, and lines | those statements make a database there |
//! | `guide: sh COMMAND` | a command that readers do not see; it must succeed |
//! | `guide: serve COMMAND` | a command that goes on to the end of the file, unseen |
//! | `guide: until COMMAND` | waits until it succeeds |
//! | `guide: stop`, `guide: kill` | SIGTERM or SIGKILL for the daemon, and waiting for its end |
//! | `guide: connect SOURCE PORT COUNT…` | so many TCP connections at once, and again a second later |
//! | `guide: send SOURCE PORT COUNT…` | the same in UDP datagrams |
//! | `guide: during …` | one of the two, while the next command runs that is not in the background |
//!
//! The burst that leads to a ban is to be a single packet: how many of the others would meet the
//! ban is a race.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use testkit::markdown::{Code, Piece, pieces};

use super::traffic::Traffic;

/// A file of the documentation.
pub(crate) struct Document {
    pub(crate) steps: Vec<Step>,
}

/// Where something stands.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

pub(crate) enum Step {
    /// A file is there from now on.
    File { path: String, text: String },
    /// A database is there from now on.
    Database { path: String, sql: String },
    /// Something happens that readers do not see.
    Hidden { place: Place, what: Hidden },
    /// A command of a session, and what it is to print.
    Command {
        place: Place,
        command: String,
        shown: Vec<String>,
        indent: String,
    },
}

pub(crate) enum Hidden {
    Shell(String),
    Until(String),
    Serve(String),
    Stop,
    Kill,
    Traffic(Traffic),
    During(Traffic),
}

const PROMPT: &str = "$ ";

impl Document {
    /// Reads a file's text; the error says where it makes no sense.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut file = None;
        for piece in pieces(text) {
            match piece {
                Piece::Comment { line, text } => {
                    let path = path.to_owned();
                    let place = Place { path, line };
                    if let Some(name) = text.strip_prefix("file:") {
                        file = Some(name.trim().to_owned());
                    } else if let Some(directive) = text.strip_prefix("guide:") {
                        let step = hidden(directive.trim(), place.clone());
                        steps.push(step.ok_or_else(|| format!("{place}: what is this? {text}"))?);
                    }
                }
                Piece::Code(code) => match file.take() {
                    Some(path) => steps.push(Step::File {
                        path,
                        text: code.text(),
                    }),
                    None if is_session(&code) => steps.extend(session(path, code)),
                    None => {}
                },
            }
        }
        Ok(Self { steps })
    }

    pub(crate) fn has_sessions(&self) -> bool {
        let is_command = |step: &Step| matches!(step, Step::Command { .. });
        self.steps.iter().any(is_command)
    }
}

fn is_session(code: &Code) -> bool {
    let is_of_abuser = |line: &String| {
        ["$ abuser ", "$ sudo abuser "]
            .iter()
            .any(|begin| line.starts_with(begin))
    };
    code.language == "console" || code.lines.iter().any(is_of_abuser)
}

/// Each command with the lines that follow it.
fn session(path: &Path, code: Code) -> Vec<Step> {
    let mut steps = Vec::new();
    for (number, line) in code.lines.into_iter().enumerate() {
        if let Some(command) = line.strip_prefix(PROMPT) {
            steps.push(Step::Command {
                place: Place {
                    path: path.to_owned(),
                    line: code.line + number,
                },
                command: command.to_owned(),
                shown: Vec::new(),
                indent: code.indent.clone(),
            });
        } else if let Some(Step::Command { shown, .. }) = steps.last_mut() {
            shown.push(line);
        }
    }
    steps
}

fn hidden(directive: &str, place: Place) -> Option<Step> {
    let (first, body) = directive.split_once('\n').unwrap_or((directive, ""));
    let (verb, rest) = first.split_once(' ').unwrap_or((first, ""));
    let what = match verb {
        "file" => {
            return Some(Step::File {
                path: rest.to_owned(),
                text: format!("{body}\n"),
            });
        }
        "sql" => {
            return Some(Step::Database {
                path: rest.to_owned(),
                sql: body.to_owned(),
            });
        }
        "sh" => Hidden::Shell(rest.to_owned()),
        "serve" => Hidden::Serve(rest.to_owned()),
        "until" => Hidden::Until(rest.to_owned()),
        "stop" => Hidden::Stop,
        "kill" => Hidden::Kill,
        "during" => Hidden::During(Traffic::parse(rest)?),
        _ => Hidden::Traffic(Traffic::parse(first)?),
    };
    Some(Step::Hidden { place, what })
}
