//! Tables and values of a file, read with their places.
//!
//! The TOML tree is walked by hand instead of by `serde`: errors then are ours, in our
//! words and at the right place, also those about unknown keys and about two values that
//! do not go together.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use toml::de::{DeTable, DeValue};

use super::{
    error::{ConfigError, quote},
    source::{Place, Source},
};

/// A kind of table and the keys it may have.
#[derive(Debug)]
pub(super) struct Schema {
    /// How messages call it, with a preposition: `in [ban]`.
    pub(super) label: &'static str,
    /// All keys that it knows.
    pub(super) keys: &'static [&'static str],
}

/// Keys at the top level of a file.
pub(super) const TOP: Schema = Schema {
    label: "at the top level",
    keys: &[
        "interfaces",
        "xdp",
        "api",
        "metrics",
        "allow",
        "limit",
        "ban",
        "policy",
        "blocklist",
        "crowdsec",
        "source",
        "detector",
        "notify",
        "store",
        "fleet",
        "security",
    ],
};
/// Keys of `[xdp]`.
pub(super) const XDP: Schema = Schema {
    label: "in [xdp]",
    keys: &["mode", "pin_dir", "persist", "dispatcher", "priority"],
};
/// Keys of `[api]`.
pub(super) const API: Schema = Schema {
    label: "in [api]",
    keys: &[
        "socket",
        "group",
        "read_only",
        "listen",
        "token_file",
        "page",
    ],
};
/// Keys of `[metrics]`.
pub(super) const METRICS: Schema = Schema {
    label: "in [metrics]",
    keys: &["listen"],
};
/// Keys of `[security]`.
pub(super) const SECURITY: Schema = Schema {
    label: "in [security]",
    keys: &["sandbox"],
};
/// Keys of `[allow]`.
pub(super) const ALLOW: Schema = Schema {
    label: "in [allow]",
    keys: &["addresses", "automatic"],
};
/// Keys of each `[[limit]]`.
pub(super) const LIMIT: Schema = Schema {
    label: "in [[limit]]",
    keys: &[
        "name",
        "protocol",
        "ports",
        "count",
        "rate",
        "burst",
        "action",
        "ipv4_prefix",
        "ipv6_prefix",
        "only",
        "policy",
    ],
};
/// The keys of a policy, after those that are given.
macro_rules! policy_keys {
    ($($first:literal)?) => {
        &[
            $($first,)?
            "maxretry",
            "findtime",
            "bantime",
            "increment",
            "factor",
            "multipliers",
            "maxtime",
            "rndtime",
            "decay",
            "rollup",
            "require_verified",
        ]
    };
}

/// Keys of `[ban]`.
pub(super) const BAN: Schema = Schema {
    label: "in [ban]",
    keys: policy_keys!(),
};
/// Keys of each `[[policy]]`.
pub(super) const POLICY: Schema = Schema {
    label: "in [[policy]]",
    keys: policy_keys!("name"),
};
/// Keys of `rollup`.
pub(super) const ROLLUP: Schema = Schema {
    label: "in rollup",
    keys: &["hosts", "ipv4_prefix", "ipv6_prefix"],
};
/// Keys of each `[[blocklist]]`.
pub(super) const BLOCKLIST: Schema = Schema {
    label: "in [[blocklist]]",
    keys: &["name", "path", "format", "strict", "force"],
};
/// Keys of `[crowdsec]`.
pub(super) const CROWDSEC: Schema = Schema {
    label: "in [crowdsec]",
    keys: &[
        "url",
        "api_key_file",
        "interval",
        "origins",
        "scenarios_containing",
        "scenarios_not_containing",
        "force",
        "ca_file",
        "cert_file",
        "key_file",
        "push",
        "machine_id",
        "password_file",
        "push_causes",
    ],
};
/// Keys of each `[[source]]`.
pub(super) const SOURCE: Schema = Schema {
    label: "in [[source]]",
    keys: &[
        "name",
        "files",
        "journal",
        "journal_directory",
        "syslog",
        "syslog_group",
        "stdin",
        "preset",
        "parser",
        "pattern",
        "fields",
        "trusted_proxies",
        "from",
    ],
};
/// Keys of each `[[detector]]`.
pub(super) const DETECTOR: Schema = Schema {
    label: "in [[detector]]",
    keys: &[
        "name",
        "sources",
        "kind",
        "filter",
        "where",
        "action",
        "policy",
        "limit",
        "throttle_for",
        "ipv4_prefix",
        "ipv6_prefix",
        "type",
        "count",
        "within",
        "track",
        "ratio",
        "users",
        "statuses",
        "success_after",
        "max_stride",
        "distinct",
        "headers",
        "paths",
        "methods",
        "clients",
        "keys",
        "identical",
        "spread",
        "requests",
        "failures",
        "period",
        "history",
        "factor",
        "deviations",
        "templates",
    ],
};
/// Keys of each `[[notify]]`.
pub(super) const NOTIFY: Schema = Schema {
    label: "in [[notify]]",
    keys: &[
        "name",
        "url",
        "command",
        "events",
        "policies",
        "causes",
        "detectors",
        "timeout",
        "queue",
        "batch",
        "template",
        "template_file",
        "headers",
        "secret_file",
        "bearer_file",
        "ca_file",
        "give_up",
        "parallel",
    ],
};
/// Keys of `batch`.
pub(super) const BATCH: Schema = Schema {
    label: "in batch",
    keys: &["max", "wait"],
};
/// Keys of `[store]`.
pub(super) const STORE: Schema = Schema {
    label: "in [store]",
    keys: &["path", "history", "history_max", "evidence"],
};
/// Keys of `[fleet]`.
pub(super) const FLEET: Schema = Schema {
    label: "in [fleet]",
    keys: &[
        "nats",
        "node",
        "bucket",
        "replicas",
        "credentials_file",
        "nkey_file",
        "user",
        "password_file",
        "ca_file",
        "cert_file",
        "key_file",
        "share",
        "share_allow",
        "accept_allow",
        "accept",
        "ignore",
        "max_bantime",
        "widest_ipv4",
        "widest_ipv6",
    ],
};
const ALL: [&Schema; 18] = [
    &TOP, &XDP, &API, &METRICS, &ALLOW, &LIMIT, &BAN, &POLICY, &ROLLUP, &BLOCKLIST, &SOURCE,
    &DETECTOR, &NOTIFY, &BATCH, &STORE, &FLEET, &CROWDSEC, &SECURITY,
];

