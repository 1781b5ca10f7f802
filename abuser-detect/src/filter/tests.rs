use std::{collections::HashMap, io, path::Path};

use super::*;

/// 2026-03-10 12:00:00 UTC.
const NOW: Time = Time(1_773_144_000_000);

/// Files by their path.
#[derive(Default)]
struct Disk(HashMap<PathBuf, String>);

impl Disk {
    fn with(mut self, path: &str, text: &str) -> Self {
        self.0.insert(PathBuf::from(path), text.to_owned());
        self
    }

    fn try_load(&self, filter: &str, options: &Options) -> Result<Filter, Error> {
        Filter::load(filter, &[PathBuf::from("/f")], options, self)
    }

    fn load(&self, filter: &str) -> Filter {
        self.try_load(filter, &Options::default())
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(&self, filter: &str) -> String {
        let error = self.try_load(filter, &Options::default());
        error
            .err()
            .unwrap_or_else(|| panic!("{filter} loads"))
            .to_string()
    }
}

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Option<String>> {
        if path.ends_with("broken.conf") {
            return Err(io::Error::other("the disk is on fire"));
        }
        Ok(self.0.get(path).cloned())
    }
}

/// A filter of one file.
fn filter(text: &str) -> Filter {
    Disk::default().with("/f/demo.conf", text).load("demo")
}

fn hosts(filter: &mut Filter, line: &str) -> Vec<String> {
    filter
        .observe(line, NOW)
        .into_iter()
        .map(|found| found.host.into())
        .collect()
}

/// When a filter with that date pattern says that the line happened.
fn when(pattern: &str, line: &str) -> Option<String> {
    let mut filter = filter(&format!(
        "[Definition]\nfailregex = denied <HOST>\ndatepattern = {pattern}\n"
    ));
    let found = filter
        .observe(line, NOW)
        .pop()
        .unwrap_or_else(|| panic!("{line} matches"));
    found.time.map(stamp)
}

fn stamp(time: Time) -> String {
    let millis = i64::try_from(time.0).expect("a time");
    jiff::Timestamp::from_millisecond(millis)
        .expect("a time")
        .to_string()
}

#[test]
fn options_refer_to_options() {
    let disk = Disk::default().with(
        "/f/demo.conf",
        "[DEFAULT]\n\
         _who = from\n\
         [parts]\n\
         what = (?:refused|%(_verb)s)\n\
         [Definition]\n\
         # A comment, and one at the end of a line.\n\
         _daemon = gate ; the daemon\n\
         _verb = denied\n\
         failregex = ^%(_daemon)s: %(parts/what)s %(_who)s <HOST>$\n\
         \x20           ^%(_daemon)s: <mode>-<word-<mode>> <HOST>%%$\n\
         [Init]\n\
         mode = plain\n\
         word-plain = knock\n\
         word-loud = bang\n",
    );
    let mut demo = disk.load("demo");
    assert_eq!(
        hosts(&mut demo, "gate: denied from 192.0.2.1"),
        ["192.0.2.1"]
    );
    assert_eq!(
        hosts(&mut demo, "gate: plain-knock 192.0.2.2%"),
        ["192.0.2.2"]
    );
    assert!(hosts(&mut demo, "gate: loud-bang 192.0.2.2%").is_empty());
    let mut loud = disk.load("demo[mode=\"loud\"]");
    assert_eq!(
        hosts(&mut loud, "gate: loud-bang 192.0.2.2%"),
        ["192.0.2.2"]
    );
    let options = Options {
        options: vec![
            ("mode".to_owned(), "loud".to_owned()),
            ("_verb".to_owned(), "shut".to_owned()),
        ],
        ..Options::default()
    };
    let mut given = disk
        .try_load("demo[mode=plain]", &options)
        .expect("it loads");
    assert_eq!(
        hosts(&mut given, "gate: loud-bang 192.0.2.2%"),
        ["192.0.2.2"]
    );
    assert_eq!(
        hosts(&mut given, "gate: shut from 192.0.2.3"),
        ["192.0.2.3"]
    );
}

