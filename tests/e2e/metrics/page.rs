//! A page of `OpenMetrics`, read as its specification has it: families with a type and a help,
//! then samples.

use std::collections::{BTreeMap, BTreeSet};

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) families: BTreeMap<String, Family>,
    pub(super) samples: Vec<Sample>,
}

/// Samples of one kind.
#[derive(Debug, Default)]
pub(super) struct Family {
    pub(super) kind: String,
    pub(super) help: String,
    pub(super) labels: BTreeSet<String>,
}

/// A sample.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

impl Page {
    /// Reads a page.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub(super) fn parse(text: &str) -> Self {
        let text = text.strip_suffix("# EOF\n").expect("a page has an end");
        let mut page = Self {
            families: BTreeMap::new(),
            samples: Vec::new(),
        };
        let mut last = String::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let mut word = || words.next().expect("three words").to_owned();
                let (what, name, rest) = (word(), word(), word());
                last.clone_from(&name);
                let family = page.families.entry(name).or_default();
                match what.as_str() {
                    "TYPE" => family.kind = rest,
                    "HELP" => family.help = rest,
                    "UNIT" => assert!(last.ends_with(&rest), "{line}"),
                    _ => panic!("{line}"),
                }
                continue;
            }
            let sample = Sample::parse(line);
            assert!(sample.name.starts_with(&last), "{line} is none of {last}");
            let family = page.families.get_mut(&last).expect("a family");
            let labels = sample.labels.keys().filter(|label| *label != "le");
            family.labels.extend(labels.cloned());
            page.samples.push(sample);
        }
        page
    }

    /// The value of the sample with these labels.
    #[track_caller]
    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels)
            .unwrap_or_else(|| panic!("there is no {name} {labels:?}"))
    }

    pub(super) fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels
            .iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>();
        let mut samples = self.samples.iter();
        let found = samples.find(|sample| sample.name == name && sample.labels == labels);
        found.map(|sample| sample.value)
    }
}

impl Sample {
    #[track_caller]
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("an end")),
            None => (series, ""),
        };
        // None of the labels of these tests has a comma or a quote in it.
        let labels = labels.split(',').filter(|label| !label.is_empty());
        let labels = labels.map(|label| {
            let (name, value) = label.split_once('=').expect("a label");
            (name.to_owned(), value.trim_matches('"').to_owned())
        });
        Self {
            name: name.to_owned(),
            labels: labels.collect(),
            value: value.parse().expect("a number"),
        }
    }
}
