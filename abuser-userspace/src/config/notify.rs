//! `[[notify]]`: who is told of which events, and how.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use abuser_common::layout::BanCause;
use reqwest::{
    Url,
    header::{HeaderName, HeaderValue},
};

use super::{
    Config, ban,
    draft::absolute_path,
    error::{ConfigError, quote},
    limit,
    section::{self, Item, Section, not_there},
    shared,
    source::Place,
};
use crate::{
    api::types::EventKind,
    files::read_bounded,
    notify::{Batching, MAX_TEMPLATE, check_template},
    policy::DEFAULT_POLICY,
};

/// The most receivers there can be.
const MAX_NOTIFY: usize = 64;
/// The most headers a webhook can be given.
const MAX_HEADERS: usize = 32;
/// The most arguments a command can be given.
const MAX_ARGUMENTS: usize = 64;
/// The most events that can wait for one receiver.
const MAX_QUEUE: usize = 1_000_000;
/// The most events in one request.
const MAX_BATCH: usize = 1000;
/// The longest a receiver can take.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);
/// The longest an event can wait for others.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Somebody who is told of events.
#[derive(Clone, Debug, PartialEq)]
pub struct NotifyConfig {
    /// What it is called, unlike any other.
    pub name: String,
    /// How it is told.
    pub target: NotifyTarget,
    /// Of what.
    pub filter: NotifyFilter,
    /// How long a request or a command may take.
    pub timeout: Duration,
    /// Events that can wait for it; one at least.
    pub queue: usize,
}

/// How somebody is told.
#[derive(Clone, Debug, PartialEq)]
pub enum NotifyTarget {
    /// By a request of HTTP.
    Webhook(WebhookConfig),
    /// By running a program.
    Command(CommandConfig),
}

/// Events that somebody is told of; all that is given must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyFilter {
    /// These kinds; at least one.
    pub events: Vec<EventKind>,
    /// Of these policies; empty: of any or none.
    pub policies: Vec<String>,
    /// Bans, and their ends, with one of these causes; at least one.
    pub causes: Vec<String>,
    /// Findings of these detectors, their bans, and the ends of those; empty: all.
    pub detectors: Vec<String>,
}

/// A request with events in it.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookConfig {
    /// Where it is sent.
    pub url: WebhookUrl,
    /// How many events go together.
    pub batch: Batching,
    /// The template of its body; `None`: the documented one.
    pub template: Option<String>,
    /// More headers.
    pub headers: BTreeMap<String, String>,
    /// The file with the secret that requests are signed with.
    pub secret_file: Option<PathBuf>,
    /// The file with a token, sent as `Authorization: Bearer`.
    pub bearer_file: Option<PathBuf>,
    /// The file with authorities to believe besides those of the host.
    pub ca_file: Option<PathBuf>,
    /// How old events may become before they are given up.
    pub give_up: Duration,
}

/// Where a webhook is. The path is often a secret, so neither messages nor logs show it.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(pub Url);

impl WebhookUrl {
    /// Whether it is spoken to over TLS.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The server's name, and its port if it is not the usual one.
    pub fn server(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}/…", self.0.scheme(), self.server())
    }
}

/// A program that is run for each event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandConfig {
    /// The program's file.
    pub program: PathBuf,
    /// What it is given besides the event.
    pub arguments: Vec<String>,
    /// How many of it run at once at most.
    pub parallel: usize,
}

/// What `[[notify]]` tables say, and where they name what must be there.
#[derive(Debug, Default)]
pub(super) struct Drafts(Vec<Draft>);

#[derive(Debug)]
struct Draft {
    config: NotifyConfig,
    name: Place,
    policies: Vec<Place>,
    detectors: Vec<Place>,
}

