use proptest::prelude::*;

use super::*;
use crate::import::memory::Memory;

/// A filter that is told apart by its options.
const FILTER: &str = "[INCLUDES]\nbefore = common.conf\n[Definition]\nmode = normal\n\
    failregex = ^<_fail-<mode>> <HOST>$\n_fail-normal = bad\n_fail-aggressive = worse\n\
    journalmatch = _SYSTEMD_UNIT=a.service + _COMM=a\n";

/// The third of the systems that people use today.
const GIVEN: &str = "[nginx-api-abuse]\nenabled = true\nfilter = nginx-api-abuse\n\
    logpath = /var/log/nginx/api_access.log\nmaxretry = 100\nfindtime = 60\nbantime = 86400\n";

fn folder(files: &[(&str, &str)]) -> Memory {
    let mut all = vec![
        ("/etc/fail2ban/filter.d/common.conf", "[DEFAULT]\nx = y\n"),
        ("/etc/fail2ban/filter.d/a.conf", FILTER),
        (
            "/etc/fail2ban/filter.d/b.conf",
            "[Definition]\nfailregex = ^b <HOST>$\n",
        ),
        (
            "/etc/fail2ban/filter.d/nginx-api-abuse.conf",
            "[Definition]\nfailregex = ^<HOST> .* 401 \n",
        ),
    ];
    all.extend(files);
    Memory::new(&all)
}

/// What times look like; whether they are, the configuration tells.
fn is_time(text: &str) -> bool {
    text == "-1" || text.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ')
}

#[track_caller]
fn import(files: &[(&str, &str)]) -> Imported {
    let imported = fail2ban(&folder(files), Path::new(HOME), is_time);
    imported.unwrap_or_else(|error| panic!("{error}"))
}

/// A `jail.local` alone.
#[track_caller]
fn of(text: &str) -> Imported {
    import(&[("/etc/fail2ban/jail.local", text)])
}

fn notes(imported: &Imported) -> Vec<String> {
    imported.notes.iter().map(ToString::to_string).collect()
}

fn tables<'i>(imported: &'i Imported, name: &str) -> Vec<&'i Table> {
    let tables = imported.tables.iter();
    tables.filter(|table| table.name == name).collect()
}

#[track_caller]
fn one<'i>(imported: &'i Imported, name: &str) -> &'i Table {
    let [table] = tables(imported, name)[..] else {
        panic!("{}\n{:?}", imported.to_toml(), notes(imported));
    };
    table
}

fn text(table: &Table, key: &str) -> String {
    let value = table.get(key).and_then(toml::Value::as_str);
    value.unwrap_or_default().to_owned()
}

#[test]
fn the_jail_runs_here_with_its_filter() {
    let imported = of(GIVEN);
    assert_eq!(notes(&imported), Vec::<String>::new());
    assert_eq!(
        imported.to_toml(),
        r#"[[policy]]
name = "nginx-api-abuse"
maxretry = 100
findtime = 60
bantime = 86400

[[source]]
name = "api_access"
files = ["/var/log/nginx/api_access.log"]
from = "start"

# /etc/fail2ban/jail.local:1: [nginx-api-abuse]
[[detector]]
name = "nginx-api-abuse"
sources = ["api_access"]
filter = "fail2ban:nginx-api-abuse"
action = "ban"
policy = "nginx-api-abuse"
"#
    );
}

#[test]
fn files_override_each_other_in_fail2ban_s_order() {
    let imported = import(&[
        (
            "/etc/fail2ban/jail.conf",
            "[INCLUDES]\nbefore = paths-x.conf\n[DEFAULT]\nbackend = auto\nfilter = %(__name__)s\n\
             maxretry = 1\nfindtime = 1\n[b]\nlogpath = %(b_log)s\nbantime = 1\n",
        ),
        (
            "/etc/fail2ban/paths-x.conf",
            "[DEFAULT]\nb_log = /var/log/b.log\n",
        ),
        (
            "/etc/fail2ban/paths-x.local",
            "[DEFAULT]\nb_log = /var/log/local.log\n",
        ),
        (
            "/etc/fail2ban/jail.d/a.conf",
            "[b]\nmaxretry = 2\nfindtime = 2\nbantime = 2\n",
        ),
        (
            "/etc/fail2ban/jail.local",
            "[b]\nmaxretry = 3\nfindtime = 3\n",
        ),
        (
            "/etc/fail2ban/jail.d/b.local",
            "[b]\nenabled = yes\nmaxretry = 4%(known/maxretry)s\n",
        ),
    ]);
    let policy = one(&imported, "policy");
    assert_eq!(policy.get("maxretry"), Some(&43.into()));
    assert_eq!(policy.get("findtime"), Some(&3.into()));
    assert_eq!(policy.get("bantime"), Some(&2.into()));
    let source = one(&imported, "source");
    assert_eq!(
        source.get("files"),
        Some(&vec!["/var/log/local.log"].into())
    );
}

