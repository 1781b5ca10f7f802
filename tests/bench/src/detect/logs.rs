//! Logs as servers write them, the same in every run.

use std::{
    fmt::Write as _,
    net::Ipv4Addr,
    time::{SystemTime, UNIX_EPOCH},
};

use abuser_detect::time::Time;
use fastrand::Rng;
use testkit::api_traffic::Request;

/// When these logs end. Whoever reads them is told that it is this time.
const END_MS: u64 = 1_795_655_448_000;
/// Sources in an access log.
const SOURCES: u32 = 20_000;
/// Of them so many try passwords.
const GUESSERS: u32 = 20;
/// Lines in a second of an access log.
const PER_SECOND: u64 = 1000;
/// Lines in a second of sshd's log.
const SSHD_PER_SECOND: u64 = 50;

/// What browsers and programs call themselves.
const USER_AGENTS: &[&str] = &[
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "okhttp/4.12.0",
    "python-requests/2.32.3",
    "curl/8.8.0",
];
/// What is asked for, before a number.
const PATHS: &[&str] = &[
    "/",
    "/api/v1/items/",
    "/api/v1/users/",
    "/search?q=garden+chair&page=",
    "/assets/app.js?v=",
    "/images/products/",
];
/// Answers: most are no failures.
const STATUSES: &[u16] = &[
    200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 201, 204, 301, 304, 304, 404, 401,
    403,
];

/// A log.
#[derive(Debug)]
pub(super) struct Log {
    /// Its lines.
    pub(super) text: String,
    /// When the last of them was written.
    pub(super) end: Time,
    /// Failures in it; 0 where that is for whoever reads it to say.
    pub(super) failures: u64,
}

/// An access log of nginx in its format `combined`: 20,000 sources, of which a few try passwords.
pub(super) fn access(lines: usize) -> Log {
    access_until(lines, END_MS)
}

/// The same, of which the last line was written just now.
pub(super) fn access_until_now(lines: usize) -> Log {
    access_until(lines, now_ms())
}

/// Now, in milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn access_until(lines: usize, end_ms: u64) -> Log {
    let mut random = Rng::with_seed(5);
    let mut text = String::with_capacity(220 * lines);
    let mut failures = 0;
    let begin_ms = end_ms - lines as u64 * 1000 / PER_SECOND;
    for (at_ms, _) in (begin_ms..)
        .step_by((1000 / PER_SECOND) as usize)
        .zip(0..lines)
    {
        let guesses = random.u32(..20) == 0;
        let source = if guesses {
            random.u32(..GUESSERS)
        } else {
            random.u32(GUESSERS..SOURCES)
        };
        let status = if guesses {
            401
        } else {
            pick(STATUSES, &mut random)
        };
        failures += u64::from(matches!(status, 401 | 403 | 429));
        let line = Request {
            at_ms,
            // All over the unicast space.
            source: Ipv4Addr::from(0x0100_0000 + source * 177_013),
            key: None,
            path: format!("{}{}", pick(PATHS, &mut random), random.u32(..100_000)),
            status,
            user_agent: pick(USER_AGENTS, &mut random),
            abuse: guesses,
        };
        let _infallible = writeln!(text, "{}", line.nginx_combined());
    }
    Log {
        text,
        end: Time(end_ms),
        failures,
    }
}

/// sshd's log as rsyslog writes it: seven lines of ten are of those who fail, in the ways they do; the
/// others are of people who get in, and of the system.
pub(super) fn sshd(lines: usize) -> Log {
    let mut random = Rng::with_seed(5);
    let mut text = String::with_capacity(120 * lines);
    let mut pid = 1000;
    for number in 0..lines as u64 {
        pid += 1;
        let begin_ms = END_MS - lines as u64 * 1000 / SSHD_PER_SECOND;
        let time = syslog_time(begin_ms + number * 1000 / SSHD_PER_SECOND);
        let source = Ipv4Addr::from(0x0100_0000 + random.u32(..2000) * 1_770_137);
        let port = random.u16(1024..);
        let user = pick(
            &["root", "admin", "oracle", "git", "ubuntu", "postgres"],
            &mut random,
        );
        let message = match random.u32(..20) {
            0..5 => format!("Failed password for {user} from {source} port {port} ssh2"),
            5..9 => {
                format!("Failed password for invalid user {user} from {source} port {port} ssh2")
            }
            9..12 => format!("Invalid user {user} from {source} port {port}"),
            12 => format!("User {user} from {source} not allowed because not listed in AllowUsers"),
            13 => format!(
                "error: maximum authentication attempts exceeded for {user} from {source} port {port} ssh2 [preauth]"
            ),
            14 => format!("Connection closed by {source} port {port} [preauth]"),
            15 => format!("Received disconnect from {source} port {port}:11: Bye Bye [preauth]"),
            16 => format!(
                "Accepted publickey for {user} from {source} port {port} ssh2: ED25519 SHA256:Gq3mYqTn8Zb0"
            ),
            17 => format!(
                "pam_unix(sshd:session): session opened for user {user}(uid=1000) by (uid=0)"
            ),
            18 => format!("Server listening on 0.0.0.0 port {}.", 22),
            _ => format!("pam_unix(sshd:session): session closed for user {user}"),
        };
        let _infallible = writeln!(text, "{time} host sshd[{pid}]: {message}");
    }
    Log {
        text,
        end: Time(END_MS),
        failures: 0,
    }
}

/// `Nov 26 01:10:48`, of a day in November or later in its month than the ninth.
fn syslog_time(at_ms: u64) -> String {
    // 26/Nov/2026:01:10:48 +0000
    let combined = nginx_time(at_ms);
    let (date, time) = combined.split_once(':').unwrap_or_default();
    let mut parts = date.split('/');
    let (day, month) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let time = time.get(..8).unwrap_or_default();
    format!("{month} {day} {time}")
}

/// The time in a line of nginx.
pub(super) fn nginx_time(at_ms: u64) -> String {
    let line = Request {
        at_ms,
        source: Ipv4Addr::LOCALHOST,
        key: None,
        path: "/".to_owned(),
        status: 200,
        user_agent: "-",
        abuse: false,
    };
    let line = line.nginx_combined();
    let time = line.split(['[', ']']).nth(1);
    time.unwrap_or_default().to_owned()
}

fn pick<T: Copy>(from: &[T], random: &mut Rng) -> T {
    from[random.usize(..from.len())]
}