impl Drafts {
    /// Reads one `[[notify]]`.
    pub(super) fn add(&mut self, section: &Section<'_>) -> Result<(), ConfigError> {
        if self.0.len() >= MAX_NOTIFY {
            return Err(section.place.error(format!(
                "this [[notify]] is one more than the {MAX_NOTIFY} there can be; remove one"
            )));
        }
        let named = section.require("name", "\"chat\"")?;
        let name = limit::name(&named, "[[notify]]")?;
        if let Some(other) = self.0.iter().find(|other| other.config.name == name) {
            return Err(named.error(format!(
                "\"{name}\" is taken by {}; choose another",
                other.name.describe()
            )));
        }
        let filter = filter(section)?;
        let target = match (section.get("url"), section.get("command")) {
            (Some(url), None) => {
                refuse(section, "parallel", "is for a `command`; remove it")?;
                NotifyTarget::Webhook(webhook(section, &url, &filter.events)?)
            }
            (None, Some(command)) => {
                for key in [
                    "batch",
                    "template",
                    "template_file",
                    "headers",
                    "secret_file",
                    "bearer_file",
                    "ca_file",
                    "give_up",
                ] {
                    refuse(section, key, "is for a `url`; remove it")?;
                }
                NotifyTarget::Command(self::command(section, &command)?)
            }
            (Some(_), Some(command)) => {
                return Err(command.error(
                    "there is a `url` as well; write a [[notify]] for each, with a name of its own",
                ));
            }
            (None, None) => {
                return Err(section.place.error(
                    "`url` or `command` is missing in [[notify]]; add for example url = \
                     \"https://chat.example.com/hook\" or command = [\"/usr/local/bin/hook\"]",
                ));
            }
        };
        let places = |key| {
            let items = section.get(key).map(|item| item.list("a list"));
            let items = items.transpose().map(Option::unwrap_or_default);
            items.map(|items| items.into_iter().map(|item| item.place).collect())
        };
        let draft = Draft {
            config: NotifyConfig {
                name,
                target,
                filter,
                timeout: time(section, "timeout", MAX_TIMEOUT)?.unwrap_or(Duration::from_secs(10)),
                queue: section
                    .get("queue")
                    .map_or(Ok(10_000), |item| item.integer(1..=MAX_QUEUE))?,
            },
            policies: places("policies")?,
            detectors: places("detectors")?,
            name: named.place,
        };
        self.0.push(draft);
        Ok(())
    }

    /// All of them, after the check that what they name is there.
    pub(super) fn finish(self, config: &Config) -> Result<Vec<NotifyConfig>, ConfigError> {
        const TABLE: &str = "[[notify]]";
        let policies: Vec<_> = config
            .policies
            .iter()
            .map(|policy| policy.name.as_str())
            .chain([DEFAULT_POLICY])
            .collect();
        let rules = config.detectors.iter().map(|detector| &detector.rule);
        let detectors: Vec<_> = rules.map(|rule| rule.name.as_str()).collect();
        for draft in &self.0 {
            let filter = &draft.config.filter;
            for (key, what, names, places, known) in [
                (
                    "policies",
                    "[[policy]]",
                    &filter.policies,
                    &draft.policies,
                    &policies,
                ),
                (
                    "detectors",
                    "[[detector]]",
                    &filter.detectors,
                    &draft.detectors,
                    &detectors,
                ),
            ] {
                for (name, place) in names.iter().zip(places) {
                    if !known.contains(&name.as_str()) {
                        let known = known.iter().copied();
                        return Err(not_there(place, key, TABLE, what, name, known));
                    }
                }
            }
        }
        Ok(self.0.into_iter().map(|draft| draft.config).collect())
    }
}

fn refuse(section: &Section<'_>, key: &'static str, why: &str) -> Result<(), ConfigError> {
    section.get(key).map_or(Ok(()), |item| Err(item.error(why)))
}

