//! fail2ban's configuration files: Python's `ConfigParser` with includes.
//!
//! A file is read with the files that it names in `[INCLUDES]`, each followed by its `.local`. What is
//! read later overrides what was read before, and what it overrode can still be had as
//! `%(known/name)s`.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Component, Path, PathBuf},
};

use super::Error;
use crate::words::on_one_line;

/// Reads files for this crate, which does no input or output.
pub trait Files {
    /// The text of a file; `None` if there is no such file.
    ///
    /// # Errors
    /// What the system said.
    fn read(&self, path: &Path) -> io::Result<Option<String>>;
}

impl<F: Fn(&Path) -> io::Result<Option<String>>> Files for F {
    fn read(&self, path: &Path) -> io::Result<Option<String>> {
        self(path)
    }
}

/// How deep files may include each other, and how deep values may refer to others.
const MAX_DEPTH: usize = 10;
/// How many files one filter may be made of.
const MAX_FILES: usize = 200;
/// How long a value may become.
const MAX_VALUE: usize = 1 << 20;

type Section = BTreeMap<String, String>;

/// The sections of a filter's files, merged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ini {
    defaults: Section,
    sections: HashMap<String, Section>,
    /// What was overridden, by section.
    known: HashMap<String, Section>,
}

impl Ini {
    /// Reads files in their order, each with what it includes. Files that do not exist are left
    /// out; the second value is those that do.
    pub(crate) fn load(
        paths: &[PathBuf],
        files: &dyn Files,
    ) -> Result<(Self, Vec<PathBuf>), Error> {
        let mut loader = Loader {
            files,
            parsed: HashMap::new(),
            order: Vec::new(),
        };
        let mut seen = Vec::new();
        for path in paths {
            loader.one(path, &mut seen)?;
            // One that is named itself is read in its own place.
            let local = path.with_extension("local");
            if !paths.contains(&local) {
                loader.one(&local, &mut seen)?;
            }
        }
        let mut merged = Self::default();
        for path in &loader.order {
            if let Some(Some(ini)) = loader.parsed.get(path) {
                merged.merge(ini);
            }
        }
        Ok((merged, loader.order))
    }

