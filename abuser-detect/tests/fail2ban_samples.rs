//! fail2ban's own sample suite, as its `samplestestcase.py` runs it.
//!
//! Its log files say of each line, in a comment of JSON before it, whether the line must match, whom it
//! must give away and when. They are under the GPL and no part of this repository: without a
//! copy there is nothing to run, and the tests say how to get one.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use abuser_detect::{
    filter::{Filter, Match, Options},
    time::Time,
};
use jiff::{civil::DateTime, tz::TimeZone};
use serde_json::Value;

/// The moment that fail2ban's tests take place: noon of a summer's day in 2005.
const NOW: Time = Time(1_124_013_600_000);
/// And where.
const ZONE: &str = "CET-1CEST-2,M3.5.0,M10.5.0";

/// fail2ban's source tree, if there is a copy.
fn tree() -> Option<PathBuf> {
    let tree = std::env::var_os("ABUSER_FAIL2BAN").map(PathBuf::from);
    if tree.is_none() {
        eprintln!(
            "not run: set ABUSER_FAIL2BAN to a copy of fail2ban's source tree \
             (git clone https://github.com/fail2ban/fail2ban)"
        );
    }
    tree
}

#[expect(clippy::unnecessary_wraps, reason = "it is a `Files`, which may fail")]
fn read(path: &Path) -> io::Result<Option<String>> {
    Ok(fs::read(path)
        .ok()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

fn zone() -> TimeZone {
    TimeZone::posix(ZONE).expect("a zone")
}

/// The filters of a folder, by name; those that are but parts of others are left out.
fn filters(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter_map(|name| name.strip_suffix(".conf").map(str::to_owned))
        .collect();
    names.sort();
    names
}

type Opts = BTreeMap<String, String>;

fn opts(value: &Value) -> Opts {
    let map = value.as_object().expect("options are an object");
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    map.iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// Whether one of the few conditions that the samples use holds.
fn holds(condition: &str, name: &str, opts: &Opts) -> bool {
    let compact: String = condition.split_whitespace().collect();
    if let Some(wanted) = compact.strip_prefix("name==") {
        return wanted.trim_matches('\'') == name;
    }
    let mode = opts.get("mode").map(String::as_str);
    if let Some(wanted) = compact.strip_prefix("opts.get('mode')==") {
        return Some(wanted.trim_matches('\'')) == mode;
    }
    if let Some(other) = compact.strip_prefix("opts.get('mode')!=") {
        return Some(other.trim_matches('\'')) != mode;
    }
    panic!("a condition that this test does not know: {condition}");
}

#[derive(Default)]
struct Tally {
    matches: u32,
    others: u32,
    wrong: Vec<String>,
}

struct Suite<'t> {
    tree: &'t Path,
    folder: PathBuf,
    name: &'t str,
    every: bool,
    loaded: HashMap<String, Filter>,
    tests: Vec<(String, Opts)>,
    tally: Tally,
}

impl Suite<'_> {
    fn use_filter(&mut self, opts: Opts) {
        let own: Vec<_> = opts
            .iter()
            .filter(|(name, _)| !name.starts_with("test."))
            .collect();
        let key = opts
            .get("test.filter-name")
            .cloned()
            .unwrap_or_else(|| format!("{}{own:?}", self.name));
        if !self.loaded.contains_key(&key) {
            let options = Options {
                options: own
                    .into_iter()
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect(),
                zone: zone(),
                every: self.every,
                ..Options::default()
            };
            let filter = Filter::load(
                self.name,
                std::slice::from_ref(&self.folder),
                &options,
                &read,
            );
            self.loaded.insert(
                key.clone(),
                filter.unwrap_or_else(|error| panic!("{error}")),
            );
        }
        self.tests.push((key, opts));
    }

    fn run(&mut self) {
        let mut files = vec![self.name.to_owned()];
        let mut at = 0;
        let mut common = Opts::new();
        while let Some(file) = files.get(at).cloned() {
            at += 1;
            let path = self.tree.join("fail2ban/tests/files/logs").join(&file);
            let Ok(bytes) = fs::read(&path) else {
                self.tally
                    .wrong
                    .push(format!("no samples: {}", path.display()));
                continue;
            };
            let text = String::from_utf8_lossy(&bytes);
            let mut ignore = false;
            let mut lines = text.split('\n').enumerate();
            while let Some((number, line)) = lines.next() {
                let comment = line.trim_start_matches('#');
                let hashes = line.len() - comment.len();
                let comment = comment.strip_prefix(' ').unwrap_or(comment);
                let tagged = comment.split_once(':').filter(|_| hashes > 0);
                let json = || {
                    let (_, json) = tagged.expect("a tag");
                    serde_json::from_str::<Value>(json)
                        .unwrap_or_else(|error| panic!("{file}:{number}: {error}"))
                };
                match tagged.map(|(tag, _)| tag) {
                    Some("fileOptions") => common = opts(&json()),
                    Some("addFILE") => files.push(json().as_str().expect("a name").to_owned()),
                    Some("filterOptions") => {
                        self.tests.clear();
                        ignore = false;
                        let list = json();
                        let one = std::slice::from_ref(&list);
                        for value in list.as_array().map_or(one, Vec::as_slice) {
                            let mut merged = common.clone();
                            merged.extend(opts(value));
                            if let Some(condition) = merged.get("test.condition") {
                                ignore = !holds(condition, self.name, &merged);
                            }
                            if !ignore {
                                self.use_filter(merged);
                            }
                        }
                    }
                    Some("failJSON") => {
                        let (_, line) = lines.next().expect("a line after failJSON");
                        if !ignore {
                            self.line(&json(), line, &format!("{file}:{}", number + 2));
                        }
                    }
                    _ if ignore || line.starts_with('#') || line.trim().is_empty() => {}
                    _ => self.line(
                        &Value::Object(serde_json::Map::new()),
                        line,
                        &format!("{file}:{}", number + 1),
                    ),
                }
            }
        }
    }

    fn line(&mut self, expected: &Value, line: &str, place: &str) {
        if self.tests.is_empty() {
            self.use_filter(Opts::new());
        }
        let line = line.trim_end_matches('\r');
        let must = expected["match"].as_bool() == Some(true);
        if must {
            self.tally.matches += 1;
        } else {
            self.tally.others += 1;
        }
        let mut prefixed = line.to_owned();
        for (key, opts) in &self.tests {
            if let Some(constraint) = expected["constraint"].as_str()
                && !holds(constraint, self.name, opts)
            {
                continue;
            }
            let filter = self.loaded.get_mut(key).expect("it was loaded");
            let found = if opts.get("logtype").map(String::as_str) == Some("journal") {
                if let Some(prefix) = opts.get("test.prefix-line") {
                    prefixed.insert_str(0, prefix);
                }
                filter.observe_at(&prefixed, NOW, NOW)
            } else {
                filter.observe(&prefixed, NOW)
            };
            let complaint = match found.as_slice() {
                [] if must => Some(format!("not matched ({:?})", filter.step())),
                [] => None,
                [only] if must => compare(only, expected),
                [_] => Some(format!("matched: {found:?}")),
                more if must || self.every => {
                    Some(format!("matched {} times: {found:?}", more.len()))
                }
                _ => Some("matched".to_owned()),
            };
            if let Some(complaint) = complaint {
                self.tally.wrong.push(format!(
                    "{key} {place}: {complaint}\n    {prefixed}\n    {expected}"
                ));
            }
        }
    }
}

/// A date whose parts need not have two digits.
fn date(text: &str) -> DateTime {
    let mut parts = text
        .split(['-', 'T', ':', '.'])
        .map(|part| part.parse::<i16>().expect("a number"));
    let mut next = || parts.next().expect("six numbers");
    let year = next();
    let mut small = || i8::try_from(next()).expect("a small number");
    let (month, day, hour, minute, second) = (small(), small(), small(), small(), small());
    jiff::civil::datetime(year, month, day, hour, minute, second, 0)
}

/// What differs between what was found and what should have been.
fn compare(found: &Match, expected: &Value) -> Option<String> {
    let fields = expected.as_object().expect("an object");
    for (name, value) in fields {
        match name.as_str() {
            "match" | "desc" | "constraint" => {}
            "time" => {
                let Some(text) = value.as_str() else {
                    continue;
                };
                let local = date(text);
                let time = local
                    .to_zoned(zone())
                    .expect("a moment")
                    .timestamp()
                    .as_millisecond();
                let ours = found.time.and_then(|time| i64::try_from(time.0).ok());
                if ours != Some(time) {
                    return Some(format!("time {ours:?} is not {time}"));
                }
            }
            "attempts" => {
                if value.as_u64() != u64::try_from(found.lines.len()).ok() {
                    return Some(format!("attempts {:?}", found.lines));
                }
            }
            "users" => {
                let mut users: Vec<&str> = found.users().collect();
                users.sort_unstable();
                let wanted = value
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|user| user.as_str().expect("a name"));
                let mut wanted: Vec<&str> = wanted.collect();
                wanted.sort_unstable();
                if users != wanted {
                    return Some(format!("users {users:?}"));
                }
            }
            name => {
                let ours = found
                    .fields
                    .get(name)
                    .or_else(|| (name == "host").then_some(found.host.as_str()));
                if ours != value.as_str() {
                    return Some(format!("{name} is {ours:?}, not {value}"));
                }
            }
        }
    }
    None
}

