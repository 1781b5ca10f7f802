//! What a local API streams, read as it comes: a million decisions take no more memory than they do
//! when they are read.
//!
//! What is no answer changes nothing, and a decision that cannot be read takes no other with it.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::{BTreeMap, HashMap},
    fmt,
    io::{self, Read},
    rc::Rc,
    sync::Arc,
};

use abuser_common::{
    layout::{BanCause, MAX_BANS},
    prefix::PrefixKey,
};
use ipnet::IpNet;
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::decisions::{Decision, DecisionKey};
use crate::{
    config::{PrefixError, parse_prefix},
    daemon::{clock, engine::MAX_REASON},
    exchange::{self, Expiry},
    policy::is_wide,
    store::rows::BanNote,
    words::beginning,
};

/// Decisions of one answer at most, some of which may be about the same source.
pub(super) const MAX_DECISIONS: usize = 4 * MAX_BANS as usize;
/// The longest element of an answer, in bytes: no more of it is held at once before it is read.
const MAX_ELEMENT: usize = 1 << 20;
/// Decisions that the log shows of those which cannot be read.
const SHOWN: usize = 5;
/// How much of one is shown.
const SHOWN_LENGTH: usize = 160;

/// An answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// New decisions.
    pub(super) new: Vec<Decision>,
    /// Decisions that are no more.
    pub(super) over: Vec<DecisionKey>,
    /// Decisions that ban nobody here, by why.
    pub(super) ignored: BTreeMap<Ignored, u64>,
    /// The first of those that should, with why they cannot.
    pub(super) shown: Vec<String>,
}

/// Why a decision bans nobody here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ignored {
    /// It asks for something else than a ban.
    Type,
    /// It is about something else than an address or a prefix.
    Scope,
    /// It is simulated.
    Simulated,
    /// It is wider than what is banned without force.
    Wide,
    /// It cannot be read.
    Malformed,
}

impl Ignored {
    /// The name used in JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Scope => "scope",
            Self::Simulated => "simulated",
            Self::Wide => "wide",
            Self::Malformed => "malformed",
        }
    }
}

/// How answers are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// Whether it may ban prefixes wider than IPv4 /16 and IPv6 /32.
    pub(super) force: bool,
    /// Whether it is all that there is: then decisions that are no more are of no interest.
    pub(super) whole: bool,
}

impl Reading {
    /// Reads an answer; an error says what is wrong with it.
    pub(super) fn read(self, input: impl Read) -> Result<Answer, String> {
        let mut reader = Reader {
            reading: self,
            answer: Answer::default(),
            notes: HashMap::new(),
            element: Rc::default(),
        };
        let mut source = serde_json::Deserializer::from_reader(Metered {
            input,
            element: Rc::clone(&reader.element),
        });
        Document(&mut reader)
            .deserialize(&mut source)
            .and_then(|()| source.end())
            .map_err(|error| format!("its answer is no list of decisions: {error}"))?;
        let answer = reader.answer;
        let malformed = answer.ignored.get(&Ignored::Malformed).copied();
        // Somebody else's list, or another version's: nobody is to be free because of it.
        if self.whole
            && answer.new.is_empty()
            && let (Some(count), Some(first)) = (malformed, answer.shown.first())
        {
            return Err(format!(
                "none of its decisions can be read, {count} in all, the first is {first}"
            ));
        }
        Ok(answer)
    }
}

/// An answer that is being read.
struct Reader {
    reading: Reading,
    answer: Answer,
    /// Notes by origin and scenario: many decisions share one.
    notes: HashMap<(String, String), Arc<BanNote>>,
    /// How many bytes of the current element have been read.
    element: Rc<Cell<usize>>,
}

/// An input of which no element is longer than [`MAX_ELEMENT`].
struct Metered<R> {
    input: R,
    element: Rc<Cell<usize>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        let element = self.element.get().saturating_add(length);
        self.element.set(element);
        if element > MAX_ELEMENT {
            let problem = format!("an element has more than {MAX_ELEMENT} bytes");
            return Err(io::Error::other(problem));
        }
        Ok(length)
    }
}

/// One decision, as it stands there.
#[derive(Deserialize)]
struct Wire<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    origin: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    scope: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow)]
    duration: Option<Cow<'a, str>>,
    #[serde(borrow)]
    scenario: Option<Cow<'a, str>>,
    simulated: Option<bool>,
}

