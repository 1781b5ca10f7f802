//! What a rule asks for, gathered from its options.

use super::{
    super::expression::Test,
    buffer::Buffer,
    content::{self, Conditions, Content},
    pcre,
    syntax::{self, Rule},
};

/// What is read of a rule's options.
#[derive(Default)]
pub(super) struct Found {
    pub(super) conditions: Vec<Test>,
    pub(super) remarks: Vec<(String, &'static str)>,
    /// Whether there is one that is for requests, for answers, and for answers by `flow`.
    asks: bool,
    answers: bool,
    flows_to_client: bool,
}

impl Found {
    pub(super) fn read(&mut self, rule: &Rule) -> Result<(), String> {
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
    pub(super) fn is_answer(&self, rule: &Rule) -> Result<bool, String> {
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