#[test]
fn only_what_is_enabled_is_carried_over() {
    let imported = of(
        "[DEFAULT]\nfilter = b\nlogpath = /l\n[off]\nenabled = false\n[out]\n\
        [on]\nenabled = 1\n",
    );
    assert_eq!(text(one(&imported, "detector"), "name"), "on");
    assert!(of("[off]\nfilter = b\n").is_empty());
}

#[test]
fn a_filter_keeps_the_options_that_matter_to_it() {
    for (jail, expected) in [
        ("filter = a", "fail2ban:a"),
        ("filter = a[mode=normal]", "fail2ban:a"),
        ("filter = a[mode=aggressive]", "fail2ban:a[mode=aggressive]"),
        (
            "filter = a[mode=\"aggressive\", unused=1]",
            "fail2ban:a[mode=aggressive]",
        ),
        (
            "mode = aggressive\nfilter = a[mode=%(mode)s]",
            "fail2ban:a[mode=aggressive]",
        ),
        ("filter = b[mode=normal]", "fail2ban:b"),
        ("filter = b\nmaxlines = 3", "fail2ban:b[maxlines=3]"),
        (
            "filter = b\nfailregex = ^x <HOST>\n            %(known/failregex)s",
            "fail2ban:b[failregex=\"^x <HOST>\n^b <HOST>$\"]",
        ),
        (
            "filter = b\nignoreregex = \"",
            "fail2ban:b[ignoreregex='\"']",
        ),
        (
            "filter = a\ndatepattern = ^%%Y-%%m-%%d",
            "fail2ban:a[datepattern=\"^%Y-%m-%d\"]",
        ),
    ] {
        let imported = of(&format!(
            "[j]\nenabled = true\nlogpath = /l\nbackend = polling\n{jail}\n"
        ));
        assert_eq!(
            text(one(&imported, "detector"), "filter"),
            expected,
            "{jail}"
        );
    }
}

#[test]
fn a_folder_elsewhere_is_named_with_its_filters() {
    let files = [
        (
            "/srv/f2b/jail.conf",
            "[b]\nenabled = true\nfilter = b\nlogpath = /l\n",
        ),
        (
            "/srv/f2b/filter.d/b.conf",
            "[Definition]\nfailregex = ^b <HOST>$\n",
        ),
    ];
    let imported = fail2ban(&Memory::new(&files), Path::new("/srv/f2b"), is_time).expect("jails");
    assert_eq!(
        text(one(&imported, "detector"), "filter"),
        "fail2ban:/srv/f2b/filter.d/b.conf"
    );
}

#[test]
fn a_log_is_one_source_for_all_that_read_it() {
    let imported = of("[DEFAULT]\nenabled = true\nfilter = b\nbackend = polling\n\
        [one]\nlogpath = /var/log/a.log\n          /var/log/x/*error.log tail\n\
        [two]\nlogpath = /var/log/a.log\n\
        [three]\nfilter = a\nbackend = systemd\n[four]\nfilter = a\nbackend = systemd[x]\n");
    let sources: Vec<_> = tables(&imported, "detector")
        .iter()
        .map(|table| table.get("sources").cloned().expect("sources"))
        .collect();
    assert_eq!(
        sources,
        [
            vec!["a", "x-error"].into(),
            vec!["a"].into(),
            vec!["three-journal"].into(),
            vec!["three-journal"].into(),
        ]
    );
    let [a, x, journal] = tables(&imported, "source")[..] else {
        panic!("{}", imported.to_toml());
    };
    assert_eq!(text(a, "from"), "start");
    assert_eq!(x.get("from"), None);
    let matches = vec!["_SYSTEMD_UNIT=a.service", "+", "_COMM=a"];
    assert_eq!(journal.get("journal"), Some(&matches.into()));
}

