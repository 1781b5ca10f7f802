//! What `rustc -vV` says, as values that compare.

use std::fmt;

use anyhow::{Context as _, Result};

/// A release number; orders by major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Release {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) patch: u32,
}

impl Release {
    /// Reads `1.96.0`, `1.97.0-nightly`, `22.1.8` or `1.90`; `6.18.5-cloud` too.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let numbers = text.split(['-', '+', ' ']).next()?;
        let mut parts = numbers.split('.').map(str::parse);
        Some(Self {
            major: parts.next()?.ok()?,
            minor: parts.next().unwrap_or(Ok(0)).ok()?,
            patch: parts.next().unwrap_or(Ok(0)).ok()?,
        })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            major,
            minor,
            patch,
        } = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// The answer of `rustc -vV`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RustcVersion {
    /// The first line: `rustc 1.96.0 (ac68faa20 2026-05-25)` and what a distributor adds.
    pub(crate) line: String,
    pub(crate) release: Release,
    pub(crate) commit_hash: String,
    /// `2026-05-25`: orders as text.
    pub(crate) commit_date: String,
    pub(crate) host: String,
    /// The LLVM that the compiler carries. The linker must be built on the same major.
    pub(crate) llvm: Release,
}

impl RustcVersion {
    pub(crate) fn parse(verbose: &str) -> Result<Self> {
        let field = |name: &str| {
            verbose
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .with_context(|| format!("`rustc -vV` printed no `{name}:` line in:\n{verbose}"))
        };
        let release = |name: &str| {
            let text = field(name)?;
            Release::parse(text)
                .with_context(|| format!("`rustc -vV` printed `{name}: {text}`: not a version"))
        };
        Ok(Self {
            line: verbose.lines().next().unwrap_or_default().to_owned(),
            release: release("release")?,
            commit_hash: field("commit-hash")?.to_owned(),
            commit_date: field("commit-date")?.to_owned(),
            host: field("host")?.to_owned(),
            llvm: release("LLVM version")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)
binary: rustc
commit-hash: ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96
commit-date: 2026-05-25
host: x86_64-unknown-linux-gnu
release: 1.96.0
LLVM version: 22.1.8
";

    fn release(text: &str) -> Release {
        Release::parse(text).unwrap_or_else(|| panic!("{text} is a release"))
    }

    #[test]
    fn a_verbose_version_gives_the_release_the_commit_and_the_llvm_major() {
        let version = RustcVersion::parse(DEBIAN).expect("this is what rustc prints");
        assert_eq!(version.release, release("1.96.0"));
        assert_eq!(
            version.commit_hash,
            "ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96"
        );
        assert_eq!(version.commit_date, "2026-05-25");
        assert_eq!(version.host, "x86_64-unknown-linux-gnu");
        assert_eq!(version.llvm.major, 22);
        assert!(version.line.ends_with("(built from a source tarball)"));
    }

    #[test]
    fn a_missing_line_is_named_in_the_error() {
        let error = RustcVersion::parse("rustc 1.96.0\nrelease: 1.96.0\n").unwrap_err();
        assert!(error.to_string().contains("`commit-hash:`"), "{error}");
    }

    #[test]
    fn releases_compare_as_numbers_and_not_as_text() {
        assert!(release("1.100.0") > release("1.99.3"));
        assert!(release("1.97.0-nightly") > release("1.96.0"));
        assert_eq!(release("1.90"), release("1.90.0"));
        assert_eq!(release("6.18.5-cloud-amd64").to_string(), "6.18.5");
    }

    #[test]
    fn text_that_is_no_release_is_refused() {
        assert_eq!(Release::parse("nightly"), None);
        assert_eq!(Release::parse(""), None);
    }
}
