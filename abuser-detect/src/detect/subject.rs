//! What a record is counted by where that is a field: a key, a user or anything else that the log tells.

use std::hash::BuildHasher;

use foldhash::quality::RandomState;

use super::table::{TextKey, TextKeys};
use crate::{
    field::{Field, Value},
    line::beginning,
    record::Record,
};

/// Whose records belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Track {
    /// Those of a source.
    #[default]
    Source,
    /// Those with the same value of a field, as a key or user. Records that lack it, or have it empty, do not
    /// count.
    Field(Field),
}

impl Track {
    /// The field, if it is one.
    pub fn field(&self) -> Option<&Field> {
        match self {
            Self::Source => None,
            Self::Field(field) => Some(field),
        }
    }
}

impl From<Field> for Track {
    fn from(field: Field) -> Self {
        match field {
            Field::Source => Self::Source,
            field => Self::Field(field),
        }
    }
}

/// Bytes of it that a finding has.
const NAMED: usize = 256;

/// The value of a field that is not empty.
pub(super) struct Subject<'r>(Value<'r>);

impl<'r> Subject<'r> {
    /// That of a record; `None` if it lacks the field, or has it empty.
    pub(super) fn of(field: &Field, record: &'r Record<'_>) -> Option<Self> {
        let value = field.of(record)?;
        value
            .with_text(|text| !text.is_empty())
            .then_some(Self(value))
    }

    /// A keyed hash of it, because the client chooses it.
    pub(super) fn hash(&self, state: &RandomState) -> u64 {
        self.0.with_text(|text| state.hash_one(text))
    }

    /// What stands for it in a table.
    pub(super) fn key(&self, keys: &TextKeys) -> TextKey {
        self.0.with_text(|text| keys.key(text))
    }

    /// Its beginning, for a finding.
    pub(super) fn name(&self) -> String {
        self.0.with_text(|text| beginning(text, NAMED).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_not_empty_and_its_name_is_bounded() {
        let record = |user: &str| Record {
            user: Some(user.to_owned().into()),
            ..Record::default()
        };
        assert!(Subject::of(&Field::User, &record("")).is_none());
        assert!(Subject::of(&Field::Key, &record("alice")).is_none());
        let long = record(&"ä".repeat(1000));
        let subject = Subject::of(&Field::User, &long).expect("a user");
        assert_eq!(subject.name(), "ä".repeat(128));
        let state = RandomState::default();
        let other = record(&"ä".repeat(1001));
        let other = Subject::of(&Field::User, &other).expect("a user");
        assert_ne!(subject.hash(&state), other.hash(&state));
    }
}
