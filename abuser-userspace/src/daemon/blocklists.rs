//! Following the block lists of the configuration: files that others write.
//!
//! A file is read again when it has changed and then stayed as it is for a moment, so that one
//! that is being written is not taken for short. It is asked for, not listened to: that holds for
//! files that are replaced, linked to, or lie on a network. What cannot be read changes nothing.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use abuser_common::{
    layout::{BanCause, MAX_BANS},
    prefix::PrefixKey,
};
use tokio::sync::{mpsc, watch};

use super::{
    clock,
    engine::{
        Command, MAX_REASON,
        lists::{Blocklist, Listed},
    },
};
use crate::{
    api::types::BlocklistStatus,
    config::{BlocklistConfig, Config},
    exchange::{self, BadLine, Entry, Expiry, Item},
    policy::{ends::in_order, is_wide},
    store::rows::BanNote,
    words::{beginning, counted},
};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Looks after which a file that keeps changing is read as it is.
const PATIENCE: u32 = 10;

/// From one attempt at a file that could not be read to the next.
const RETRY: Duration = Duration::from_secs(30);

/// Entries of a file at most, some of which may name the same source.
const MAX_ENTRIES: usize = 4 * MAX_BANS as usize;

/// Bad lines of a file that the log shows.
const SHOWN: usize = 5;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }

    /// When the file was written, to the second.
    fn written(&self) -> SystemTime {
        let since = Duration::from_secs(u64::try_from(self.modified.0).unwrap_or_default());
        UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
    }
}

/// One list, and what is known of its file.
struct Followed {
    config: BlocklistConfig,
    list: Blocklist,
    /// The state that was read, or could not be.
    read: Option<Stamp>,
    /// The state at the last look.
    seen: Option<Stamp>,
    /// Looks at which it was another one than before, one after the other.
    unsettled: u32,
    /// When that could not be read which there is.
    failed: Option<Instant>,
}

impl Followed {
    fn new(config: BlocklistConfig) -> Self {
        Self {
            list: Blocklist {
                status: BlocklistStatus {
                    name: config.name.clone(),
                    path: config.path.display().to_string(),
                    entries: None,
                    bad: 0,
                    read: None,
                    error: None,
                },
                entries: None,
            },
            config,
            read: None,
            seen: None,
            unsettled: 0,
            failed: None,
        }
    }

    /// Reads the file if there is something new in it; whether anything is to be told.
    async fn look(&mut self) -> bool {
        let path = self.config.path.clone();
        // A network may not answer, and enforcement does not wait for it.
        let stamp = tokio::task::spawn_blocking(move || Stamp::of(&path)).await;
        let stamp = match stamp.map_err(io::Error::other).flatten() {
            Ok(stamp) => stamp,
            Err(error) => {
                // Read again when it is back, even if it is as it was: then all is well.
                (self.read, self.seen) = (None, None);
                return self.fail(format!("cannot read it: {error}"));
            }
        };
        let retry = self.failed.is_some_and(|failed| failed.elapsed() >= RETRY);
        if self.read == Some(stamp) && !retry {
            return false;
        }
        let is_first = self.read.is_none() && self.list.status.error.is_none();
        let settled = self.seen == Some(stamp) || is_first;
        self.seen = Some(stamp);
        if !settled && self.unsettled < PATIENCE {
            self.unsettled += 1;
            return false;
        }
        self.unsettled = 0;
        let config = self.config.clone();
        let contents = tokio::task::spawn_blocking(move || read(&config, stamp)).await;
        self.read = Some(stamp);
        self.failed = None;
        let error = match contents {
            Ok(Ok(contents)) => {
                self.take(contents);
                return true;
            }
            Ok(Err(error)) => error,
            Err(error) => format!("cannot read it: {error}"),
        };
        self.failed = Some(Instant::now());
        self.fail(error)
    }

