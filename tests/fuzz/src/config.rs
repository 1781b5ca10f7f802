//! What must hold for any text as a configuration.

use std::path::Path;

use abuser::{
    config::{Config, ConfigError, parse},
    dataplane::limits::Compiled,
};

/// What errors call the text.
const NAME: &str = "abuser.toml";

/// Reads bytes as a configuration file; what is not UTF-8 is refused before.
///
/// # Panics
///
/// If reading panics, an error points nowhere or would break a terminal, or what was accepted
/// means one thing now and another the next time.
pub fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match parse(text, Path::new(NAME)) {
        Ok(config) => accepted(text, &config),
        Err(error) => refused(text, &error),
    }
}

fn accepted(text: &str, config: &Config) {
    let again = parse(text, Path::new(NAME)).expect("accepted before");
    assert_eq!(*config, again, "read twice");
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

fn refused(text: &str, error: &ConfigError) {
    let ConfigError::Invalid {
        path,
        line,
        column,
        message,
    } = error
    else {
        panic!("no file was read, and still: {error}");
    };
    assert_eq!(path, Path::new(NAME));
    // As editors count: what follows the last line break is a line, even if empty.
    let lines: Vec<_> = text.split('\n').collect();
    let known = line.checked_sub(1).and_then(|index| lines.get(index));
    let characters = known.expect("a line of the text").chars().count();
    assert!(
        (1..=characters + 1).contains(column),
        "column {column} of {characters} in line {line}"
    );
    assert!(!message.is_empty());
    assert!(
        !message.chars().any(char::is_control),
        "control characters in {message:?}"
    );
    let place = format!("{NAME}:{line}:{column}: ");
    assert_eq!(error.to_string(), place + message);
}
