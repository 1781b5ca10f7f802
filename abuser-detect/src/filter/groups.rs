//! What the groups with names have found.
//!
//! A line that matches gives half a dozen values, and they are copied when they are remembered for a
//! connection: so all are in one string, and names are numbers.

use std::{collections::HashMap, sync::Arc};

/// The number of a name.
pub(super) type Name = u16;

pub(super) const FID: Name = 0;
pub(super) const IP4: Name = 1;
pub(super) const IP6: Name = 2;
pub(super) const DNS: Name = 3;
pub(super) const MLFID: Name = 4;
pub(super) const USER: Name = 5;
pub(super) const NOFAIL: Name = 6;
pub(super) const MLFFORGET: Name = 7;
pub(super) const MLFGAINED: Name = 8;
pub(super) const CIDR: Name = 9;
pub(super) const CONTENT: Name = 10;

/// The names that mean something, by their numbers.
const KNOWN: [&str; 11] = [
    "fid",
    "ip4",
    "ip6",
    "dns",
    "mlfid",
    "user",
    "nofail",
    "mlfforget",
    "mlfgained",
    "cidr",
    "content",
];

/// Gives names their numbers.
pub(super) struct Interner {
    numbers: HashMap<String, Name>,
    names: Vec<Box<str>>,
}

impl Default for Interner {
    fn default() -> Self {
        let mut interner = Self {
            numbers: HashMap::new(),
            names: Vec::new(),
        };
        for name in KNOWN {
            interner.number(name);
        }
        interner
    }
}

impl Interner {
    /// The number of a name; that of the last if there are too many.
    pub(super) fn number(&mut self, name: &str) -> Name {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = Name::try_from(self.names.len()).unwrap_or(Name::MAX);
        self.names.push(name.into());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    pub(super) fn names(self) -> Arc<[Box<str>]> {
        self.names.into()
    }
}

/// What the groups with names have found, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    names: Option<Arc<[Box<str>]>>,
    text: String,
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Item {
    name: Name,
    from: usize,
    to: usize,
}

impl Groups {
    pub(super) fn new(names: &Arc<[Box<str>]>) -> Self {
        Self {
            names: Some(names.clone()),
            text: String::with_capacity(64),
            items: Vec::with_capacity(8),
        }
    }

    /// What the group with that name has found.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    /// All groups that have found something, and what.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.items.iter().filter_map(|item| {
            let name = self.names.as_ref()?.get(usize::from(item.name))?;
            Some((&**name, self.text.get(item.from..item.to)?))
        })
    }

    pub(super) fn value(&self, name: Name) -> Option<&str> {
        let item = self.items.iter().find(|item| item.name == name)?;
        self.text.get(item.from..item.to)
    }

    /// Whether a group has found something that is not empty.
    pub(super) fn has(&self, name: Name) -> bool {
        self.value(name).is_some_and(|value| !value.is_empty())
    }

    pub(super) fn set(&mut self, name: Name, value: &str) {
        let Some(at) = self.items.iter().position(|item| item.name == name) else {
            let from = self.text.len();
            self.text.push_str(value);
            let to = self.text.len();
            self.items.push(Item { name, from, to });
            return;
        };
        let Some(&Item { from, to, .. }) = self.items.get(at) else {
            return;
        };
        if self.text.get(from..to) == Some(value) {
            return;
        }
        self.text.replace_range(from..to, value);
        for (index, item) in self.items.iter_mut().enumerate() {
            if index == at {
                item.to = from + value.len();
            } else if item.from >= to {
                item.from = item.from - to + from + value.len();
                item.to = item.to - to + from + value.len();
            }
        }
    }

    /// Takes a group away; says whether it had found something.
    pub(super) fn take(&mut self, name: Name) -> bool {
        let Some(at) = self.items.iter().position(|item| item.name == name) else {
            return false;
        };
        let item = self.items.remove(at);
        item.from < item.to
    }

    /// Sets all that the other has.
    pub(super) fn update(&mut self, other: &Self) {
        for item in &other.items {
            if let Some(value) = other.text.get(item.from..item.to) {
                self.set(item.name, value);
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.text.capacity() + self.items.capacity() * size_of::<Item>()
    }
}
