//! `[[source]]`: where lines come from and what makes records of them.

use std::{fmt::Write as _, path::PathBuf};

use abuser_detect::parse::Kind as Parser;

use super::{assert_error, good};
use crate::{
    config::{LineParser, LogSource, preset},
    sources::{Begin, JournalConfig, Kind, Listen, SourceConfig, SyslogConfig},
};

/// A `[[source]]` of a file, and `lines` from line 3 on.
fn source(lines: &str) -> String {
    format!("[[source]]\nfiles = [\"/var/log/web.log\"]\n{lines}\n")
}

fn builtin(kind: Parser) -> LineParser {
    LineParser::Builtin {
        kind,
        pattern: None,
        fields: std::collections::BTreeMap::new(),
    }
}

#[test]
fn a_source_of_files_takes_every_default() {
    let config = good(&source(""));
    let [web] = config.sources.as_slice() else {
        panic!("{:?}", config.sources);
    };
    let reads = SourceConfig {
        name: "web".to_owned(),
        kind: Kind::Files(vec!["/var/log/web.log".to_owned()]),
        begin: Begin::End,
    };
    assert_eq!(web.reads, reads);
    assert_eq!(web.parser, None);
    assert!(web.trusted_proxies.is_empty());
    assert!(config.detectors.is_empty());
}

#[test]
fn every_key_of_a_source_is_read() {
    let config = good(&source(
        "name = \"app\"\nparser = \"regex\"\npattern = '^(?<who>\\S+) (?<path>\\S+)$'\n\
         fields = { source = \"who\" }\ntrusted_proxies = [\"10.0.0.0/8\", \"2001:db8::1\"]\n\
         from = \"start\"",
    ));
    let app = &config.sources[0];
    assert_eq!(app.name(), "app");
    assert_eq!(app.reads.begin, Begin::Start);
    let proxies = ["10.0.0.0/8", "2001:db8::1/128"];
    assert_eq!(
        app.trusted_proxies,
        proxies.map(|proxy| proxy.parse().unwrap())
    );
    let Some(LineParser::Builtin {
        kind: Parser::Regex,
        pattern: Some(pattern),
        fields,
    }) = &app.parser
    else {
        panic!("{app:?}");
    };
    assert_eq!(pattern, r"^(?<who>\S+) (?<path>\S+)$");
    assert_eq!(fields["source"], "who");
}

#[test]
fn lines_come_from_the_journal_syslog_or_standard_input_too() {
    let config = good(
        "[[source]]\njournal = [\"_SYSTEMD_UNIT=ssh.service\"]\njournal_directory = \"/j\"\n\
         [[source]]\nsyslog = \"/run/log.sock\"\nsyslog_group = \"adm\"\n\
         [[source]]\nsyslog = \"127.0.0.1:5514\"\n\
         [[source]]\nstdin = true\n",
    );
    let names: Vec<_> = config.sources.iter().map(LogSource::name).collect();
    assert_eq!(names, ["journal", "syslog", "syslog-2", "stdin"]);
    let kinds: Vec<_> = config
        .sources
        .into_iter()
        .map(|source| source.reads.kind)
        .collect();
    assert_eq!(
        kinds,
        [
            Kind::Journal(JournalConfig {
                matches: vec!["_SYSTEMD_UNIT=ssh.service".to_owned()],
                directory: Some(PathBuf::from("/j")),
            }),
            Kind::Syslog(SyslogConfig {
                listen: Listen::Unix(PathBuf::from("/run/log.sock")),
                group: Some("adm".to_owned()),
            }),
            Kind::Syslog(SyslogConfig {
                listen: Listen::Udp("127.0.0.1:5514".parse().unwrap()),
                group: None,
            }),
            Kind::Stdin,
        ]
    );
}

#[test]
fn a_source_without_a_name_has_that_of_its_preset_or_file() {
    let config = good(
        "[[source]]\nfiles = [\"/a/x.log\"]\npreset = \"nginx\"\n\
         [[source]]\nfiles = [\"/b/access.log.1\"]\n\
         [[source]]\nfiles = [\"/b/*.log\"]\n\
         [[source]]\nfiles = [\"/c/y.log\"]\npreset = \"nginx\"\n\
         [[source]]\nfiles = [\"/d/access.log.log\"]\n",
    );
    let names: Vec<_> = config.sources.iter().map(LogSource::name).collect();
    assert_eq!(
        names,
        ["nginx", "access.log", "source", "nginx-2", "access.log-2"]
    );
}

