//! Who is notified of events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One `[[notify]]`, and what became of its events since the daemon has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotifierStatus {
    /// Its name.
    pub name: String,
    /// `webhook` or `command`.
    pub kind: String,
    /// The server's name, or the command's path.
    pub target: String,
    /// Events that were delivered.
    pub sent: u64,
    /// Events that could not be delivered: refused, given up, or the command failed.
    pub failed: u64,
    /// Attempts that failed and were made again.
    pub retried: u64,
    /// Events for which there was no room.
    pub dropped: u64,
    /// Events that wait, or are being delivered.
    pub pending: u64,
    /// What is wrong now; `null` if the last attempt was fine.
    pub error: Option<String>,
    /// When an attempt last failed.
    #[schema(format = DateTime)]
    pub last_failure: Option<String>,
    /// When one was last fine.
    #[schema(format = DateTime)]
    pub last_success: Option<String>,
}

/// Asks to try a `[[notify]]` with a sample event.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyTestRequest {
    /// Its name.
    pub name: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NotifyTest {
    /// The name of the `[[notify]]`.
    pub name: String,
    /// `webhook` or `command`.
    pub kind: String,
    /// The server's name, or the command's path.
    pub target: String,
    /// Whether the event was delivered.
    pub delivered: bool,
    /// The status of the answer, or the command's exit status; `null` if there is none.
    pub status: Option<i32>,
    /// The beginning of the answer, or of what the command wrote to standard error.
    pub answer: Option<String>,
    /// Why it was not delivered.
    pub error: Option<String>,
    /// How long it took.
    pub milliseconds: u64,
}
