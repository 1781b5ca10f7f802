//! The last few different sources of something, for the finding about it.

use ipnet::IpNet;

use crate::source::{Masks, Source};

/// Different sources, at most so many as [`Lately::MOST`]: those that came last.
#[derive(Clone, Debug, Default)]
pub struct Lately {
    /// The newest is last.
    sources: Vec<Source>,
}

impl Lately {
    /// How many are remembered.
    pub const MOST: usize = 64;

    /// Takes note of a source.
    pub fn note(&mut self, source: Source) {
        if self.sources.last() == Some(&source) {
            return;
        }
        if let Some(at) = self.sources.iter().position(|other| *other == source) {
            self.sources.remove(at);
        } else if self.sources.len() >= Self::MOST {
            self.sources.remove(0);
        }
        self.sources.push(source);
    }

    /// All of them, the newest last.
    pub fn nets(&self, masks: Masks) -> Vec<IpNet> {
        self.sources
            .iter()
            .map(|source| source.net(masks))
            .collect()
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.sources.capacity() * size_of::<Source>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sixty_four_different_sources_are_remembered_in_their_order() {
        let masks = Masks::default();
        let source = |nth: u32| Source::new(std::net::IpAddr::V4(nth.into()), masks);
        let mut lately = Lately::default();
        for nth in (0..100).chain([98, 98, 40]) {
            lately.note(source(nth));
        }
        let expected = (41..98)
            .chain([99, 98, 40])
            .map(|nth| source(nth).net(masks));
        let expected: Vec<IpNet> = (36..40)
            .map(|nth| source(nth).net(masks))
            .chain(expected)
            .collect();
        assert_eq!(lately.nets(masks), expected);
        assert!(lately.heap_bytes() <= Lately::MOST * size_of::<Source>());
    }
}
