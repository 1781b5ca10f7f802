//! The daemon is killed at any moment, and nothing that it acknowledged is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::Duration,
};

use testkit::{Daemon, require_root};

use crate::support::{PATIENCE, banned_in_kernel, daemon_on_lo, parse};

/// How many times the daemon is killed.
const KILLS: usize = 200;

/// Sources that are banned and unbanned, few enough that each is hit again and again.
const SOURCES: u8 = 40;

/// One call: a source, and whether it is to be banned or not.
type Call = (u8, bool);

/// What is known of the sources: all that was acknowledged, and a call that was not.
#[derive(Default)]
struct Known {
    banned: BTreeMap<u8, bool>,
    under_way: Option<Call>,
}

impl Known {
    /// Asserts that `found` is what it should be; a call that was not acknowledged may have
    /// taken effect or not.
    #[track_caller]
    fn check(&self, found: &BTreeSet<u8>, what: &str) {
        for source in 0..SOURCES {
            if matches!(self.under_way, Some((open, _)) if open == source) {
                continue;
            }
            let expected = self.banned.get(&source).copied().unwrap_or_default();
            assert_eq!(
                found.contains(&source),
                expected,
                "{what}: source {source}; under way: {:?}",
                self.under_way
            );
        }
    }
}

/// Calls until the daemon is gone.
fn call(socket: &Path, seed: u64, known: &mut Known) {
    let mut random = fastrand::Rng::with_seed(seed);
    let Ok(mut stream) = UnixStream::connect(socket) else {
        // It was killed before.
        return;
    };
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut answers = BufReader::new(stream.try_clone().expect("a second handle"));
    loop {
        let source = random.u8(..SOURCES);
        let banned = known.banned.get(&source).copied().unwrap_or_default();
        // Now and then a ban that is there already is renewed.
        let ban = !banned || random.u8(..4) == 0;
        known.under_way = Some((source, ban));
        let method = if ban { "POST" } else { "DELETE" };
        let body = format!("{{\"sources\":[\"203.0.113.{source}/32\"]}}");
        let request = format!(
            "{method} /v1/bans HTTP/1.1\r\nhost: abuser\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(request.as_bytes()).is_err() {
            return;
        }
        match read_answer(&mut answers) {
            Some(200) => {}
            Some(status) => panic!("{method} {body}: {status}"),
            None => return,
        }
        known.banned.insert(source, ban);
        known.under_way = None;
    }
}

/// The status of an answer that came whole.
fn read_answer(answers: &mut BufReader<UnixStream>) -> Option<u16> {
    let mut status = None;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if answers.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest.get(..3)?.parse().ok();
        } else if let Some(rest) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = rest.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    answers.read_exact(&mut body).ok()?;
    status
}

fn number(source: &str) -> u8 {
    let last = source.trim_end_matches("/32").rsplit('.').next();
    last.and_then(|last| last.parse().ok())
        .unwrap_or_else(|| panic!("{source} is none of ours"))
}

fn listed(daemon: &Daemon) -> BTreeSet<u8> {
    let list = parse(&daemon.abuser(&["ban", "list", "--json"]).success().stdout);
    let list = list.as_array().expect("a list").iter();
    list.map(|ban| number(ban["source"].as_str().expect("a text")))
        .collect()
}

/// What the kernel's map holds.
pub(crate) fn in_kernel(daemon: &Daemon) -> BTreeSet<u8> {
    let keys = banned_in_kernel(daemon).into_iter();
    keys.map(|key| number(&key.address().expect("an address").to_string()))
        .collect()
}

/// What the store holds that a killed daemon left.
fn stored(daemon: &Daemon, copy: &Path) -> BTreeSet<u8> {
    for suffix in ["", "-wal"] {
        let with_suffix = |path: &Path| {
            let mut path = path.as_os_str().to_owned();
            path.push(suffix);
            path
        };
        let _old = fs::remove_file(with_suffix(copy));
        fs::copy(with_suffix(&daemon.store_path()), with_suffix(copy)).expect("copying the store");
    }
    let store = rusqlite::Connection::open(copy).expect("opening the copy");
    let mut select = store.prepare("SELECT source FROM bans").expect("a table");
    let rows = select
        .query_map([], |row| row.get::<_, String>(0))
        .expect("a query");
    rows.map(|source| number(&source.expect("a text")))
        .collect()
}

#[test]
fn after_a_kill_at_any_moment_the_store_the_map_and_what_was_acknowledged_agree() {
    require_root!();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    // On a busy machine so many kills take longer than a ban would otherwise last.
    let (_namespace, mut daemon) = daemon_on_lo("[ban]\nbantime = \"1d\"\n");
    let copies = tempfile::tempdir().expect("a folder");
    let copy = copies.path().join("copy.db");
    let mut known = Known::default();
    let mut acknowledged = 0;
    for kill in 1..=KILLS {
        let what = |place: &str| format!("kill {kill} of {KILLS}, seed {seed}, {place}");
        let socket = daemon.socket().to_owned();
        let calls_seed = random.u64(..);
        let wait = Duration::from_micros(random.u64(..60_000));
        let caller = thread::spawn(move || {
            call(&socket, calls_seed, &mut known);
            known
        });
        thread::sleep(wait);
        daemon.kill();
        known = caller
            .join()
            .unwrap_or_else(|_| panic!("{}", what("a call")));
        acknowledged += known.banned.len();
        known.check(&stored(&daemon, &copy), &what("the store"));
        daemon.restart();
        let listed = listed(&daemon);
        known.check(&listed, &what("the list"));
        assert_eq!(in_kernel(&daemon), listed, "{}", what("the map"));
        // From here on it is known what became of the call that was not acknowledged.
        if let Some((source, _)) = known.under_way.take() {
            known.banned.insert(source, listed.contains(&source));
        }
        let repairs = daemon.json(&["status"])["reconciler"]["store_repairs"].clone();
        assert_eq!(repairs, 0, "{}", what("repairs"));
    }
    assert!(
        acknowledged > KILLS,
        "it was killed before anything happened"
    );
}
