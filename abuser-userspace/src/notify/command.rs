//! Events as runs of a program: its values in the environment and on standard input.
//!
//! The program is run as it is, by no shell, with arguments that the configuration fixes: so
//! nothing that an attacker had written into a log is ever read as a command. It gets none of the
//! daemon's environment and none of its descriptors. One that takes too long is killed with all
//! that it started.

#![expect(unsafe_code, reason = "what a child does between fork and exec")]

use std::{process::Stdio, sync::Arc, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{ChildStderr, Command},
    sync::Mutex,
    task::JoinSet,
};

use super::{
    message::Message,
    queue::Batching,
    receiver::{Attempt, Receiver},
};
use crate::{config::CommandConfig, sandbox::children, words::plain};

/// Where a program finds others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest value in the environment, in bytes: the kernel takes sixteen times as much.
const MAX_VALUE: usize = 8 << 10;

/// How much of what it complains is kept, in bytes.
const MAX_TAIL: usize = 4 << 10;

/// How long its last words may take when it has ended; whoever it left behind may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs the program for each event, so many at once at most, until nothing more comes.
pub(super) async fn serve(receiver: &Arc<Receiver>, config: &CommandConfig) {
    let mut runs = JoinSet::new();
    loop {
        if runs.len() >= config.parallel {
            runs.join_next().await;
        }
        let Some(taken) = receiver.next(Batching::NONE).await else {
            break;
        };
        // Those that have ended meanwhile.
        while runs.try_join_next().is_some() {}
        let message = Message::new(&receiver.config.name, &taken.events, taken.lost);
        let receiver = Arc::clone(receiver);
        let config = config.clone();
        runs.spawn(async move {
            let attempt = run(&config, receiver.config.timeout, &message).await;
            match attempt.error {
                None => receiver.delivered(&taken),
                Some(error) => receiver.failed(&taken, &error),
            }
        });
    }
    while runs.join_next().await.is_some() {}
}

/// Runs the program once, within this time.
pub(super) async fn run(config: &CommandConfig, timeout: Duration, message: &Message) -> Attempt {
    let failed = |error| Attempt {
        error: Some(error),
        ..Attempt::default()
    };
    let (json, environment) = match told(message) {
        Ok(told) => told,
        Err(error) => return failed(error.to_string()),
    };
    let mut command = Command::new(&config.program);
    command
        .args(&config.arguments)
        .env_clear()
        .env("PATH", PATH)
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    // SAFETY: between fork and exec this makes system calls on numbers, and allocates nothing.
    unsafe { command.pre_exec(children::become_command) };
    let child = command.spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return failed(format!("cannot run it: {error}")),
    };
    let group = Group::of(&child);
    // Both end with the program, or are ended when this returns.
    let mut helpers = JoinSet::new();
    if let Some(mut stdin) = child.stdin.take() {
        helpers.spawn(async move {
            // A program that does not read it is content with its environment.
            let _closed = stdin.write_all(&json).await;
        });
    }
    let tail = Arc::new(Mutex::new(Vec::new()));
    if let Some(stderr) = child.stderr.take() {
        helpers.spawn(keep_tail(stderr, Arc::clone(&tail)));
    }
    let ended = tokio::time::timeout(timeout, child.wait()).await;
    let Ok(ended) = ended else {
        drop(group);
        // It is dead, and this clears it away.
        let _status = child.wait().await;
        let said = last_line(&tail.lock().await);
        let error = format!(
            "it had not ended after {timeout:?} and was killed{}",
            shown(said.as_deref())
        );
        return Attempt {
            answer: said,
            ..failed(error)
        };
    };
    group.leave();
    let all_said = async { while helpers.join_next().await.is_some() {} };
    let _more = tokio::time::timeout(LAST_WORDS, all_said).await;
    let answer = last_line(&tail.lock().await);
    let (status, error) = match ended {
        Ok(status) if status.success() => (status.code(), None),
        Ok(status) => {
            let error = format!("it ended with {status}{}", shown(answer.as_deref()));
            (status.code(), Some(error))
        }
        Err(error) => (None, Some(format!("cannot wait for it: {error}"))),
    };
    Attempt {
        status,
        answer,
        error,
    }
}

/// A program and all that it started, which are killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.map(Pid::from_raw))
    }

    /// The program has ended: what it left behind it meant to, and its number may be another's.
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // If there is none any more, that is as well.
            let _gone = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Names and values.
type Environment = Vec<(String, String)>;

