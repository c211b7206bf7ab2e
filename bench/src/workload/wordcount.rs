//! `wordcount`: how often each word occurs in text files.

use super::input::hash_of;
use super::output::output;
use super::updates::{KeySink, LastSink};
use super::{Answer, Bare, Outcome, Workload};
use crate::data::TextData;
use crate::limits::{MachineLimits, best_rate};
use crate::options::Choice;
use crate::scratch::Scratch;
use crate::setting::{Emit, Setting};
use forebay::operator::Collector;
use forebay::record::itself;
use forebay::sink::HashSink;
use forebay::source::{NotUtf8, Patterns, text_blocks};
use forebay::{Environment, Result};
use forebay_memory::{Error, hash};
use std::collections::HashMap;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
pub const WORKLOAD: Workload = Workload {
    name: "wordcount",
    about: "occurrences of each word in text files, or in generated text",
    help: "A word is a maximal run of ASCII letters, digits and underscores; every other byte separates, those of\n\
           other letters too. The same counts with coreutils (the echo ends a last line that has no end):\n\
           for f in FILE…; do LC_ALL=C tr -cs 'A-Za-z0-9_' '\\n' <\"$f\"; echo; done | grep . | LC_ALL=C sort | uniq -c\n\
           --input 'linux-source-*/**/*.c' reads files; bytes that are not UTF-8 separate words. Without it, lines of\n\
           about --records words from an invented vocabulary of --keys are generated into a file beforehand.\n\
           --emit final (batch) sends each word's count once, --emit updates (streaming) the new count after each word.",
    records: 10_000_000,
    keys: 50_000,
    takes: &[
        Choice::Keys,
        Choice::Skew,
        Choice::Seed,
        Choice::Input,
        Choice::Output,
        Choice::Emit,
    ],
    takes_of_files: &[Choice::Output, Choice::Emit],
    prepare,
    run,
    oracle,
    bare,
    stall: None,
    read_back: None,
};

/// Results: a word and how often it occurs.
type Counted = (String, u64);

/// Bytes looked at together.
const BLOCK: usize = 64;

/// Which bytes of a block are part of a word: bit i for byte i. Without branches, so that the compiler makes it a few
/// vector instructions; a multiplication gathers eight of their answers.
#[inline(always)]
fn word_bytes(block: &[u8; BLOCK]) -> u64 {
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut is_word = [0u8; BLOCK];
    for (answer, byte) in is_word.iter_mut().zip(block) {
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let digit = byte.wrapping_sub(b'0') < 10;
        *answer = u8::from(letter) | u8::from(digit) | u8::from(*byte == b'_');
    }
    let eights = is_word.as_chunks::<8>().0.iter().enumerate();
    eights.fold(0, |bits, (index, eight)| {
        bits | (u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56) << (8 * index)
    })
}

/// Calls `each` with where each word of the text begins and ends.
#[inline(always)]
fn for_each_word(text: &[u8], mut each: impl FnMut(usize, usize)) {
    let (blocks, tail) = text.as_chunks::<BLOCK>();
    let mut last = [0; BLOCK];
    last[..tail.len()].copy_from_slice(tail);
    // Where the word begins that the blocks so far end in, if they do.
    let mut open: Option<usize> = None;
    let mut base = 0;
    for block in blocks.iter().chain([&last]) {
        let bytes = word_bytes(block);
        // A bit where a word begins or ends.
        let mut edges = bytes ^ (bytes << 1 | u64::from(open.is_some()));
        while edges != 0 {
            let edge = base + edges.trailing_zeros() as usize;
            edges &= edges - 1;
            match open.take() {
                Some(start) => each(start, edge),
                None => open = Some(edge),
            }
        }
        base += BLOCK;
    }
    // The last block ends in at least one byte that is none of a word, so no word is open.
}

