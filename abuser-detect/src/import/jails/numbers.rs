//! What jails say of counts and times, as policies.

use toml::Value;

use super::{
    super::{Imported, Table, names::Names},
    Jail, is_true,
};

/// The most offences that a policy can ask for; a detector can ask for more.
const MAX_MAXRETRY: i64 = 1000;

/// What fail2ban does if nothing else is said, without its spaces.
const FORMULA: &str = "ban.Time*(1<<(ban.Countifban.Count<20else20))*banFactor";

/// The numbers of a jail, as the keys of a policy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Numbers {
    maxretry: i64,
    entries: Vec<(&'static str, Value)>,
}

impl Numbers {
    /// Reads them; the error says why the jail cannot be carried over.
    pub(super) fn read(
        jail: &Jail<'_>,
        is_time: fn(&str) -> bool,
        imported: &mut Imported,
    ) -> Result<Self, String> {
        let text = |option: &str| -> Result<Option<String>, String> {
            let value = jail.get(option)?.map(|value| value.trim().to_owned());
            Ok(value.filter(|value| !value.is_empty()))
        };
        let mut numbers = Self {
            maxretry: 0,
            entries: Vec::new(),
        };
        if let Some(maxretry) = text("maxretry")? {
            let count: Option<i64> = maxretry.parse().ok().filter(|count| *count > 0);
            let count =
                count.ok_or_else(|| format!("maxretry = {maxretry} is no number above 0"))?;
            numbers.maxretry = count;
            if count <= MAX_MAXRETRY {
                numbers.entries.push(("maxretry", count.into()));
            }
        }
        let time = |option: &str| -> Result<Option<Value>, String> {
            let Some(text) = text(option)? else {
                return Ok(None);
            };
            if !is_time(&text) {
                return Err(format!(
                    "{option} = {text} is no sum of times such as 1d 12h"
                ));
            }
            Ok(Some(number_or_text(&text)))
        };
        for option in ["findtime", "bantime"] {
            if let Some(value) = time(option)? {
                numbers.push(option, value);
            }
        }
        if text("bantime.increment")?.is_some_and(|value| is_true(&value)) {
            numbers.push("increment", Value::from(true));
            numbers.growth(jail, &text, &time, imported)?;
        }
        Ok(numbers)
    }

    /// How bans of who comes back grow.
    fn growth(
        &mut self,
        jail: &Jail<'_>,
        text: &impl Fn(&str) -> Result<Option<String>, String>,
        time: &impl Fn(&str) -> Result<Option<Value>, String>,
        imported: &mut Imported,
    ) -> Result<(), String> {
        let mut skip = |option: &str, value: &str, why: &str| {
            let what = format!("[{}] {option} = {value}", jail.name);
            imported.note(jail.at(option), what, why);
        };
        let number = |word: &str| {
            let number: Option<f64> = word.parse().ok();
            number.filter(|number| number.is_finite() && *number > 0.0)
        };
        if let Some(factor) = text("bantime.factor")? {
            match number(&factor) {
                Some(factor) => self.push("factor", plain(factor)),
                None => skip(
                    "bantime.factor",
                    &factor,
                    "it is no number above 0; the factor is 1",
                ),
            }
        }
        let multipliers = text("bantime.multipliers")?;
        if let Some(text) = &multipliers {
            let words: Option<Vec<_>> = text.split_whitespace().map(number).collect();
            match words {
                Some(words) => {
                    let words = words.into_iter().map(plain).collect();
                    self.push("multipliers", Value::Array(words));
                }
                None => skip(
                    "bantime.multipliers",
                    text,
                    "they are no numbers above 0; bans double instead",
                ),
            }
        }
        if let Some(formula) = text("bantime.formula")?
            && multipliers.is_none()
        {
            let mut written = formula.clone();
            written.retain(|c| !c.is_whitespace());
            if written != FORMULA {
                skip(
                    "bantime.formula",
                    &formula,
                    "formulas are code in Python; bans double instead, or grow by `multipliers`",
                );
            }
        }
        for (option, key) in [
            ("bantime.maxtime", "maxtime"),
            ("bantime.rndtime", "rndtime"),
        ] {
            if let Some(value) = time(option)? {
                self.push(key, value);
            }
        }
        Ok(())
    }

    fn push(&mut self, key: &str, value: Value) {
        const KEYS: [&str; 7] = [
            "findtime",
            "bantime",
            "increment",
            "factor",
            "multipliers",
            "maxtime",
            "rndtime",
        ];
        if let Some(key) = KEYS.into_iter().find(|known| *known == key) {
            self.entries.push((key, value));
        }
    }

    /// What a policy cannot ask for.
    pub(super) fn large_maxretry(&self) -> Option<i64> {
        (self.maxretry > MAX_MAXRETRY).then_some(self.maxretry)
    }

    fn grows(&self) -> bool {
        self.entries.iter().any(|(key, _)| *key == "increment")
    }
}

/// A number without a fraction as a whole one.
fn plain(number: f64) -> Value {
    let text = number.to_string();
    text.parse::<i64>().map_or(Value::from(number), Value::from)
}

/// A number of seconds, or times as they are written.
fn number_or_text(text: &str) -> Value {
    text.parse::<i64>().map_or(Value::from(text), Value::from)
}

/// The policies of all jails: one for each set of numbers.
#[derive(Default)]
pub(super) struct Policies(Vec<(Numbers, Vec<(String, usize)>)>);

impl Policies {
    /// Takes in the numbers of a jail, whose detector has that number; whether another jail has
    /// them already and its bans grow.
    pub(super) fn add(&mut self, numbers: Numbers, jail: &str, detector: usize) -> bool {
        let user = (jail.to_owned(), detector);
        // What the detector says itself makes no other policy.
        let numbers = Numbers {
            maxretry: 0,
            ..numbers
        };
        if let Some((known, users)) = self.0.iter_mut().find(|(known, _)| *known == numbers) {
            users.push(user);
            return known.grows();
        }
        self.0.push((numbers, vec![user]));
        false
    }

    /// Writes them, and puts their names into the detectors.
    pub(super) fn finish(self, detectors: Vec<Table>, tables: &mut Vec<Table>) -> Vec<Table> {
        let mut names = Names::default();
        let mut slots = vec![None; detectors.len()];
        for (numbers, users) in self.0 {
            let wanted = match &users[..] {
                [(jail, _)] => jail.as_str(),
                _ => "fail2ban",
            };
            // It is what [ban] says.
            let wanted = if wanted == "default" {
                "default-jail"
            } else {
                wanted
            };
            let name = names.take(wanted);
            let mut table = Table::repeated("policy").with("name", name.as_str());
            for (key, value) in numbers.entries {
                table = table.with(key, value);
            }
            tables.push(table);
            for (_, detector) in users {
                if let Some(slot) = slots.get_mut(detector) {
                    *slot = Some(name.clone());
                }
            }
        }
        let detectors = detectors.into_iter().zip(slots);
        detectors
            .map(|(table, policy)| match policy {
                Some(policy) => table.with("policy", policy),
                None => table,
            })
            .collect()
    }
}
