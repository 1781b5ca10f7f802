//! What a finished command said.

use std::{
    fmt,
    process::{Command, ExitStatus, Output},
};

/// A command's exit status and both its streams; a failed assertion shows all three.
#[derive(Clone, Debug)]
pub struct CommandOutput {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl CommandOutput {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it cannot be run at all.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let output = command.output();
        let output = output.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        Self::new(format!("{command:?}"), &output)
    }

    pub(crate) fn new(command: String, output: &Output) -> Self {
        Self {
            command,
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts exit status 0.
    ///
    /// # Panics
    /// With both streams, if it was another.
    #[track_caller]
    #[expect(
        clippy::return_self_not_must_use,
        reason = "the assertion alone is of use"
    )]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// Asserts the exit status: 1 is "it failed", 2 is "wrong usage or configuration".
    ///
    /// # Panics
    /// With both streams, if it was another.
    #[track_caller]
    #[expect(
        clippy::return_self_not_must_use,
        reason = "the assertion alone is of use"
    )]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }
}

impl fmt::Display for CommandOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            status,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "`{command}` ended with {status}\n--- stdout\n{stdout}--- stderr\n{stderr}---"
        )
    }
}
