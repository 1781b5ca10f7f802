//! Rules of Snort 2, Snort 3 and Suricata as detectors.
//!
//! A rule looks at packets, a detector at lines of a log. What a rule says of the method, the
//! target, headers and the status becomes `where`; `threshold` and `detection_filter` mean the
//! same here. A rule that looks at what no log has is left out as a whole and listed: with a
//! part of it missing it would match more than it did. Only where in the request something
//! stands (`offset`, `depth`, `distance`, `within`) is passed over, and said.

mod buffer;
mod content;
mod pcre;
mod syntax;
#[cfg(test)]
mod tests;
mod threshold;

use std::path::Path;

use self::{
    buffer::Buffer,
    content::{Conditions, Content},
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
    }
    imported.notes.sort_by(|a, b| a.place.cmp(&b.place));
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
    if found.conditions.is_empty() && !matches!(rule.protocol.as_str(), "http" | "http1" | "http2")
    {
        return Err(
            "it looks at packets alone; a [[limit]] counts those and connections".to_owned(),
        );
    }
    found.conditions.extend(addresses(rule)?);
    found.conditions.extend(filters.spared(gid, sid));
    let threshold = Threshold::of(rule, filters.of(gid, sid), is_answer, imported)?;
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

/// What is read of a rule's options.
#[derive(Default)]
struct Found {
    conditions: Vec<Test>,
    remarks: Vec<(String, &'static str)>,
    /// Whether there is one that is for requests, for answers, and for answers by `flow`.
    asks: bool,
    answers: bool,
    flows_to_client: bool,
}

impl Found {
    fn read(&mut self, rule: &Rule) -> Result<(), String> {
        let is_sticky = is_sticky(rule);
        let mut sticky = Buffer::Raw;
        let mut options = rule.options.iter().peekable();
        while let Some(option) = options.next() {
            let (name, value) = (option.name.as_str(), option.value.as_str());
            if let Some(buffer) = Buffer::named(name, value) {
                sticky = buffer;
                continue;
            }
            match name {
                "content" | "uricontent" => {
                    let (is_negated, bytes, mut inline) =
                        content::parse(value).map_err(|why| format!("content {value}: {why}"))?;
                    let mut content = Content {
                        bytes,
                        buffer: sticky.clone(),
                        is_negated,
                        nocase: false,
                        at_start: false,
                        at_end: false,
                    };
                    if name == "uricontent" {
                        content.buffer = Buffer::Field("path");
                    }
                    let mut position = Position::default();
                    let mut modify = |name: &str, value: &str| match name {
                        "nocase" => content.nocase = true,
                        "startswith" => content.at_start = true,
                        "endswith" => content.at_end = true,
                        _ => position.read(name, value),
                    };
                    for modifier in inline.drain(..) {
                        let words = modifier.split_once(char::is_whitespace);
                        let (name, value) = words.unwrap_or((modifier, ""));
                        modify(name, value.trim());
                    }
                    while let Some(next) = options.next_if(|next| is_modifier(&next.name)) {
                        modify(&next.name, &next.value);
                    }
                    // Snort 2 names the buffer after what is looked for in it.
                    if !is_sticky {
                        while let Some(next) = options.next_if(|next| {
                            is_modifier(&next.name)
                                || (!next.name.contains('.')
                                    && Buffer::named(&next.name, &next.value).is_some())
                        }) {
                            match Buffer::named(&next.name, &next.value) {
                                Some(buffer) => content.buffer = buffer,
                                None if next.name == "nocase" => content.nocase = true,
                                None if next.name == "startswith" => content.at_start = true,
                                None if next.name == "endswith" => content.at_end = true,
                                None => position.read(&next.name, &next.value),
                            }
                        }
                    }
                    position.apply(&mut content);
                    let conditions = content
                        .conditions()
                        .map_err(|why| format!("content {value}: {why}"))?;
                    if position.is_passed_over(&content) {
                        self.remarks.push((
                            format!("content {value}"),
                            "where in the request it is to be does not matter here",
                        ));
                    }
                    self.add(&content.buffer, format!("content {value}"), conditions);
                }
                "pcre" => {
                    let (buffer, conditions) = pcre::conditions(value, &sticky)
                        .map_err(|why| format!("pcre {value}: {why}"))?;
                    self.add(&buffer, format!("pcre {value}"), conditions);
                }
                "flow" => {
                    let words = value.split(',').map(str::trim);
                    self.flows_to_client |= words
                        .into_iter()
                        .any(|word| matches!(word, "to_client" | "from_server"));
                }
                "noalert" => return Err("it only sets a mark for other rules".to_owned()),
                "flowbits" | "xbits" | "flowint" => {
                    let verb = value.split(',').next().unwrap_or_default().trim();
                    match verb {
                        "noalert" => return Err("it only sets a mark for other rules".to_owned()),
                        "isset" | "isnotset" => {
                            return Err(format!(
                                "{name}:{value} asks what another rule has marked"
                            ));
                        }
                        _ => {}
                    }
                }
                _ if is_harmless(name) => {}
                _ if is_modifier(name) => {}
                _ => return Err(format!("what `{name}` asks for, no access log tells")),
            }
        }
        Ok(())
    }

