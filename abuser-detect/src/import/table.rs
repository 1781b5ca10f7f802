//! Tables of TOML with comments, and how they are written.
//!
//! The order of tables and keys and the comments are for those who read the file; a document of
//! the `toml` crate keeps neither. The values, where quoting can go wrong, are written by it.

use std::fmt::Write as _;

use toml::Value;

use crate::words::on_one_line;

/// The longest line of a list, in bytes; longer ones have a line for each element.
const WIDTH: usize = 100;

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What it is called: `limit`, `allow`.
    pub name: &'static str,
    /// Whether there can be several: `[[limit]]`.
    pub is_repeated: bool,
    /// Lines above it.
    pub comments: Vec<String>,
    /// What it says.
    pub entries: Vec<Entry>,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub value: Value,
    /// What stands behind it.
    pub comment: Option<String>,
}

impl Table {
    /// `[name]`, of which there is one.
    pub(super) fn single(name: &'static str) -> Self {
        Self {
            name,
            is_repeated: false,
            comments: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// `[[name]]`.
    pub(super) fn repeated(name: &'static str) -> Self {
        Self {
            is_repeated: true,
            ..Self::single(name)
        }
    }

    pub(super) fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comments.push(comment.into());
        self
    }

    pub(super) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.entries.push(Entry {
            key,
            value: value.into(),
            comment: None,
        });
        self
    }

    /// The same with a word of explanation.
    pub(super) fn with_comment(
        mut self,
        key: &'static str,
        value: impl Into<Value>,
        comment: impl Into<String>,
    ) -> Self {
        self.entries.push(Entry {
            key,
            value: value.into(),
            comment: Some(comment.into()),
        });
        self
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.map(|entry| &entry.value)
    }
}

/// All of them, with an empty line between two.
pub(super) fn render(tables: &[Table]) -> String {
    let mut text = String::new();
    for table in tables {
        if !text.is_empty() {
            text.push('\n');
        }
        for comment in &table.comments {
            push_comment(&mut text, comment);
            text.push('\n');
        }
        let (open, close) = if table.is_repeated {
            ("[[", "]]")
        } else {
            ("[", "]")
        };
        let _infallible = writeln!(text, "{open}{}{close}", table.name);
        for Entry {
            key,
            value,
            comment,
        } in &table.entries
        {
            let _infallible = write!(text, "{key} = {}", written(value));
            if let Some(comment) = comment {
                text.push_str("  ");
                push_comment(&mut text, comment);
            }
            text.push('\n');
        }
    }
    text
}

/// A comment cannot end its line, nor have control characters (TOML 1.0).
fn push_comment(text: &mut String, comment: &str) {
    text.push_str("# ");
    text.push_str(&on_one_line(comment));
}

fn written(value: &Value) -> String {
    let Value::Array(elements) = value else {
        return value.to_string();
    };
    let elements: Vec<_> = elements.iter().map(written).collect();
    let line = format!("[{}]", elements.join(", "));
    if line.len() <= WIDTH || elements.len() < 2 {
        return line;
    }
    format!("[\n    {},\n]", elements.join(",\n    "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(elements: &[&str]) -> Value {
        Value::Array(elements.iter().map(|text| Value::from(*text)).collect())
    }

    #[test]
    fn a_table_is_written_as_a_person_would_write_it() {
        let limit = Table::repeated("limit")
            .comment("one\ntwo")
            .with("name", "api")
            .with("ports", vec![80, 443])
            .with_comment("burst", 20, "21 at once");
        let allow = Table::single("allow").with("addresses", list(&["10.0.0.0/8"]));
        assert_eq!(
            render(&[limit, allow]),
            "# one\\ntwo\n[[limit]]\nname = \"api\"\nports = [80, 443]\nburst = 20  # 21 at once\n\n\
             [allow]\naddresses = [\"10.0.0.0/8\"]\n"
        );
    }

    #[test]
    fn a_long_list_has_a_line_for_each_element() {
        let long = "x".repeat(60);
        let table = Table::repeated("source").with("files", list(&[&long, &long]));
        assert_eq!(
            render(&[table]),
            format!("[[source]]\nfiles = [\n    \"{long}\",\n    \"{long}\",\n]\n")
        );
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<String>().prop_map(Value::from),
            "[\\\\\"'\n\r\t# a\u{0}\u{7f}\u{85}]*".prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            (-1e9..1e9_f64).prop_map(Value::from),
            prop::collection::vec(any::<String>(), 0..9).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,9}", any::<String>(), 0..4).prop_map(|map| {
                let map = map.into_iter().map(|(key, text)| (key, Value::from(text)));
                Value::Table(map.collect())
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn what_is_written_reads_back_as_it_was(
            values in prop::collection::vec((value(), any::<String>()), 1..5),
        ) {
            let tables: Vec<_> = values
                .iter()
                .map(|(value, comment)| {
                    Table::repeated("source")
                        .comment(comment)
                        .with_comment("files", value.clone(), comment)
                })
                .collect();
            let document: toml::Table = render(&tables).parse().expect("valid TOML");
            let read: Vec<_> = document["source"]
                .as_array()
                .expect("tables")
                .iter()
                .map(|table| table["files"].clone())
                .collect();
            let were: Vec<_> = values.into_iter().map(|(value, _)| value).collect();
            prop_assert_eq!(read, were);
        }
    }
}