/// Why a decision is left out, and what to say of it.
struct LeftOut(Ignored, String);

impl Reader {
    fn take_new(&mut self, text: &str) -> Result<(), String> {
        match self.decision(text) {
            Ok(Some(_)) if self.answer.new.len() >= MAX_DECISIONS => {
                Err(format!("there are more than {MAX_DECISIONS} decisions"))
            }
            Ok(Some(decision)) => {
                self.answer.new.push(decision);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(LeftOut(why, problem)) => {
                *self.answer.ignored.entry(why).or_default() += 1;
                let is_wrong = matches!(why, Ignored::Wide | Ignored::Malformed);
                if is_wrong && self.answer.shown.len() < SHOWN {
                    let shown: String = text.chars().take(SHOWN_LENGTH).collect();
                    self.answer.shown.push(format!("{shown}: {problem}"));
                }
                Ok(())
            }
        }
    }

    fn take_over(&mut self, text: &str) -> Result<(), String> {
        // Of all that there is, none is no more. Those that could not be read banned nobody.
        if !self.reading.whole
            && let Ok(wire) = serde_json::from_str::<Wire<'_>>(text)
            && let Ok((source, id)) = wire.key()
        {
            if self.answer.over.len() >= MAX_DECISIONS {
                return Err(format!("more than {MAX_DECISIONS} decisions are no more"));
            }
            self.answer.over.push((source, id));
        }
        Ok(())
    }

    /// The decision; `None` if it is over.
    fn decision(&mut self, text: &str) -> Result<Option<Decision>, LeftOut> {
        let malformed = |problem: String| LeftOut(Ignored::Malformed, problem);
        let wire: Wire<'_> =
            serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        if wire.simulated == Some(true) {
            return Err(LeftOut(Ignored::Simulated, String::new()));
        }
        let kind = wire.kind.as_deref();
        if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case("ban")) {
            return Err(match kind {
                Some(_) => LeftOut(Ignored::Type, String::new()),
                None => malformed("it has no `type`".to_owned()),
            });
        }
        let (source, id) = wire.key()?;
        let net = source
            .address()
            .and_then(|address| IpNet::new(address, u8::try_from(source.length).ok()?).ok());
        if !self.reading.force && net.as_ref().is_some_and(is_wide) {
            return Err(LeftOut(
                Ignored::Wide,
                "wider than IPv4 /16 or IPv6 /32, which takes force = true in [crowdsec]"
                    .to_owned(),
            ));
        }
        let Some(duration) = wire.duration.as_deref() else {
            return Err(malformed("it has no `duration`".to_owned()));
        };
        let expires_ns = match exchange::left(duration).map_err(malformed)? {
            Expiry::In(left) if left.is_zero() => return Ok(None),
            Expiry::In(left) => clock::kernel_deadline(left),
            _ => 0,
        };
        let text = |text: Option<Cow<'_, str>>| bounded(text.as_deref().unwrap_or_default());
        let key = (text(wire.origin), text(wire.scenario));
        let note = self
            .notes
            .entry(key)
            .or_insert_with_key(|(origin, scenario)| {
                let said = |text: &String| (!text.is_empty()).then(|| text.clone());
                Arc::new(BanNote {
                    cause: BanCause::Crowdsec,
                    subject: said(origin),
                    policy: None,
                    reason: said(scenario),
                    by: None,
                })
            });
        Ok(Some(Decision {
            id,
            source,
            expires_ns,
            note: Arc::clone(note),
        }))
    }
}

impl Wire<'_> {
    /// Whom it is about, and its number.
    fn key(&self) -> Result<DecisionKey, LeftOut> {
        let malformed = |problem: String| LeftOut(Ignored::Malformed, problem);
        match self.scope.as_deref() {
            Some(scope)
                if ["ip", "range"]
                    .iter()
                    .any(|known| scope.eq_ignore_ascii_case(known)) => {}
            Some(_) => return Err(LeftOut(Ignored::Scope, String::new())),
            None => return Err(malformed("it has no `scope`".to_owned())),
        }
        let Some(value) = self.value.as_deref() else {
            return Err(malformed("it has no `value`".to_owned()));
        };
        let net = match parse_prefix(value) {
            Ok(net) => net,
            // As CrowdSec itself takes it.
            Err(PrefixError::HostBits { network, .. }) => network,
            Err(error) => return Err(malformed(error.to_string())),
        };
        let source = PrefixKey::new(net.addr(), net.prefix_len());
        match (source, self.id) {
            (Some(source), Some(id)) => Ok((source, id)),
            _ => Err(malformed("it has no `id`".to_owned())),
        }
    }
}