    fn take(&mut self, contents: Contents) {
        let Contents {
            entries,
            bad,
            shown,
        } = contents;
        let BlocklistConfig { name, path, .. } = &self.config;
        let path = path.display();
        for line in &shown {
            tracing::warn!("block list {name}: {path}, {line}; left out");
        }
        let more = bad.saturating_sub(shown.len() as u64);
        if more > 0 {
            let more = counted(more, "more line", "more lines");
            tracing::warn!("block list {name}: {path}: {more} left out");
        }
        let sources = counted(entries.len() as u64, "source", "sources");
        tracing::info!("block list {name}: {path} names {sources}");
        let status = &mut self.list.status;
        status.entries = Some(entries.len());
        status.bad = bad;
        status.read = Some(clock::now());
        status.error = None;
        self.list.entries = Some(entries);
    }

    /// Says once what is wrong; whether it is new.
    fn fail(&mut self, error: String) -> bool {
        if self.list.status.error.as_ref() == Some(&error) {
            return false;
        }
        tracing::error!(
            "block list {}: {}: {error}; its bans stay as they are",
            self.config.name,
            self.config.path.display()
        );
        self.list.status.error = Some(error);
        true
    }
}

/// Follows these lists, and others when the configuration says so, until the engine ends.
pub(super) async fn follow(
    mut configured: watch::Receiver<Arc<Config>>,
    commands: mpsc::Sender<Command>,
) {
    let mut followed: Vec<Followed> = Vec::new();
    // So that bans of lists that are not configured any more are lifted at the start.
    let mut changed = true;
    loop {
        let configs = configured.borrow_and_update().blocklists.clone();
        if followed.iter().map(|list| &list.config).ne(configs.iter()) {
            followed = renewed(followed, configs);
            changed = true;
        }
        for list in &mut followed {
            changed |= list.look().await;
        }
        if changed {
            let lists = followed.iter().map(|followed| followed.list.clone());
            let told = commands.send(Command::Blocklists(lists.collect()));
            if told.await.is_err() {
                return;
            }
            changed = false;
        }
        let waiting = async {
            if followed.is_empty() {
                std::future::pending::<()>().await;
            } else {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = waiting => {}
            more = configured.changed() => if more.is_err() {
                return;
            },
        }
    }
}

/// The lists of these configurations; what is known of one that is as it was is kept.
fn renewed(before: Vec<Followed>, configs: Vec<BlocklistConfig>) -> Vec<Followed> {
    let mut before: HashMap<_, _> = before
        .into_iter()
        .map(|list| (list.config.name.clone(), list))
        .collect();
    let lists = configs.into_iter().map(|config| {
        let known = before.remove(&config.name);
        let known = known.filter(|known| known.config == config);
        known.unwrap_or_else(|| Followed::new(config))
    });
    lists.collect()
}

/// What is in a file.
#[derive(Debug, Default)]
struct Contents {
    /// In the order of their keys, each once.
    entries: Arc<[Listed]>,
    /// Lines that were left out.
    bad: u64,
    /// The first of them.
    shown: Vec<BadLine>,
}

/// Reads a file in this state: what is to end in a while ends that long after it was written.
fn read(config: &BlocklistConfig, stamp: Stamp) -> Result<Contents, String> {
    let age = stamp.written().elapsed().unwrap_or_default();
    let mut contents = Contents::default();
    let mut entries = Vec::new();
    let mut notes: HashMap<Option<String>, Arc<BanNote>> = HashMap::new();
    let mut too_many = false;
    let mut sink = |item| match item {
        Item::Entry(entry) if is_wide(&entry.source) && !config.force => {
            let text = entry.source.to_string();
            let problem = "wider than IPv4 /16 or IPv6 /32, which takes force = true";
            contents.leave_out(BadLine::new(entry.number, &text, problem));
        }
        Item::Entry(entry) => match listed(config, entry, age, &mut notes) {
            Some(_) if entries.len() >= MAX_ENTRIES => too_many = true,
            Some(listed) => entries.push(listed),
            None => {}
        },
        Item::Bad(bad) => contents.leave_out(bad),
        Item::Expired => {}
    };
    let read = File::open(&config.path)
        .and_then(|file| exchange::read_any(config.format, file, Some(&config.path), &mut sink));
    read.map_err(|error| format!("cannot read it: {error}"))?;
    if let Some(first) = contents.shown.first().filter(|_| config.strict) {
        let bad = counted(contents.bad, "bad line", "bad lines");
        return Err(format!("{bad}, the first is {first}"));
    }
    // What a download that fails leaves is no list: a page that says so, or nothing at all.
    if entries.is_empty() {
        if let Some(first) = contents.shown.first() {
            let bad = counted(contents.bad, "bad line", "bad lines");
            return Err(format!(
                "it names nobody, and has {bad}, the first is {first}"
            ));
        }
        if stamp.size == 0 {
            return Err("it is empty; if it is meant to be, write a comment into it".to_owned());
        }
    }
    // Of two that name the same source, the one that lasts longer counts.
    entries.sort_by_key(|listed| (listed.source, !in_order(listed.expires_ns)));
    entries.dedup_by_key(|listed| listed.source);
    if too_many || entries.len() > MAX_BANS as usize {
        return Err(format!(
            "it names more than the {MAX_BANS} sources that can be banned"
        ));
    }
    contents.entries = entries.into();
    Ok(contents)
}

impl Contents {
    fn leave_out(&mut self, line: BadLine) {
        self.bad += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(line);
        }
    }
}

