//! Where in fail2ban's files an option stands, for what is said about it.

use std::{collections::HashMap, path::Path, sync::Arc};

use super::super::Place;

/// The last place of each option, by section, and the first of each section.
#[derive(Debug, Default)]
pub(super) struct Places {
    options: HashMap<(String, String), Place>,
    sections: Vec<(String, Place)>,
}

impl Places {
    /// Takes in a file, after those that it overrides.
    pub(super) fn add(&mut self, path: &Path, text: &str) {
        let file: Arc<Path> = path.into();
        let mut section = String::new();
        for (line, number) in text.lines().zip(1_usize..) {
            let place = || Place {
                file: Arc::clone(&file),
                line: number,
            };
            if line.starts_with(|c: char| c.is_whitespace() || c == '#' || c == ';') {
                continue;
            }
            let header = line
                .strip_prefix('[')
                .and_then(|rest| rest.rsplit_once(']'));
            if let Some((name, _)) = header {
                name.clone_into(&mut section);
                if !self.sections.iter().any(|(known, _)| known == name) {
                    self.sections.push((name.to_owned(), place()));
                }
            } else if let Some((option, _)) = line.split_once(['=', ':']) {
                let key = (section.clone(), option.trim().to_lowercase());
                self.options.insert(key, place());
            }
        }
    }

    /// The sections that are jails, in the order in which they are first named.
    pub(super) fn jails(&self) -> impl Iterator<Item = (&str, &Place)> {
        let is_jail = |name: &str| !matches!(name, "DEFAULT" | "INCLUDES" | "Definition");
        let sections = self
            .sections
            .iter()
            .map(|(name, place)| (name.as_str(), place));
        sections.filter(move |(name, _)| is_jail(name))
    }

    /// Where a jail's option stands: in its section, or else in `[DEFAULT]`.
    pub(super) fn option(&self, jail: &str, option: &str) -> Option<&Place> {
        self.own(jail, option)
            .or_else(|| self.own("DEFAULT", option))
    }

    /// Where an option stands in this very section.
    pub(super) fn own(&self, section: &str, option: &str) -> Option<&Place> {
        self.options.get(&(section.to_owned(), option.to_owned()))
    }
}
