//! The one hash that this room puts topics, filters and levels through.
//! It is keyed, so that nobody outside can choose topics that collide, and it is never stored or sent.
//! Read `index.rs` next, which is built on it.

use std::hash::{BuildHasher, Hasher, RandomState};

use foldhash::{SharedSeed, fast::FoldHasher};

/// The key of all hashing in one broker.
///
/// Everything that is to agree on a hash (the retained store, the epochs and whoever looks a topic up in a cache)
/// is made with clones of one key.
#[derive(Clone)]
pub struct HashKey {
    first: u64,
    rest: SharedSeed,
}

impl HashKey {
    /// A key that nobody can guess, from the operating system's randomness. What a node runs with.
    pub fn random() -> Self {
        Self::fixed(RandomState::new().hash_one(0_u64))
    }

    /// A key that is the same for the same seed, for simulations that are to be repeated.
    pub fn fixed(seed: u64) -> Self {
        Self { first: seed.rotate_left(32) ^ 0x9E37_79B9_7F4A_7C15, rest: SharedSeed::from_u64(seed) }
    }

    /// The hash of a topic, a filter or a level. Takes time in proportion to its length.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.first, &self.rest);
        hasher.write(bytes);
        hasher.finish()
    }
}

/// Stirs two numbers into one in which every bit of both counts.
#[inline]
pub(super) fn mix(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product as u64) ^ ((product >> 64) as u64)
}

/// The first `count` levels of a topic with the slashes between them; all of it if it has no more. `count` is not 0.
#[inline]
pub(super) fn first_levels(topic: &[u8], count: usize) -> &[u8] {
    let mut slashes = memchr::memchr_iter(b'/', topic);
    slashes.nth(count - 1).map_or(topic, |end| &topic[..end])
}

#[cfg(test)]
mod tests {
    use super::{HashKey, first_levels};

    #[test]
    fn levels_are_counted_from_the_front() {
        for (topic, one, two) in
            [("", "", ""), ("a", "a", "a"), ("a/b", "a", "a/b"), ("a/b/c", "a", "a/b"), ("//x", "", "/")]
        {
            assert_eq!(first_levels(topic.as_bytes(), 1), one.as_bytes());
            assert_eq!(first_levels(topic.as_bytes(), 2), two.as_bytes());
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_hash_and_another_seed_another() {
        let (one, same, other) = (HashKey::fixed(7), HashKey::fixed(7), HashKey::fixed(8));
        for topic in [&b""[..], b"a", b"sensors/4/temperature", &[b'x'; 500]] {
            assert_eq!(one.hash(topic), same.hash(topic));
            assert_ne!(one.hash(topic), other.hash(topic));
        }
    }

    #[test]
    fn random_keys_differ() {
        assert_ne!(HashKey::random().hash(b"a/b"), HashKey::random().hash(b"a/b"));
    }
}