fn filter(section: &Section<'_>) -> Result<NotifyFilter, ConfigError> {
    let kinds = EventKind::TOLD.map(|kind| (kind.name(), kind));
    let causes = BanCause::ALL.map(|cause| (cause.name(), cause.name()));
    let events: Vec<EventKind> = words(section, "events", &kinds)?;
    let mut causes: Vec<&str> = words(section, "causes", &causes)?;
    if causes.is_empty() {
        // Nobody wants a message for each line of a list.
        causes = shared::by_default()
            .into_iter()
            .map(BanCause::name)
            .collect();
    }
    let names = |key, what: &str| {
        let items = section.get(key).map(|item| one_at_least(&item));
        let items = items.transpose()?.unwrap_or_default();
        let names = items.iter().map(|item| limit::name(item, what));
        names.collect::<Result<Vec<_>, ConfigError>>()
    };
    let filter = NotifyFilter {
        events: if events.is_empty() {
            vec![EventKind::Ban]
        } else {
            events
        },
        policies: names("policies", "policy")?,
        causes: causes.into_iter().map(str::to_owned).collect(),
        detectors: names("detectors", "detector")?,
    };
    let bans = [EventKind::Ban, EventKind::Unban];
    let findings = [EventKind::Ban, EventKind::Unban, EventKind::Detect];
    for (key, kinds) in [("causes", bans.as_slice()), ("detectors", &findings)] {
        let other = filter.events.iter().find(|kind| !kinds.contains(kind));
        if let (Some(item), Some(kind)) = (section.get(key), other) {
            return Err(item.error(format!(
                "a `{}` has none, and would never be told; write a [[notify]] of its own for it",
                kind.name()
            )));
        }
    }
    Ok(filter)
}

/// The value of `key` as a list of words, each once; none if it is not there.
fn words<T: Copy + PartialEq>(
    section: &Section<'_>,
    key: &'static str,
    known: &[(&str, T)],
) -> Result<Vec<T>, ConfigError> {
    let mut words = Vec::new();
    if let Some(item) = section.get(key) {
        for item in one_at_least(&item)? {
            let word = item.word(known)?;
            if !words.contains(&word) {
                words.push(word);
            }
        }
    }
    Ok(words)
}

/// The value as a list that is not empty: one that is would mean everything to some, and nothing
/// to others.
fn one_at_least<'t>(item: &Item<'t>) -> Result<Vec<Item<'t>>, ConfigError> {
    let items = item.list("a list of names in quotes")?;
    if items.is_empty() {
        return Err(item.error("an empty list; name one at least, or leave it out"));
    }
    Ok(items)
}

/// A time that is no longer than `most`; `None` if it is not there.
fn time(
    section: &Section<'_>,
    key: &'static str,
    most: Duration,
) -> Result<Option<Duration>, ConfigError> {
    let Some(item) = section.get(key) else {
        return Ok(None);
    };
    let most_text = humantime::format_duration(most);
    let time = ban::finite(&item, &format!("write a time up to \"{most_text}\""))?;
    if time > most {
        return Err(item.error(format!("is too long; write at most \"{most_text}\"")));
    }
    Ok(Some(time))
}

fn webhook(
    section: &Section<'_>,
    url: &Item<'_>,
    kinds: &[EventKind],
) -> Result<WebhookConfig, ConfigError> {
    let batch = match section.get("batch") {
        Some(item) => {
            let batch = item.section(&section::BATCH, "a table: { max = 100, wait = \"2s\" }")?;
            let max = batch.get("max");
            Batching {
                max: max.map_or(Ok(100), |item| item.integer(1..=MAX_BATCH))?,
                wait: time(&batch, "wait", MAX_WAIT)?.unwrap_or(Duration::from_secs(2)),
            }
        }
        None => Batching::NONE,
    };
    let path = |key| {
        let item = section.get(key);
        item.map(|item| absolute_path(&item).map(PathBuf::from))
            .transpose()
    };
    let headers = section.get("headers").map(|item| headers(&item));
    let headers = headers.transpose()?.unwrap_or_default();
    if let Some(item) = section.get("bearer_file")
        && headers.contains_key("authorization")
    {
        return Err(item.error("`headers` have an Authorization already; remove one of the two"));
    }
    Ok(WebhookConfig {
        url: self::url(url)?,
        batch,
        template: template(section, kinds)?,
        headers,
        secret_file: path("secret_file")?,
        bearer_file: path("bearer_file")?,
        ca_file: path("ca_file")?,
        give_up: match section.get("give_up") {
            Some(item) => ban::finite(&item, "write a time such as \"1h\"")?,
            None => Duration::from_secs(3600),
        },
    })
}

