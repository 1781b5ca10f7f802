//! `[security]`: what the daemon gives up once it runs.

use super::{error::ConfigError, section::Section};

/// `[security]`: what the daemon gives up once it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// How much of it.
    pub sandbox: Sandbox,
}

/// How much the daemon gives up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// All that it does not need, and what the commands of `[[notify]]` might need only if there are none.
    #[default]
    Auto,
    /// All that it does not need itself, whatever becomes of the commands.
    On,
    /// Nothing.
    Off,
}

impl Sandbox {
    const WORDS: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}

/// Reads `[security]` over what is in `security`.
pub(super) fn read(section: &Section<'_>, security: &mut Security) -> Result<(), ConfigError> {
    if let Some(item) = section.get("sandbox") {
        security.sandbox = item.word(&Sandbox::WORDS)?;
    }
    Ok(())
}
