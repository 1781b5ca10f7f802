//! Rules of Snort 2, Snort 3 and Suricata as detectors.
//!
//! A rule looks at packets, a detector at lines of a log. What a rule says of the method, the
//! target, headers and the status becomes `where`; `threshold` and `detection_filter` mean the
//! same here. A rule that looks at what no log has is left out as a whole and listed: with a
//! part of it missing it would match more than it did. Only where in the request something
//! stands (`offset`, `depth`, `distance`, `within`) is passed over, and said.

mod buffer;
mod content;
mod found;
mod pcre;
mod syntax;
#[cfg(test)]
mod tests;
mod threshold;

use std::path::Path;

use self::{
    found::Found,
    syntax::{Rule, Statement},
    threshold::{Filters, Threshold},
};
use super::{
    Files, ImportError, Imported, Reader, Table,
    expression::{self, Test},
    names::Names,
};

/// What is to be imported, and how.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// What every detector does: `alert`, `throttle` or `ban`; without it `ban` for rules that
    /// drop and reject, and `alert` for those that alert.
    pub action: Option<&'a str>,
    /// The access log that tells of the traffic that the rules looked at.
    pub log: &'a str,
}

/// Imports files of rules; what `event_filter` and `suppress` say in one holds for all.
pub fn snort(files: &dyn Files, paths: &[&Path], how: Rules<'_>) -> Result<Imported, ImportError> {
    let mut reader = Reader::new(files);
    let mut imported = Imported::default();
    let mut filters = Filters::default();
    let mut rules = Vec::new();
    for path in paths {
        let text = reader.text(path)?;
        for statement in syntax::read(path, &text)? {
            match statement {
                Statement::Rule(rule) => rules.push(rule),
                Statement::Filter { kind, pairs, place } => {
                    filters.add(&kind, &pairs, &place, &mut imported);
                }
                Statement::Other { name, place } => imported.note(
                    &place,
                    format!("`{name}`"),
                    "only rules, event_filter, threshold and suppress are imported; name files \
                     that are included on the command line",
                ),
            }
        }
    }
    let mut names = Names::default();
    let mut detectors = Vec::new();
    for rule in &rules {
        match detector(rule, how, &filters, &mut names, &mut imported) {
            Ok(table) => detectors.push(table),
            Err(why) => imported.note(&rule.place, title(rule), format!("left out: {why}")),
        }
    }
    if !detectors.is_empty() {
        imported.tables.push(
            Table::repeated("source")
                .comment("The rules looked at packets; here an access log tells of the requests.")
                .with("name", "web")
                .with("files", vec![how.log])
                .with("parser", "nginx-combined"),
        );
        imported.tables.append(&mut detectors);
        imported.limit_throttles();
    }
    imported.settle();
    Ok(imported)
}

/// `rule 1000001 "API scraping"`.
fn title(rule: &Rule) -> String {
    let mut title = String::from("rule");
    if let Some(sid) = rule.option("sid") {
        title.push(' ');
        title.push_str(sid);
    }
    if let Some(message) = rule.option("msg") {
        title = format!("{title} {:?}", message_text(message));
    }
    title
}

fn message_text(message: &str) -> String {
    let inner = content::unquoted(message).unwrap_or(message);
    inner
        .replace("\\\"", "\"")
        .replace("\\;", ";")
        .replace("\\:", ":")
}