#[test]
fn a_filter_includes_others_and_its_local_has_the_last_word() {
    let disk = Disk::default()
        .with(
            "/f/demo.conf",
            "[INCLUDES]\nbefore = base.conf\nafter = late.conf\n\
             [Definition]\nfailregex = ^%(_name)s <word> <HOST>$\n",
        )
        .with(
            "/f/base.conf",
            "[DEFAULT]\n_name = base\n[Definition]\nword = first\n",
        )
        .with("/f/base.local", "[DEFAULT]\n_name = local\n")
        .with("/f/late.conf", "[Definition]\nword = late\n");
    let mut demo = disk.load("demo");
    assert_eq!(hosts(&mut demo, "local late 192.0.2.1"), ["192.0.2.1"]);
    let disk = disk.with(
        "/f/demo.local",
        "[Definition]\nfailregex = %(known/failregex)s\n            ^also <HOST>$\n",
    );
    let mut demo = disk.load("demo");
    assert_eq!(hosts(&mut demo, "local late 192.0.2.1"), ["192.0.2.1"]);
    assert_eq!(hosts(&mut demo, "also 192.0.2.2"), ["192.0.2.2"]);
    let mut by_path = disk.load("/f/demo.conf");
    assert_eq!(hosts(&mut by_path, "also 192.0.2.2"), ["192.0.2.2"]);
}

#[test]
fn what_is_wrong_with_a_filter_is_said_with_file_and_option_and_regex() {
    let disk = Disk::default()
        .with(
            "/f/loop.conf",
            "[INCLUDES]\nbefore = loop2.conf\n[Definition]\nfailregex = <HOST>\n",
        )
        .with("/f/loop2.conf", "[INCLUDES]\nafter = loop.conf\n")
        .with(
            "/f/missing.conf",
            "[Definition]\nfailregex = %(nowhere)s <HOST>\n",
        )
        .with(
            "/f/self.conf",
            "[Definition]\nfailregex = <a>\na = <a> <HOST>\n",
        )
        .with(
            "/f/endless.conf",
            "[Definition]\nfailregex = %(a)s\na = %(b)s\nb = %(a)s\n",
        )
        .with("/f/regex.conf", "[Definition]\nfailregex = (<HOST>\n")
        .with("/f/nobody.conf", "[Definition]\nfailregex = ^denied$\n")
        .with(
            "/f/tag.conf",
            "[Definition]\nfailregex = <re-<mode>>\nmode = x\nre-y = <HOST>\n",
        )
        .with(
            "/f/section.conf",
            "[Definition]\nfailregex = <lt_x/prefix> <HOST>\n",
        )
        .with(
            "/f/unclosed.conf",
            "[Definition]\nfailregex = <F-USER>.* <HOST>\n",
        )
        .with(
            "/f/date.conf",
            "[Definition]\nfailregex = <HOST>\ndatepattern = ^%%Q\n",
        )
        .with(
            "/f/lines.conf",
            "[Definition]\nfailregex = <HOST>\nmaxlines = many\n",
        )
        .with("/f/part.conf", "[DEFAULT]\nx = y\n")
        .with(
            "/f/twice.conf",
            "[Definition]\nfailregex = a\nfailregex = b\n",
        )
        .with("/f/junk.conf", "[Definition]\njunk\n")
        .with("/f/before.conf", "x = y\n");
    let cases = [
        ("nothing", ["no fail2ban filter `nothing`", "/f/nothing"]),
        ("broken", ["/f/broken.conf", "on fire"]),
        ("loop", ["/f/loop.conf is included by /f/loop2.conf", ""]),
        (
            "missing",
            ["/f/missing.conf, option failregex", "`nowhere`"],
        ),
        ("self", ["option failregex", "`<a>` refers to itself"]),
        ("endless", ["option failregex", "without end"]),
        (
            "regex",
            [
                "/f/regex.conf, option failregex",
                "not closed, at character",
            ],
        ),
        ("regex", ["in `(<HOST>`", ""]),
        ("nobody", ["nothing says whom", "`^denied$`"]),
        ("tag", ["nothing is known as `<re-x>`", ""]),
        ("section", ["nothing is known as `<lt_x/prefix>`", ""]),
        ("unclosed", ["`<F-USER>` is not closed", ""]),
        ("date", ["option datepattern", "`%Q` is no code"]),
        ("lines", ["option maxlines", "`many`"]),
        ("part", ["no section [Definition]", ""]),
        ("twice", ["/f/twice.conf, line 3", "there twice"]),
        ("junk", ["/f/junk.conf, line 2", "neither"]),
        (
            "before",
            ["/f/before.conf, line 1", "before the first section"],
        ),
        ("demo[mode=x", ["is not closed", ""]),
        ("demo[mode]", ["without a value", ""]),
        ("demo[mode=\"x]", ["a quote that is not closed", ""]),
    ];
    for (name, parts) in cases {
        let error = disk.error(name);
        assert!(
            parts.iter().all(|part| error.contains(part)),
            "{name}: {error}"
        );
    }
}

