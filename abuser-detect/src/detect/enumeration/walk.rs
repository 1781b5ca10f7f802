//! Whether ids came in order, or as chance has it.
//!
//! # The question
//!
//! A walker takes ids one after the other: up or down, at some stride, perhaps with several walks or
//! workers at once, with retries, and mixed with what others do behind the same address. A busy client takes as many
//! ids, but in no order. How often small steps occur says little: among the 500 ids of a small shop nearly
//! every id lies close to one that was taken lately, and popular ids may lie close together. So nothing is assumed
//! of which ids a reader takes, how many there are or how popular each is. What tells a walker is
//! the order alone.
//!
//! # The test
//!
//! The last 128 ids of a place are sorted. Neighbours in value that are no more than the largest stride apart
//! belong to one *cluster*; a walk is a cluster, and several walks are several. Then come all pairs of ids of the same
//! cluster: a pair is in order if the lower id came first. A walker up has nearly all pairs in order, a walker down
//! nearly none, and workers that walk side by side swap only pairs that are close. For a reader every
//! order of these ids was as likely as any other, whatever the ids are.
//!
//! How likely is it that chance leaves `t` pairs or fewer out of order? In a random order of `m` ids that number is a
//! sum of independent numbers of which the `i`th is any of 0 to `i - 1` (the `i`th id is inserted somewhere
//! among those before it), and the orders of different clusters are independent. So for each `q` between 0 and 1 Chernoff's bound
//! is
//!
//! ```text
//! p <= q^-t * product over clusters, i = 1..m of (1 - q^i) / (i (1 - q))
//! ```
//!
//! and the least of them over a few `q` is taken, as each of them holds. With all of 16 ids in order it is 1/16!, or 5 in
//! 10^14. The same is asked for pairs in order (a walk down), and for whichever are fewer in each cluster (walks in different directions,
//! for which `p` doubles with each cluster); as three questions are asked, `p` counts three times. It is a bound,
//! not an estimate, for any reader whose ids are independent of their time.
//!
//! `p` has to be less than 10^-12 at a look, and a look takes place every 16 ids: a reader of 10,000 requests is
//! taken for a walker with a chance of less than 10^-9. That test alone does not make a finding, either: `count` ids
//! have to be walked. These are the ids of each cluster whose own `p` is less than 10^-3 (so it has seven ids or more) that are in order with
//! three quarters of it.
//!
//! An id that occurs several times among the 128 counts where one of its occurrences is, chosen by a hash of
//! the id. The first one would not do: popular ids come first, and where these are the low ones (articles by age,
//! users by seniority) the ids of a reader would seem to ascend.
//!
//! # What it cannot tell
//!
//! - A walker who shuffles what he takes, or has more than about forty workers, is in no order; the count of different
//!   ids is for him. Where a walk's share of the ids is less than an eighth, they are too few. And where one id
//!   is skipped, or will be taken later by a slower worker, the step over it is twice as large: `max_stride` is about
//!   what is seen, not what was meant.
//! - Clients may themselves take ids in order. An application that lists twenty ids and gets each of them walks
//!   twenty ids with each list, and one that gets each new message as it comes walks, too. `count`
//!   within `within` has to be above what they do, or `where` without them.

use std::{hash::BuildHasher, sync::LazyLock};

use foldhash::quality::RandomState;

use crate::source::Source;

/// Ids that are remembered of a place.
pub(super) const REMEMBERED: usize = 128;
/// How many ids come between two looks.
const LOOK_EVERY: u8 = 16;
/// The chance that a look takes a reader for a walker.
const CHANCE: f64 = 1e-12;
/// The chance that a cluster of a reader beside a walker is taken for a walk.
const CHANCE_OF_CLUSTER: f64 = 1e-3;
/// Questions that are asked at each look: up, down, either.
const QUESTIONS: f64 = 3.0;

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
            self.oldest = (self.oldest + 1) % 128;
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
                walked: false,
            };
        }
        let places = places.get_mut(..self.ids.len()).unwrap_or_default();
        let places = find_walk(places, max_stride, state);
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
    /// Whether it was walked.
    walked: bool,
}

/// Pairs of ids of the same cluster.
#[derive(Clone, Copy, Debug, Default)]
struct Pairs {
    in_order: u32,
    in_reverse: u32,
    /// Of each cluster whichever are fewer.
    fewer: u32,
    /// Clusters in which either may be fewer.
    clusters: u32,
}

