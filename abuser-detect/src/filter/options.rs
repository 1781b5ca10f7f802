//! What a filter says once its parts are put together: `name[mode=aggressive]`, `[Definition]`,
//! `[Init]`, and the `<tags>` that refer to them.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use super::{
    Error,
    ini::{Files, Ini},
};

/// How often one tag may be put into a value.
const MAX_REPLACED: usize = 25;
/// How long a value may become.
const MAX_VALUE: usize = 1 << 20;

const KNOWN: [&str; 7] = [
    "usedns",
    "prefregex",
    "ignoreregex",
    "failregex",
    "maxlines",
    "datepattern",
    "journalmatch",
];

/// The options of a filter, with all references resolved.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    pub(super) file: PathBuf,
    values: BTreeMap<String, String>,
}

impl Definition {
    /// The value of an option.
    pub(crate) fn get(&self, option: &str) -> Option<&str> {
        self.values.get(option).map(String::as_str)
    }

    /// That the value of an option is none for it.
    pub(super) fn value(&self, option: &str, what: String) -> Error {
        Error::Value {
            file: self.file.clone(),
            option: option.to_owned(),
            what,
        }
    }

    /// That an expression is wrong.
    pub(super) fn regex(&self, option: &str, regex: &str, what: String) -> Error {
        Error::Regex {
            file: self.file.clone(),
            option: option.to_owned(),
            regex: regex.to_owned(),
            what,
        }
    }

    /// The lines of an option that are not empty.
    pub(super) fn lines(&self, option: &str) -> impl Iterator<Item = &str> {
        let value = self.get(option).unwrap_or_default();
        value.split('\n').filter(|line| !line.is_empty())
    }
}

/// `name` and the options of `name[option=value, …]`, as fail2ban takes them.
///
/// # Errors
/// Where it cannot be read.
pub fn split(filter: &str) -> Result<(String, Vec<(String, String)>), Error> {
    let error = |what: &str| Error::Options {
        filter: filter.to_owned(),
        what: what.to_owned(),
    };
    let filter = filter.trim();
    let Some((name, rest)) = filter.split_once('[') else {
        return Ok((filter.to_owned(), vec![]));
    };
    let Some(mut rest) = rest.strip_suffix(']') else {
        return Err(error("the `[` is not closed"));
    };
    let mut options = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() {
            return Ok((name.trim().to_owned(), options));
        }
        let Some((option, value)) = rest.split_once('=') else {
            return Err(error("an option without a value"));
        };
        let option = option.trim();
        let plain = |c: char| c.is_alphanumeric() || "_-.?".contains(c);
        if option.is_empty() || !option.chars().all(plain) {
            return Err(error(&format!("`{option}` is no name of an option")));
        }
        let quoted = ['"', '\'']
            .into_iter()
            .find(|&quote| value.starts_with(quote));
        let value = if let Some(quote) = quoted {
            let inner = value.get(1..).unwrap_or_default();
            let Some((value, after)) = inner.split_once(quote) else {
                return Err(error("a quote that is not closed"));
            };
            rest = after.trim_start();
            value
        } else {
            let end = value.find([',', ']']).unwrap_or(value.len());
            rest = value.get(end..).unwrap_or_default();
            value.get(..end).unwrap_or_default()
        };
        options.push((option.to_owned(), value.trim().to_owned()));
        // `[a=1][b=2]` is as good as `[a=1, b=2]`.
        let next = rest
            .strip_prefix(']')
            .map(str::trim_start)
            .and_then(|rest| rest.strip_prefix('['));
        rest = match next.or_else(|| rest.strip_prefix(',')) {
            Some(after) => after,
            None if rest.is_empty() => rest,
            None => return Err(error("something between two options that is no comma")),
        };
    }
}

