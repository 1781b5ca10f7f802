//! `cscli decisions list -l 0 -o json`: alerts, each with its decisions. Without `-l 0` it lists
//! a hundred alerts and does not say that there are more; what was imported it lists only with
//! `--origin cscli-import`. Also a flat array of decisions, which `cscli decisions import` takes,
//! and what the local API streams: an object of `new` and `deleted` ones.

use std::{
    fmt,
    io::{self, BufRead},
};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    BadLine, Expiry, Item, Sink,
    elements::{self, problem},
    entries, times,
};

pub(super) fn read(input: &mut dyn BufRead, sink: Sink<'_>) -> io::Result<()> {
    let (_, skipped) = elements::begin(input)?;
    let mut number = 0;
    elements::documents(input, skipped, sink, |source, sink| {
        let decisions = Decisions {
            number: &mut number,
            sink,
        };
        decisions.deserialize(source)
    })
}

/// Takes decisions in whatever they are wrapped in.
struct Decisions<'a, 'b> {
    /// Of how many it was told.
    number: &'a mut u64,
    sink: Sink<'b>,
}

impl Decisions<'_, '_> {
    fn within(&mut self) -> Decisions<'_, '_> {
        Decisions {
            number: self.number,
            sink: self.sink,
        }
    }

    fn bad(self, text: &str) {
        *self.number += 1;
        let problem = "neither an alert nor a decision";
        (self.sink)(Item::Bad(BadLine::new(*self.number, text, problem)));
    }
}

impl<'de> DeserializeSeed<'de> for Decisions<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Decisions<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("alerts or decisions")
    }

    /// `null`, which is what there is when nobody is banned.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.bad(&value.to_string());
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.bad(&value.to_string());
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.bad(&value.to_string());
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.bad(&value.to_string());
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.bad(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        while array.next_element_seed(self.within())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut decision = Decision::default();
        let mut wraps = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "decisions" | "new" => {
                    wraps = true;
                    map.next_value_seed(self.within())?;
                }
                "deleted" => {
                    wraps = true;
                    map.next_value::<IgnoredAny>()?;
                }
                key => match decision.field(key) {
                    Some(field) => *field = Some(map.next_value()?),
                    None => {
                        map.next_value::<IgnoredAny>()?;
                    }
                },
            }
        }
        if !wraps {
            *self.number += 1;
            decision.read(*self.number, self.sink);
        }
        Ok(())
    }
}

/// One decision: its fields, as they stand there.
#[derive(Default)]
struct Decision {
    scope: Field,
    value: Field,
    duration: Field,
    kind: Field,
    scenario: Field,
    reason: Field,
    simulated: Field,
}

type Field = Option<Box<RawValue>>;

impl Decision {
    fn field(&mut self, key: &str) -> Option<&mut Field> {
        Some(match key {
            "scope" => &mut self.scope,
            "value" => &mut self.value,
            "duration" => &mut self.duration,
            "type" => &mut self.kind,
            "scenario" => &mut self.scenario,
            "reason" => &mut self.reason,
            "simulated" => &mut self.simulated,
            _ => return None,
        })
    }

    fn read(&self, number: u64, sink: Sink<'_>) {
        let shown = self.value.as_deref().map_or("", RawValue::get);
        match self.entry() {
            Ok((source, expires, reason)) => {
                entries(number, shown, &source, expires, reason.as_deref(), sink);
            }
            Err(problem) => sink(Item::Bad(BadLine::new(number, shown, problem))),
        }
    }

    /// Whom it bans, until when, and why.
    fn entry(&self) -> Result<(String, Expiry, Option<String>), String> {
        let Some(source) = text("value", &self.value)? else {
            return Err("neither an alert nor a decision: it has no `value`".to_owned());
        };
        // As `cscli decisions import` fills in what is not said.
        let scope = text("scope", &self.scope)?.unwrap_or_else(|| "Ip".to_owned());
        if !scope.eq_ignore_ascii_case("ip") && !scope.eq_ignore_ascii_case("range") {
            return Err(format!(
                "decisions about a scope such as {scope:?} cannot be carried over, only about Ip \
                 and Range"
            ));
        }
        let kind = text("type", &self.kind)?.unwrap_or_else(|| "ban".to_owned());
        if !kind.eq_ignore_ascii_case("ban") {
            return Err(format!(
                "decisions of type {kind:?} cannot be carried over, only ban"
            ));
        }
        if self.simulated.as_deref().map(RawValue::get) == Some("true") {
            return Err("the decision is simulated: it bans nobody".to_owned());
        }
        let expires = match text("duration", &self.duration)? {
            Some(duration) => times::left(&duration)?,
            None => Expiry::Unsaid,
        };
        let reason = match text("scenario", &self.scenario)? {
            Some(scenario) => Some(scenario),
            None => text("reason", &self.reason)?,
        };
        Ok((source, expires, reason))
    }
}

/// The text that a field is; none if it is `null`.
fn text(name: &str, field: &Field) -> Result<Option<String>, String> {
    let Some(field) = field else {
        return Ok(None);
    };
    serde_json::from_str(field.get()).map_err(|error| format!("`{name}`: {}", problem(&error)))
}
