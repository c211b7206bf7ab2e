//! Text: lines of words drawn from a Zipf distribution over an invented vocabulary.
//!
//! Words are made of syllables from the word's rank, so that equal ranks are equal words everywhere; common ones are
//! short. Some begin with a capital, some carry an accent, which is not ASCII, and some are followed by
//! punctuation, so that a wrong token rule does not go unnoticed.

use super::mix::{mix, start_of};
use super::zipf::Zipf;
use std::io::{self, Write};

const ONSETS: [&str; 16] = [
    "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "st", "tr", "gl",
];
const VOWELS: [&str; 8] = ["a", "e", "i", "o", "u", "ai", "ou", "ea"];
const SYLLABLES: u64 = (ONSETS.len() * VOWELS.len()) as u64;

/// Lines of text.
#[derive(Debug, Clone, Copy)]
pub struct TextData {
    words: Zipf,
    start: u64,
}

impl TextData {
    /// Text of a vocabulary of about `vocabulary` words with exponent `skew`.
    pub fn new(vocabulary: u64, skew: f64, seed: u64) -> Self {
        TextData {
            words: Zipf::new(vocabulary, skew),
            start: start_of(seed),
        }
    }

    /// Appends line `index` with its newline; 6 to 13 words.
    pub fn line(&self, index: u64, line: &mut Vec<u8>) {
        let base = mix(self.start.wrapping_add(index));
        let count = 6 + (base & 7);
        for place in 0..count {
            let random = mix(base.wrapping_add(place + 1));
            if place > 0 {
                line.push(b' ');
            }
            let from = line.len();
            spell(self.words.sample(random), line);
            // The sample used the upper bits; these are of another number.
            let style = mix(random) & 63;
            if style == 0 || place == 0 {
                line[from] = line[from].to_ascii_uppercase();
            }
            match style {
                1..=4 => line.push(b','),
                5 => line.extend_from_slice("é".as_bytes()),
                6 => line.push(b';'),
                _ if place + 1 == count => line.push(b'.'),
                _ => {}
            }
        }
        line.push(b'\n');
    }

    /// Writes the first `lines` lines; answers their bytes.
    ///
    /// # Errors
    /// Where `out` cannot be written.
    pub fn write(&self, lines: u64, out: &mut impl Write) -> io::Result<u64> {
        let mut buffer = Vec::with_capacity(72 << 10);
        let mut bytes = 0;
        for index in 0..lines {
            self.line(index, &mut buffer);
            if buffer.len() >= 64 << 10 || index + 1 == lines {
                out.write_all(&buffer)?;
                bytes += buffer.len() as u64;
                buffer.clear();
            }
        }
        Ok(bytes)
    }
}

/// Appends the word with rank `rank`: one syllable for the first 128, two for the next 16 384, …
fn spell(rank: u64, out: &mut Vec<u8>) {
    let mut rest = rank;
    loop {
        let syllable = (rest % SYLLABLES) as usize;
        out.extend_from_slice(ONSETS[syllable / VOWELS.len()].as_bytes());
        out.extend_from_slice(VOWELS[syllable % VOWELS.len()].as_bytes());
        rest /= SYLLABLES;
        if rest == 0 {
            return;
        }
        rest -= 1;
    }
}

/// About how many lines make `bytes` bytes of text.
pub fn lines_for(bytes: u64) -> u64 {
    const BYTES_PER_LINE: u64 = 47;
    (bytes / BYTES_PER_LINE).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn text_is_utf8_lines_and_the_same_for_the_same_seed() {
        let data = TextData::new(10_000, 1.0, 7);
        let mut text = Vec::new();
        let bytes = data.write(1_000, &mut text).expect("a vector takes everything");
        assert_eq!(bytes, text.len() as u64);
        let mut again = Vec::new();
        TextData::new(10_000, 1.0, 7)
            .write(1_000, &mut again)
            .expect("a vector takes everything");
        assert!(text == again);
        let text = String::from_utf8(text).expect("text is UTF-8");
        assert_eq!(text.lines().count(), 1_000);
        assert!(text.contains('é') && text.contains(','));
        assert!(
            text.lines()
                .all(|line| (6..=13).contains(&line.split(' ').count()))
        );
        let per_line = text.len() as u64 / 1_000;
        assert!(
            (40..55).contains(&per_line),
            "{per_line} B a line: lines_for() is off"
        );
    }

    #[test]
    fn ranks_spell_distinct_words_but_for_ambiguous_joins() {
        let words: HashSet<Vec<u8>> = (0..20_000)
            .map(|rank| {
                let mut word = Vec::new();
                spell(rank, &mut word);
                word
            })
            .collect();
        assert!(words.len() > 19_000, "{} distinct of 20,000", words.len());
    }
}