/// One table of a file, whose keys are all known.
#[derive(Debug)]
pub(super) struct Section<'t> {
    /// Where the table starts.
    pub(super) place: Place,
    source: &'t Arc<Source>,
    schema: &'static Schema,
    table: &'t DeTable<'t>,
}

impl<'t> Section<'t> {
    /// `table`, if it has no keys other than those of `schema`.
    pub(super) fn new(
        source: &'t Arc<Source>,
        schema: &'static Schema,
        table: &'t DeTable<'t>,
        place: Place,
    ) -> Result<Self, ConfigError> {
        let unknown = table
            .keys()
            .filter(|key| !schema.keys.contains(&key.get_ref().as_ref()))
            .min_by_key(|key| key.span().start);
        if let Some(key) = unknown {
            return Err(
                Place::new(source, key.span().start).error(unknown_key(schema, key.get_ref()))
            );
        }
        Ok(Self {
            place,
            source,
            schema,
            table,
        })
    }

    /// The value of `key`, if it is there.
    pub(super) fn get(&self, key: &'static str) -> Option<Item<'t>> {
        debug_assert!(
            self.schema.keys.contains(&key),
            "{key} is not in the schema"
        );
        let value = self.table.get(key)?;
        Some(Item {
            place: Place::new(self.source, value.span().start),
            source: self.source,
            key,
            label: self.schema.label,
            value: value.get_ref(),
        })
    }

    /// The value of `key`, without which the table makes no sense.
    pub(super) fn require(
        &self,
        key: &'static str,
        example: &str,
    ) -> Result<Item<'t>, ConfigError> {
        self.get(key).ok_or_else(|| {
            self.place.error(format!(
                "`{key}` is missing {}; add for example {key} = {example}",
                self.schema.label
            ))
        })
    }
}

/// One value: of a key, or in the list that is the value of a key.
#[derive(Clone, Debug)]
pub(super) struct Item<'t> {
    /// Where the value starts.
    pub(super) place: Place,
    source: &'t Arc<Source>,
    key: &'static str,
    label: &'static str,
    pub(super) value: &'t DeValue<'t>,
}

impl<'t> Item<'t> {
    /// An error about this value.
    pub(super) fn error(&self, message: impl std::fmt::Display) -> ConfigError {
        self.place
            .error(format!("`{}` {}: {message}", self.key, self.label))
    }

    /// The error that this value is not what was `expected`.
    pub(super) fn wrong_type(&self, expected: &str) -> ConfigError {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(format!("expected {expected}, found {found}"))
    }