#[test]
fn options_in_brackets_are_split_as_fail2ban_does() {
    let of = |text| split(text).expect("options").1;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(split("sshd").expect("a name"), ("sshd".to_owned(), vec![]));
    assert_eq!(
        of("x[a=1, b=\"2, 3\"]"),
        [pair("a", "1"), pair("b", "2, 3")]
    );
    assert_eq!(of("x[a='1'][b= 2 ]"), [pair("a", "1"), pair("b", "2")]);
    assert!(split("x[a=\"1\" b=2]").is_err());
}

#[test]
fn prefregex_narrows_what_failregexes_see() {
    let mut demo = filter(
        "[Definition]\n\
         prefregex = ^ gate\\[\\d+\\]: <F-CONTENT>.+</F-CONTENT>$\n\
         failregex = ^denied <HOST>$\n\
         \x20           ^refused <HOST> by <F-USER>\\S+</F-USER>$\n\
         journalmatch = _COMM=gate\n",
    );
    assert_eq!(demo.journal_matches(), ["_COMM=gate"]);
    let found = demo.observe("Mar 10 11:00:00 gate[7]: refused 2001:db8::1 by eve", NOW);
    let [found] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(found.source, "2001:db8::1".parse().ok());
    assert_eq!((found.user(), found.regex), (Some("eve"), 1));
    assert_eq!(
        found.time.map(stamp).as_deref(),
        Some("2026-03-10T11:00:00Z")
    );
    assert_eq!(
        found.lines.as_slice(),
        ["Mar 10 11:00:00 gate[7]: refused 2001:db8::1 by eve"]
    );
    assert_eq!(demo.step(), Step::Failure(1));
    let record = found.record();
    assert_eq!(record.user.as_deref(), Some("eve"));
    assert_eq!(record.source, found.source);
    assert_eq!(record.raw, found.lines[0]);
    assert!(hosts(&mut demo, "Mar 10 11:00:00 other: denied 192.0.2.1").is_empty());
    assert_eq!(demo.step(), Step::NoPrefix);
    assert!(hosts(&mut demo, "Mar 10 11:00:00 gate[7]: so denied 192.0.2.1").is_empty());
    assert_eq!(demo.step(), Step::NoMatch);
    assert_eq!((demo.counters().lines, demo.counters().matched), (3, 1));
}

#[test]
fn ignoreregex_takes_matches_back() {
    let text = "[Definition]\nfailregex = denied <HOST>\nignoreregex = 192\\.0\\.2\\.\n            ^test\n";
    let mut demo = filter(text);
    assert!(hosts(&mut demo, "denied 192.0.2.1").is_empty());
    assert_eq!(demo.step(), Step::Ignored(0));
    assert!(hosts(&mut demo, "test denied 198.51.100.1").is_empty());
    assert_eq!(demo.step(), Step::Ignored(1));
    assert_eq!(hosts(&mut demo, "denied 198.51.100.1"), ["198.51.100.1"]);
    assert_eq!(demo.counters().ignored, 2);
}