/// A text that is kept as long as a ban.
fn bounded(text: &str) -> String {
    beginning(text, MAX_REASON).to_owned()
}

/// The object that an answer is.
struct Document<'r>(&'r mut Reader);

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with `new` and `deleted`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(reader) = self;
        let mut has_new = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "new" => {
                    has_new = true;
                    map.next_value_seed(Array(reader, Reader::take_new))?;
                }
                "deleted" => map.next_value_seed(Array(reader, Reader::take_over))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if has_new {
            Ok(())
        } else {
            // An answer about something else names nobody, which must not free anybody.
            Err(A::Error::custom("it has no `new`"))
        }
    }
}

/// An array of decisions, or `null`, which Go writes for an empty one.
struct Array<'r>(&'r mut Reader, fn(&mut Reader, &str) -> Result<(), String>);

impl<'de> DeserializeSeed<'de> for Array<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Array<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of decisions or null")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let Self(reader, take) = self;
        while let Some(element) = array.next_element::<Box<RawValue>>()? {
            take(reader, element.get()).map_err(A::Error::custom)?;
            reader.element.set(0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHOLE: Reading = Reading {
        force: false,
        whole: true,
    };
    const CHANGES: Reading = Reading {
        force: false,
        whole: false,
    };

    /// A decision as a local API writes it, with this scope, value and duration.
    fn decision(id: u64, scope: &str, value: &str, duration: &str) -> String {
        format!(
            "{{\"duration\":\"{duration}\",\"id\":{id},\"origin\":\"cscli\",\"scenario\":\"manual 'ban' \
             from 'test'\",\"scope\":\"{scope}\",\"type\":\"ban\",\"value\":\"{value}\"}}"
        )
    }

    fn new(decisions: &[String]) -> String {
        format!("{{\"deleted\":null,\"new\":[{}]}}", decisions.join(","))
    }

    fn sources(answer: &Answer) -> Vec<String> {
        let sources = answer.new.iter().map(|decision| {
            let address = decision.source.address().unwrap();
            format!("{address}/{}", decision.source.length)
        });
        sources.collect()
    }

    #[test]
    fn addresses_and_prefixes_are_read_however_they_are_written() {
        let text = new(&[
            decision(1, "Ip", "203.0.113.1", "3h59m49.481837158s"),
            decision(2, "range", "198.51.100.0/24", "1h"),
            decision(3, "IP", "2001:db8::1", "1h"),
            decision(4, "Range", "198.51.100.7/24", "1h"),
            decision(5, "Ip", "::ffff:203.0.113.9", "1h"),
        ]);
        let answer = WHOLE.read(text.as_bytes()).unwrap();
        assert_eq!(
            sources(&answer),
            [
                "203.0.113.1/32",
                "198.51.100.0/24",
                "2001:db8::1/128",
                "198.51.100.0/24",
                "203.0.113.9/32"
            ]
        );
        let first = &answer.new[0];
        assert_eq!(first.note.subject.as_deref(), Some("cscli"));
        assert_eq!(
            first.note.reason.as_deref(),
            Some("manual 'ban' from 'test'")
        );
        assert!(
            Arc::ptr_eq(&first.note, &answer.new[4].note),
            "one note for all"
        );
        assert!(answer.ignored.is_empty());
    }

    #[test]
    fn a_hundred_years_are_for_good_and_what_is_over_is_none() {
        let text = new(&[
            decision(1, "Ip", "203.0.113.1", "876600h0m0s"),
            decision(2, "Ip", "203.0.113.2", "1314900h0m0.5s"),
            decision(3, "Ip", "203.0.113.3", "87600h"),
            decision(4, "Ip", "203.0.113.4", "-1.5s"),
        ]);
        let answer = WHOLE.read(text.as_bytes()).unwrap();
        let forever = answer.new.iter().map(|decision| decision.expires_ns == 0);
        assert_eq!(forever.collect::<Vec<_>>(), [true, true, false]);
        assert!(answer.ignored.is_empty());
    }

    #[test]
    fn what_bans_nobody_here_is_counted_by_why() {
        let text = new(&[
            decision(1, "Country", "XX", "1h"),
            decision(2, "AS", "64496", "1h"),
            decision(3, "Ip", "203.0.113.1", "1h").replace("ban\"", "captcha\""),
            decision(4, "Range", "8.0.0.0/7", "1h"),
            decision(5, "Ip", "fe80::1%eth0", "1h"),
            decision(6, "Ip", "203.0.113.1", "an hour"),
            decision(7, "Ip", "203.0.113.2", "1h").replace("\"id\":7", "\"id\":\"7\""),
            decision(8, "Ip", "203.0.113.3", "1h").replace('{', "{\"simulated\":true,"),
            "17".to_owned(),
            decision(9, "Ip", "203.0.113.4", "1h"),
        ]);
        let answer = WHOLE.read(text.as_bytes()).unwrap();
        assert_eq!(sources(&answer), ["203.0.113.4/32"]);
        let ignored: Vec<_> = answer
            .ignored
            .iter()
            .map(|(why, count)| (why.name(), *count))
            .collect();
        assert_eq!(
            ignored,
            [
                ("type", 1),
                ("scope", 2),
                ("simulated", 1),
                ("wide", 1),
                ("malformed", 4)
            ]
        );
        assert_eq!(answer.shown.len(), SHOWN);
        assert!(
            answer.shown[0].contains("force = true"),
            "{:?}",
            answer.shown
        );
        let forced = Reading {
            force: true,
            ..WHOLE
        };
        assert_eq!(
            sources(&forced.read(text.as_bytes()).unwrap())[0],
            "8.0.0.0/7"
        );
    }

    #[test]
    fn decisions_that_are_no_more_are_told_by_source_and_number() {
        let over = decision(7, "Ip", "203.0.113.1", "-2562047h47m16.854775808s");
        let text = format!("{{\"new\":null,\"deleted\":[{over},{{}},null]}}");
        let answer = CHANGES.read(text.as_bytes()).unwrap();
        let key = PrefixKey::new([203, 0, 113, 1].into(), 32).unwrap();
        assert_eq!(answer.over, [(key, 7)]);
        assert!(WHOLE.read(text.as_bytes()).unwrap().over.is_empty());
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_not_an_empty_one() {
        let whole = new(&[decision(1, "Ip", "203.0.113.1", "1h")]);
        for text in [
            "",
            "null",
            "[]",
            "{}",
            "{\"message\":\"access forbidden\"}",
            "{\"deleted\":[]}",
            "{\"new\":{}}",
            "{\"new\":\"none\"}",
            "{\"new\":[]} and more",
            "<html></html>",
            &format!("{{\"new\":[\"{}\"]}}", "x".repeat(MAX_ELEMENT)),
            &whole[..whole.len() - 1],
            &whole[..whole.len() / 2],
        ] {
            let error = WHOLE.read(text.as_bytes()).unwrap_err();
            assert!(error.contains("no list of decisions"), "{text:?}: {error}");
        }
        let unreadable = "{\"new\":[{\"ip\":\"203.0.113.1\"}]}";
        let error = WHOLE.read(unreadable.as_bytes()).unwrap_err();
        assert!(
            error.contains("none of its decisions can be read"),
            "{error}"
        );
        assert!(CHANGES.read(unreadable.as_bytes()).is_ok());
        for text in ["{\"new\":[],\"deleted\":[]}", "{\"new\":null}"] {
            assert!(WHOLE.read(text.as_bytes()).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(text in "\\PC*", value in "[0-9a-f:./%]{0,30}|\\PC*", duration in "[0-9hms.-]{0,20}") {
            let _ = WHOLE.read(text.as_bytes());
            let wire = serde_json::json!({"new": [{
                "id": 1, "type": "ban", "scope": "Ip", "value": value, "duration": duration,
            }], "deleted": [{"id": 1, "scope": "Ip", "value": value}]});
            let _ = CHANGES.read(wire.to_string().as_bytes());
        }
    }
}