    /// The value as a string.
    pub(super) fn string(&self, expected: &str) -> Result<&'t str, ConfigError> {
        match self.value {
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong_type(expected)),
        }
    }

    /// The value as an integer of any size up to 128 bits.
    pub(super) fn any_integer(&self, expected: &str) -> Result<i128, ConfigError> {
        match self.value {
            DeValue::Integer(integer) => i128::from_str_radix(integer.as_str(), integer.radix())
                .map_err(|_| {
                    self.error(format!("the number is out of range; expected {expected}"))
                }),
            _ => Err(self.wrong_type(expected)),
        }
    }

    /// The value as an integer within `range`.
    pub(super) fn integer<T>(&self, range: RangeInclusive<T>) -> Result<T, ConfigError>
    where
        T: TryFrom<i128> + PartialOrd + std::fmt::Display,
    {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        let integer = self.any_integer(&expected)?;
        T::try_from(integer)
            .ok()
            .filter(|integer| range.contains(integer))
            .ok_or_else(|| self.error(format!("{integer} is out of range; expected {expected}")))
    }

    /// The value as a number, with or without a point.
    pub(super) fn number(&self, expected: &str) -> Result<f64, ConfigError> {
        let text = match self.value {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            _ => return Err(self.wrong_type(expected)),
        };
        text.parse().map_err(|_| self.wrong_type(expected))
    }

    /// The value as `true` or `false`.
    pub(super) fn boolean(&self) -> Result<bool, ConfigError> {
        match self.value {
            DeValue::Boolean(value) => Ok(*value),
            _ => Err(self.wrong_type("true or false, without quotes")),
        }
    }

    /// The value as one of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let names = words.iter().map(|(name, _)| format!("{name:?}"));
        let expected = format!("one of {}", names.collect::<Vec<_>>().join(", "));
        let text = self.string(&expected)?;
        if let Some((_, value)) = words.iter().find(|(name, _)| *name == text) {
            return Ok(*value);
        }
        let near = nearest(text, words.iter().map(|(name, _)| *name))
            .map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        Err(self.error(format!("{} is not {expected}{near}", quote(text))))
    }

    /// The value as a list.
    pub(super) fn list(&self, expected: &str) -> Result<Vec<Self>, ConfigError> {
        let DeValue::Array(array) = self.value else {
            return Err(self.wrong_type(expected));
        };
        Ok(array
            .iter()
            .map(|value| Self {
                place: Place::new(self.source, value.span().start),
                value: value.get_ref(),
                ..self.clone()
            })
            .collect())
    }

    /// The value as a list of no more than `most`.
    pub(super) fn list_of_at_most(
        &self,
        most: usize,
        expected: &str,
    ) -> Result<Vec<Self>, ConfigError> {
        let items = self.list(expected)?;
        match items.get(most) {
            Some(extra) => {
                Err(extra.error(format!("this is one more than the {most} there can be")))
            }
            None => Ok(items),
        }
    }

    /// The value as a table of texts whose keys are anybody's.
    pub(super) fn named_texts(
        &self,
        expected: &str,
    ) -> Result<BTreeMap<String, String>, ConfigError> {
        let DeValue::Table(table) = self.value else {
            return Err(self.wrong_type(expected));
        };
        let texts = table.iter().map(|(key, value)| match value.get_ref() {
            DeValue::String(text) => Ok((key.get_ref().to_string(), text.to_string())),
            _ => Err(self.error(format!(
                "{} is not text; expected {expected}",
                quote(key.get_ref())
            ))),
        });
        texts.collect()
    }

    /// The value as the tables that double brackets make.
    pub(super) fn tables(&self, expected: &str) -> Result<Vec<Self>, ConfigError> {
        match self.value {
            DeValue::Table(_) => Err(self.wrong_type(expected)),
            _ => self.list(expected),
        }
    }

    /// The value as a table of kind `schema`.
    pub(super) fn section(
        &self,
        schema: &'static Schema,
        expected: &str,
    ) -> Result<Section<'t>, ConfigError> {
        match self.value {
            DeValue::Table(table) => Section::new(self.source, schema, table, self.place.clone()),
            _ => Err(self.wrong_type(expected)),
        }
    }
}

fn unknown_key(schema: &Schema, key: &str) -> String {
    let what = format!(
        "unknown key `{}` {}",
        quote(key).trim_matches('"'),
        schema.label
    );
    if let Some(home) = ALL.iter().find(|other| other.keys.contains(&key)) {
        let hint = if home.label == TOP.label {
            "it belongs at the top level: move it above the first [table]".to_owned()
        } else {
            format!("it belongs {}", home.label)
        };
        return format!("{what}; {hint}");
    }
    if let Some(near) = nearest(key, schema.keys.iter().copied()) {
        return format!("{what}; did you mean `{near}`?");
    }
    format!("{what}; known are: {}", schema.keys.join(", "))
}

/// The error that `key` in a table of the kind `table` names something, a `what`, that there is not.
pub(super) fn not_there<'n>(
    place: &Place,
    key: &str,
    table: &str,
    what: &str,
    name: &str,
    names: impl Iterator<Item = &'n str>,
) -> ConfigError {
    let near =
        nearest(name, names).map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
    place.error(format!(
        "`{key}` in {table}: there is no {what} with the name {}{near}",
        quote(name)
    ))
}

/// The one of `candidates` that `text` is probably a slip of.
pub(crate) fn nearest<'c>(
    text: &str,
    candidates: impl Iterator<Item = &'c str>,
) -> Option<&'c str> {
    /// Longer ones are no slips, and would take long to compare.
    const LONGEST: usize = 32;
    if text.len() > LONGEST {
        return None;
    }
    let text = text.to_lowercase();
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&text, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
