//! What a source is, and which ones cannot be.

use std::{
    collections::HashSet,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// A source of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Its name, by which its positions are kept.
    pub name: String,
    /// Where it is.
    pub kind: Kind,
    /// Where to begin with what was never read.
    pub begin: Begin,
}

/// Where lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Files: absolute paths, which may have `*`, `?`, `[a-z]` and `**`.
    Files(Vec<String>),
    /// The journal of systemd.
    Journal(JournalConfig),
    /// Syslog messages, one a datagram.
    Syslog(SyslogConfig),
    /// Standard input, until it ends.
    Stdin,
}

/// Which entries of which journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalConfig {
    /// Matches as `journalctl` takes them: `_SYSTEMD_UNIT=ssh.service`, and `+` for "or". None: all.
    pub matches: Vec<String>,
    /// The folder with the journal's files, if it is not this host's own.
    pub directory: Option<PathBuf>,
}

/// Where to take messages of syslog from, and from whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogConfig {
    /// Where.
    pub listen: Listen,
    /// The group that may write to a unix socket besides root; without it
    /// [`Api::DEFAULT_GROUP`](crate::config::Api::DEFAULT_GROUP) if there is one.
    ///
    /// Whoever may write can have anybody banned, so it is not open to all. Nor should those who
    /// write be in the group that may talk to the daemon: it may do more.
    pub group: Option<String>,
}

/// Where to listen for datagrams.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// A unix socket, which is made.
    Unix(PathBuf),
    /// An address of the loopback interface, over UDP.
    Udp(SocketAddr),
}

/// Where to begin with what was never read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// With what is written from now on.
    #[default]
    End,
    /// With the first line there is.
    Start,
}

/// What cannot be a source.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Two have one name.
    #[error("two sources are called {0:?}; positions are kept by name, so give one another name")]
    SameName(String),
    /// It names no file.
    #[error("source {0:?} names no files; give it paths, like \"/var/log/nginx/access.log\"")]
    NoFiles(String),
    /// A path depends on where the daemon was started.
    #[error(
        "{0:?} does not begin with /; the daemon may start in any folder, so write the whole path"
    )]
    Relative(String),
    /// A pattern that cannot be read.
    #[error(
        "{pattern:?} is no pattern of paths: {error}; write a character that is meant as it is in brackets, like [*]"
    )]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        error: String,
    },
    /// A match that `journalctl` would take for something else.
    #[error(
        "{0:?} is no match for the journal; write FIELD=value, like \"_SYSTEMD_UNIT=ssh.service\", or + between alternatives"
    )]
    Match(String),
    /// Neither a path nor an address.
    #[error(
        "{0:?} is neither an absolute path nor an address; write \"/run/abuser/log.sock\" or \"127.0.0.1:5514\""
    )]
    Listen(String),
    /// Anybody may send there.
    #[error(
        "{0} is no address of this host alone: over UDP anybody who reaches it can write lines in the name of \
         others, and so have them banned; listen at 127.0.0.1 or [::1] and have a syslog daemon that \
         knows its senders forward to it"
    )]
    NotLoopback(SocketAddr),
    /// The path of a socket is bounded.
    #[error("{} is longer than the 107 bytes a socket's path can have; choose a shorter one", .0.display())]
    TooLong(PathBuf),
    /// Two listen at one address.
    #[error("two sources listen at {0}; only one can")]
    SameListen(Listen),
    /// Two read standard input.
    #[error("two sources read standard input; each line would go to one of them only")]
    SameStdin,
}

impl Listen {
    /// Reads `/run/abuser/log.sock` or `127.0.0.1:5514`.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let listen = if text.starts_with('/') {
            Self::Unix(PathBuf::from(text))
        } else {
            let address = text.parse();
            Self::Udp(address.map_err(|_| SourceError::Listen(text.to_owned()))?)
        };
        listen.check()?;
        Ok(listen)
    }

    fn check(&self) -> Result<(), SourceError> {
        match self {
            Self::Unix(path) if crate::api::is_too_long(path) => {
                Err(SourceError::TooLong(path.clone()))
            }
            Self::Unix(path) if !path.is_absolute() => {
                Err(SourceError::Listen(path.display().to_string()))
            }
            Self::Udp(address) if !address.ip().to_canonical().is_loopback() => {
                Err(SourceError::NotLoopback(*address))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Udp(address) => write!(f, "{address} (UDP)"),
        }
    }
}

impl SourceConfig {
    /// Whether it can be one.
    pub fn check(&self) -> Result<(), SourceError> {
        match &self.kind {
            Kind::Files(patterns) if patterns.is_empty() => {
                Err(SourceError::NoFiles(self.name.clone()))
            }
            Kind::Files(patterns) => patterns
                .iter()
                .try_for_each(|pattern| check_pattern(pattern)),
            Kind::Journal(journal) => journal.matches.iter().try_for_each(|text| {
                let field = text.split_once('=').map_or("", |(field, _)| field);
                let named =
                    |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
                let is_match = !field.is_empty() && field.bytes().all(named);
                (is_match || text == "+")
                    .then_some(())
                    .ok_or_else(|| SourceError::Match(text.clone()))
            }),
            Kind::Syslog(syslog) => syslog.listen.check(),
            Kind::Stdin => Ok(()),
        }
    }
}

impl SourceConfig {
    /// Whether a file is one of its logs by its path: as its patterns have it, or as one of those is
    /// called after its rotation, `access.log.2.gz` or `access.log-20260115`.
    pub fn covers(&self, path: &Path) -> bool {
        let Kind::Files(patterns) = &self.kind else {
            return false;
        };
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let text = path.to_string_lossy();
        let unpacked = text.strip_suffix(".gz").unwrap_or(&text);
        let number = unpacked.trim_end_matches(|c: char| c.is_ascii_digit());
        let first = number.strip_suffix(['.', '-']).unwrap_or(unpacked);
        let patterns = patterns
            .iter()
            .filter_map(|text| glob::Pattern::new(text).ok());
        let names = [&*text, unpacked, first];
        patterns
            .into_iter()
            .any(|pattern| names.iter().any(|name| pattern.matches_with(name, options)))
    }
}

