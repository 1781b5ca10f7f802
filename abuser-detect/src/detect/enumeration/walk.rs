//! Whether ids came in order, or as chance has it.
//!
//! # The question
//!
//! A walker takes ids one after the other: up or down, at some stride, perhaps with several walks at once,
//! with retries, and mixed with what others do behind the same address. A busy client takes as many ids, but in
//! no order. How often small steps occur says little: among the 500 ids of a small shop nearly
//! every id lies close to one that was taken lately, and popular ids lie close together. So nothing is assumed of
//! which ids a reader takes, how many there are or how popular each is. What tells a
//! walker is the order alone.
//!
//! # The test
//!
//! Of the last 64 ids of a track, those that are neighbours in value are looked at: two ids with none between
//! them, and no more than the largest stride apart, make a *link*. A link is *kept* if the two also came close in time:
//! at most `w` places apart, first the lower (a walk up), first the higher (down), or either (workers
//! that walk side by side). A walker keeps nearly all links. For a reader, every order of those 64 ids was
//! as likely as any other, so a link is kept with a chance of about `w`/64, whatever the ids are.
//!
//! How likely is it that chance keeps `j` or more of `l` links? Take any `j` of them: they join ids to `c`
//! chains. Uncover the places in time of these ids one by one, the longest chain first, each chain from its
//! first id on. When `s` places are known, the next one of a chain is any of the `64 - s` others, and no more than
//! `k` of these keep its link (`k` is `w`, or `2w` for either direction). When it is the `m`th such id, the chains that have
//! been begun are `mc/j` at most, rounded up, so `s` is at most `m - 1 + mc/j`. There are `l` over `j` choices, hence
//!
//! ```text
//! p <= C(l, j) * product for m = 1..j of min(1, k / (64 - (m - 1) - ceil(m c / j)))
//! ```
//!
//! and `c` is at most `j`, and at most one for each cluster of ids and one more for each link that is not kept. This
//! is a bound, not an estimate, for any reader whose ids are independent of their time. Fifteen ways to
//! keep links are tried, so `p` counts fifteen times. It has to be less than 10^-12 at a look, and a look
//! takes place every 16 ids: a reader of 10,000 requests is taken for a walker with a chance of
//! less than 10^-9. That test alone does not make a finding, either: `count` ids have to be walked.
//!
//! An id that occurs several times among the 64 counts where one of its occurrences is, chosen by a hash of
//! the id. The first one would not do: popular ids come first, and where these are the low ones (articles by age,
//! users by seniority) the ids of a reader would seem to ascend.
//!
//! # What it cannot tell
//!
//! A walker who shuffles what he takes is in no order; the count of different ids is for him. Clients that
//! themselves fetch in order (an application that lists twenty ids and gets each) walk, if for twenty ids only:
//! `count` is above what they do. Where a walk's share of the ids is less than about a quarter, its links are too few.

use std::{hash::BuildHasher, sync::LazyLock};

use foldhash::quality::RandomState;

use crate::source::Source;

/// Ids that are remembered of a track.
pub(super) const REMEMBERED: usize = 64;
/// How many ids come between two looks.
const LOOK_EVERY: u8 = 16;
/// Places in time that neighbours in value may lie apart.
const APART: [u8; 5] = [1, 2, 4, 8, 16];
/// Ways in which links may be kept: so far apart, up, down or either.
const WAYS: f64 = 15.0;
/// The chance that a look takes a reader for a walker.
const CHANCE: f64 = 1e-12;

/// The last ids of a track.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Grows up to [`REMEMBERED`], then is a ring whose oldest is at `oldest`.
    ids: Vec<u64>,
    /// Who took each of them; empty where that is known anyway.
    sources: Vec<Source>,
    oldest: u8,
    unlooked: u8,
}

impl Recent {
    /// Takes note of an id, and of who took it if that is given with each. Whether it is time to look.
    pub(super) fn push(&mut self, id: u64, source: Option<Source>) -> bool {
        if self.ids.len() < REMEMBERED {
            self.ids.push(id);
            self.sources.extend(source);
        } else {
            let oldest = usize::from(self.oldest);
            if let Some(oldest) = self.ids.get_mut(oldest) {
                *oldest = id;
            }
            if let (Some(oldest), Some(source)) = (self.sources.get_mut(oldest), source) {
                *oldest = source;
            }
            self.oldest = (self.oldest + 1) % 64;
        }
        self.unlooked += 1;
        let look = self.unlooked >= LOOK_EVERY;
        if look {
            self.unlooked = 0;
        }
        look
    }

