//! Requests to an API, honest and abusive, each labelled: what detectors are measured with.
//!
//! All of it is made up from a seed, so that a number can be had again. A client is an iterator of
//! requests, endless where the client is; [`merge`] puts several in the order of their times. Whatever
//! a test wants to know of a request is in it, and [`Request::nginx_combined`] makes the line that nginx would
//! have written.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the numbers are made up here, and small enough"
)]

use std::{net::Ipv4Addr, ops::Range};

use fastrand::Rng;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    /// Who sent it.
    pub source: Ipv4Addr,
    /// The API key that was sent along.
    pub key: Option<String>,
    /// `/api/users/17`.
    pub path: String,
    /// The status of the answer.
    pub status: u16,
    /// `User-Agent`.
    pub user_agent: &'static str,
    /// Whether an abuser sent it.
    pub abuse: bool,
}

/// Which ids a client takes.
#[derive(Clone, Debug)]
pub enum Ids {
    /// At random, each as likely as any other.
    Uniform(Range<u64>),
    /// At random, the nth of so many with a chance of about 1/n; the first ids are the most popular.
    Zipf(u64),
    /// As those, but which ids are popular has nothing to do with their order.
    ScatteredZipf(u64),
    /// One after the other.
    Walk {
        /// The first.
        next: u64,
        /// From one to the next; negative is downwards.
        step: i64,
        /// The share of requests that take a random id instead.
        noise: f64,
        /// Which these are.
        range: Range<u64>,
    },
    /// Upwards by steps of random size.
    Jitter {
        /// Before the first.
        next: u64,
        /// The largest step; the smallest is 1.
        largest: u64,
        /// The chance that an id is taken again.
        repeat: f64,
    },
    /// One after the other by so many workers at once, of which any is the next to be served.
    Workers {
        /// The first that no worker has yet.
        next: u64,
        /// From one to the next.
        step: i64,
        /// What each worker is about to take; empty at first.
        taking: Vec<u64>,
        /// How many workers there are.
        workers: usize,
    },
    /// The same ids in a circle.
    Circle {
        /// Which.
        ids: Vec<u64>,
        /// The first.
        nth: usize,
    },
    /// Each request one of these in turn.
    Interleaved {
        /// Which.
        ids: Vec<Ids>,
        /// The first.
        nth: usize,
    },
    /// Each request any of these.
    Mixed(Vec<Ids>),
}

impl Ids {
    /// A walk without noise.
    pub fn walk(first: u64, step: i64) -> Self {
        Self::Walk {
            next: first,
            step,
            noise: 0.0,
            range: 0..1,
        }
    }

    /// The next id that is taken.
    pub fn next(&mut self, random: &mut Rng) -> u64 {
        match self {
            Self::Uniform(range) => random.u64(range.clone()),
            Self::Zipf(ids) => zipf(*ids, random),
            Self::ScatteredZipf(ids) => scatter(zipf(*ids, random), *ids),
            Self::Walk {
                next,
                step,
                noise,
                range,
            } => {
                if random.f64() < *noise {
                    return random.u64(range.clone());
                }
                let id = *next;
                *next = next.saturating_add_signed(*step);
                id
            }
            Self::Jitter {
                next,
                largest,
                repeat,
            } => {
                if random.f64() >= *repeat {
                    *next += random.u64(1..=*largest);
                }
                *next
            }
            Self::Workers {
                next,
                step,
                taking,
                workers,
            } => {
                while taking.len() < *workers {
                    taking.push(*next);
                    *next = next.saturating_add_signed(*step);
                }
                taking.swap_remove(random.usize(..taking.len()))
            }
            Self::Circle { ids, nth } => {
                let id = ids[*nth % ids.len()];
                *nth += 1;
                id
            }
            Self::Interleaved { ids, nth } => {
                let one = *nth % ids.len();
                *nth += 1;
                ids[one].next(random)
            }
            Self::Mixed(ids) => {
                let one = random.usize(..ids.len());
                ids[one].next(random)
            }
        }
    }
}

/// A rank from 1 up, the nth with a chance of about 1/n: the continuous distribution, rounded down.
fn zipf(ids: u64, random: &mut Rng) -> u64 {
    let rank = ((ids as f64 + 1.0).ln() * random.f64()).exp();
    (rank as u64).clamp(1, ids)
}

/// Another number below `ids` for each number below it.
fn scatter(id: u64, ids: u64) -> u64 {
    let step = (ids / 2 + ids / 8) | 1;
    let step = (step..step + ids)
        .find(|step| gcd(*step, ids) == 1)
        .unwrap_or(1);
    (u128::from(id) * u128::from(step) % u128::from(ids)) as u64
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// When a client sends its requests.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// On average so many milliseconds after each other, at random (a Poisson process), as people do.
    Random(f64),
    /// Each so many milliseconds after the last, give or take that share of it, as programs do.
    Uniform(f64, f64),
}

