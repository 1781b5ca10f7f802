//! `abuser import`: what other programs are told to do, as a configuration of ours.
//!
//! The configuration goes to standard output, what could not be carried over to standard error,
//! a line each that begins with the place it stands at.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use abuser_detect::import::{self, Files, ImportError, Imported, MAX_FILE_BYTES, Rules};
use anyhow::anyhow;
use serde::Serialize;

use crate::config::parse_duration;

use super::{
    CliError,
    args::{ImportCommand, ImportOutput},
    output::{self, counted},
};

/// What `import --json` prints.
#[derive(Serialize)]
struct Outcome {
    /// `None` if it was written to a file.
    config: Option<String>,
    output: Option<String>,
    notes: Vec<JsonNote>,
}

#[derive(Serialize)]
struct JsonNote {
    file: String,
    line: Option<usize>,
    what: String,
    why: String,
}

/// Files of this host.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let mut bytes = Vec::new();
        let most = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX) + 1;
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn matching(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern = pattern
            .to_str()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is not UTF-8"))?;
        let options = glob::MatchOptions {
            require_literal_separator: true,
            require_literal_leading_dot: true,
            ..glob::MatchOptions::default()
        };
        glob::glob_with(pattern, options)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?
            .map(|path| path.map_err(Into::into))
            .collect()
    }
}

pub(super) fn import(command: &ImportCommand) -> Result<(), CliError> {
    let (imported, output, what) = match command {
        ImportCommand::Fail2ban(args) => {
            // Detectors name its filters, whatever folder the daemon is in.
            let folder = std::path::absolute(&args.folder).unwrap_or_else(|_| args.folder.clone());
            let imported = import::fail2ban(&Disk, &folder, |text| parse_duration(text).is_ok());
            (imported, &args.output, "jail that is enabled and can run")
        }
        ImportCommand::Nginx(args) => {
            let imported = import::nginx(&Disk, &args.file, &args.action);
            (imported, &args.output, "limit_req or limit_conn in force")
        }
        ImportCommand::Snort(args) => {
            let paths: Vec<_> = args.files.iter().map(PathBuf::as_path).collect();
            let how = Rules {
                action: args.action.as_deref(),
                log: &args.log,
            };
            let imported = import::snort(&Disk, &paths, how);
            (imported, &args.output, "rule that a log can tell about")
        }
    };
    tell(&imported.map_err(failed)?, output, what)
}

/// A file that cannot be read or makes no sense; the error has said which.
fn failed(error: ImportError) -> CliError {
    match &error {
        ImportError::Read { file, error }
            if error.kind() == io::ErrorKind::NotFound && file.ends_with("jail.conf") =>
        {
            CliError::Other(anyhow!(
                "cannot read {}: there is no such file; name fail2ban's folder, as in `abuser import \
                 fail2ban /etc/fail2ban`",
                file.display()
            ))
        }
        _ => CliError::Other(error.into()),
    }
}

fn tell(imported: &Imported, output: &ImportOutput, what: &str) -> Result<(), CliError> {
    let ImportOutput { path, force, json } = output;
    if !*json {
        for note in &imported.notes {
            output::message(&note.to_string());
        }
    }
    let text = imported.to_toml();
    if let Some(path) = path.as_ref().filter(|_| !imported.is_empty()) {
        write(path, &text, *force)?;
    }
    if *json {
        let notes = imported.notes.iter().map(|note| JsonNote {
            file: note.place.file.display().to_string(),
            line: Some(note.place.line).filter(|line| *line > 0),
            what: note.what.clone(),
            why: note.why.clone(),
        });
        output::json(&Outcome {
            config: path.is_none().then(|| text.clone()),
            output: path.as_ref().map(|path| path.display().to_string()),
            notes: notes.collect(),
        })?;
    } else if path.is_none() {
        output::bytes(text.as_bytes())?;
    }
    if imported.is_empty() {
        return Err(CliError::Other(anyhow!(
            "there is nothing to import: no {what} was found"
        )));
    }
    if let (Some(path), false) = (path, *json) {
        let tables = u64::try_from(imported.tables.len()).unwrap_or(u64::MAX);
        output::line(&format!(
            "{}: {} written; check the whole with `abuser check`",
            path.display(),
            counted(tables, "table", "tables")
        ))?;
    }
    Ok(())
}

/// Writes a file that is not there yet, or with `force` another one in its place.
fn write(path: &Path, text: &str, force: bool) -> Result<(), CliError> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(CliError::Usage(format!(
                "{} is there already; name another file, or replace it with --force",
                path.display()
            )));
        }
        Err(error) => {
            return Err(anyhow!("cannot create {}: {error}", path.display()).into());
        }
    };
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| anyhow!("cannot write {}: {error}", path.display()))?;
    Ok(())
}