    /// Tells the ids that were walked and who took each; none if it may have been chance.
    ///
    /// The hash chooses among the occurrences of an id.
    pub(super) fn walked(
        &self,
        max_stride: u64,
        state: &RandomState,
        mut each: impl FnMut(u64, Option<Source>),
    ) {
        let oldest = usize::from(self.oldest);
        let in_time = (0..).zip(self.ids.iter().cycle().skip(oldest).take(self.ids.len()));
        let mut places = [Place::default(); REMEMBERED];
        for (place, (time, id)) in places.iter_mut().zip(in_time) {
            *place = Place {
                id: *id,
                time,
                ..Place::default()
            };
        }
        let places = places.get_mut(..self.ids.len()).unwrap_or_default();
        if !find_walk(places, max_stride, state) {
            return;
        }
        for place in places.iter().filter(|place| place.walked) {
            let at = (oldest + usize::from(place.time)) % REMEMBERED;
            each(place.id, self.sources.get(at).copied());
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.ids.capacity() * size_of::<u64>() + self.sources.capacity() * size_of::<Source>()
    }
}

/// An id among those that are looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    id: u64,
    /// The how manieth it was.
    time: u8,
    /// Whether it is the one of its id that counts.
    counts: bool,
    walked: bool,
}

/// In what order the ids of a link came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
    Either,
}

/// Whether chance does not explain the order of the ids; then those that were walked are marked.
fn find_walk(places: &mut [Place], max_stride: u64, state: &RandomState) -> bool {
    places.sort_unstable_by_key(|place| (place.id, place.time));
    choose_occurrences(places, state);

    let ids = u8::try_from(places.len()).unwrap_or(u8::MAX);
    let mut links = 0_u8;
    let mut clusters = 0_u8;
    // How many links came first lower and first higher, at most so far apart.
    let mut up = [0_u8; APART.len()];
    let mut down = [0_u8; APART.len()];
    let mut in_cluster = false;
    for_links(places, max_stride, |link| {
        let Some((lower, higher)) = link else {
            in_cluster = false;
            return;
        };
        links += 1;
        clusters += u8::from(!std::mem::replace(&mut in_cluster, true));
        let kept = if higher.time > lower.time {
            &mut up
        } else {
            &mut down
        };
        let apart = higher.time.abs_diff(lower.time);
        for (kept, most) in kept.iter_mut().zip(APART) {
            *kept += u8::from(apart <= most);
        }
    });

    let ways = APART
        .into_iter()
        .zip(up.into_iter().zip(down))
        .flat_map(|(apart, (up, down))| {
            [
                (Direction::Up, apart, up, apart),
                (Direction::Down, apart, down, apart),
                (Direction::Either, apart, up + down, 2 * apart),
            ]
        });
    let likeliest = ways
        .map(|(direction, apart, kept, choices)| {
            let chance = ln_chance(ids, links, clusters, kept, choices);
            (direction, apart, chance)
        })
        .min_by(|(.., one), (.., other)| one.total_cmp(other));
    match likeliest {
        Some((direction, apart, chance)) if chance + WAYS.ln() < CHANCE.ln() => {
            mark(places, max_stride, direction, apart);
            true
        }
        _ => false,
    }
}

/// Of each id one occurrence counts.
fn choose_occurrences(places: &mut [Place], state: &RandomState) {
    for same in places.chunk_by_mut(|one, other| one.id == other.id) {
        let nth = match same {
            [_] => 0,
            [first, ..] => {
                usize::try_from(state.hash_one(first.id) >> 33).unwrap_or(0) % same.len()
            }
            [] => continue,
        };
        if let Some(place) = same.get_mut(nth) {
            place.counts = true;
        }
    }
}

/// Calls with each two neighbours in value that make a link, and with none for those that do not.
fn for_links(places: &[Place], max_stride: u64, mut each: impl FnMut(Option<(&Place, &Place)>)) {
    let mut counting = places.iter().filter(|place| place.counts);
    let Some(mut lower) = counting.next() else {
        return;
    };
    for higher in counting {
        let linked = higher.id - lower.id <= max_stride;
        each(linked.then_some((lower, higher)));
        lower = higher;
    }
}