/// Date patterns, lines and when they happened.
const DATES: &[(&str, &str, Option<&str>)] = &[
    (
        "",
        "2026-03-09 10:11:12 denied 192.0.2.1",
        Some("2026-03-09T10:11:12Z"),
    ),
    (
        "",
        "2026-03-09T10:11:12.5+02:00 denied 192.0.2.1",
        Some("2026-03-09T08:11:12Z"),
    ),
    (
        "",
        "Mar  9 10:11:12 denied 192.0.2.1",
        Some("2026-03-09T10:11:12Z"),
    ),
    // A date without a year that is to come was last year.
    (
        "",
        "Dec 31 23:59:59 denied 192.0.2.1",
        Some("2025-12-31T23:59:59Z"),
    ),
    // One without a day that is to come was yesterday.
    (
        "",
        "23:00:00 denied 192.0.2.1",
        Some("2026-03-09T23:00:00Z"),
    ),
    (
        "",
        "[09/Mar/2026:10:11:12 +0100] denied 192.0.2.1",
        Some("2026-03-09T09:11:12Z"),
    ),
    (
        "",
        "1773051072.250 denied 192.0.2.1",
        Some("2026-03-09T10:11:12.25Z"),
    ),
    (
        "",
        "PDT Mar  9 10:11:12 denied 192.0.2.1",
        Some("2026-03-09T17:11:12Z"),
    ),
    (
        "",
        "@4000000069ae9ac02a1b3c4d denied 192.0.2.1",
        Some("2026-03-09T10:02:40Z"),
    ),
    (
        "^on %%d.%%m.%%Y at %%H:%%M",
        "on 09.03.2026 at 10:11 denied 192.0.2.1",
        Some("2026-03-09T10:11:00Z"),
    ),
    (
        "%%I:%%M %%p, %%B %%d %%Y",
        "03:04 pm, march 09 2026 denied 192.0.2.1",
        Some("2026-03-09T15:04:00Z"),
    ),
    (
        "^day %%j of %%Y",
        "day 068 of 2026 denied 192.0.2.1",
        Some("2026-03-09T00:00:00Z"),
    ),
    (
        "^%%a, week %%W of %%Y",
        "Mon, week 10 of 2026 denied 192.0.2.1",
        Some("2026-03-09T00:00:00Z"),
    ),
    (
        "^t={EPOCH};",
        "t=1773051072; denied 192.0.2.1",
        Some("2026-03-09T10:11:12Z"),
    ),
    (
        "{^LN-BEG}LEPOCH",
        "1773051072123 denied 192.0.2.1",
        Some("2026-03-09T10:11:12.123Z"),
    ),
    (
        "^<{DATE}>",
        "<2026-03-09 10:11:12> denied 192.0.2.1",
        Some("2026-03-09T10:11:12Z"),
    ),
    (
        "^<{DATE}>",
        "<Mar  9 10:11:12> denied 192.0.2.1",
        Some("2026-03-09T10:11:12Z"),
    ),
    ("{^LN-BEG}", "denied 192.0.2.1 2026-03-09 10:11:12", None),
    (
        "{DEFAULT}",
        "denied 192.0.2.1 2026-03-09 10:11:12",
        Some("2026-03-09T10:11:12Z"),
    ),
    // Nothing to look for: now.
    (
        "{NONE}",
        "2026-03-09 10:11:12 denied 192.0.2.1",
        Some("2026-03-10T12:00:00Z"),
    ),
    ("", "denied 192.0.2.1", None),
    // No such day.
    ("", "2026-02-30 10:11:12 denied 192.0.2.1", None),
];

#[test]
fn dates_are_found_and_read() {
    for &(pattern, line, expected) in DATES {
        assert_eq!(
            when(pattern, line).as_deref(),
            expected,
            "{pattern} on {line}"
        );
    }
}

#[test]
fn the_zone_is_that_of_the_line_or_logtimezone_or_the_host() {
    let disk = Disk::default().with("/f/demo.conf", "[Definition]\nfailregex = denied <HOST>\n");
    let when = |log_zone: Option<&str>, line: &str| {
        let options = Options {
            zone: TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone"),
            log_zone: log_zone.map(str::to_owned),
            ..Options::default()
        };
        let mut demo = disk.try_load("demo", &options).expect("it loads");
        stamp(demo.observe(line, NOW)[0].time.expect("a time"))
    };
    assert_eq!(
        when(None, "2026-01-02 03:04:05 denied 192.0.2.1"),
        "2026-01-02T02:04:05Z"
    );
    assert_eq!(
        when(None, "2025-07-02 03:04:05 denied 192.0.2.1"),
        "2025-07-02T01:04:05Z"
    );
    assert_eq!(
        when(Some("UTC-0530"), "2026-01-02 03:04:05 denied 192.0.2.1"),
        "2026-01-02T08:34:05Z"
    );
    assert_eq!(
        when(Some("CET"), "2026-01-02 03:04:05Z denied 192.0.2.1"),
        "2026-01-02T03:04:05Z"
    );
    let options = Options {
        log_zone: Some("Mars".to_owned()),
        ..Options::default()
    };
    let error = disk
        .try_load("demo", &options)
        .expect_err("no zone")
        .to_string();
    assert!(
        error.contains("logtimezone") && error.contains("`Mars`"),
        "{error}"
    );
}

