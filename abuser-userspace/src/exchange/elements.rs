//! JSON that is read as it comes: the elements of an array, one after the other.
//!
//! An element is taken out of the stream as the text it is and understood after that: one that
//! is nested too deeply, or has a number that no machine holds, costs nothing but itself.

use std::{
    fmt,
    io::{self, BufRead, BufReader},
};

use serde::{
    Deserialize, Serialize,
    de::{
        DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor,
        value::MapAccessDeserializer,
    },
};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use super::{BadLine, Item, Sink};

/// Where the values of an input come from.
pub(super) type Source<'a> =
    serde_json::Deserializer<serde_json::de::IoRead<BufReader<&'a mut dyn BufRead>>>;

/// Calls `each` at the beginning of every value of the input, that it may take it. Where the
/// input is not JSON any more, that is told with the line, and is the end. `skipped` lines are
/// read already.
pub(super) fn documents(
    input: &mut dyn BufRead,
    skipped: u64,
    sink: Sink<'_>,
    mut each: impl FnMut(&mut Source<'_>, Sink<'_>) -> serde_json::Result<()>,
) -> io::Result<()> {
    // Taken byte by byte, which is slow through a `dyn`.
    let mut source = serde_json::Deserializer::from_reader(BufReader::new(input));
    loop {
        match source.end() {
            Ok(()) => return Ok(()),
            Err(error) if error.is_io() => return Err(error.into()),
            // There is more to come.
            Err(_) => {}
        }
        match each(&mut source, sink) {
            Ok(()) => {}
            Err(error) if error.is_io() => return Err(error.into()),
            Err(error) => {
                // Before the first byte of a line is the line end that it broke at.
                let line = error.line() - usize::from(error.column() == 0 && error.line() > 1);
                let line = u64::try_from(line).unwrap_or_default();
                let problem = format!(
                    "the JSON breaks here: {}; nothing after it is read",
                    problem(&error)
                );
                sink(Item::Bad(BadLine::new(line + skipped, "", problem)));
                return Ok(());
            }
        }
    }
}

/// Passes over what may stand before the first value; that value's first byte, and how many
/// lines were passed.
pub(super) fn begin(input: &mut dyn BufRead) -> io::Result<(Option<u8>, u64)> {
    const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
    let mut lines = 0;
    loop {
        let first = match input.fill_buf() {
            Ok(available) => available.first().copied(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match first {
            Some(byte) if byte.is_ascii_whitespace() || BYTE_ORDER_MARK.contains(&byte) => {
                lines += u64::from(byte == b'\n');
                input.consume(1);
            }
            first => return Ok((first, lines)),
        }
    }
}

/// What is wrong, without where: a line within an element says nothing.
pub(super) fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line ") {
        Some((problem, _)) => problem.to_owned(),
        None => text,
    }
}

/// Takes an array and hands on its elements. `null` has none; anything else is the only element
/// of itself.
pub(super) struct Elements<F>(pub(super) F);

impl<F: FnMut(&RawValue)> Elements<F> {
    fn only<E: Error>(mut self, value: impl Serialize) -> Result<(), E> {
        let value = to_raw_value(&value).map_err(E::custom)?;
        (self.0)(&value);
        Ok(())
    }
}

impl<'de, F: FnMut(&RawValue)> DeserializeSeed<'de> for Elements<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(&RawValue)> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        while let Some(element) = array.next_element::<Box<RawValue>>()? {
            (self.0)(&element);
        }
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.only(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.only(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.only(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.only(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.only(value)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let value = Value::deserialize(MapAccessDeserializer::new(map))?;
        self.only(value)
    }
}
