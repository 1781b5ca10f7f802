//! A filter's expression with what the names of its groups mean.

use super::{
    groups::{self, Groups, Interner, Name},
    pattern::{Found, Pattern, Scratch},
    tags,
};

/// The groups that can say whom a line is about; one of them must be there.
const WHOM: [&str; 5] = ["fid", "ip4", "ip6", "dns", "mlfid"];

/// A prefregex, failregex or ignoreregex.
#[derive(Debug)]
pub(super) struct Expression {
    pattern: Pattern,
    names: Vec<(Name, usize)>,
    /// Groups that stand in for another that found nothing: `<F-ALT_USER>`.
    alternates: Vec<(usize, Name)>,
    /// Groups that are joined to another: `<F-TUPLE_ID>`.
    tuples: Vec<(usize, Name)>,
    skips: Vec<usize>,
}

impl Expression {
    /// Compiles an expression with tags. Names of hosts are hosts only if `names`; `lines` says that
    /// `^` and `$` are about lines.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(
        text: &str,
        names: bool,
        lines: bool,
        interner: &mut Interner,
    ) -> Result<Self, String> {
        let expanded = tags::expand(text, names)?;
        if let Some(tag) = tags::unknown(&expanded) {
            return Err(format!("nothing is known as `<{tag}>`"));
        }
        let pattern = Pattern::new(&expanded, lines, 0)?;
        let names = pattern
            .names()
            .map(|(name, group)| (interner.number(name), group))
            .collect();
        let mut complex = |prefix: &str| {
            let mut found: Vec<(&str, usize)> = pattern
                .names()
                .filter(|(name, _)| name.starts_with(prefix))
                .collect();
            found.sort_unstable();
            let target = |(name, group): (&str, usize)| {
                let name = name.get(prefix.len()..).unwrap_or_default();
                let bare = name.trim_end_matches(|c: char| c.is_ascii_digit());
                let name = match bare.strip_suffix('_') {
                    Some(bare) if bare.len() + 1 < name.len() => bare,
                    _ => name,
                };
                (group, interner.number(tags::group_name(name)))
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

    /// Adds what the groups have found in the text that was searched.
    pub(super) fn groups(&self, text: &str, scratch: &Scratch, groups: &mut Groups) {
        let value = |group: usize| {
            scratch
                .group(group)
                .and_then(|(from, to)| text.get(from..to))
        };
        for (name, group) in &self.names {
            // What is in the content is searched by itself.
            if let Some(value) = value(*group).filter(|_| *name != groups::CONTENT) {
                groups.set(*name, value);
            }
        }
        for (group, target) in &self.alternates {
            let value = value(*group).unwrap_or_default();
            if !value.is_empty() && !groups.has(*target) {
                groups.set(*target, value);
            }
        }
        for (group, target) in &self.tuples {
            let value = value(*group).unwrap_or_default();
            match groups.value(*target) {
                Some(before) => groups.set(*target, &format!("{before} {value}")),
                None => groups.set(*target, value),
            }
        }
    }

    /// The lines that its `<SKIPLINES>` have passed over.
    pub(super) fn skipped<'t>(&self, text: &'t str, scratch: &Scratch) -> Vec<&'t str> {
        let groups = self.skips.iter().filter_map(|&group| scratch.group(group));
        let texts = groups.filter_map(|(from, to)| text.get(from..to));
        texts.flat_map(str::lines).collect()
    }
}