#[test]
fn a_line_that_begins_as_the_last_one_has_the_same_date_and_only_then() {
    let mut demo = filter("[Definition]\nfailregex = denied <HOST>\n");
    let mut when =
        |line: &str, now: Time| demo.observe(line, now)[0].time.map(stamp).expect("a time");
    for seconds in [1, 1, 1, 2, 2, 3] {
        let line = format!("Mar  9 10:11:0{seconds} host denied 192.0.2.1");
        assert_eq!(when(&line, NOW), format!("2026-03-09T10:11:0{seconds}Z"));
    }
    // The year goes on.
    assert_eq!(
        when("Mar  9 10:11:03 2025 denied 192.0.2.1", NOW),
        "2025-03-09T10:11:03Z"
    );
    assert_eq!(
        when("Mar  9 10:11:03 host denied 192.0.2.1", NOW),
        "2026-03-09T10:11:03Z"
    );
    // And what is not said depends on the clock.
    let last_year = Time(NOW.0 - 366 * 86_400_000);
    assert_eq!(
        when("Mar  9 10:11:03 host denied 192.0.2.1", last_year),
        "2025-03-09T10:11:03Z"
    );
}

#[test]
fn a_line_without_a_date_is_as_old_as_the_one_before_it_for_a_minute() {
    let mut demo = filter("[Definition]\nfailregex = denied <HOST>\n");
    assert_eq!(demo.observe("denied 192.0.2.1", NOW)[0].time, None);
    assert!(!demo.dated());
    demo.observe("2026-03-10 11:59:30 hello", NOW);
    assert!(demo.dated());
    let time = demo.observe("denied 192.0.2.1", NOW)[0].time;
    assert_eq!(time.map(stamp).as_deref(), Some("2026-03-10T11:59:30Z"));
    assert_eq!(
        demo.observe("denied 192.0.2.1", Time(NOW.0 + 60_000))[0].time,
        None
    );
    assert_eq!(demo.counters().undated, 3);
    let given = demo.observe_at("denied 192.0.2.1", Time(7000), NOW);
    assert_eq!(given[0].time, Some(Time(7000)));
}

#[test]
fn expressions_span_as_many_lines_as_maxlines_allows() {
    let mut demo = filter(
        "[Definition]\n\
         failregex = ^start <F-USER>\\w+</F-USER>$<SKIPLINES>^end <HOST>$\n\
         maxlines = 3\n",
    );
    assert!(hosts(&mut demo, "start ann").is_empty());
    assert!(hosts(&mut demo, "other").is_empty());
    let found = demo.observe("end 192.0.2.1", NOW);
    assert_eq!(
        (found[0].host.as_str(), found[0].user()),
        ("192.0.2.1", Some("ann"))
    );
    // What was passed over is none of it, and what was matched is not matched again.
    assert_eq!(found[0].lines.as_slice(), ["start ann", "end 192.0.2.1"]);
    assert!(hosts(&mut demo, "end 192.0.2.2").is_empty());
    for line in ["start bob", "one", "two"] {
        assert!(hosts(&mut demo, line).is_empty());
    }
    assert!(
        hosts(&mut demo, "end 192.0.2.3").is_empty(),
        "the start is too long ago"
    );
}

#[test]
fn there_is_no_end_of_lines_that_are_waited_for_but_an_end_of_room() {
    let mut demo = filter(
        "[Definition]\n\
         datepattern = {NONE}\n\
         failregex = ^start$<SKIPLINES>^end <HOST>$\n\
         maxlines = 1000000000\n",
    );
    let long = "x".repeat(60_000);
    for _ in 0..10 {
        assert!(hosts(&mut demo, &long).is_empty());
    }
    assert!(demo.lines.bytes() <= 512 << 10, "{}", demo.lines.bytes());
}

const SESSIONS: &str = "[Definition]\n\
    datepattern = {NONE}\n\
    prefregex = ^<F-MLFID>gate\\[\\d+\\]:</F-MLFID> <F-CONTENT>.+</F-CONTENT>$\n\
    failregex = ^<F-NOFAIL>connect</F-NOFAIL> from <HOST>$\n\
    \x20           ^<F-NOFAIL>hello</F-NOFAIL> <F-USER>\\S+</F-USER>$\n\
    \x20           ^denied$\n\
    \x20           ^<F-MLFFORGET>bye</F-MLFFORGET>\n\
    \x20           ^<F-MLFFORGET><F-MLFGAINED>welcome</F-MLFGAINED></F-MLFFORGET> <F-ALT_USER>\\S+</F-ALT_USER> from <ADDR>$\n";

