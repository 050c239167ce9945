//! Mutations of inputs.

/// Bytes that are often edges.
const EDGES: [u8; 10] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'"', b'{', b'\\', b' '];

/// Makes inputs from others.
pub(super) struct Mutator {
    rng: fastrand::Rng,
    words: Vec<Vec<u8>>,
}

impl Mutator {
    /// A mutator that also inserts these words.
    pub(super) fn new(seed: u64, words: &[&str]) -> Self {
        let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        Self { rng: fastrand::Rng::with_seed(seed), words }
    }

    /// An input of at most `most` bytes.
    pub(super) fn next(&mut self, corpus: &[Vec<u8>], most: usize) -> Vec<u8> {
        let mut input = corpus[self.rng.usize(..corpus.len())].clone();
        // One change most of the time; at times many.
        for _ in 0..1 << self.rng.u32(0..5) {
            self.change(&mut input, corpus);
        }
        input.truncate(most);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.rng.usize(..=input.len());
        let (from, to) = self.range(input.len());
        match self.rng.u32(0..10) {
            0 if at < input.len() => input[at] ^= 1 << self.rng.u32(0..8),
            1 if at < input.len() => input[at] = self.rng.u8(..),
            2 if at < input.len() => input[at] = EDGES[self.rng.usize(..EDGES.len())],
            3 => input.insert(at, self.rng.u8(..)),
            4 => drop(input.drain(from..to)),
            5 => {
                let part = input[from..to].to_vec();
                self.insert(input, at, &part);
            }
            6 => {
                let other = &corpus[self.rng.usize(..corpus.len())];
                let (from, to) = self.range(other.len());
                let part = other[from..to].to_vec();
                self.insert(input, at, &part);
            }
            7 => {
                // Again and again: depth and length are limits too.
                let part = input[from..to.min(from + 8)].repeat(self.rng.usize(1..200));
                self.insert(input, at, &part);
            }
            8 if at + 8 <= input.len() => {
                let value = [0, 1, u64::MAX, i64::MAX as u64, 1 << 31][self.rng.usize(..5)];
                input[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            _ if !self.words.is_empty() => {
                let word = self.words[self.rng.usize(..self.words.len())].clone();
                self.insert(input, at, &word);
            }
            _ => input.truncate(at),
        }
    }

    fn insert(&mut self, input: &mut Vec<u8>, at: usize, part: &[u8]) {
        if self.rng.bool() {
            input.splice(at..at, part.iter().copied());
        } else {
            let end = (at + part.len()).min(input.len());
            input.splice(at..end, part.iter().copied());
        }
    }

    fn range(&mut self, length: usize) -> (usize, usize) {
        let from = self.rng.usize(..=length);
        let most = if self.rng.bool() { 16 } else { length };
        (from, self.rng.usize(from..=length.min(from.saturating_add(most))))
    }
}
