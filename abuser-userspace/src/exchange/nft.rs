//! `nft -j list set` or `nft -j list ruleset`: the elements of sets of addresses.
//!
//! What nft lists tells a set's type before its elements; a tool that sorts the keys may have
//! turned that around. Then each element is judged for itself.

use std::{
    fmt,
    io::{self, BufRead},
    time::Duration,
};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, value::RawValue};

use super::{
    BadLine, Expiry, Item, Sink,
    elements::{self, Elements, problem},
    entries,
};

pub(super) fn read(input: &mut dyn BufRead, sink: Sink<'_>) -> io::Result<()> {
    let (_, skipped) = elements::begin(input)?;
    let mut number = 0;
    elements::documents(input, skipped, sink, |source, sink| {
        let part = Part {
            level: Level::Document,
            number: &mut number,
            sink,
        };
        part.deserialize(source)
    })
}

/// Where in a document a part of it is.
#[derive(Clone, Copy)]
enum Level {
    /// `{"nftables": [...]}`.
    Document,
    /// The array in there.
    Objects,
    /// One of its objects: a set, a rule, or a command such as `add` with one of them.
    Object,
    /// A set, or elements of one.
    Set,
    /// A map: its elements lead somewhere, they are not only listed.
    Map,
}

/// Takes a part of a document, and passes over what has no sets.
struct Part<'a, 'b> {
    level: Level,
    /// How many elements there were.
    number: &'a mut u64,
    sink: Sink<'b>,
}

impl Part<'_, '_> {
    fn within(&mut self, level: Level) -> Part<'_, '_> {
        Part {
            level,
            number: self.number,
            sink: self.sink,
        }
    }

    /// A set that is not read, by its name.
    fn skipped(&mut self, name: &str, problem: &str) {
        let problem = format!("{problem}; its elements are left out");
        (self.sink)(Item::Bad(BadLine::new(*self.number + 1, name, problem)));
    }

    fn read_set<'de, A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        let mut name = String::new();
        let mut default = Expiry::Never;
        let mut is_skipped = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "name" => {
                    let raw: Box<RawValue> = map.next_value()?;
                    name = serde_json::from_str(raw.get()).unwrap_or_default();
                }
                "type" => {
                    let raw: Box<RawValue> = map.next_value()?;
                    let is_read = matches!(raw.get(), "\"ipv4_addr\"" | "\"ipv6_addr\"");
                    if !is_read && !matches!(self.level, Level::Map) {
                        let problem = format!(
                            "sets of type {} cannot be carried over, only ipv4_addr and ipv6_addr",
                            raw.get()
                        );
                        self.skipped(&name, &problem);
                        is_skipped = true;
                    }
                }
                "timeout" => {
                    let raw: Box<RawValue> = map.next_value()?;
                    default = seconds(serde_json::from_str(raw.get()).ok());
                }
                "elem" if is_skipped || matches!(self.level, Level::Map) => {
                    map.next_value::<IgnoredAny>()?;
                }
                "elem" => {
                    let number = &mut *self.number;
                    let sink = &mut *self.sink;
                    map.next_value_seed(Elements(|raw: &RawValue| {
                        *number += 1;
                        element(*number, raw.get(), default, sink);
                    }))?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if matches!(self.level, Level::Map) {
            self.skipped(&name, "maps cannot be carried over, only sets");
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.level {
            Level::Objects => deserializer.deserialize_seq(self),
            _ => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Part<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("what `nft -j list` prints: {\"nftables\": [...]}")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        while array
            .next_element_seed(self.within(Level::Object))?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        if matches!(self.level, Level::Set | Level::Map) {
            return self.read_set(map);
        }
        while let Some(key) = map.next_key::<String>()? {
            let level = match (self.level, key.as_str()) {
                (Level::Document, "nftables") => Level::Objects,
                (Level::Object, "set" | "element") => Level::Set,
                (Level::Object, "map") => Level::Map,
                (Level::Object, "add" | "create") => Level::Object,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            map.next_value_seed(self.within(level))?;
        }
        Ok(())
    }
}

fn element(number: u64, text: &str, default: Expiry, sink: Sink<'_>) {
    let read = || {
        let value: Value = serde_json::from_str(text).map_err(|error| problem(&error))?;
        let Some(described) = value.get("elem") else {
            return Ok((source(&value)?, default, None));
        };
        let expires = ["expires", "timeout"]
            .iter()
            .find_map(|name| Some((*name, described.get(name)?)));
        let expires = match expires {
            None => default,
            // Less than a second is left.
            Some(("expires", left)) if left.as_u64() == Some(0) => Expiry::In(Duration::ZERO),
            Some((name, time)) => match time.as_u64() {
                Some(time) => seconds(Some(time)),
                None => return Err(format!("`{name}` is not a number of seconds")),
            },
        };
        let value = described.get("val").unwrap_or(&Value::Null);
        let comment = described.get("comment").and_then(Value::as_str);
        Ok((source(value)?, expires, comment.map(str::to_owned)))
    };
    match read() {
        Ok((source, expires, reason)) => {
            entries(number, text, &source, expires, reason.as_deref(), sink);
        }
        Err(problem) => sink(Item::Bad(BadLine::new(number, text, problem))),
    }
}

/// None and 0 are for good.
fn seconds(seconds: Option<u64>) -> Expiry {
    match seconds {
        None | Some(0) => Expiry::Never,
        Some(seconds) => Expiry::In(Duration::from_secs(seconds)),
    }
}

/// The source that an element is, as text.
fn source(value: &Value) -> Result<String, String> {
    let written = || {
        if let Some(address) = value.as_str() {
            return Some(address.to_owned());
        }
        if let Some(prefix) = value.get("prefix") {
            let address = prefix.get("addr")?.as_str()?;
            return Some(format!("{address}/{}", prefix.get("len")?.as_u64()?));
        }
        match value.get("range")?.as_array()?.as_slice() {
            [first, last] => Some(format!("{}-{}", first.as_str()?, last.as_str()?)),
            _ => None,
        }
    };
    written().ok_or_else(|| "neither an address, a prefix nor a range of addresses".to_owned())
}
