//! What must hold for any text as a configuration.

use std::path::Path;

use abuser::{
    config::{Config, ConfigError, parse_all},
    daemon::reload::needs_restart,
    dataplane::limits::Compiled,
};

use crate::shown;

/// What errors call the texts.
const NAMES: [&str; 4] = [
    "abuser.toml",
    "conf.d/1.toml",
    "conf.d/2.toml",
    "conf.d/3.toml",
];
/// A line between what is in `abuser.toml` and what is in the files of `conf.d`.
const NEXT_FILE: &str = "\n# conf.d\n";

/// Reads bytes as the files of a configuration; what is not UTF-8 is refused before.
///
/// # Panics
///
/// If reading panics, an error points nowhere or would break a terminal, or what was accepted
/// means one thing now and another the next time.
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let texts = text.splitn(NAMES.len(), NEXT_FILE);
    let files: Vec<_> = NAMES.into_iter().zip(texts).collect();
    match read(&files) {
        Ok(config) => accepted(&files, &config),
        Err(error) => refused(&files, &error),
    }
}

fn read(files: &[(&str, &str)]) -> Result<Config, ConfigError> {
    parse_all(files.iter().map(|(name, text)| (Path::new(*name), *text)))
}

fn accepted(files: &[(&str, &str)], config: &Config) {
    let again = read(files).expect("accepted before");
    assert_eq!(*config, again, "read twice");
    assert_eq!(
        needs_restart(config, &again),
        [""; 0],
        "nothing has changed"
    );
    let empty = files.iter().copied().chain([("conf.d/4.toml", "")]);
    let with_empty = read(&empty.collect::<Vec<_>>()).expect("an empty file says nothing");
    assert_eq!(*config, with_empty, "with an empty file");
    let compiled = Compiled::new(&config.limits);
    assert_eq!(
        compiled.limits.len(),
        config.limits.len(),
        "a limit is lost"
    );
    for (index, limit) in config.limits.iter().enumerate() {
        let bit = 1 << index;
        let applies = compiled.protocols.iter().any(|masks| masks.all & bit != 0);
        assert!(applies, "{} applies to no protocol", limit.name);
        let with_ports = compiled.ports.iter().any(|mask| mask & bit != 0);
        assert_eq!(with_ports, !limit.ports.is_empty(), "{}: ports", limit.name);
    }
}

fn refused(files: &[(&str, &str)], error: &ConfigError) {
    let ConfigError::Invalid {
        path,
        line,
        column,
        message,
    } = error
    else {
        panic!("no file was read, and still: {error}");
    };
    let file = files.iter().find(|(name, _)| path == Path::new(name));
    let (name, text) = file.expect("it is about one of the files");
    // As editors count: what follows the last line break is a line, even if empty.
    let lines: Vec<_> = text.split('\n').collect();
    let known = line.checked_sub(1).and_then(|index| lines.get(index));
    let characters = known.expect("a line of the text").chars().count();
    assert!(
        (1..=characters + 1).contains(column),
        "column {column} of {characters} in line {line}"
    );
    shown::is_one_plain_line(message);
    let place = format!("{name}:{line}:{column}: ");
    assert_eq!(error.to_string(), place + message);
}
