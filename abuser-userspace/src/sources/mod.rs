//! Lines from where applications write them: files, the journal, syslog and standard input.
//!
//! One thread reads all sources and hands each line to one [`Sink`], so whoever looks for abuse
//! needs no locks, and nothing of it runs where bans are made. The thread sleeps until there is
//! something to read. Then each source has its turn, of a bounded number of bytes, so a busy one
//! holds up no other. What the sink does not keep up with waits where it is: in a file, in a pipe.
//! Datagrams cannot wait for long; what the kernel drops of them is counted. Nothing here grows
//! with what is written.
//!
//! Positions are kept. A file is known again by its inode and its first bytes, whatever it is
//! called by then; so after a clean stop each line is read once, even if logs were rotated
//! meanwhile. After a crash what was read in the last second is read again, never less.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`config`] | what a source is, and which ones cannot be |
//! | [`status`] | what is known of each |
//! | `handle` | the thread as others see it |
//! | `reader` | the thread |
//! | `files` | files, through every kind of rotation |
//! | `journal` | the journal, through `journalctl` |
//! | `syslog` | datagrams |
//! | `stream` | standard input |
//! | `lines` | from pieces to lines |
//! | `watches` | what the kernel tells of files and folders |

pub mod config;
mod files;
mod handle;
mod journal;
pub mod lines;
mod reader;
pub mod status;
mod stream;
mod syslog;
#[cfg(test)]
mod tests;
mod watches;

use abuser_detect::time::Time;

pub use self::{
    config::{Begin, JournalConfig, Kind, Listen, SourceConfig, SourceError, SyslogConfig},
    handle::{Handle, Keep},
    journal::Entry,
    status::{FileStatus, SourceStatus},
    syslog::Message,
};

/// The longest line, in bytes. What is longer is cut there, and counted.
///
/// It is one more than is looked at, so that a line that was cut is known to be
/// ([`CUT`](abuser_detect::line::CUT)): else whoever chooses where it is cut chooses how it ends.
pub const MAX_LINE: usize = abuser_detect::line::MAX + 1;

/// What a source may hand on in one turn, in bytes.
const BUDGET: usize = 256 * 1024;

/// Takes the lines of all sources, on the thread that reads. While it works nothing is read.
pub trait Sink: Send + 'static {
    /// Takes a line of the source that is the `source`th of those configured.
    fn line(&mut self, source: usize, line: Line<'_>);

    /// Every source has had its turn, so there is time for what was put off. Called after each
    /// round in which there was a line, and each second when there is none.
    fn idle(&mut self);
}

/// A line as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'l> {
    /// What it says, without its end; [`MAX_LINE`] bytes at most. It need not be text.
    ///
    /// A message of the journal or of syslog is as fail2ban sees one, which is as syslogd writes it, less
    /// the time: `host program[pid]: message`. A line break in it is `\n`, spelt out, so that no
    /// message makes two lines.
    pub bytes: &'l [u8],
    /// When it was read.
    pub arrived: Time,
    /// When it was written, where that is known apart from the line: of the journal and syslog.
    pub stated: Option<Time>,
    /// The program that wrote it, where that is known apart from the line.
    pub program: Option<&'l str>,
}