#[test]
fn the_path_of_a_log_is_the_pattern_that_it_is_there() {
    let imported = of("[j]\nenabled = true\nfilter = b\nlogpath = /var/log/[j/**.log\n");
    let files = vec!["/var/log/[[]j/*.log"];
    assert_eq!(one(&imported, "source").get("files"), Some(&files.into()));
}

#[test]
fn a_log_that_is_not_there_is_read_from_the_journal_if_that_is_known_how() {
    let jail = "[j]\nenabled = true\nfilter = a\nlogpath = /var/log/j.log\nbackend = auto\n";
    let imported = of(jail);
    assert!(one(&imported, "source").get("journal").is_some());
    assert!(
        notes(&imported)[0]
            .contains("/etc/fail2ban/jail.local:4: [j] backend = auto: there is no such log")
    );
    let there = import(&[("/etc/fail2ban/jail.local", jail), ("/var/log/j.log", "")]);
    assert!(one(&there, "source").get("files").is_some());
    let other = of(&jail.replace("filter = a", "filter = b"));
    assert!(one(&other, "source").get("files").is_some());
}

#[test]
fn numbers_become_one_policy_for_each_set_of_them() {
    let imported = of(
        "[DEFAULT]\nenabled = true\nfilter = b\nlogpath = /l\nmaxretry = 5\n\
        findtime = 10m\nbantime = 1h\n[one]\n[two]\n[three]\nbantime = -1\nmaxretry = 5000\n\
        [four]\nbantime = 1d 12h\nbantime.increment = true\nbantime.factor = 1.5\n\
        bantime.multipliers = 1 2.5 4\nbantime.maxtime = 1w\nbantime.rndtime = 60\n\
        [five]\nbantime.factor = 9\n",
    );
    assert_eq!(notes(&imported), Vec::<String>::new());
    let policies: Vec<_> = tables(&imported, "detector")
        .iter()
        .map(|table| text(table, "policy"))
        .collect();
    assert_eq!(
        policies,
        ["fail2ban", "fail2ban", "three", "four", "fail2ban"]
    );
    let four = &imported.to_toml();
    assert!(
        four.contains(
            "name = \"four\"\nmaxretry = 5\nfindtime = \"10m\"\nbantime = \"1d 12h\"\n\
             increment = true\nfactor = 1.5\nmultipliers = [1, 2.5, 4]\nmaxtime = \"1w\"\n\
             rndtime = 60\n"
        ),
        "{four}"
    );
    let three = tables(&imported, "policy")[1];
    assert_eq!(
        (three.get("maxretry"), three.get("bantime")),
        (None, Some(&(-1).into()))
    );
    assert_eq!(
        tables(&imported, "detector")[2].get("count"),
        Some(&5000.into())
    );
}