/// The detector that a rule becomes; the error says why there is none.
fn detector(
    rule: &Rule,
    how: Rules<'_>,
    filters: &Filters,
    names: &mut Names,
    imported: &mut Imported,
) -> Result<Table, String> {
    let action = match (rule.action.as_str(), how.action) {
        ("pass", _) => {
            return Err(
                "it makes an exception; write it into `where` of the detectors that it is \
                        for, or the addresses under [allow]"
                    .to_owned(),
            );
        }
        ("activate" | "dynamic" | "rewrite" | "react" | "file_id", _) => {
            return Err(format!("`{}` has no like here", rule.action));
        }
        (_, Some(action)) => action,
        ("alert" | "log", None) => "alert",
        (_, None) => "ban",
    };
    let sid = rule.option("sid").unwrap_or_default();
    let gid = rule.option("gid").unwrap_or("1");
    if let Some(place) = filters.suppressed(gid, sid) {
        return Err(format!("it is suppressed at {place}"));
    }
    let mut found = Found::default();
    found.read(rule)?;
    let is_answer = found.is_answer(rule)?;
    let is_http = HTTP.contains(&rule.protocol.as_str());
    if found.conditions.is_empty() && !is_http {
        return Err(
            "it looks at packets alone; a [[limit]] counts those and connections".to_owned(),
        );
    }
    if !is_http && !BELOW_HTTP.contains(&rule.protocol.as_str()) {
        return Err(format!(
            "it is for `{}`, of which no log of a web server tells",
            rule.protocol
        ));
    }
    found.conditions.extend(addresses(rule)?);
    let is_every_request = found.conditions.is_empty();
    found.conditions.extend(filters.spared(gid, sid));
    let threshold = Threshold::of(rule, filters.of(gid, sid), is_answer, imported)?;
    if is_every_request && threshold.is_met_at_once() {
        return Err(
            "it looks for nothing in a request and counts none, so every visitor would be found"
                .to_owned(),
        );
    }
    for (what, why) in found.remarks {
        imported.note(&rule.place, format!("{}: {what}", title(rule)), why);
    }
    let message = rule.option("msg").map(message_text).unwrap_or_default();
    let mut table = Table::repeated("detector").comment(format!("{}: {}", rule.place, title(rule)));
    if !rule.header.is_empty() {
        table = table.comment(format!(
            "{} {} {}",
            rule.action,
            rule.protocol,
            rule.header.join(" ")
        ));
    }
    table = table.with("name", names.take_with(&message.to_lowercase(), sid));
    if !found.conditions.is_empty() {
        table = table.with("where", expression::all(&found.conditions));
    }
    Ok(threshold.write(table).with("action", action))
}

/// The protocols of rules that are about requests.
const HTTP: [&str; 3] = ["http", "http1", "http2"];

/// Those of rules that may be, for requests are carried by them.
const BELOW_HTTP: [&str; 4] = ["ip", "tcp", "tcp-pkt", "tcp-stream"];

/// The sources that a rule is for, if it names some.
fn addresses(rule: &Rule) -> Result<Vec<Test>, String> {
    match rule.header.first().map(String::as_str) {
        None | Some("any") => Ok(Vec::new()),
        // What a variable stands for is in another file, and mostly a name for everybody else.
        Some(source) if source.contains('$') => Ok(Vec::new()),
        Some(source) => sources(source)
            .ok_or_else(|| format!("its sources {source} are more than a list of addresses")),
    }
}

/// `[192.0.2.0/24, !192.0.2.1]` as tests.
fn sources(list: &str) -> Option<Vec<Test>> {
    let (is_negated, list) = content::negated(list);
    let inner = list
        .strip_prefix('[')
        .and_then(|list| list.strip_suffix(']'));
    let (mut these, mut others) = (Vec::new(), Vec::new());
    for word in inner.unwrap_or(list).split(',').map(str::trim) {
        let (is_other, word) = content::negated(word);
        let prefix = match word.parse::<ipnet::IpNet>() {
            Ok(prefix) => prefix.trunc(),
            Err(_) => word.parse::<std::net::IpAddr>().ok()?.into(),
        };
        if is_other { &mut others } else { &mut these }.push(prefix);
    }
    let mut tests = Vec::new();
    if !these.is_empty() {
        tests.push(Test::From(these));
    }
    if !others.is_empty() {
        tests.push(Test::Not(vec![Test::From(others)]));
    }
    Some(if is_negated {
        vec![Test::Not(tests)]
    } else {
        tests
    })
}