#[test]
fn each_parser_is_known_by_its_name_and_shown_by_it() {
    for (name, kind) in Parser::ALL {
        let more = if kind == Parser::Regex {
            "pattern = '(?<source>.*)'"
        } else {
            ""
        };
        let config = good(&source(&format!("parser = \"{name}\"\n{more}")));
        let parser = config.sources[0].parser.as_ref().expect("a parser");
        assert_eq!(parser.to_string(), name);
        if kind != Parser::Regex {
            assert_eq!(config.sources[0].parser, Some(builtin(kind)));
        }
    }
    let config = good(&source("parser = \"fail2ban: sshd[mode=aggressive]\""));
    let parser = config.sources[0].parser.as_ref().expect("a parser");
    assert_eq!(
        *parser,
        LineParser::Filter("sshd[mode=aggressive]".to_owned())
    );
    assert_eq!(parser.to_string(), "fail2ban:sshd[mode=aggressive]");
}

#[test]
fn each_preset_has_a_parser_and_detectors_that_read_its_source_only() {
    for (name, preset) in preset::ALL {
        let other = "[[source]]\nfiles = [\"/other.log\"]\nparser = \"json\"\n";
        let config = good(&(other.to_owned() + &source(&format!("preset = \"{name}\""))));
        let LineParser::Builtin { kind, pattern, .. } =
            config.sources[1].parser.as_ref().expect("a parser")
        else {
            panic!("{name}");
        };
        assert_eq!(*kind, preset.parser());
        assert_eq!(*pattern, None);
        assert!(!config.detectors.is_empty(), "{name}");
        for detector in &config.detectors {
            let sources = detector.sources.as_deref();
            assert_eq!(sources, Some(&[name.to_owned()][..]), "{detector:?}");
        }
    }
}

#[test]
fn a_source_of_a_preset_may_have_another_parser() {
    let config = good(&source("preset = \"nginx\"\nparser = \"json\""));
    assert_eq!(config.sources[0].parser, Some(builtin(Parser::Json)));
    let config = good(&source(
        "preset = \"sshd\"\nparser = \"regex\"\npattern = '(?<source>.*)'",
    ));
    let Some(LineParser::Builtin { pattern, .. }) = &config.sources[0].parser else {
        panic!("{:?}", config.sources);
    };
    assert_eq!(pattern.as_deref(), Some("(?<source>.*)"));
}

#[test]
fn what_cannot_be_a_source_is_refused_at_what_is_wrong() {
    let one = "exactly one of `files`, `journal`, `syslog` and `stdin`";
    for (text, place, phrases) in [
        (
            "[[source]]\nparser = \"json\"",
            "1:1",
            [one, "add for example files = [\""],
        ),
        (
            "[[source]]\nstdin = true\nfiles = [\"/a\"]",
            "2:9",
            [one, "make two of it, or remove one"],
        ),
        (
            "[[source]]\nfiles = \"/a\"",
            "2:9",
            ["expected a list of paths", "found a string"],
        ),
        (
            "[[source]]\nfiles = []",
            "2:9",
            ["it names no file", "add for example \"/var/log/auth.log\""],
        ),
        (
            "[[source]]\nfiles = [\"a.log\"]",
            "2:9",
            ["does not begin with /", "write the whole path"],
        ),
        (
            "[[source]]\nfiles = [\"/a[\"]",
            "2:9",
            ["is no pattern of paths", "in brackets, like [*]"],
        ),
        (
            "[[source]]\njournal = [\"ssh\"]",
            "2:11",
            ["no match for the journal", "_SYSTEMD_UNIT=ssh.service"],
        ),
        (
            "[[source]]\nsyslog = \"0.0.0.0:514\"",
            "2:10",
            ["no address of this host alone", "listen at 127.0.0.1"],
        ),
        (
            "[[source]]\nsyslog = 514",
            "2:10",
            ["the path of a socket", "found an integer"],
        ),
        (
            "[[source]]\nstdin = false",
            "2:9",
            ["false names no source", "or write true"],
        ),
        (
            "[[source]]\nstdin = true\nsyslog_group = \"adm\"",
            "3:16",
            ["`syslog_group`", "it goes with `syslog` only"],
        ),
        (
            "[[source]]\nstdin = true\njournal_directory = \"/j\"",
            "3:21",
            ["`journal_directory`", "it goes with `journal` only"],
        ),
        (
            "[[source]]\nstdin = true\n[[source]]\nname = \"b\"\nstdin = true",
            "3:1",
            ["two sources read standard input", ""],
        ),
        (
            "[[source]]\nsyslog = \"/a\"\n[[source]]\nsyslog = \"/a\"",
            "3:1",
            ["two sources listen at /a", "only one can"],
        ),
        (
            "[source]\nstdin = true",
            "1:1",
            ["tables with double brackets: [[source]]", "found a table"],
        ),
        (
            "[[source]]\nstdin = true\nparsr = \"json\"",
            "3:1",
            ["unknown key `parsr`", "did you mean `parser`?"],
        ),
    ] {
        assert_error(text, place, &phrases);
    }
}

