//! Why a filter cannot be loaded.

use std::{io, path::PathBuf};

/// Why a filter cannot be loaded: in which file, which option of it, and which expression.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No folder has a filter of that name.
    #[error("there is no fail2ban filter `{name}`: looked for {}", list(.tried))]
    NotFound {
        /// The name that was asked for.
        name: String,
        /// What was looked for; `.conf` is added.
        tried: Vec<PathBuf>,
    },
    /// A file could not be read.
    #[error("cannot read {}: {source}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of a file is neither a section, nor an option, nor the rest of one.
    #[error("{}, line {line}: {what}", .file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A file includes itself.
    #[error("{} is included by {}, which it includes itself", .file.display(), .by.display())]
    Recursion {
        /// The file.
        file: PathBuf,
        /// The file that includes it again.
        by: PathBuf,
    },
    /// Files include others too deep, or too many.
    #[error("{}: too many files include each other", .file.display())]
    TooMany {
        /// Where it became too many.
        file: PathBuf,
    },
    /// A file is no filter.
    #[error("{} has no section [Definition]: it is no filter but a part of others", .file.display())]
    NoDefinition {
        /// The file.
        file: PathBuf,
    },
    /// The options in brackets after the name cannot be read.
    #[error("`{filter}`: {what}; options are written `name[option=value, option=\"value\"]`")]
    Options {
        /// The filter as it was named.
        filter: String,
        /// What is wrong.
        what: String,
    },
    /// The value of an option cannot be had, or is none for it.
    #[error("{}, option {option}: {what}", .file.display())]
    Value {
        /// The filter's file.
        file: PathBuf,
        /// The option.
        option: String,
        /// What is wrong.
        what: String,
    },
    /// An expression is wrong.
    #[error("{}, option {option}: {what} in `{regex}`", .file.display())]
    Regex {
        /// The filter's file.
        file: PathBuf,
        /// The option.
        option: String,
        /// The expression.
        regex: String,
        /// What is wrong with it.
        what: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}
