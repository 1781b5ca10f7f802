//! The latest bans, and those that are looked for: some of what may be a million, without ever having
//! them all at once.

use std::{cmp::Reverse, collections::BinaryHeap};

use axum::{Json, http::StatusCode};
use ipnet::IpNet;

use super::{
    Api,
    answer::{self, Answer, Failure},
};
use crate::{
    api::types::{BanInfo, DEFAULT_LATEST, LatestBans, LatestQuery, MAX_LATEST},
    config::parse_prefix,
    daemon::engine::{Command, listing::BanEntry},
};

/// The longest text that is looked for, in characters: what a field of the page may hold.
const LONGEST: usize = 200;

/// Looks through all bans, a page at a time.
pub(super) async fn find(api: Api, query: &LatestQuery) -> Answer<LatestBans> {
    let mut latest = Latest::new(query)?;
    let mut after = None;
    loop {
        let page = api.clone().ask(|reply| Command::BanPage(after, reply));
        let Json(page) = page.await?;
        after = page.next;
        // Bans do not wait for it.
        let looked_through = tokio::task::spawn_blocking(move || {
            latest.look_through(page.items);
            latest
        });
        latest = looked_through.await.map_err(|error| {
            tracing::error!(%error, "looking through bans failed");
            let error = "the daemon made a mistake; its log says which";
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error)
        })?;
        if after.is_none() {
            return Ok(Json(latest.told()));
        }
    }
}

/// The latest ones so far.
struct Latest {
    search: Search,
    limit: usize,
    before: u64,
    /// The one that is to go first is on top.
    kept: BinaryHeap<Reverse<Numbered>>,
    found: usize,
}

impl Latest {
    fn new(query: &LatestQuery) -> Result<Self, Failure> {
        let limit = answer::bounded("limit", query.limit, DEFAULT_LATEST, MAX_LATEST)?;
        let search = Search::new(query.search.as_deref().unwrap_or_default())
            .map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error))?;
        Ok(Self {
            search,
            limit,
            before: query.before.unwrap_or(u64::MAX),
            kept: BinaryHeap::new(),
            found: 0,
        })
    }

    fn look_through(&mut self, bans: Vec<BanEntry>) {
        for ban in bans {
            if !self.search.finds(ban.source(), ban.words()) {
                continue;
            }
            self.found += 1;
            if ban.id() < self.before {
                self.kept.push(Reverse(Numbered(ban)));
                if self.kept.len() > self.limit {
                    self.kept.pop();
                }
            }
        }
    }

    fn told(self) -> LatestBans {
        let kept = self.kept.into_sorted_vec();
        let bans: Vec<BanInfo> = kept
            .iter()
            .map(|Reverse(Numbered(ban))| ban.info())
            .collect();
        LatestBans {
            bans,
            found: self.found,
        }
    }
}

/// A ban in the order of numbers.
struct Numbered(BanEntry);

impl Ord for Numbered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.id().cmp(&other.0.id())
    }
}

impl PartialOrd for Numbered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Numbered {
    fn eq(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }
}

impl Eq for Numbered {}

/// What is looked for.
#[derive(Debug, PartialEq, Eq)]
enum Search {
    /// Nothing: everything is found.
    All,
    /// What has an address in common with it.
    Prefix(IpNet),
    /// Text, in lower case.
    Text(String),
}

impl Search {
    fn new(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.chars().count() > LONGEST {
            return Err("`search` has more than 200 characters");
        }
        Ok(match parse_prefix(text) {
            _ if text.is_empty() => Self::All,
            Ok(prefix) => Self::Prefix(prefix),
            Err(_) => Self::Text(text.to_lowercase()),
        })
    }

    fn finds<'w>(&self, source: IpNet, words: impl IntoIterator<Item = &'w str>) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => prefix.contains(&source) || source.contains(prefix),
            Self::Text(text) => {
                let has = |word: &str| word.to_lowercase().contains(text);
                has(&source.to_string()) || words.into_iter().any(has)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn finds(search: &str, source: &str, words: &[&str]) -> bool {
        let search = Search::new(search).unwrap();
        search.finds(source.parse().unwrap(), words.iter().copied())
    }

    #[test]
    fn an_address_finds_what_covers_it_and_a_prefix_what_is_in_it_too() {
        for (search, source, found) in [
            ("203.0.113.7", "203.0.113.7/32", true),
            (" 203.0.113.7 ", "203.0.113.0/24", true),
            ("203.0.113.7", "203.0.113.70/32", false),
            ("203.0.113.0/24", "203.0.113.7/32", true),
            ("203.0.113.0/24", "203.0.112.0/23", true),
            ("203.0.113.0/24", "198.51.100.7/32", false),
            ("2001:db8::/32", "2001:db8:7::/64", true),
            ("2001:db8::/32", "203.0.113.7/32", false),
            ("::ffff:203.0.113.7", "203.0.113.7/32", true),
        ] {
            assert_eq!(finds(search, source, &[]), found, "{search} {source}");
        }
    }

    #[test]
    fn other_text_finds_what_has_it_anywhere_in_upper_or_lower_case() {
        let words = ["detector", "SSH \u{c4}ra", "by root"];
        for (search, found) in [
            ("", true),
            ("  ", true),
            ("ssh", true),
            ("\u{e4}RA", true),
            ("DETECT", true),
            ("0.113.", true),
            ("0.114.", false),
            ("sshd", false),
            // What separates words is in none.
            ("detectorssh", false),
        ] {
            assert_eq!(finds(search, "203.0.113.7/32", &words), found, "{search}");
        }
    }

    #[test]
    fn how_many_and_how_long_a_text_is_bounded() {
        let query = |limit, search: &str| LatestQuery {
            limit,
            search: Some(search.to_owned()),
            before: None,
        };
        assert!(Latest::new(&query(Some(1), "")).is_ok());
        for widest in ["x", "\u{e4}", "\u{1f980}"] {
            assert!(Latest::new(&query(Some(1000), &widest.repeat(200))).is_ok());
        }
        for (refused, phrase) in [
            (query(Some(0), ""), "ask for 1 to 1000"),
            (query(Some(1001), ""), "ask for 1 to 1000"),
            (query(None, &"\u{e4}".repeat(201)), "200 characters"),
        ] {
            let error = format!("{:?}", Latest::new(&refused).err().unwrap());
            assert!(error.contains(phrase), "{error}");
        }
    }
}
