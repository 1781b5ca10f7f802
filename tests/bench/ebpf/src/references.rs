//! The programs that people write: one hash map for rates, one trie for prefixes.
//!
//! They are meant to be good of their kind: nothing but what the job takes, no lock, no
//! statistics, IPv4 without options or tags.

use aya_ebpf::{
    btf_maps::{LpmTrie, LruHashMap, lpm_trie::Key},
    helpers::bpf_ktime_get_ns,
    macros::btf_map,
};

/// Sources that the token bucket remembers.
const MAX_SOURCES: usize = 1 << 20;
/// Prefixes that the blocklist holds.
const MAX_PREFIXES: usize = 1 << 21;

/// 1,000 packets a second, a thousand at once.
const NS_PER_TOKEN: u64 = 1_000_000;
const FULL_NS: u64 = 1_000 * NS_PER_TOKEN;

/// One source's tokens.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct TokenBucket {
    /// Tokens left, in the time that it takes to earn them.
    credit_ns: u64,
    /// When that was so, in kernel time.
    at_ns: u64,
}

#[btf_map]
static TOKEN_BUCKETS: LruHashMap<u32, TokenBucket, MAX_SOURCES> = LruHashMap::new();
#[btf_map]
static BLOCKLIST: LpmTrie<[u8; 4], u32, MAX_PREFIXES> = LpmTrie::new();

/// Takes a token of this source; `false` if there is none left.
#[inline(always)]
pub(crate) fn spend_token(source: u32) -> bool {
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(bucket) = TOKEN_BUCKETS.get_ptr_mut(source) else {
        let first = TokenBucket {
            credit_ns: FULL_NS - NS_PER_TOKEN,
            at_ns: now,
        };
        // Failing means that another CPU was first: this packet is on the house.
        let _raced = TOKEN_BUCKETS.insert(source, first, 0);
        return true;
    };
    // SAFETY: an LRU hash map is preallocated, so the memory stays a bucket while the
    // program runs. Two CPUs may overwrite each other, as they do in such programs.
    let bucket = unsafe { &mut *bucket };
    let earned = now.saturating_sub(bucket.at_ns);
    let credit = bucket.credit_ns.saturating_add(earned).min(FULL_NS);
    let admitted = credit >= NS_PER_TOKEN;
    bucket.credit_ns = if admitted {
        credit - NS_PER_TOKEN
    } else {
        credit
    };
    bucket.at_ns = now;
    admitted
}

/// Whether a prefix of the blocklist covers this source.
#[inline(always)]
pub(crate) fn is_blocked(source: u32) -> bool {
    BLOCKLIST.get(&Key::new(32, source.to_ne_bytes())).is_some()
}