#[test]
fn lines_of_a_connection_are_put_together() {
    let mut demo = filter(SESSIONS);
    assert!(hosts(&mut demo, "gate[1]: connect from 192.0.2.1").is_empty());
    assert_eq!(demo.step(), Step::NoFailure(0));
    assert!(hosts(&mut demo, "gate[2]: connect from 192.0.2.2").is_empty());
    assert!(hosts(&mut demo, "gate[1]: hello ann").is_empty());
    let found = demo.observe("gate[1]: denied", NOW);
    assert_eq!(
        (found[0].host.as_str(), found[0].user()),
        ("192.0.2.1", Some("ann"))
    );
    assert_eq!(
        found[0].lines.as_slice(),
        [
            "gate[1]: connect from 192.0.2.1",
            "gate[1]: hello ann",
            "gate[1]: denied"
        ]
    );
    // Lines that were told are not told again.
    assert_eq!(
        demo.observe("gate[1]: denied", NOW)[0].lines.as_slice(),
        ["gate[1]: denied"]
    );
    assert_eq!(hosts(&mut demo, "gate[2]: denied"), ["192.0.2.2"]);
    // It is over: the next with this id is another.
    demo.observe("gate[1]: bye", NOW);
    assert!(hosts(&mut demo, "gate[1]: denied").is_empty());
    assert_eq!(demo.step(), Step::Pending(2));
    // Now it is known whose the pending failure was.
    assert_eq!(
        hosts(&mut demo, "gate[1]: connect from 192.0.2.9"),
        ["192.0.2.9"]
    );
}

#[test]
fn a_login_is_no_failure_unless_another_user_was_tried_before_it() {
    let mut demo = filter(SESSIONS);
    assert!(hosts(&mut demo, "gate[1]: welcome ann from 192.0.2.1").is_empty());
    demo.observe("gate[2]: connect from 192.0.2.2", NOW);
    demo.observe("gate[2]: hello ann", NOW);
    let found = demo.observe("gate[2]: welcome bob from 192.0.2.2", NOW);
    let users: Vec<&str> = found[0].users().collect();
    assert_eq!(users, ["ann", "bob"]);
}

#[test]
fn a_connection_is_forgotten_after_a_while_and_there_is_no_end_of_room_for_them() {
    let mut demo = filter(SESSIONS);
    demo.observe("gate[1]: connect from 192.0.2.1", NOW);
    assert!(
        demo.observe("gate[1]: denied", Time(NOW.0 + 301_000))
            .is_empty()
    );
    let long = "x".repeat(20_000);
    for id in 0..1500 {
        demo.observe(&format!("gate[{id}]: hello {long}"), NOW);
        demo.observe(&format!("gate[7]: hello user{id}"), NOW);
    }
    let (sessions, bytes) = demo.sessions.size();
    assert!(
        sessions <= 1000 && bytes <= 16 << 20,
        "{sessions} with {bytes} bytes"
    );
    let pending = demo.observe("gate[7]: connect from 192.0.2.7", NOW);
    assert!(pending[0].users().count() <= 64 && pending[0].lines.len() <= 50);
}

#[test]
fn names_of_hosts_are_given_as_they_are() {
    let mut demo =
        filter("[Definition]\nfailregex = denied <HOST>$\n\x20           banned <ADDR>$\n");
    let found = demo.observe("denied evil.example.org", NOW);
    assert_eq!(
        (found[0].host.as_str(), found[0].source),
        ("evil.example.org", None)
    );
    assert!(hosts(&mut demo, "banned evil.example.org").is_empty());
    assert_eq!(hosts(&mut demo, "banned [2001:db8::7]"), ["2001:db8::7"]);
    assert_eq!(hosts(&mut demo, "banned ::ffff:192.0.2.7"), ["192.0.2.7"]);
    let disk = Disk::default().with("/f/demo.conf", "[Definition]\nfailregex = denied <HOST>$\n");
    let mut addresses = disk.load("demo[usedns=no]");
    assert!(hosts(&mut addresses, "denied evil.example.org").is_empty());
    assert_eq!(hosts(&mut addresses, "denied 192.0.2.1"), ["192.0.2.1"]);
}

