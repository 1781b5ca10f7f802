//! The thread that reads logs.
//!
//! Parsing a million lines a second must not hold up bans, so it has a thread, and a runtime, of its
//! own. What it finds goes to the engine as a command; while the engine has no time for it the
//! thread waits, and the logs with it.
