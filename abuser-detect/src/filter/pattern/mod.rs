//! Python's regular expressions at native speed.
//!
//! fail2ban's filters use look-around, back-references and conditions, which take more than linear
//! time, in a quarter of their expressions. So each is matched here as Python does it, one way after
//! the other, which on log lines is several times faster than simulating all ways at once. But an
//! attacker chooses the lines, so steps are counted: after some hundred thousand, an expression that
//! can be matched in linear time is left to the `regex` crate, and any other is taken not to match.

mod matcher;
mod program;
mod syntax;

use std::sync::OnceLock;

use memchr::memmem::Finder;
use regex::Regex;

pub(crate) use matcher::Scratch;
use program::Program;

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Pattern {
    source: String,
    program: Program,
    names: Vec<Option<String>>,
    needle: Option<Finder<'static>>,
    /// The same in Rust's syntax if there is such, and compiled once it is needed.
    linear: Option<String>,
    compiled: OnceLock<Option<Regex>>,
}

/// Whether a text matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It does; the groups are in the scratch.
    Yes,
    /// It does not.
    No,
    /// It was not found out within the steps there are.
    Unknown,
}

impl Pattern {
    /// Compiles Python's syntax; `lines` is its `MULTILINE`. Groups without names are remembered
    /// only up to number `unnamed`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(crate) fn new(source: &str, lines: bool, unnamed: usize) -> Result<Self, String> {
        let parsed = syntax::parse(source, lines)?;
        let groups = parsed.names.len();
        let keep = |group: usize| {
            let named = parsed.names.get(group - 1).is_some_and(Option::is_some);
            group <= unnamed || named || parsed.asked.contains(&group)
        };
        let program = program::compile(&parsed.node, groups, &keep)?;
        let mut linear = String::new();
        let linear = parsed.node.linear(&mut linear).then_some(linear);
        let needle = program
            .needle
            .as_ref()
            .map(|needle| Finder::new(needle).into_owned());
        Ok(Self {
            source: source.to_owned(),
            program,
            names: parsed.names,
            needle,
            linear,
            compiled: OnceLock::new(),
        })
    }

    /// As it was written.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The named groups, with their numbers.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        let numbered = self.names.iter().zip(1..);
        numbered.filter_map(|(name, number)| Some((name.as_deref()?, number)))
    }

    /// The number of a named group.
    pub(crate) fn group(&self, name: &str) -> Option<usize> {
        self.names()
            .find(|(other, _)| *other == name)
            .map(|(_, number)| number)
    }

    /// Whether a match can begin with the byte, or at the end; known only if it must begin where
    /// the text does.
    pub(crate) fn may_begin(&self, byte: Option<u8>) -> bool {
        !self.program.anchored || self.program.first.admits(byte)
    }

    /// Searches the text.
    pub(crate) fn search(&self, text: &str, scratch: &mut Scratch) -> Found {
        self.search_from(text, 0, scratch)
    }

    /// Searches the text for a match that begins at `start` or after it.
    pub(crate) fn search_from(&self, text: &str, start: usize, scratch: &mut Scratch) -> Found {
        if !self.program.starts(text.as_bytes(), start) {
            return Found::No;
        }
        if let Some(needle) = &self.needle
            && needle.find(text.as_bytes()).is_none()
        {
            return Found::No;
        }
        match self.program.search(text, start, scratch) {
            Ok(true) => Found::Yes,
            Ok(false) => Found::No,
            Err(_) => self.search_linear(text, start, scratch),
        }
    }

    #[cold]
    fn search_linear(&self, text: &str, start: usize, scratch: &mut Scratch) -> Found {
        let compile = || Regex::new(self.linear.as_deref()?).ok();
        let Some(regex) = self.compiled.get_or_init(compile) else {
            return Found::Unknown;
        };
        let text = text.strip_suffix('\n').unwrap_or(text);
        if start > text.len() {
            return Found::No;
        }
        let Some(captures) = regex.captures_at(text, start) else {
            return Found::No;
        };
        scratch.slots.clear();
        for group in captures.iter() {
            let (from, to) = group.map_or((matcher::UNSET, matcher::UNSET), |group| {
                (group.start(), group.end())
            });
            scratch.slots.extend([from, to]);
        }
        Found::Yes
    }
}

#[cfg(test)]
mod tests;
