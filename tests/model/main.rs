//! Every decoder on seeded mutations of valid input: what the fuzz targets of `tests/fuzz` do for hours, in seconds.

use forebay::simulator::Random;
use forebay_tests::decoders::DECODERS;

/// Changes bytes here and there.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len() + 1);
        let length = random.below(9).min(bytes.len() - at);
        match random.below(8) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b','][random.below(8)],
            3 => drop(bytes.drain(at..at + length)),
            4 => bytes.truncate(at),
            5 => {
                let copy = bytes[at..at + length].to_vec();
                bytes.splice(at..at, copy);
            }
            6 => {
                let from = random.below(other.len() + 1);
                let piece = &other[from..(from + length).min(other.len())];
                bytes.splice(at..at + length, piece.iter().copied());
            }
            _ => bytes.insert(at, random.next_u64() as u8),
        }
    }
}

#[test]
fn decoders_accept_their_samples_and_survive_mutations() {
    for decoder in DECODERS {
        let samples = (decoder.samples)();
        for sample in &samples {
            assert!((decoder.decode)(sample), "{}: {sample:?}", decoder.name);
        }
        let (mut accepted, mut refused) = (0, 0);
        for seed in 0..decoder.mutations as u64 {
            let mut random = Random::new(seed);
            let mut bytes = samples[random.below(samples.len())].clone();
            mutate(&mut bytes, &samples[random.below(samples.len())], &mut random);
            let outcome = std::panic::catch_unwind(|| (decoder.decode)(&bytes));
            match outcome {
                Ok(true) => accepted += 1,
                Ok(false) => refused += 1,
                Err(_) => panic!(
                    "{}, seed {seed}: {:?}",
                    decoder.name,
                    String::from_utf8_lossy(&bytes)
                ),
            }
        }
        println!("{}: {accepted} accepted, {refused} refused", decoder.name);
        assert!(
            accepted > 10 && refused > 10,
            "{}: mutations of one kind",
            decoder.name
        );
    }
}