fn prepare(setting: &mut Setting) -> Result<Option<Scratch>> {
    const WORDS_A_LINE: u64 = 9;
    if !setting.input.is_empty() {
        return Ok(None);
    }
    let skew = if setting.skew == 0.0 { 1.0 } else { setting.skew };
    let text = TextData::new(setting.keys.max(1), skew, setting.seed);
    let scratch = Scratch::write(|file| text.write(setting.records.div_ceil(WORDS_A_LINE), file))?;
    setting.input = vec![scratch.path().display().to_string()];
    Ok(Some(scratch))
}

fn run(environment: &Environment, setting: &Setting) -> Result<Outcome> {
    let source = text_blocks(setting.input.clone()).not_utf8(NotUtf8::Replace);
    // Once a block: results do not say how many words there were, and senders may have counted some already.
    let counted = Arc::new([const { AtomicU64::new(0) }; 2]);
    let counter = counted.clone();
    let words = environment
        .source("read", source)
        .flat_map(move |block, out: &mut Collector<'_, String>| {
            let mut count = 0;
            for_each_word(block.as_bytes(), |start, end| {
                count += 1;
                out.push(&block[start..end]);
            });
            for (counter, more) in counter.iter().zip([count, block.len() as u64]) {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        })
        .name("words")
        .key_by(itself());
    let count = forebay::aggregate::count();
    let answer: Box<dyn Fn() -> Answer> = match setting.emit {
        _ if setting.output.is_some() => {
            let lines =
                |(word, count): (&str, u64), line: &mut String| line.push_str(&format!("{count:7} {word}"));
            let sink = output::<Counted, _>(setting, lines);
            words.aggregate_final(count).sink("files", sink);
            Box::new(Answer::default)
        }
        Emit::Final => {
            let (sink, total) = HashSink::<Counted>::new();
            words.aggregate_final(count).sink("hash", sink);
            Box::new(move || super::folded(&total))
        }
        Emit::Updates if setting.checked => {
            let (sink, total) = LastSink::<Counted>::new();
            words.aggregate_updates(count).sink("last of each word", sink);
            Box::new(move || *total.lock().expect("folding does not panic"))
        }
        Emit::Updates => {
            let (sink, total) = KeySink::<Counted>::new();
            words.aggregate_updates(count).sink("hash of words", sink);
            Box::new(move || *total.lock().expect("folding does not panic"))
        }
    };
    let summary = environment.execute("wordcount")?;
    let [records, bytes] = [0, 1].map(|counter| counted[counter].load(Ordering::Relaxed));
    Ok(Outcome {
        records,
        bytes,
        answer: answer(),
        summary,
        latency: None,
    })
}

fn oracle(setting: &Setting) -> Result<Answer> {
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    for path in Patterns::from(setting.input.clone()).files()? {
        let failed = |error| Error::io(format!("cannot read {}", path.display()), error);
        let mut file = BufReader::with_capacity(1 << 20, File::open(&path).map_err(failed)?);
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line).map_err(failed)? > 0 {
            for_each_word(&line, |start, end| match counts.get_mut(&line[start..end]) {
                Some(count) => *count += 1,
                None => {
                    counts.insert(line[start..end].to_vec(), 1);
                }
            });
            line.clear();
        }
    }
    let mut answer = Answer {
        records: counts.len() as u64,
        hash: 0,
    };
    let mut row = Vec::new();
    for (word, count) in counts {
        let word = String::from_utf8(word).expect("a word is ASCII");
        answer.hash = answer.hash.wrapping_add(hash_of(&(word, count), &mut row));
    }
    Ok(answer)
}