    fn merge(&mut self, other: &Self) {
        self.defaults.extend(other.defaults.clone());
        for (name, options) in &other.sections {
            let Some(ours) = self.sections.get_mut(name) else {
                self.sections.insert(name.clone(), options.clone());
                continue;
            };
            let overridden = ours
                .iter()
                .filter(|(option, _)| options.contains_key(*option));
            let overridden: Vec<_> = overridden
                .map(|(option, value)| (option.clone(), value.clone()))
                .collect();
            self.known
                .entry(name.clone())
                .or_default()
                .extend(overridden);
            ours.extend(options.clone());
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let error = |line: usize, what: &str| Error::Syntax {
            file: path.to_owned(),
            line: line + 1,
            what: what.to_owned(),
        };
        let mut ini = Self::default();
        // The section, its name, and the option whose value goes on.
        let mut section: Option<(Option<String>, Section)> = None;
        let mut option: Option<(String, Vec<String>)> = None;
        let mut indent = 0;
        for (number, line) in text.lines().enumerate() {
            let comment = comment_start(line);
            let value = line
                .get(..comment.unwrap_or(line.len()))
                .unwrap_or_default()
                .trim();
            if value.is_empty() {
                if comment.is_none()
                    && let Some((_, lines)) = &mut option
                {
                    lines.push(String::new());
                }
                continue;
            }
            let start = line.find(|c: char| !c.is_whitespace()).unwrap_or(0);
            if start > indent
                && let Some((_, lines)) = &mut option
            {
                lines.push(value.to_owned());
                continue;
            }
            indent = start;
            if let Some((_, options)) = &mut section {
                finish(option.take(), options);
            }
            let header = value
                .strip_prefix('[')
                .and_then(|rest| rest.rsplit_once(']'));
            if let Some((name, _)) = header.filter(|(name, _)| !name.is_empty()) {
                ini.close(section.take());
                section = Some(if name == "DEFAULT" {
                    (None, std::mem::take(&mut ini.defaults))
                } else if ini.sections.contains_key(name) {
                    return Err(error(number, "the section is there twice"));
                } else {
                    (Some(name.to_owned()), Section::new())
                });
                continue;
            }
            let Some((_, options)) = &section else {
                return Err(error(number, "an option before the first section"));
            };
            let Some((name, value)) = value.split_once(['=', ':']) else {
                return Err(error(number, "neither a section nor an option"));
            };
            let name = name.trim().to_lowercase();
            if name.is_empty() {
                return Err(error(number, "an option without a name"));
            }
            if options.contains_key(&name) {
                return Err(error(
                    number,
                    &format!("the option `{}` is there twice", on_one_line(&name)),
                ));
            }
            option = Some((name, vec![value.trim().to_owned()]));
        }
        if let Some((_, options)) = &mut section {
            finish(option, options);
        }
        ini.close(section);
        Ok(ini)
    }

    fn close(&mut self, section: Option<(Option<String>, Section)>) {
        match section {
            Some((Some(name), options)) => {
                self.sections.insert(name, options);
            }
            Some((None, options)) => self.defaults = options,
            None => {}
        }
    }

    /// Whether there is such a section.
    pub(super) fn has(&self, section: &str) -> bool {
        self.sections.contains_key(section)
    }

    /// The options that the section itself has.
    pub(super) fn options(&self, section: &str) -> impl Iterator<Item = &str> {
        self.sections
            .get(section)
            .into_iter()
            .flat_map(|options| options.keys().map(String::as_str))
    }

    /// The value of an option as `<name>` means it: `name` may be `section/option` or
    /// `known/option`.
    pub(super) fn tag(
        &self,
        section: &str,
        name: &str,
        vars: &Section,
    ) -> Result<Option<String>, Interpolation> {
        if let Some((place, option)) = name.split_once('/')
            && !place.is_empty()
            && place
                .chars()
                .all(|c| c.is_alphanumeric() || "_-".contains(c))
        {
            let option = option.to_lowercase();
            let none = Section::new();
            let found = if place.eq_ignore_ascii_case("known") {
                match self.known.get(section).and_then(|known| known.get(&option)) {
                    Some(raw) => Some(self.interpolate(section, raw, &none, 0)?),
                    None => self.get(section, &option, &none)?,
                }
            } else if place.eq_ignore_ascii_case("default") {
                match self.defaults.get(&option) {
                    Some(raw) => Some(self.interpolate("", raw, &none, 0)?),
                    None => None,
                }
            } else if self.has(place) {
                self.get(place, &option, &none)?
            } else {
                None
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        self.get(section, name, vars)
    }

    /// The value of an option, with all that it refers to by `%(name)s` put in. `vars` come first.
    pub(crate) fn get(
        &self,
        section: &str,
        option: &str,
        vars: &Section,
    ) -> Result<Option<String>, Interpolation> {
        let option = option.to_lowercase();
        let Some(raw) = self.raw(section, &option, vars) else {
            return Ok(None);
        };
        self.interpolate(section, raw, vars, 0).map(Some)
    }

    fn raw<'a>(&'a self, section: &str, option: &str, vars: &'a Section) -> Option<&'a String> {
        vars.get(option)
            .or_else(|| self.sections.get(section)?.get(option))
            .or_else(|| self.defaults.get(option))
    }

    fn interpolate(
        &self,
        section: &str,
        raw: &str,
        vars: &Section,
        depth: usize,
    ) -> Result<String, Interpolation> {
        if depth > MAX_DEPTH {
            return Err(Interpolation(
                "values refer to each other without end".to_owned(),
            ));
        }
        let mut out = String::new();
        let mut rest = raw;
        while let Some(at) = rest.find('%') {
            out.push_str(rest.get(..at).unwrap_or_default());
            rest = rest.get(at + 1..).unwrap_or_default();
            if let Some(after) = rest.strip_prefix('%') {
                out.push('%');
                rest = after;
                continue;
            }
            let Some((name, after)) = rest
                .strip_prefix('(')
                .and_then(|rest| rest.split_once(")s"))
            else {
                return Err(Interpolation(
                    "a `%` that is neither `%%` nor `%(name)s`".to_owned(),
                ));
            };
            rest = after;
            let option = name.to_lowercase();
            let value = self
                .reference(section, &option, vars)
                .or_else(|| self.raw(section, &option, vars));
            let Some(value) = value else {
                return Err(Interpolation(format!("there is no option `{name}`")));
            };
            out.push_str(&self.interpolate(section, value, vars, depth + 1)?);
            if out.len() > MAX_VALUE {
                return Err(Interpolation("the value grows without end".to_owned()));
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// What `%(section/option)s` is.
    fn reference(&self, section: &str, name: &str, vars: &Section) -> Option<&String> {
        let (place, option) = name.split_once('/')?;
        if vars.contains_key(name) {
            return None;
        }
        let found = match place {
            "known" => self.known.get(section).and_then(|known| known.get(option)),
            "default" => None,
            place => {
                let sections = self.sections.iter();
                let mut named = sections.filter(|(name, _)| name.eq_ignore_ascii_case(place));
                named.next()?.1.get(option)
            }
        };
        found.or_else(|| self.defaults.get(option))
    }
}

/// Why a value cannot be had.
#[derive(Debug)]
pub(crate) struct Interpolation(pub(crate) String);

struct Loader<'f> {
    files: &'f dyn Files,
    parsed: HashMap<PathBuf, Option<Ini>>,
    order: Vec<PathBuf>,
}

impl Loader<'_> {
    /// Takes in a file with its `.local`.
    fn include(&mut self, path: &Path, seen: &mut Vec<PathBuf>) -> Result<(), Error> {
        self.one(path, seen)?;
        let local = path.with_extension("local");
        if local != path && !seen.contains(&normal(&local)) {
            self.one(&local, seen)?;
        }
        Ok(())
    }

    fn one(&mut self, path: &Path, seen: &mut Vec<PathBuf>) -> Result<(), Error> {
        let path = normal(path);
        if seen.contains(&path) {
            let by = seen.last().cloned().unwrap_or_default();
            return Err(Error::Recursion { file: path, by });
        }
        if seen.len() > MAX_DEPTH || self.order.len() > MAX_FILES {
            return Err(Error::TooMany { file: path });
        }
        if !self.parsed.contains_key(&path) {
            let text = self.files.read(&path).map_err(|source| Error::Read {
                file: path.clone(),
                source,
            })?;
            let ini = text.map(|text| Ini::parse(&text, &path)).transpose()?;
            self.parsed.insert(path.clone(), ini);
        }
        let includes = |option: &str| -> Result<Vec<PathBuf>, Error> {
            let Some(Some(ini)) = self.parsed.get(&path) else {
                return Ok(vec![]);
            };
            if !ini.has("INCLUDES") {
                return Ok(vec![]);
            }
            let list = ini
                .get("INCLUDES", option, &Section::new())
                .map_err(|error| Error::Value {
                    file: path.clone(),
                    option: option.to_owned(),
                    what: error.0,
                })?;
            let folder = path.parent().unwrap_or(Path::new(""));
            let list = list.unwrap_or_default();
            let names = list.lines().filter(|name| !name.is_empty());
            Ok(names.map(|name| folder.join(name)).collect())
        };
        if !matches!(self.parsed.get(&path), Some(Some(_))) {
            return Ok(());
        }
        let (before, after) = (includes("before")?, includes("after")?);
        seen.push(path.clone());
        for path in before {
            self.include(&path, seen)?;
        }
        seen.pop();
        self.order.push(path.clone());
        seen.push(path);
        for path in after {
            self.include(&path, seen)?;
        }
        seen.pop();
        Ok(())
    }
}

/// A path without `..` and `.`, so that it is known again.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(out.components().next_back(), Some(Component::Normal(_))) =>
            {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// Where a comment begins: at a line's first character if that is `#` or `;`, or at a `;` after a
/// space.
fn comment_start(line: &str) -> Option<usize> {
    let trimmed = line.trim_start();
    if trimmed.starts_with(['#', ';']) {
        return Some(0);
    }
    let after_space = |at: usize| {
        line.get(..at)
            .is_some_and(|before| before.ends_with(char::is_whitespace))
    };
    line.match_indices(';')
        .map(|(at, _)| at)
        .find(|&at| after_space(at))
}

fn finish(option: Option<(String, Vec<String>)>, options: &mut Section) {
    if let Some((name, lines)) = option {
        options.insert(name, lines.join("\n").trim_end().to_owned());
    }
}