/// Marks the ids that were walked; none if chance explains their order. Returns those that count.
fn find_walk<'p>(places: &'p mut [Place], max_stride: u64, state: &RandomState) -> &'p mut [Place] {
    places.sort_unstable_by_key(|place| (place.id, place.time));
    let counting = choose_occurrences(places, state);
    let places = places.get_mut(..counting).unwrap_or_default();
    let linked = |lower: &Place, higher: &Place| higher.id - lower.id <= max_stride;

    let mut pairs = Pairs::default();
    for cluster in places.chunk_by(linked) {
        pairs.add(cluster);
    }
    let clusters = || places.chunk_by(linked).map(<[Place]>::len);
    let limit = CHANCE.ln() - QUESTIONS.ln();
    let either = f64::from(pairs.clusters) * 2_f64.ln();
    let all = pairs.in_order + pairs.in_reverse;
    let explains = |pairs: u32, more: f64| ln_chance(pairs, all, &clusters()) + more >= limit;
    if explains(pairs.in_reverse, 0.0)
        && explains(pairs.in_order, 0.0)
        && explains(pairs.fewer, either)
    {
        return places;
    }
    for cluster in places.chunk_by_mut(linked) {
        mark(cluster);
    }
    places
}

/// Moves one occurrence of each id to the front, in their order; how many these are.
fn choose_occurrences(places: &mut [Place], state: &RandomState) -> usize {
    let mut chosen = 0;
    let mut next = 0;
    while let Some(first) = places.get(next).copied() {
        let others = places
            .iter()
            .skip(next)
            .take_while(|place| place.id == first.id)
            .count();
        let nth = match others {
            1 => 0,
            _ => usize::try_from(state.hash_one(first.id) >> 33).unwrap_or(0) % others,
        };
        let place = places.get(next + nth).copied().unwrap_or(first);
        if let Some(front) = places.get_mut(chosen) {
            *front = place;
        }
        chosen += 1;
        next += others;
    }
    chosen
}

impl Pairs {
    fn add(&mut self, cluster: &[Place]) {
        if cluster.len() < 2 {
            return;
        }
        let mut in_reverse = 0;
        let mut all = 0;
        let mut rest = cluster;
        while let [lower, higher @ ..] = rest {
            let earlier = higher
                .iter()
                .map(|higher| u32::from(higher.time < lower.time));
            in_reverse += earlier.sum::<u32>();
            all += u32::try_from(higher.len()).unwrap_or(0);
            rest = higher;
        }
        self.in_reverse += in_reverse;
        self.in_order += all - in_reverse;
        self.fewer += in_reverse.min(all - in_reverse);
        self.clusters += 1;
    }
}

/// Marks those of a cluster that are in order with three quarters of it, if it may be a walk.
fn mark(cluster: &mut [Place]) {
    let mut pairs = Pairs::default();
    pairs.add(cluster);
    let up = pairs.in_order >= pairs.in_reverse;
    let all = pairs.in_order + pairs.in_reverse;
    let chance = ln_chance(pairs.fewer, all, &std::iter::once(cluster.len())) + 2_f64.ln();
    if chance >= CHANCE_OF_CLUSTER.ln() {
        return;
    }
    let others = cluster.len() - 1;
    for nth in 0..cluster.len() {
        let Some((lower, [place, higher @ ..])) = cluster.split_at_checked(nth) else {
            return;
        };
        let before = lower
            .iter()
            .filter(|lower| (lower.time < place.time) == up)
            .count();
        let after = higher
            .iter()
            .filter(|higher| (higher.time > place.time) == up)
            .count();
        let walked = (before + after) * 4 >= others * 3;
        if let Some(place) = cluster.get_mut(nth) {
            place.walked = walked;
        }
    }
}

/// A bound for the logarithm of the chance that so few of all pairs are out of order, in clusters of
/// these sizes.
fn ln_chance(out_of_order: u32, all: u32, clusters: &(impl Iterator<Item = usize> + Clone)) -> f64 {
    // As chance leads one to expect, or nearly so: nothing to compute.
    if out_of_order * 5 >= all * 2 {
        return 0.0;
    }
    let bounds = MOMENTS.iter().map(|(lambda, of_size)| {
        let moments: f64 = clusters.clone().filter_map(|size| of_size.get(size)).sum();
        lambda * f64::from(out_of_order) + moments
    });
    bounds.fold(0.0, f64::min)
}