#[test]
fn prefixes_ids_and_groups_are_found() {
    let mut demo = filter(
        "[Definition]\n\
         failregex = ^net <SUBNET>$\n\
         \x20           ^one <ADDR>/<CIDR>$\n\
         \x20           ^id <F-ID>\\w+</F-ID> from <ADDR> port <F-PORT/>$\n\
         \x20           ^pair <F-ID>\\w+</F-ID> <F-TUPLE_ID>\\w+</F-TUPLE_ID>$\n\
         \x20           ^group (?P<host>\\w+) <IP4>$\n",
    );
    let found = demo.observe("net 192.0.2.0/24", NOW);
    assert_eq!(
        (found[0].host.as_str(), found[0].prefix),
        ("192.0.2.0/24", Some(24))
    );
    assert_eq!(hosts(&mut demo, "net 192.0.2.1"), ["192.0.2.1"]);
    assert_eq!(hosts(&mut demo, "one 2001:db8::/32"), ["2001:db8::/32"]);
    let found = demo.observe("id key7 from 192.0.2.1 port 443", NOW);
    assert_eq!(
        (found[0].host.as_str(), found[0].source),
        ("key7", "192.0.2.1".parse().ok())
    );
    assert_eq!(found[0].fields.get("fport"), Some("443"));
    assert_eq!(hosts(&mut demo, "pair a b"), ["a b"]);
    assert_eq!(
        demo.observe("group web 192.0.2.1", NOW)[0]
            .fields
            .get("host"),
        Some("web")
    );
}

#[test]
fn look_around_back_references_and_conditions_work_in_filters() {
    let mut demo = filter(
        "[Definition]\n\
         failregex = ^(?!trusted)\\w+ denied <HOST>$\n\
         \x20           ^(?P<who>\\w+) is not (?P=who) <HOST>$\n\
         \x20           ^(?P<open>\\()?shut <HOST>(?(open)\\))$\n",
    );
    assert!(hosts(&mut demo, "trusted denied 192.0.2.1").is_empty());
    assert_eq!(hosts(&mut demo, "somebody denied 192.0.2.1"), ["192.0.2.1"]);
    assert_eq!(hosts(&mut demo, "ann is not ann 192.0.2.1"), ["192.0.2.1"]);
    assert!(hosts(&mut demo, "ann is not bob 192.0.2.1").is_empty());
    assert_eq!(hosts(&mut demo, "(shut 192.0.2.1)"), ["192.0.2.1"]);
    assert!(hosts(&mut demo, "(shut 192.0.2.1").is_empty());
}

#[test]
fn a_regex_bomb_is_given_up_and_counted() {
    let mut demo =
        filter("[Definition]\nfailregex = ^(a+)+\\1b <HOST>$\n\x20           denied <HOST>$\n");
    let line = format!("{} denied 192.0.2.1", "a".repeat(40));
    assert_eq!(hosts(&mut demo, &line), ["192.0.2.1"]);
    assert_eq!(demo.counters().given_up, 0, "what must be in it is not");
    let line = format!("{}b denied 192.0.2.1", "a".repeat(40)).replace("b denied", "c b denied");
    assert_eq!(hosts(&mut demo, &line), ["192.0.2.1"]);
    assert_eq!(demo.counters().given_up, 1);
}

#[test]
fn what_an_attacker_writes_into_a_log_is_survived() {
    let mut demo = filter(
        "[Definition]\nfailregex = denied <HOST>\n\x20           (?:user|name) <F-USER>.*</F-USER> at <HOST>\n",
    );
    assert_eq!(
        hosts(&mut demo, "\0denied\0 denied 192.0.2.1\0"),
        ["192.0.2.1"]
    );
    assert!(hosts(&mut demo, "").is_empty());
    assert!(hosts(&mut demo, "denied").is_empty());
    // Ten megabytes: what is beyond the limit is not seen, and a character is not cut in half.
    let long = format!("denied 192.0.2.1 {}", "é".repeat(5 << 20));
    assert_eq!(hosts(&mut demo, &long), ["192.0.2.1"]);
    assert_eq!(demo.counters().cut, 1);
    let found = demo.observe(&format!("x{long}"), NOW);
    assert!(found[0].lines[0].len() <= MAX_LINE);
    let late = format!("{} denied 192.0.2.1", "x".repeat(MAX_LINE));
    assert!(hosts(&mut demo, &late).is_empty());
    assert_eq!(
        hosts(&mut demo, "2026-03-09 10:11:12 user größe at 192.0.2.1"),
        ["192.0.2.1"]
    );
    // A forged end of a line is but a character.
    assert_eq!(hosts(&mut demo, "user x\ndenied 192.0.2.9"), ["192.0.2.9"]);
}