impl Pace {
    fn next_ms(self, random: &mut Rng) -> f64 {
        match self {
            Self::Random(mean) => -mean * (1.0 - random.f64()).ln(),
            Self::Uniform(period, spread) => period * (1.0 + spread * (2.0 * random.f64() - 1.0)),
        }
    }
}

/// A client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its address.
    pub source: Ipv4Addr,
    /// Its key.
    pub key: Option<String>,
    /// What stands before the id.
    pub prefix: &'static str,
    /// The ids it takes.
    pub ids: Ids,
    /// When it does.
    pub pace: Pace,
    /// What it is answered.
    pub status: u16,
    /// When it begins, in milliseconds since the epoch.
    pub from_ms: u64,
    /// Whether it is an abuser.
    pub abuse: bool,
}

impl Client {
    /// Its requests, without end.
    pub fn requests(mut self, seed: u64) -> impl Iterator<Item = Request> {
        let mut random = Rng::with_seed(seed);
        let mut at = self.from_ms as f64;
        std::iter::repeat_with(move || {
            at += self.pace.next_ms(&mut random);
            Request {
                at_ms: at as u64,
                source: self.source,
                key: self.key.clone(),
                path: format!("{}{}", self.prefix, self.ids.next(&mut random)),
                status: self.status,
                user_agent: if self.abuse {
                    "python-requests/2.32"
                } else {
                    "Mozilla/5.0"
                },
                abuse: self.abuse,
            }
        })
    }
}

/// The requests of all clients up to a moment, in the order of their times.
pub fn merge(clients: impl IntoIterator<Item = Client>, until_ms: u64, seed: u64) -> Vec<Request> {
    let mut requests: Vec<Request> = clients
        .into_iter()
        .zip(seed..)
        .flat_map(|(client, seed)| {
            client
                .requests(seed)
                .take_while(|request| request.at_ms < until_ms)
        })
        .collect();
    requests.sort_by_key(|request| request.at_ms);
    requests
}

impl Request {
    /// The line that nginx writes of it in its format `combined`.
    pub fn nginx_combined(&self) -> String {
        let Self {
            source,
            path,
            status,
            user_agent,
            ..
        } = self;
        let time = nginx_time(self.at_ms / 1000);
        format!(r#"{source} - - [{time}] "GET {path} HTTP/1.1" {status} 512 "-" "{user_agent}""#)
    }
}

/// `26/Nov/2026:01:10:48 +0000`.
fn nginx_time(seconds: u64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, from which leap days come last (Howard Hinnant's civil_from_days).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let month = MONTHS[month as usize];
    format!(
        "{day:02}/{month}/{year}:{:02}:{:02}:{:02} +0000",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(ids: Ids) -> Client {
        Client {
            source: Ipv4Addr::new(192, 0, 2, 7),
            key: None,
            prefix: "/api/users/",
            ids,
            pace: Pace::Random(100.0),
            status: 200,
            from_ms: 1_795_655_448_000,
            abuse: false,
        }
    }

    #[test]
    fn a_line_is_as_nginx_writes_it() {
        let mut request = client(Ids::walk(17, 1))
            .requests(1)
            .next()
            .expect("endless");
        request.at_ms = 1_795_655_448_000;
        assert_eq!(
            request.nginx_combined(),
            "192.0.2.7 - - [26/Nov/2026:01:10:48 +0000] \"GET /api/users/17 HTTP/1.1\" 200 512 \"-\" \"Mozilla/5.0\""
        );
        assert_eq!(nginx_time(951_782_400), "29/Feb/2000:00:00:00 +0000");
    }

    #[test]
    fn a_seed_gives_the_same_requests_in_the_order_of_their_times() {
        let clients = || [client(Ids::Uniform(0..100)), client(Ids::Zipf(1000))];
        let until = 1_795_655_458_000;
        let requests = merge(clients(), until, 1);
        assert_eq!(requests, merge(clients(), until, 1));
        assert_ne!(requests, merge(clients(), until, 2));
        assert!(requests.is_sorted_by_key(|request| request.at_ms));
        assert!((150..250).contains(&requests.len()), "{}", requests.len());
    }

    #[test]
    fn popular_ids_come_as_often_as_zipf_says() {
        let mut random = Rng::with_seed(1);
        let mut first = 0;
        for _ in 0..10_000 {
            first += u32::from(Ids::Zipf(1000).next(&mut random) == 1);
        }
        assert!((800..1200).contains(&first), "{first}");
        let scattered: std::collections::HashSet<u64> =
            (0..1000).map(|id| scatter(id, 1000)).collect();
        assert_eq!(scattered.len(), 1000);
    }
}