fn check_pattern(pattern: &str) -> Result<(), SourceError> {
    if !pattern.starts_with('/') {
        return Err(SourceError::Relative(pattern.to_owned()));
    }
    match glob::Pattern::new(pattern) {
        Ok(_) => Ok(()),
        Err(error) => Err(SourceError::Pattern {
            pattern: pattern.to_owned(),
            error: error.to_string(),
        }),
    }
}

/// Whether these can be sources together.
pub fn check<'s>(sources: impl IntoIterator<Item = &'s SourceConfig>) -> Result<(), SourceError> {
    let mut names = HashSet::new();
    let mut listens = HashSet::new();
    let mut has_stdin = false;
    for source in sources {
        source.check()?;
        if !names.insert(source.name.as_str()) {
            return Err(SourceError::SameName(source.name.clone()));
        }
        match &source.kind {
            Kind::Syslog(syslog) if !listens.insert(&syslog.listen) => {
                return Err(SourceError::SameListen(syslog.listen.clone()));
            }
            Kind::Stdin if std::mem::replace(&mut has_stdin, true) => {
                return Err(SourceError::SameStdin);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, kind: Kind) -> SourceConfig {
        SourceConfig {
            name: name.to_owned(),
            kind,
            begin: Begin::End,
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_and_the_error_says_what_to_do() {
        let files = |patterns: &[&str]| {
            let patterns = patterns.iter().map(|&pattern| pattern.to_owned());
            source("web", Kind::Files(patterns.collect()))
        };
        let journal = |text: &str| {
            source(
                "web",
                Kind::Journal(JournalConfig {
                    matches: vec![text.to_owned()],
                    directory: None,
                }),
            )
        };
        assert_eq!(
            files(&["/var/log/*/access.log", "/a/**/b.log"]).check(),
            Ok(())
        );
        assert!(matches!(files(&[]).check(), Err(SourceError::NoFiles(_))));
        assert!(matches!(
            files(&["/a", "b"]).check(),
            Err(SourceError::Relative(_))
        ));
        assert!(matches!(
            files(&["/a[", "/b"]).check(),
            Err(SourceError::Pattern { .. })
        ));
        assert_eq!(journal("_SYSTEMD_UNIT=ssh.service").check(), Ok(()));
        assert_eq!(journal("+").check(), Ok(()));
        // `journalctl` takes a path for the entries of that program, and a dash for an option.
        for text in ["ssh", "/usr/sbin/sshd", "--output=cat", "=x", "a=b"] {
            assert!(
                matches!(journal(text).check(), Err(SourceError::Match(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_source_knows_its_files_also_after_their_rotation() {
        let files = ["/var/log/nginx/*access.log", "/srv/log"].map(str::to_owned);
        let web = source("web", Kind::Files(files.to_vec()));
        for path in [
            "/var/log/nginx/access.log",
            "/var/log/nginx/api.access.log",
            "/var/log/nginx/access.log.1",
            "/var/log/nginx/access.log.12.gz",
            "/var/log/nginx/access.log-20260115",
            "/var/log/nginx/access.log-20260115.gz",
            "/srv/log",
        ] {
            assert!(web.covers(Path::new(path)), "{path}");
        }
        for path in [
            "/var/log/nginx/error.log",
            "/var/log/nginx/old/access.log",
            "/var/log/nginx/access.log.x",
            "/srv/logs",
        ] {
            assert!(!web.covers(Path::new(path)), "{path}");
        }
        assert!(!source("stdin", Kind::Stdin).covers(Path::new("/srv/log")));
    }

    #[test]
    fn only_this_host_may_send_over_udp() {
        for text in [
            "127.0.0.1:5514",
            "[::1]:5514",
            "[::ffff:127.0.0.1]:5514",
            "/run/log.sock",
        ] {
            assert!(Listen::parse(text).is_ok(), "{text}");
        }
        for text in ["0.0.0.0:514", "[::]:514", "192.0.2.1:514"] {
            let error = Listen::parse(text).unwrap_err();
            assert!(matches!(error, SourceError::NotLoopback(_)), "{text}");
        }
        for text in ["log.sock", "127.0.0.1", "localhost:514", ""] {
            let error = Listen::parse(text).unwrap_err();
            assert!(matches!(error, SourceError::Listen(_)), "{text}");
        }
        let long = format!("/{}", "x".repeat(107));
        assert!(matches!(Listen::parse(&long), Err(SourceError::TooLong(_))));
    }

    #[test]
    fn sources_do_not_share_what_only_one_can_have() {
        let listen = Kind::Syslog(SyslogConfig {
            listen: Listen::Udp("127.0.0.1:5514".parse().unwrap()),
            group: None,
        });
        let pairs = |one: &Kind, other: &Kind| {
            check(&[source("a", one.clone()), source("b", other.clone())])
        };
        assert_eq!(pairs(&listen, &Kind::Stdin), Ok(()));
        assert!(matches!(
            pairs(&listen, &listen),
            Err(SourceError::SameListen(_))
        ));
        assert_eq!(
            pairs(&Kind::Stdin, &Kind::Stdin),
            Err(SourceError::SameStdin)
        );
        let same = check(&[source("a", Kind::Stdin), source("a", listen)]);
        assert_eq!(same, Err(SourceError::SameName("a".to_owned())));
    }
}