    fn add(&mut self, buffer: &Buffer, what: String, conditions: Conditions) {
        if buffer.is_answer() {
            self.answers = true;
        } else {
            self.asks = true;
        }
        for condition in conditions.all {
            if !self.conditions.contains(&condition) {
                self.conditions.push(condition);
            }
        }
        if let Some(remark) = conditions.remark {
            self.remarks.push((what, remark));
        }
    }

    /// Whether the rule looks at answers, of which a log tells the status.
    fn is_answer(&self, rule: &Rule) -> Result<bool, String> {
        let is_answer = self.flows_to_client || self.answers || comes_from_server(rule);
        if is_answer && self.asks {
            return Err(
                "it looks at answers, of which an access log has only the status".to_owned(),
            );
        }
        if is_answer && !self.answers {
            return Err("it looks at answers, and not at their status".to_owned());
        }
        Ok(is_answer)
    }
}

/// Whether the header says that servers send it: `$HTTP_SERVERS $HTTP_PORTS -> any any`.
fn comes_from_server(rule: &Rule) -> bool {
    let port = |number: usize| rule.header.get(number).map_or("any", String::as_str);
    let is_server =
        |port: &str| port.contains("HTTP_PORTS") || matches!(port, "80" | "443" | "8080");
    rule.option("flow").is_none() && is_server(port(1)) && !is_server(port(4))
}

/// Whether a rule names buffers before what is looked for in them, as Snort 3 and Suricata do.
fn is_sticky(rule: &Rule) -> bool {
    let is_search = |name: &str| matches!(name, "content" | "pcre" | "uricontent");
    let first = rule.options.iter().find(|option| {
        is_search(&option.name) || Buffer::named(&option.name, &option.value).is_some()
    });
    let begins_so = first.is_some_and(|option| !is_search(&option.name));
    let has_inline = |option: &syntax::Parameter| {
        option.name == "content" && syntax::split(&option.value, ',').len() > 1
    };
    begins_so || rule.options.iter().any(has_inline)
}

/// Where in the buffer a content is to be.
#[derive(Default)]
struct Position {
    offset: Option<usize>,
    depth: Option<usize>,
    is_relative: bool,
}

impl Position {
    fn read(&mut self, name: &str, value: &str) {
        match name {
            "offset" => self.offset = value.parse().ok(),
            "depth" => self.depth = value.parse().ok(),
            "distance" | "within" => self.is_relative = true,
            _ => {}
        }
    }

    /// A content that may only be at the begin is there.
    fn apply(&self, content: &mut Content) {
        let is_begin = self.offset.unwrap_or(0) == 0 && self.depth == Some(content.bytes.len());
        content.at_start |= is_begin && !self.is_relative;
    }

    /// Whether something was said of it that is not carried over.
    fn is_passed_over(&self, content: &Content) -> bool {
        let is_some =
            self.is_relative || self.offset.is_some_and(|n| n > 0) || self.depth.is_some();
        is_some && !content.at_start
    }
}

/// What stands behind a content and says how and where to look for it.
fn is_modifier(name: &str) -> bool {
    matches!(
        name,
        "nocase"
            | "offset"
            | "depth"
            | "distance"
            | "within"
            | "fast_pattern"
            | "fast_pattern_offset"
            | "fast_pattern_length"
            | "rawbytes"
            | "startswith"
            | "endswith"
    )
}

/// What says nothing of what matches.
fn is_harmless(name: &str) -> bool {
    matches!(
        name,
        "msg"
            | "sid"
            | "rev"
            | "gid"
            | "classtype"
            | "reference"
            | "metadata"
            | "priority"
            | "rem"
            | "service"
            | "target"
            | "tag"
            | "threshold"
            | "detection_filter"
            | "logto"
            | "soid"
            | "prefilter"
    )
}