/// Words of the first files found and hashed, up to a bound; each thread has a part of them.
fn bare(setting: &Setting, limits: &MachineLimits) -> Result<Bare> {
    const MOST_BYTES: usize = 64 << 20;
    const ROUNDS: u64 = 4;
    let mut text = Vec::new();
    for path in Patterns::from(setting.input.clone()).files()? {
        let content =
            fs::read(&path).map_err(|error| Error::io(format!("cannot read {}", path.display()), error))?;
        text.extend_from_slice(&content);
        if text.len() >= MOST_BYTES {
            break;
        }
    }
    let threads = setting.parallelism.min(limits.threads);
    let part = text.len().div_ceil(threads).max(1);
    let rate = best_rate(
        threads,
        |_| (),
        |thread, ()| {
            let mine = text.chunks(part).nth(thread).unwrap_or_default();
            let (mut words, mut sum) = (0, 0u64);
            for _ in 0..ROUNDS {
                for_each_word(black_box(mine), |start, end| {
                    words += 1;
                    sum = sum.wrapping_add(hash::hash_bytes(&mine[start..end]));
                });
            }
            black_box(sum);
            words
        },
    );
    Ok(Bare {
        is_limit: true,
        rate: rate.max(1.0),
        name: "words hashed".into(),
        what:
            "each thread finds and hashes the words of its part of the text: no table, no exchange, no engine"
                .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        let mut words = Vec::new();
        for_each_word(text.as_bytes(), |start, end| words.push(&text[start..end]));
        words
    }

    #[test]
    fn words_are_runs_of_letters_digits_and_underscores() {
        assert_eq!(words(""), [""; 0]);
        assert_eq!(words(" ,é- "), [""; 0]);
        assert_eq!(words("int x_1=0x2F;"), ["int", "x_1", "0x2F"]);
        assert_eq!(words("naïve end"), ["na", "ve", "end"]);
        assert_eq!(words("Aa_9"), ["Aa_9"]);
    }

    /// Against the rule byte by byte, with words at, over and between the ends of blocks.
    #[test]
    fn words_are_found_as_byte_by_byte() {
        let alphabet = b"aZz09_ -\n\x80\xff`{@[/:^";
        for seed in 0..400u64 {
            let draw = |index: u64| hash::hash_u64(seed << 32 | index);
            // Most bytes of a word or most of none, by seed.
            let range = [4, 6, 12, alphabet.len() as u64][(seed % 4) as usize];
            let text: Vec<u8> = (0..draw(0) % 300)
                .map(|index| alphabet[(draw(index + 1) % range) as usize])
                .collect();
            let (mut expected, mut start) = (Vec::new(), None);
            for (at, byte) in text.iter().chain(b" ").enumerate() {
                match (byte.is_ascii_alphanumeric() || *byte == b'_', start) {
                    (true, None) => start = Some(at),
                    (false, Some(from)) => {
                        expected.push((from, at));
                        start = None;
                    }
                    _ => {}
                }
            }
            let mut found = Vec::new();
            for_each_word(&text, |start, end| found.push((start, end)));
            assert_eq!(found, expected, "seed {seed}");
        }
        let every: Vec<u8> = (0..=255).collect();
        let mut found = Vec::new();
        for_each_word(&every, |start, end| found.push((start, end)));
        assert_eq!(found, [(48, 58), (65, 91), (95, 96), (97, 123)]);
    }

    /// Files as nobody wishes for them: no end of the last line, bytes that are no text, a line longer than a segment.
    #[test]
    fn bad_files_are_counted_as_the_oracle_counts_them() {
        let mut setting = super::super::tests::setting("wordcount");
        let mut content = b"first \xff\xfe second\xc3(third\r\n\n\n".to_vec();
        content.extend(std::iter::repeat_n(&b"long "[..], 10_000).flatten());
        content.extend(b"\nlast_word");
        let scratch =
            Scratch::write(|file| std::io::Write::write_all(file, &content).map(|()| 0)).expect("writable");
        setting.input = vec![scratch.path().display().to_string()];
        let plan = super::super::plan(&setting).expect("the default plan");
        let runtime = forebay::Runtime::new(plan).expect("memory");
        let outcome = run(&super::super::environment(&runtime, &setting), &setting).expect("it runs");
        assert_eq!(outcome.answer, oracle(&setting).expect("readable"));
        assert_eq!((outcome.records, outcome.answer.records), (10_004, 5));
    }
}
