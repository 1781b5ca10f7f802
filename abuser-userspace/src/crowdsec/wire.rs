//! What a local API streams, read as it comes: a million decisions take no more memory than they do
//! when they are read.
//!
//! What is no answer changes nothing, and a decision that cannot be read takes no other with it.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt,
    io::{self, Read},
    rc::Rc,
};

use abuser_common::layout::MAX_BANS;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    decisions::{Decision, DecisionKey},
    element::{Elements, Ignored, LeftOut, Wire},
    filter::Filter,
};
use crate::words::plain;

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
pub struct Answer {
    /// New decisions.
    pub new: Vec<Decision>,
    /// Decisions that are no more; of all that there is, only those that may be own ones.
    pub over: Vec<DecisionKey>,
    /// Decisions that ban nobody here, by why.
    pub ignored: BTreeMap<Ignored, u64>,
    /// The first of those that should, with why they cannot.
    pub shown: Vec<String>,
}

/// How answers are read.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Whether it may ban prefixes wider than IPv4 /16 and IPv6 /32.
    pub force: bool,
    /// Whether it is all that there is: then decisions that are no more are of interest only if this daemon
    /// has pushed them.
    pub whole: bool,
    /// Which decisions are taken.
    pub filter: Filter,
}

impl Reading {
    /// Reads an answer; an error says what is wrong with it.
    pub fn read(self, input: impl Read) -> Result<Answer, String> {
        let Self {
            force,
            whole,
            filter,
        } = self;
        let mut reader = Reader {
            whole,
            elements: Elements::new(force, filter),
            answer: Answer::default(),
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
        if whole
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
    whole: bool,
    elements: Elements,
    answer: Answer,
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

impl Reader {
    fn take_new(&mut self, text: &str) -> Result<(), String> {
        match self.elements.read(text) {
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
                    // JSON may have line breaks between its parts, and DEL within them.
                    let shown = plain(&format!("{shown}: {problem}")).into_owned();
                    self.answer.shown.push(shown);
                }
                Ok(())
            }
        }
    }

    fn take_over(&mut self, text: &str) -> Result<(), String> {
        // What is all that there is does not have them anyway. Those that could not be read banned nobody.
        if let Ok(wire) = Wire::parse(text)
            && (!self.whole || self.elements.filter.may_be_own(wire.origin()))
            && let Ok((source, id)) = wire.key()
        {
            if self.answer.over.len() >= MAX_DECISIONS {
                return Err(format!("more than {MAX_DECISIONS} decisions are no more"));
            }
            self.answer.over.push((source, id));
        }
        Ok(())
    }
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
    use std::sync::Arc;

    use abuser_common::prefix::PrefixKey;
    use proptest::prelude::*;

    use super::*;
    use crate::config::CrowdsecConfig;

    fn read(whole: bool, text: &str) -> Result<Answer, String> {
        let reading = Reading {
            whole,
            ..Reading::default()
        };
        reading.read(text.as_bytes())
    }

    fn whole(text: &str) -> Result<Answer, String> {
        read(true, text)
    }

    fn changes(text: &str) -> Result<Answer, String> {
        read(false, text)
    }

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
        let answer = whole(&text).unwrap();
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
        let answer = whole(&text).unwrap();
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
        let answer = whole(&text).unwrap();
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
            whole: true,
            ..Reading::default()
        };
        assert_eq!(
            sources(&forced.read(text.as_bytes()).unwrap())[0],
            "8.0.0.0/7"
        );
    }

    #[test]
    fn what_cannot_be_read_is_shown_on_one_plain_line() {
        let text = "{\"new\":[{\"id\":1,\n\"x\u{7f}\":2}]}";
        let shown = &changes(text).unwrap().shown[0];
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert!(shown.contains("\\n\"x\\u{7f}\":2}"), "{shown}");
        let error = whole(text).unwrap_err();
        assert!(!error.contains(char::is_control), "{error:?}");
    }

    #[test]
    fn durations_beyond_all_bounds_are_for_good_or_malformed_and_never_short() {
        let text = new(&[
            decision(1, "Ip", "203.0.113.1", "2562047h47m16.854775807s"),
            decision(2, "Ip", "203.0.113.2", "99999999999999999999999h"),
            decision(3, "Ip", "203.0.113.3", &"9".repeat(100_000)),
            decision(4, "Ip", "203.0.113.4", "-99999999999999999999999h"),
            decision(5, "Ip", "203.0.113.5", ""),
        ]);
        let answer = whole(&text).unwrap();
        assert!(answer.new.iter().all(|decision| decision.expires_ns == 0));
        assert_eq!(sources(&answer)[0], "203.0.113.1/32");
        let malformed = answer.ignored[&Ignored::Malformed];
        assert!(malformed >= 2, "{:?}", answer.ignored);
    }

    #[test]
    fn those_that_are_not_asked_for_are_left_out_and_own_ones_that_are_no_more_are_told_of() {
        let own = |text: String| text.replace("\"cscli\"", "\"abuser\"");
        let text = format!(
            "{{\"new\":[{},{}],\"deleted\":[{},{}]}}",
            decision(1, "Ip", "203.0.113.1", "1h"),
            own(decision(2, "Ip", "203.0.113.2", "1h")),
            decision(3, "Ip", "203.0.113.3", "-1s"),
            own(decision(4, "Ip", "203.0.113.4", "-1s")),
        );
        let config = CrowdsecConfig {
            origins: vec!["cscli".to_owned()],
            ..CrowdsecConfig::at("/run/crowdsec.sock")
        };
        for (pushes, over) in [(true, vec![4]), (false, vec![])] {
            let reading = Reading {
                whole: true,
                filter: Filter::new(&config, pushes),
                ..Reading::default()
            };
            let answer = reading.read(text.as_bytes()).unwrap();
            let ids = |keys: &[DecisionKey]| keys.iter().map(|(_, id)| *id).collect::<Vec<_>>();
            assert_eq!(ids(&answer.over), over, "all of them if nobody pushes");
            assert_eq!(answer.new.len(), if pushes { 1 } else { 2 });
            assert!(answer.ignored.is_empty());
        }
    }

    #[test]
    fn decisions_that_are_no_more_are_told_by_source_and_number() {
        let over = decision(7, "Ip", "203.0.113.1", "-2562047h47m16.854775808s");
        let text = format!("{{\"new\":null,\"deleted\":[{over},{{}},null]}}");
        let answer = changes(&text).unwrap();
        let key = PrefixKey::new([203, 0, 113, 1].into(), 32).unwrap();
        assert_eq!(answer.over, [(key, 7)]);
        assert!(whole(&text).unwrap().over.is_empty());
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_not_an_empty_one() {
        let good = new(&[decision(1, "Ip", "203.0.113.1", "1h")]);
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
            &good[..good.len() - 1],
            &good[..good.len() / 2],
        ] {
            let error = whole(text).unwrap_err();
            assert!(error.contains("no list of decisions"), "{text:?}: {error}");
        }
        let unreadable = "{\"new\":[{\"ip\":\"203.0.113.1\"}]}";
        let error = whole(unreadable).unwrap_err();
        assert!(
            error.contains("none of its decisions can be read"),
            "{error}"
        );
        assert!(changes(unreadable).is_ok());
        for text in ["{\"new\":[],\"deleted\":[]}", "{\"new\":null}"] {
            assert!(whole(text).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(text in "\\PC*", value in "[0-9a-f:./%]{0,30}|\\PC*", duration in "[0-9hms.-]{0,20}") {
            let _ = whole(&text);
            let wire = serde_json::json!({"new": [{
                "id": 1, "type": "ban", "scope": "Ip", "value": value, "duration": duration,
            }], "deleted": [{"id": 1, "scope": "Ip", "value": value}]});
            let _ = changes(&wire.to_string());
        }
    }
}