#[test]
fn what_is_not_carried_over_is_listed_with_its_place() {
    let imported = import(&[
        (
            "/etc/fail2ban/jail.conf",
            "[DEFAULT]\nfilter = b\nusedns = warn\nbanaction = iptables\n\
             action_ = %(banaction)s[port=\"%(port)s\"]\naction = %(action_)s\nport = 0:65535\n\
             logpath = /l\n[one]\nport = http,https\n[two]\n[mail]\naction = %(action_)s\n         \
             sendmail-whois[name=x, \n            dest=y]\n",
        ),
        (
            "/etc/fail2ban/jail.local",
            "[DEFAULT]\nenabled = true\nignorecommand = /bin/true <ip>\nignoreself = no\n\
             bantime.increment = true\nbantime.formula = ban.Time * 2\nlogencoding = latin1\n\
             bantime.factor = 2.0 / 3\nbantime = 1\nfindtime = 1\nmaxretry = 1\n",
        ),
    ]);
    assert_eq!(tables(&imported, "detector").len(), 3);
    // Whom the command would have spared must not be banned.
    assert!(
        tables(&imported, "detector")
            .iter()
            .all(|table| text(table, "action") == "alert")
    );
    let notes = notes(&imported);
    for expected in [
        "/etc/fail2ban/jail.conf:3: [DEFAULT] usedns = warn: names in logs are not looked up",
        "/etc/fail2ban/jail.conf:4: [DEFAULT] banaction = iptables: bans are made at the network card",
        "/etc/fail2ban/jail.conf:10: [one] port = http,https: a ban holds for all ports",
        "/etc/fail2ban/jail.conf:13: [mail] action = sendmail-whois: only bans are made",
        "/etc/fail2ban/jail.local:3: [DEFAULT] ignorecommand = /bin/true <ip>: no command",
        "/etc/fail2ban/jail.local:4: [DEFAULT] ignoreself = false: a host never bans itself",
        "/etc/fail2ban/jail.local:6: [one] bantime.formula = ban.Time * 2: formulas are code",
        "/etc/fail2ban/jail.local:7: [DEFAULT] logencoding = latin1: logs are read as UTF-8",
        "/etc/fail2ban/jail.local:8: [one] bantime.factor = 2.0 / 3: it is no number above 0",
        "/etc/fail2ban/jail.local:5: [two] bantime.overalljails = false: jails with the same",
    ] {
        assert!(
            notes.iter().any(|note| note.starts_with(expected)),
            "{expected}: {notes:#?}"
        );
    }
    let of_defaults = notes.iter().filter(|note| note.contains("usedns")).count();
    assert_eq!(of_defaults, 1, "{notes:#?}");
    assert!(
        !notes
            .iter()
            .any(|note| note.contains("[one] action") || note.contains("0:65535"))
    );
}

#[test]
fn fail2ban_s_own_formula_needs_no_word() {
    let imported = of(
        "[b]\nenabled = true\nfilter = b\nlogpath = /l\nbantime.increment = true\n\
        bantime.formula = ban.Time * (1<<(ban.Count if ban.Count<20 else 20)) * banFactor\n",
    );
    assert_eq!(notes(&imported), Vec::<String>::new());
}

#[test]
fn whom_fail2ban_ignores_is_allowed() {
    let imported = of("[DEFAULT]\nenabled = true\nfilter = b\nlogpath = /l\n\
        ignoreip = 127.0.0.1/8 ::1, 192.0.2.77/24\n    2001:db8::1 monitor.example.com file:/x 192.0.2.256\n\
        [one]\n[two]\nignoreip = 198.51.100.1\n");
    assert_eq!(
        one(&imported, "allow").get("addresses"),
        Some(
            &vec![
                "192.0.2.0/24",
                "2001:db8::1",
                "monitor.example.com",
                "198.51.100.1"
            ]
            .into()
        )
    );
    let notes = notes(&imported);
    assert_eq!(notes.len(), 3, "{notes:#?}");
    for (note, word) in notes.iter().zip(["192.0.2.256", "file:/x"]) {
        let said = format!("ignoreip = {word}: it is no address");
        assert!(note.contains(&said), "{notes:#?}");
    }
    assert!(
        notes[2].contains("[two] ignoreip = 198.51.100.1: [allow] holds for all"),
        "{notes:#?}"
    );
}