#[test]
fn what_a_source_says_that_makes_no_sense_is_refused_at_the_value() {
    for (lines, place, phrases) in [
        (
            "parser = \"ngnix-combined\"",
            "3:10",
            ["is not one of", "did you mean \"nginx-combined\"?"],
        ),
        (
            "parser = \"fail2ban:\"",
            "3:10",
            ["names no filter", "\"fail2ban:sshd\""],
        ),
        (
            "parser = \"regex\"",
            "3:10",
            ["needs a pattern with named groups", "pattern = '"],
        ),
        (
            "parser = \"regex\"\npattern = '(?<a'",
            "4:11",
            ["`pattern` in [[source]]", "no regular expression"],
        ),
        (
            "parser = \"regex\"\npattern = 'a'",
            "4:11",
            ["no named group", "such as (?<source>"],
        ),
        (
            "parser = \"json\"\npattern = 'a'",
            "4:11",
            ["\"json\" takes no pattern", "\"regex\""],
        ),
        (
            "pattern = 'a'",
            "3:11",
            ["no parser takes it", "add parser = \"regex\""],
        ),
        (
            "parser = \"fail2ban:sshd\"\nfields = { source = \"a\" }",
            "4:10",
            ["neither pattern nor fields", ""],
        ),
        (
            "parser = \"json\"\nfields = { surce = \"a\" }",
            "4:10",
            ["fields cannot set \"surce\"", "source"],
        ),
        (
            "parser = \"nginx-combined\"\nfields = { source = \"a\" }",
            "4:10",
            ["takes no fields", "those that do are json"],
        ),
        (
            "parser = \"json\"\nfields = { source = 1 }",
            "4:10",
            ["\"source\" is not text", "{ source = \"client.ip\" }"],
        ),
        (
            "trusted_proxies = [\"::/0\"]",
            "3:20",
            ["::/0 is everybody", "name your proxies"],
        ),
        (
            "trusted_proxies = [\"10.0.0.1/8\"]",
            "3:20",
            ["10.0.0.0/8", "10.0.0.1"],
        ),
        (
            "trusted_proxies = \"10.0.0.0/8\"",
            "3:19",
            ["a list of addresses or prefixes", "found a string"],
        ),
        (
            "from = \"strat\"",
            "3:8",
            [
                "is not one of \"end\", \"start\"",
                "did you mean \"start\"?",
            ],
        ),
        (
            "preset = \"ngnix\"",
            "3:10",
            ["is not one of", "did you mean \"nginx\"?"],
        ),
        ("name = \"a b\"", "3:8", ["cannot name a source", "A-Z a-z"]),
    ] {
        assert_error(&source(lines), place, &phrases);
    }
    assert_error(
        &(source("name = \"a\"") + &source("name = \"a\"")),
        "6:8",
        &["\"a\" is taken by a.toml:3; choose another"],
    );
}

#[test]
fn more_sources_and_files_than_there_can_be_are_refused_at_the_first_too_many() {
    let sources = |count: usize| {
        let mut text = String::new();
        for number in 0..count {
            let _infallible = writeln!(text, "[[source]]\nfiles = [\"/var/log/{number}.log\"]");
        }
        text
    };
    assert_eq!(good(&sources(256)).sources.len(), 256);
    assert_error(&sources(258), "513:1", &["one more than the 256", "in one"]);
    let files = |count| format!("[[source]]\nfiles = [{}]", "\"/a\",".repeat(count));
    assert_eq!(good(&files(64)).sources.len(), 1);
    assert_error(&files(66), "2:330", &["one more than the 64 there can be"]);
}

#[test]
fn a_proxy_that_any_source_trusts_is_one_of_all_once() {
    let config = good(&format!(
        "{}{}",
        source("name = \"a\"\ntrusted_proxies = [\"10.0.0.0/8\", \"192.0.2.7\"]"),
        "[[source]]\nstdin = true\ntrusted_proxies = [\"2001:db8::1\", \"10.0.0.0/8\"]\n"
    ));
    let proxies = config.trusted_proxies();
    let proxies: Vec<_> = proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::1/128"]);
    assert!(good("").trusted_proxies().is_empty());
}