/// For some `lambda`, where `q` is `exp(-lambda)`: the logarithm of the product of `(1 - q^i) / (i (1 - q))` for each size of
/// a cluster.
static MOMENTS: LazyLock<Vec<(f64, [f64; REMEMBERED + 1])>> = LazyLock::new(|| {
    // From where the bound is best for a few in order among many to where only perfect order counts.
    let lambdas = std::iter::successors(Some(0.005), |lambda| Some(lambda * 1.5)).take(20);
    let of_sizes = lambdas.map(|lambda: f64| {
        let mut of_size = [0.0; REMEMBERED + 1];
        let mut sum = 0.0;
        for (size, entry) in (0_u8..).zip(&mut of_size).skip(1) {
            let size = f64::from(size);
            sum += (-lambda * size).exp_m1().abs().ln() - (-lambda).exp_m1().abs().ln() - size.ln();
            *entry = sum;
        }
        (lambda, of_size)
    });
    of_sizes.collect()
});

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
        assert_eq!(walked(0..15, 16), 0);
        assert_eq!(walked(0..16, 16), 16);
    }

    #[test]
    fn walks_up_and_down_at_once_were_walked() {
        let ids = (0..40).flat_map(|nth| [1000 + nth, 9000 - nth, 50_000 * nth]);
        assert_eq!(walked(ids, 16), 80);
    }

    #[test]
    fn ids_beside_a_walk_were_not_walked() {
        let ids = (0..60).flat_map(|nth| [1000 + nth, 100_000 + nth * 7919 % 3000]);
        let count = walked(ids, 16);
        assert!((60..65).contains(&count), "{count}");
    }

    /// The chances that so many pairs are out of order in clusters of these sizes, counted out.
    fn chances(sizes: &[usize]) -> Vec<f64> {
        let mut chances = vec![1.0];
        // Each id but the first of a cluster adds any number of pairs up to how many ids there are before it.
        for choices in sizes.iter().flat_map(|size| 1..=*size) {
            let mut next = vec![0.0; chances.len() + choices - 1];
            for (pairs, chance) in chances.iter().enumerate() {
                for more in 0..choices {
                    next[pairs + more] += chance / f64::from(u32::try_from(choices).expect("few"));
                }
            }
            chances = next;
        }
        chances
    }

    #[test]
    fn of_ids_in_the_midst_of_a_walk_only_those_that_fit_were_walked() {
        // Every third is anywhere where the walk has been or will be.
        let ids = (0..42).flat_map(|nth| [nth * 8, nth * 8 + 4, nth * 37 % 42 * 8 + 1]);
        let count = walked(ids, 16);
        assert!((75..110).contains(&count), "{count} of 84 and 42");
    }

    #[test]
    fn the_bound_is_above_the_chance_and_not_far() {
        for sizes in [
            vec![8],
            vec![20],
            vec![5, 5, 10],
            vec![3; 10],
            vec![64, 30, 2],
            vec![128],
        ] {
            let chances = chances(&sizes);
            let all = u32::try_from(chances.len() - 1).expect("few");
            let mut chance = 0.0;
            for (pairs, of_so_many) in (0..).zip(chances) {
                chance += of_so_many;
                let bound = ln_chance(pairs, all, &sizes.iter().copied()).exp();
                assert!(
                    chance <= bound * (1.0 + 1e-9),
                    "{pairs} of {all}: {chance}, a bound of {bound}"
                );
                let near = bound < chance * 100.0 || bound > 1e-3 || chance < 1e-20;
                assert!(near, "{pairs} of {all}: {chance}, a bound of {bound}");
            }
        }
        // In perfect order: one of 16! orders.
        let factorial: f64 = (1..=16).map(|number| f64::from(number).ln()).sum();
        assert!((ln_chance(0, 120, &[16].into_iter()) + factorial).abs() < 0.1);
    }

    #[test]
    fn the_largest_and_smallest_ids_are_no_trouble() {
        assert_eq!(walked((0..64).map(|nth| u64::MAX - nth), u64::MAX), 64);
        assert_eq!(walked([0, u64::MAX, 0, u64::MAX], u64::MAX), 0);
        assert_eq!(walked(std::iter::repeat_n(5, 200), 16), 0);
        assert_eq!(walked([], 16), 0);
    }
}