#[test]
fn a_jail_that_cannot_run_is_left_out_and_says_why() {
    for (jail, why) in [
        ("filter =", "it has no filter"),
        ("filter = gone\nlogpath = /l", "gone"),
        ("filter = b[x\nlogpath = /l", "b[x"),
        ("filter = b", "it has no logpath"),
        ("filter = b\nlogpath = var/log/x", "does not begin with /"),
        (
            "filter = b\nlogpath = %(nowhere)s",
            "`logpath`: there is no option `nowhere`",
        ),
        (
            "filter = b\nlogpath = /l\nmaxretry = many",
            "maxretry = many is no number",
        ),
        (
            "filter = b\nlogpath = /l\nbantime = 60 * 60",
            "bantime = 60 * 60 is no sum",
        ),
        ("filter = b\nbackend = systemd", "has no journalmatch"),
        (
            "filter = a\nbackend = systemd\njournalmatch = x",
            "\"x\" in its journalmatch",
        ),
        (
            "filter = a\nbackend = systemd\njournalmatch = A='x",
            "is not closed",
        ),
        (
            "filter = b\nlogpath = /l\nignoreregex = '\"",
            "both kinds of quotes",
        ),
        ("filter = %(filter)s", "without end"),
        (
            "filter = b\nlogpath = /l\nblocktype = RETURN",
            "lets those in",
        ),
        (
            "filter = b\nlogpath = /l\naction = x[a=1, blocktype=\"ACCEPT\", b=2]",
            "lets those in",
        ),
    ] {
        let imported = of(&format!("\n[j]\nenabled = true\n{jail}\n"));
        assert!(tables(&imported, "detector").is_empty(), "{jail}");
        let notes = notes(&imported);
        assert_eq!(notes.len(), 1, "{jail}: {notes:?}");
        assert!(
            notes[0].starts_with("/etc/fail2ban/jail.local:2: [j]: left out: "),
            "{notes:?}"
        );
        assert!(notes[0].contains(why), "{jail}: {notes:?}");
    }
}

#[test]
fn files_that_make_no_sense_are_named_with_their_line() {
    for (text, expected) in [
        ("enabled = true\n", "/etc/fail2ban/jail.local, line 1: "),
        ("[a]\nx = 1\ny\n", "/etc/fail2ban/jail.local, line 3: "),
        ("[a]\n[a]\n", "/etc/fail2ban/jail.local, line 2: "),
    ] {
        let files = folder(&[("/etc/fail2ban/jail.local", text)]);
        let error = fail2ban(&files, Path::new(HOME), is_time)
            .expect_err(text)
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    let circle = folder(&[(
        "/etc/fail2ban/jail.local",
        "[INCLUDES]\nbefore = jail.local\n",
    )]);
    assert!(fail2ban(&circle, Path::new(HOME), is_time).is_err());
    let error = fail2ban(&Memory::new(&[]), Path::new("/gone"), is_time).expect_err("nothing");
    assert_eq!(
        error.to_string(),
        "cannot read /gone/jail.conf: entity not found"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_makes_it_panic(
        lines in prop::collection::vec(prop_oneof![
            Just("[j]".to_owned()), Just("[DEFAULT]".to_owned()), Just("enabled = true".to_owned()),
            Just("filter = a[mode=%(x)s]".to_owned()), Just("logpath = /l tail".to_owned()),
            Just("ignoreip = 1.2.3.4/33 ::".to_owned()), Just("backend = systemd".to_owned()),
            "bantime(\\.[a-z]{1,9})? = [ -~]{0,9}", "[a-z]{1,8} = [ -~]{0,9}", "[ -~\n]{0,12}", any::<String>(),
        ], 0..12),
    ) {
        let text = lines.join("\n");
        let files = folder(&[("/etc/fail2ban/jail.local", &text)]);
        if let Ok(imported) = fail2ban(&files, Path::new(HOME), is_time) {
            let toml = imported.to_toml();
            prop_assert!(toml.parse::<toml::Table>().is_ok(), "{}", toml);
        }
    }
}

#[test]
fn a_jail_whose_filter_cannot_be_used_is_left_out_and_said_so() {
    let jail = "[j]\nenabled = true\nfilter = broken\nlogpath = /var/log/a.log\n\
                [k]\nenabled = true\nfilter = b\nlogpath = /var/log/b.log\n";
    let imported = import(&[
        ("/etc/fail2ban/jail.local", jail),
        (
            "/etc/fail2ban/filter.d/broken.conf",
            "[Definition]\nfailregex = ^<HOST> (unclosed\n",
        ),
    ]);
    let [detector] = tables(&imported, "detector")[..] else {
        panic!("{imported:?}");
    };
    assert_eq!(detector.get("filter"), Some(&"fail2ban:b".into()));
    let notes = notes(&imported);
    let left_out = notes.iter().find(|note| note.contains("[j]: left out: "));
    assert!(
        left_out.is_some_and(|note| note.contains("(unclosed")),
        "{notes:?}"
    );
}