/// Loads a filter by name, from the first of the folders that has it, or by path.
pub(crate) fn load(
    name: &str,
    folders: &[PathBuf],
    given: &[(String, String)],
    journal: bool,
    files: &dyn Files,
) -> Result<Definition, Error> {
    let (ini, file) = find(name, folders, files)?;
    let error = |option: &str, what: String| Error::Value {
        file: file.clone(),
        option: option.to_owned(),
        what,
    };
    let mut init: BTreeMap<String, String> = given.iter().cloned().collect();
    if journal
        && !init.contains_key("logtype")
        && !ini.options("Definition").any(|option| option == "logtype")
    {
        init.insert("logtype".to_owned(), "journal".to_owned());
    }
    let vars = init
        .iter()
        .map(|(name, value)| (name.to_lowercase(), value.clone()))
        .collect();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for option in KNOWN {
        if init.contains_key(option) {
            continue;
        }
        let value = ini
            .get("Definition", option, &vars)
            .map_err(|what| error(option, what.0))?;
        if let Some(value) = value {
            values.insert(option.to_owned(), value);
        }
    }
    for option in ini.options("Init") {
        let value = ini
            .get("Init", option, &BTreeMap::new())
            .map_err(|what| error(option, what.0))?;
        let Some(value) = value else {
            continue;
        };
        init.insert(format!("known/{option}"), value.clone());
        init.entry(option.to_owned()).or_insert(value);
    }
    values.extend(init);
    let mut resolver = Resolver {
        ini: &ini,
        vars: &vars,
        values,
    };
    for option in KNOWN {
        resolver
            .substitute(option)
            .map_err(|what| error(option, what))?;
    }
    let values = resolver.values;
    Ok(Definition { file, values })
}

fn find(name: &str, folders: &[PathBuf], files: &dyn Files) -> Result<(Ini, PathBuf), Error> {
    let is_path = name.contains('/')
        || Path::new(name)
            .extension()
            .is_some_and(|end| end == "conf" || end == "local");
    let bases = if is_path {
        vec![PathBuf::from(name)]
    } else {
        folders.iter().map(|folder| folder.join(name)).collect()
    };
    for base in &bases {
        // Not with_extension: a name may have dots.
        let with = |end: &str| {
            let mut path = base.clone().into_os_string();
            path.push(end);
            PathBuf::from(path)
        };
        let conf = if base
            .extension()
            .is_some_and(|end| end == "conf" || end == "local")
        {
            base.clone()
        } else {
            with(".conf")
        };
        let (ini, found) = Ini::load(std::slice::from_ref(&conf), files)?;
        if found.is_empty() {
            continue;
        }
        if !ini.has("Definition") {
            return Err(Error::NoDefinition { file: conf });
        }
        return Ok((ini, conf));
    }
    Err(Error::NotFound {
        name: name.to_owned(),
        tried: bases,
    })
}

struct Resolver<'i> {
    ini: &'i Ini,
    vars: &'i BTreeMap<String, String>,
    values: BTreeMap<String, String>,
}

impl Resolver<'_> {
    /// Puts in what the tags of an option's value stand for, until there is none left that stands
    /// for something.
    fn substitute(&mut self, option: &str) -> Result<(), String> {
        let Some(mut value) = self.values.get(option).cloned() else {
            return Ok(());
        };
        let mut counts: HashMap<String, usize> = HashMap::new();
        loop {
            let mut changed = false;
            let mut at = 0;
            while let Some((start, end)) = next_tag(&value, at) {
                let tag = value.get(start + 1..end - 1).unwrap_or_default().to_owned();
                let replacement = match self.values.get(&tag) {
                    Some(value) => Some(value.clone()),
                    None => self
                        .ini
                        .tag("Definition", &tag, self.vars)
                        .map_err(|error| error.0)?,
                };
                let Some(replacement) = replacement else {
                    at = end;
                    continue;
                };
                let count = counts.entry(tag.clone()).or_default();
                *count += 1;
                if tag == option || *count > MAX_REPLACED {
                    return Err(format!("`<{tag}>` refers to itself"));
                }
                value = value.replace(&format!("<{tag}>"), &replacement);
                if value.len() > MAX_VALUE {
                    return Err(format!("it grows without end by `<{tag}>`"));
                }
                changed = true;
                at = start;
            }
            if !changed {
                break;
            }
        }
        self.values.insert(option.to_owned(), value);
        Ok(())
    }
}

/// Where the next `<tag>` is: no space and no other bracket is in it.
fn next_tag(value: &str, from: usize) -> Option<(usize, usize)> {
    let bytes = value.as_bytes();
    let mut open = None;
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        match byte {
            b'<' => open = Some(at),
            b' ' => open = None,
            b'>' => match open.take() {
                Some(start) if at > start + 1 => return Some((start, at + 1)),
                _ => {}
            },
            _ => {}
        }
    }
    None
}