/// The entry of a list of this age as the engine has it; `None` if it is over.
fn listed(
    config: &BlocklistConfig,
    entry: Entry,
    age: Duration,
    notes: &mut HashMap<Option<String>, Arc<BanNote>>,
) -> Option<Listed> {
    let expires_ns = match entry.expires {
        Expiry::Unsaid | Expiry::Never => 0,
        Expiry::In(time) => {
            let left = time.checked_sub(age).filter(|left| !left.is_zero())?;
            clock::kernel_deadline(left)
        }
        Expiry::At(time) => clock::kernel_deadline(time.duration_since(SystemTime::now()).ok()?),
    };
    let reason = entry.reason;
    let reason = reason.map(|reason| beginning(&reason, MAX_REASON).to_owned());
    let note = notes.entry(reason).or_insert_with_key(|reason| {
        Arc::new(BanNote {
            cause: BanCause::Blocklist,
            subject: Some(config.name.clone()),
            policy: None,
            reason: reason.clone(),
            by: None,
        })
    });
    Some(Listed {
        source: PrefixKey::new(entry.source.addr(), entry.source.prefix_len())?,
        expires_ns,
        note: Arc::clone(note),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// A list whose file has this text.
    fn followed(text: &str) -> (TempDir, Followed) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spam");
        fs::write(&path, text).unwrap();
        let list = Followed::new(BlocklistConfig {
            name: "spam".to_owned(),
            path,
            format: None,
            strict: false,
            force: false,
        });
        (folder, list)
    }

    fn entries(list: &Followed) -> usize {
        list.list.entries.as_ref().unwrap().len()
    }

    #[tokio::test]
    async fn a_list_is_read_at_once_and_again_when_it_has_settled() {
        let (_folder, mut list) = followed("203.0.113.1\n");
        assert!(list.look().await);
        assert!(!list.look().await);
        fs::write(&list.config.path, "203.0.113.1\n203.0.113.2\n").unwrap();
        assert!(!list.look().await);
        assert_eq!(entries(&list), 1);
        assert!(list.look().await);
        assert_eq!(entries(&list), 2);
    }

    #[tokio::test]
    async fn a_file_that_never_settles_is_read_all_the_same() {
        let (_folder, mut list) = followed("203.0.113.1\n");
        assert!(list.look().await);
        let mut text = String::new();
        for looks in 1.. {
            text += "203.0.113.2\n203.0.113.3\n";
            fs::write(&list.config.path, &text).unwrap();
            if list.look().await {
                assert_eq!(looks, PATIENCE + 1);
                break;
            }
        }
        assert_eq!(entries(&list), 2);
    }

    #[tokio::test]
    async fn what_a_failed_download_leaves_is_no_list() {
        let (_folder, mut list) = followed("203.0.113.1\n");
        assert!(list.look().await);
        for text in ["", "<html>\n<body>404 Not Found</body>\n"] {
            fs::write(&list.config.path, text).unwrap();
            assert!(!list.look().await);
            assert!(list.look().await);
            assert!(list.list.status.error.is_some(), "{text:?}");
            assert_eq!(entries(&list), 1);
        }
        fs::write(&list.config.path, "# nobody now\n").unwrap();
        assert!(!list.look().await);
        assert!(list.look().await);
        assert_eq!((entries(&list), &list.list.status.error), (0, &None));
    }

    #[tokio::test]
    async fn what_could_not_be_read_is_tried_again() {
        let (_folder, mut list) = followed("203.0.113.1\n8.0.0.0/7\n");
        list.config.strict = true;
        assert!(list.look().await);
        assert!(list.list.status.error.is_some());
        // As when what stood in the way was not in the file.
        list.config.strict = false;
        assert!(!list.look().await);
        list.failed = Instant::now().checked_sub(RETRY);
        assert!(list.look().await);
        assert_eq!(entries(&list), 1);
        assert!(!list.look().await);
    }

    #[tokio::test]
    async fn what_ends_in_a_while_does_so_from_when_the_file_was_written() {
        let (_folder, mut list) = followed("source,duration\n203.0.113.1,1h\n203.0.113.2,3h\n");
        let file = File::options().write(true).open(&list.config.path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(2 * 3600))
            .unwrap();
        assert!(list.look().await);
        assert_eq!(entries(&list), 1);
        let listed = list.list.entries.unwrap()[0].clone();
        let hour = clock::kernel_deadline(Duration::from_secs(3600));
        assert!(listed.expires_ns.abs_diff(hour) < 10_000_000_000);
    }

    #[tokio::test]
    async fn a_file_that_was_away_is_told_as_well_again_once_it_has_settled() {
        let (folder, mut list) = followed("203.0.113.1\n");
        assert!(list.look().await);
        let away = folder.path().join("away");
        fs::rename(&list.config.path, &away).unwrap();
        assert!(list.look().await);
        assert!(list.list.status.error.is_some());
        assert!(!list.look().await);
        // As it was, to the nanosecond.
        fs::rename(&away, &list.config.path).unwrap();
        assert!(!list.look().await);
        assert!(list.look().await);
        assert_eq!(list.list.status.error, None);
        assert_eq!(entries(&list), 1);
    }

    #[tokio::test]
    async fn of_two_entries_for_a_source_the_one_that_lasts_longer_counts() {
        let (soon, late) = ("203.0.113.1,1h,soon\n", "203.0.113.1,permanent,late\n");
        for lines in [[soon, late], [late, soon]] {
            let text = format!("source,duration,reason\n{}", lines.concat());
            let (_folder, mut list) = followed(&text);
            assert!(list.look().await);
            assert_eq!(entries(&list), 1);
            let listed = list.list.entries.unwrap()[0].clone();
            assert_eq!(listed.expires_ns, 0);
            assert_eq!(listed.note.reason.as_deref(), Some("late"));
        }
    }

    #[tokio::test]
    async fn a_reason_is_no_longer_than_others_may_be() {
        let (_folder, mut list) = followed(&format!("203.0.113.1 # {}\n", "\u{20ac}".repeat(5000)));
        assert!(list.look().await);
        let reason = list.list.entries.unwrap()[0].note.reason.clone();
        assert_eq!(reason, Some("\u{20ac}".repeat(MAX_REASON / 3)));
    }
}