/// A message with one event as what a program reads, and as its environment: each key of the message
/// and of the event, in capitals, after `ABUSER_`.
fn told(message: &Message) -> serde_json::Result<(Vec<u8>, Environment)> {
    let mut json = serde_json::to_vec(message)?;
    json.push(b'\n');
    let message = serde_json::to_value(message)?;
    let event = message.pointer("/events/0");
    let objects = [Some(&message), event].into_iter().flatten();
    let pairs = objects.filter_map(Value::as_object).flatten();
    // Of what both have, such as the time, the event's is the later one, and so holds.
    let environment = pairs.filter_map(|(key, value)| {
        let text = match value {
            Value::Null => String::new(),
            Value::String(text) => value_of(text),
            Value::Array(_) | Value::Object(_) => return None,
            other => other.to_string(),
        };
        Some((format!("ABUSER_{}", key.to_uppercase()), text))
    });
    let environment = environment.collect();
    Ok((json, environment))
}

/// A text as an environment can hold it: without zero bytes, and not too long.
fn value_of(text: &str) -> String {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = ends.take_while(|end| *end <= MAX_VALUE).last();
    let start = text.get(..end.unwrap_or_default());
    start.unwrap_or_default().replace('\0', "\u{fffd}")
}

async fn keep_tail(mut stderr: ChildStderr, tail: Arc<Mutex<Vec<u8>>>) {
    let mut piece = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut piece).await {
        let mut tail = tail.lock().await;
        tail.extend(piece.iter().take(count));
        let excess = tail.len().saturating_sub(MAX_TAIL);
        tail.drain(..excess);
    }
}

/// The last line that says something, such as it can be shown.
fn last_line(tail: &[u8]) -> Option<String> {
    /// In characters.
    const SHOWN: usize = 300;
    let text = String::from_utf8_lossy(tail);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let line: String = line.chars().take(SHOWN).collect();
    Some(plain(&line).into_owned())
}

fn shown(said: Option<&str>) -> String {
    said.map_or_else(String::new, |said| format!(": {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::types::EventKind, notify::message::sample};

    fn message(reason: &str) -> Message {
        let event = crate::api::types::EventRecord {
            reason: Some(reason.to_owned()),
            ..sample(EventKind::Ban)
        };
        Message::new("hook", &[Arc::new(event)], 3)
    }

    fn shell(script: &str) -> CommandConfig {
        CommandConfig {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            parallel: 1,
        }
    }

    async fn run_shell(script: &str, seconds: u64) -> Attempt {
        let timeout = Duration::from_secs(seconds);
        run(&shell(script), timeout, &message("why")).await
    }

    #[test]
    fn each_key_is_in_the_environment_and_nothing_of_it_can_break_it() {
        let hostile = "a\0b\n$(id) `id` \"'\u{7f}";
        let (json, environment) = told(&message(hostile)).unwrap();
        let value = |key: &str| {
            let mut of_key = environment.iter().filter(|(known, _)| known == key);
            of_key.next_back().map(|(_, value)| value.as_str())
        };
        assert_eq!(
            value("ABUSER_REASON"),
            Some("a\u{fffd}b\n$(id) `id` \"'\u{7f}")
        );
        assert_eq!(value("ABUSER_KIND"), Some("ban"));
        assert_eq!(value("ABUSER_SOURCE"), Some("192.0.2.7/32"));
        assert_eq!(value("ABUSER_BAN"), Some("1"));
        assert_eq!(value("ABUSER_POLICY"), Some(""));
        assert_eq!(value("ABUSER_LOST"), Some("3"));
        assert_eq!(value("ABUSER_NOTIFIER"), Some("hook"));
        assert_eq!(value("ABUSER_EVENTS"), None);
        assert!(environment.iter().all(|(_, value)| !value.contains('\0')));
        let read: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(read["events"][0]["reason"], hostile);
        let long = value_of(&"\u{20ac}".repeat(MAX_VALUE));
        assert!((MAX_VALUE - 3..=MAX_VALUE).contains(&long.len()));
    }

    #[tokio::test]
    async fn a_program_that_fails_is_told_with_its_last_words() {
        let attempt = run_shell("echo first >&2; echo 'no \u{1b}route' >&2; exit 3", 60).await;
        assert_eq!(attempt.status, Some(3));
        let error = attempt.error.unwrap();
        assert!(error.contains("exit status: 3: no \\u{1b}route"), "{error}");
        let attempt = run_shell("kill -9 $$", 60).await;
        assert!(attempt.error.unwrap().contains("signal: 9"));
        let config = CommandConfig {
            program: "/nowhere/hook".into(),
            ..shell("")
        };
        let attempt = run(&config, Duration::from_secs(60), &message("")).await;
        assert!(attempt.error.unwrap().starts_with("cannot run it: No such"));
    }

    #[tokio::test]
    async fn whoever_is_left_behind_holds_nobody_up() {
        let began = std::time::Instant::now();
        let attempt = run_shell("sleep 40 & echo fine >&2", 60).await;
        assert_eq!(attempt.error, None);
        assert_eq!(attempt.answer.as_deref(), Some("fine"));
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
