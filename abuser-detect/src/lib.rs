//! From a line of a log to a finding: all that is known of logs and of what abuse looks like in
//! them.
//!
//! Everything here is pure. Lines and clocks are arguments, files are read elsewhere, and what is
//! found is returned: the daemon, `abuser test`, `abuser replay` and `abuser scan` run the same
//! code. Memory is bounded everywhere, because an attacker chooses what is in a log.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `record` | what a parser makes of a line: time, source, status and so on |
//! | `line` | bytes of a log as text that is bounded and valid |
//! | `field` | the fields of a record by their names |
//! | `words` | what somebody else wrote, as it may be told |
//! | `dns_name` | names that can be asked of the DNS |
//! | `time`, `source` | a moment of the wall clock; whom a record is about |
//! | `parse` | the parsers of access logs, JSON and regular expressions |
//! | `filter` | fail2ban's filters, unmodified |
//! | `condition` | `status == 401 and path ~ "^/api/"` |
//! | `scan` | counting records by a field |
//! | `detect` | the detectors |
//! | `pipeline` | from the lines of sources to what their detectors find |
//! | `evidence` | the lines that are shown with it |
//! | `import` | fail2ban's jails, nginx's limits and Snort's rules as our configuration |

#![forbid(unsafe_code)]

pub mod condition;
pub mod detect;
pub mod dns_name;
pub mod evidence;
pub mod field;
pub mod filter;
pub mod import;
pub mod line;
pub mod parse;
pub mod pipeline;
pub mod record;
pub mod scan;
pub mod source;
pub mod time;
mod words;