/// Marks both ids of the links that are kept.
fn mark(places: &mut [Place], max_stride: u64, direction: Direction, apart: u8) {
    let mut walked = [false; REMEMBERED];
    for_links(places, max_stride, |link| {
        let Some((lower, higher)) = link else { return };
        let ascends = higher.time > lower.time;
        let kept = higher.time.abs_diff(lower.time) <= apart
            && match direction {
                Direction::Up => ascends,
                Direction::Down => !ascends,
                Direction::Either => true,
            };
        if kept {
            for place in [lower, higher] {
                if let Some(walked) = walked.get_mut(usize::from(place.time)) {
                    *walked = true;
                }
            }
        }
    });
    for place in places {
        place.walked = walked
            .get(usize::from(place.time))
            .copied()
            .unwrap_or(false);
    }
}

/// A bound for the logarithm of the chance that so many links are kept, of `links` in `clusters`
/// among `ids` ids, where each may be kept in `choices` ways.
fn ln_chance(ids: u8, links: u8, clusters: u8, kept: u8, choices: u8) -> f64 {
    // No more than chance leads one to expect: nothing to compute.
    if u16::from(kept) * u16::from(ids) <= u16::from(links) * u16::from(choices) || kept > links {
        return 0.0;
    }
    let chains = u16::from(kept.min(links - kept + clusters));
    let ways_to_choose = ln_factorial(links) - ln_factorial(kept) - ln_factorial(links - kept);
    let of_choices = ln(choices);
    let in_place: f64 = (1..=kept)
        .map(|nth| {
            let begun = (u16::from(nth) * chains).div_ceil(u16::from(kept));
            let begun = u8::try_from(begun).unwrap_or(u8::MAX);
            let free = ids.saturating_sub(nth - 1).saturating_sub(begun);
            (of_choices - ln(free)).min(0.0)
        })
        .sum();
    ways_to_choose + in_place
}

/// The logarithm of a small number; that of none is that of one.
fn ln(number: u8) -> f64 {
    ln_factorial(number) - ln_factorial(number.saturating_sub(1))
}

fn ln_factorial(number: u8) -> f64 {
    static TABLE: LazyLock<[f64; REMEMBERED + 1]> = LazyLock::new(|| {
        let mut table = [0.0; REMEMBERED + 1];
        let mut sum = 0.0;
        for (number, entry) in (0_u8..).zip(&mut table).skip(1) {
            sum += f64::from(number).ln();
            *entry = sum;
        }
        table
    });
    TABLE
        .get(usize::from(number))
        .copied()
        .unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(ids: impl IntoIterator<Item = u64>, max_stride: u64) -> usize {
        let mut recent = Recent::default();
        for id in ids {
            recent.push(id, None);
        }
        let mut walked = 0;
        recent.walked(max_stride, &RandomState::default(), |_, _| walked += 1);
        walked
    }

    #[test]
    fn ids_in_order_were_walked_whichever_way_and_stride() {
        for stride in 1..=16 {
            assert_eq!(walked((0..64).map(|nth| 1000 + nth * stride), 16), 64);
            assert_eq!(walked((0..64).rev().map(|nth| 1000 + nth * stride), 16), 64);
        }
        assert_eq!(walked((0..64).map(|nth| nth * 17), 16), 0);
    }

    #[test]
    fn a_few_in_order_may_be_chance() {
        assert_eq!(walked(0..10, 16), 0);
        assert_eq!(walked(0..20, 16), 20);
    }

    #[test]
    fn the_bound_is_above_what_shuffling_gives() {
        // Of all 64 ids that are one cluster: how often does chance keep so many links?
        let mut random = fastrand::Rng::with_seed(5);
        let rounds = 20_000;
        let mut seen = [0_u32; 64];
        for _ in 0..rounds {
            let mut times: Vec<usize> = (0..64).collect();
            random.shuffle(&mut times);
            let kept = times
                .windows(2)
                .filter(|pair| pair[1] > pair[0] && pair[1] - pair[0] <= 4);
            let kept = kept.count();
            seen.iter_mut().take(kept + 1).for_each(|seen| *seen += 1);
        }
        for (seen, kept) in seen.into_iter().zip(0_u8..).skip(1) {
            let bound = ln_chance(64, 63, 1, kept, 4).exp();
            let measured = f64::from(seen) / f64::from(rounds);
            assert!(
                measured <= bound * 1.2,
                "{kept} kept: {measured} of a bound of {bound}"
            );
        }
    }

    #[test]
    fn the_largest_and_smallest_ids_are_no_trouble() {
        assert_eq!(walked((0..64).map(|nth| u64::MAX - nth), u64::MAX), 64);
        assert_eq!(walked([0, u64::MAX, 0, u64::MAX], u64::MAX), 0);
        assert_eq!(walked(std::iter::repeat_n(5, 200), 16), 0);
        assert_eq!(walked([], 16), 0);
    }
}