fn suites(tree: &Path) -> Vec<(PathBuf, String)> {
    let stock = tree.join("config/filter.d");
    let theirs = tree.join("fail2ban/tests/config/filter.d");
    let mut suites: Vec<_> = filters(&stock)
        .into_iter()
        .filter(|name| !name.ends_with("common"))
        .map(|name| (stock.clone(), name))
        .collect();
    suites.extend(
        filters(&theirs)
            .into_iter()
            .filter(|name| name.starts_with("zzz-"))
            .map(|name| (theirs.clone(), name)),
    );
    suites
}

fn run(every: bool) {
    let Some(tree) = tree() else {
        return;
    };
    let (mut matches, mut others, mut wrong) = (0, 0, Vec::new());
    for (folder, name) in suites(&tree) {
        let mut suite = Suite {
            tree: &tree,
            folder,
            name: &name,
            every,
            loaded: HashMap::new(),
            tests: Vec::new(),
            tally: Tally::default(),
        };
        suite.run();
        let tally = suite.tally;
        println!(
            "{name:32} {:4} matches {:4} others {:4} wrong",
            tally.matches,
            tally.others,
            tally.wrong.len()
        );
        matches += tally.matches;
        others += tally.others;
        wrong.extend(tally.wrong);
    }
    println!("{matches} matches, {others} others, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        matches > 900 && others > 100,
        "the samples are there: {matches} and {others}"
    );
}

#[test]
fn every_sample_of_fail2ban_agrees() {
    run(true);
}

#[test]
fn every_sample_agrees_where_the_first_expression_that_matches_ends_it() {
    run(false);
}

#[test]
fn every_filter_that_fail2ban_ships_loads() {
    let Some(tree) = tree() else {
        return;
    };
    let folder = tree.join("config/filter.d");
    let loaded = AtomicU32::new(0);
    for name in filters(&folder) {
        match Filter::load(
            &name,
            std::slice::from_ref(&folder),
            &Options::default(),
            &read,
        ) {
            Ok(_) => {
                loaded.fetch_add(1, Ordering::Relaxed);
            }
            // Parts of others, which are no filters by themselves.
            Err(_) if name.ends_with("common") => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
    let loaded = loaded.into_inner();
    println!("{loaded} filters loaded");
    assert!(loaded > 90, "{loaded}");
}