fn url(item: &Item<'_>) -> Result<WebhookUrl, ConfigError> {
    const EXPECTED: &str = "a URL in quotes, such as \"https://chat.example.com/hook\"";
    // The text may be a secret, so no message has it.
    let wrong = |problem: &str| item.error(format!("{problem}; expected {EXPECTED}"));
    let url = Url::parse(item.string(EXPECTED)?).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("this is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "it has a user or a password in it; write them into `headers`, or use bearer_file",
        ));
    }
    Ok(WebhookUrl(url))
}

fn headers(item: &Item<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    const EXPECTED: &str = "a table of texts: { X-Key = \"value\" }";
    let mut headers = BTreeMap::new();
    for (name, value) in item.named_texts(EXPECTED)? {
        let wrong = |problem: &str| item.error(format!("{}: {problem}", quote(&name)));
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| wrong("this cannot be the name of a header"))?;
        HeaderValue::from_str(&value)
            .map_err(|_| wrong("its value has characters that no header can have"))?;
        let ours = [
            "connection",
            "content-length",
            "content-type",
            "host",
            "transfer-encoding",
        ];
        if ours.contains(&header.as_str()) || header.as_str().starts_with("x-abuser-") {
            return Err(wrong("abuser sets this header; remove it"));
        }
        if headers.insert(header.as_str().to_owned(), value).is_some() {
            return Err(wrong("it is there twice; remove one"));
        }
        if headers.len() > MAX_HEADERS {
            return Err(item.error(format!("there are more than {MAX_HEADERS}; remove some")));
        }
    }
    Ok(headers)
}

/// The template's text, tried on events of these kinds.
fn template(section: &Section<'_>, kinds: &[EventKind]) -> Result<Option<String>, ConfigError> {
    match (section.get("template"), section.get("template_file")) {
        (None, None) => Ok(None),
        (Some(_), Some(file)) => {
            Err(file.error("there is a `template` as well; remove one of the two"))
        }
        (Some(item), None) => {
            let text = item.string("a template in quotes")?;
            check_template(text, kinds).map_err(|error| item.error(error))?;
            Ok(Some(text.to_owned()))
        }
        (None, Some(item)) => {
            let path = absolute_path(&item)?;
            let most = u64::try_from(MAX_TEMPLATE).unwrap_or(u64::MAX);
            let shown = quote(path);
            let bytes = read_bounded(path.as_ref(), most)
                .map_err(|error| item.error(format!("cannot read {shown}: {error}")))?;
            let text = String::from_utf8(bytes)
                .map_err(|_| item.error(format!("{shown} is not UTF-8; save it as UTF-8")))?;
            check_template(&text, kinds)
                .map_err(|error| item.error(format!("{shown}: {error}")))?;
            Ok(Some(text))
        }
    }
}

fn command(section: &Section<'_>, item: &Item<'_>) -> Result<CommandConfig, ConfigError> {
    const EXPECTED: &str = "a program and its arguments: [\"/usr/local/bin/hook\", \"argument\"]";
    let words = item.list_of_at_most(MAX_ARGUMENTS, EXPECTED)?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(item.wrong_type(EXPECTED));
    };
    let program = absolute_path(program)?;
    let arguments = arguments.iter().map(|item| {
        let argument = item.string("an argument in quotes")?;
        if argument.contains('\0') {
            return Err(item.error("no argument can have a zero byte in it"));
        }
        Ok(argument.to_owned())
    });
    let arguments = arguments.collect::<Result<_, ConfigError>>()?;
    let parallel = section.get("parallel");
    Ok(CommandConfig {
        program: program.into(),
        arguments,
        parallel: parallel.map_or(Ok(4), |item| item.integer(1..=64))?,
    })
}
