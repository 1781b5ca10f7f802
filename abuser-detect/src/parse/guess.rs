//! What a log is written by, from its first lines.

use super::{Kind, Parser, Settings};

/// Which parsers are tried; of those that read a log equally well, the first one is it.
const KINDS: [Kind; 7] = [
    Kind::NginxCombined,
    Kind::NginxError,
    Kind::HaproxyHttp,
    Kind::CaddyJson,
    Kind::TraefikJson,
    Kind::EnvoyJson,
    Kind::Json,
];

/// The parser that makes the most of some lines of a log: of half of them at least, records with a
/// time. `None` if there is none.
pub fn guess(lines: &[impl AsRef<str>]) -> Option<Kind> {
    let scored = KINDS.into_iter().filter_map(|kind| {
        let mut parser = Parser::new(Settings::new(kind)).ok()?;
        let mut seen = 0_usize;
        let mut read = 0_usize;
        for line in lines
            .iter()
            .map(AsRef::as_ref)
            .filter(|line| !line.is_empty())
        {
            seen += 1;
            // What has a time and a client is worth more than what has but a time.
            let record = parser.parse(line).ok();
            let record = record.filter(|record| record.time.is_some());
            read += record.map_or(0, |record| 2 + usize::from(record.source.is_some()));
        }
        (read > seen && seen > 0).then_some((kind, read))
    });
    let best = scored.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_log_is_known_by_its_lines() {
        for (expected, line) in [
            (
                Kind::NginxCombined,
                r#"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 1 "-" "x""#,
            ),
            (
                Kind::NginxError,
                r#"2024/01/15 10:00:00 [error] 1#1: *7 limiting requests, excess: 1.000 by zone "a", client: 192.0.2.1, server: s, request: "GET / HTTP/1.1", host: "h""#,
            ),
            (
                Kind::HaproxyHttp,
                r#"Feb  6 12:14:14 lb haproxy[1]: 10.0.1.2:1 [06/Feb/2009:12:14:14.655] in b/s 1/0/3/6/9 200 2 - - ---- 1/1/1/1/0 0/0 "GET / HTTP/1.1""#,
            ),
            (
                Kind::CaddyJson,
                r#"{"ts":1646861401.5,"msg":"handled request","request":{"remote_ip":"10.0.0.1","method":"GET","uri":"/"},"status":200}"#,
            ),
            (
                Kind::TraefikJson,
                r#"{"ClientAddr":"10.0.0.1:5","RequestPath":"/","DownstreamStatus":404,"StartUTC":"2024-01-15T08:00:00.5Z","time":"2024-01-15T08:00:00Z"}"#,
            ),
            (
                Kind::EnvoyJson,
                r#"{"start_time":"2024-01-15T08:00:00.500Z","path":"/","response_code":418,"downstream_remote_address":"10.0.1.38:5"}"#,
            ),
            (
                Kind::Json,
                r#"{"asctime":"2024-01-15 10:00:00,5","message":"API rate limit exceeded","ip":"192.0.2.1","path":"/"}"#,
            ),
        ] {
            let lines = ["", line, "something else", line];
            assert_eq!(guess(&lines), Some(expected), "{line}");
            let lines = [line, "something", "else", "entirely"];
            assert_eq!(guess(&lines), None, "{line}");
        }
        assert_eq!(guess(&["", ""]), None);
    }
}
