//! A filter's expression with what the names of its groups mean.

use std::sync::Arc;

use super::{
    pattern::{Found, Pattern, Scratch},
    tags,
};

/// The groups that can say whom a line is about; one of them must be there.
const WHOM: [&str; 5] = ["fid", "ip4", "ip6", "dns", "mlfid"];

/// What the groups with names have found.
pub(super) type Groups = Vec<(Arc<str>, String)>;

/// A prefregex, failregex or ignoreregex.
#[derive(Debug)]
pub(super) struct Expression {
    pattern: Pattern,
    names: Vec<(Arc<str>, usize)>,
    /// Groups that stand in for another that found nothing: `<F-ALT_USER>`.
    alternates: Vec<(usize, Arc<str>)>,
    /// Groups that are joined to another: `<F-TUPLE_ID>`.
    tuples: Vec<(usize, Arc<str>)>,
    skips: Vec<usize>,
}

impl Expression {
    /// Compiles an expression with tags. Names of hosts are hosts only if `names`; `lines` says that
    /// `^` and `$` are about lines.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(text: &str, names: bool, lines: bool) -> Result<Self, String> {
        let expanded = tags::expand(text, names)?;
        if let Some(tag) = tags::unknown(&expanded) {
            return Err(format!("nothing is known as `<{tag}>`"));
        }
        let pattern = Pattern::new(&expanded, lines, 0)?;
        let names: Vec<(Arc<str>, usize)> = pattern.names().map(|(name, group)| (Arc::from(name), group)).collect();
        let complex = |prefix: &str| {
            let mut found: Vec<(&str, usize)> = pattern.names().filter(|(name, _)| name.starts_with(prefix)).collect();
            found.sort_unstable();
            let target = |(name, group): (&str, usize)| {
                let name = name.get(prefix.len()..).unwrap_or_default();
                let bare = name.trim_end_matches(|c: char| c.is_ascii_digit());
                let name = match bare.strip_suffix('_') {
                    Some(bare) if bare.len() + 1 < name.len() => bare,
                    _ => name,
                };
                (group, Arc::from(tags::group_name(name)))
            };
            found.into_iter().map(target).collect::<Vec<_>>()
        };
        let skips = (0..).map_while(|at| pattern.group(&format!("skiplines{at}")));
        Ok(Self {
            alternates: complex("alt_"),
            tuples: complex("tuple_"),
            skips: skips.collect(),
            names,
            pattern,
        })
    }

    pub(super) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Whether it can say whom a line is about.
    pub(super) fn says_whom(&self) -> bool {
        WHOM.iter().any(|name| self.pattern.group(name).is_some())
    }

    pub(super) fn search(&self, text: &str, scratch: &mut Scratch) -> Found {
        self.pattern.search(text, scratch)
    }

    /// What the groups have found in the text that was searched.
    pub(super) fn groups(&self, text: &str, scratch: &Scratch) -> Groups {
        let value = |group: usize| scratch.group(group).and_then(|(from, to)| text.get(from..to));
        let mut groups: Groups = Vec::with_capacity(self.names.len());
        for (name, group) in &self.names {
            if let Some(value) = value(*group) {
                groups.push((name.clone(), value.to_owned()));
            }
        }
        for (group, target) in &self.alternates {
            let value = value(*group).unwrap_or_default();
            if !value.is_empty() && get(&groups, target).is_none_or(str::is_empty) {
                set(&mut groups, target, value.to_owned());
            }
        }
        for (group, target) in &self.tuples {
            let value = value(*group).unwrap_or_default();
            let joined = match get(&groups, target) {
                Some(before) => format!("{before} {value}"),
                None => value.to_owned(),
            };
            set(&mut groups, target, joined);
        }
        groups
    }

    /// The lines that its `<SKIPLINES>` have passed over.
    pub(super) fn skipped<'t>(&self, text: &'t str, scratch: &Scratch) -> Vec<&'t str> {
        let groups = self.skips.iter().filter_map(|&group| scratch.group(group));
        let texts = groups.filter_map(|(from, to)| text.get(from..to));
        texts.flat_map(str::lines).collect()
    }
}

/// The value of a group.
pub(super) fn get<'g>(groups: &'g Groups, name: &str) -> Option<&'g str> {
    groups.iter().find(|(other, _)| **other == *name).map(|(_, value)| value.as_str())
}

/// Whether a group has found something.
pub(super) fn has(groups: &Groups, name: &str) -> bool {
    get(groups, name).is_some_and(|value| !value.is_empty())
}

/// Takes a group away; says whether it had found something.
pub(super) fn take(groups: &mut Groups, name: &str) -> bool {
    let Some(at) = groups.iter().position(|(other, _)| **other == *name) else {
        return false;
    };
    !groups.remove(at).1.is_empty()
}

/// Sets a group.
pub(super) fn set(groups: &mut Groups, name: &Arc<str>, value: String) {
    match groups.iter_mut().find(|(other, _)| other == name) {
        Some((_, place)) => *place = value,
        None => groups.push((name.clone(), value)),
    }
}
