//! Chance that can be repeated: a small generator of numbers (SplitMix64), the same for the same seed on every machine and for
//! ever, and what test programs that live on chance do with it.
#![allow(dead_code, reason = "each program that includes this uses some of it")]

pub struct Random(pub u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// A number that whoever runs the program may set: `SEED`, `CASES`.
pub fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// One change of a text: a bit, an end, a byte gone, a piece doubled, or most often a word of its language.
pub fn mutate_text(data: &mut Vec<u8>, random: &mut Random, words: &[&str]) {
    let place = random.below(data.len() + 1);
    let byte = place % data.len().max(1);
    match random.below(8) {
        0 if !data.is_empty() => data[byte] ^= 1 << random.below(8),
        1 => data.truncate(place),
        2 if !data.is_empty() => {
            data.remove(byte);
        }
        3 => {
            let end = place + random.below(data.len() - place + 1);
            let copied = data[place..end].to_vec();
            data.splice(place..place, copied);
        }
        _ => {
            let word = random.pick(words);
            data.splice(place..place, word.bytes());
        }
    }
}
