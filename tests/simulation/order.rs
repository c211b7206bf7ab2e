//! The order of a key's records: whatever the schedule, they arrive as they were sent.

use forebay::record::first;
use forebay::simulator::{Random, Simulation};
use forebay::source::generate;
use forebay::{Environment, Mode};
use forebay_tests::means::Means;
use std::collections::BTreeMap;

const RECORDS: u64 = 6000;

#[test]
fn records_of_a_key_stay_in_order() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut means = Means::draw(&mut random, 1, 1);
        means.network = 150 + random.below(100);
        let (runtime, disk) = means.runtime();
        let keys = 1 + random.below(300) as u64;
        let environment = Environment::new(runtime.clone())
            .with_mode([Mode::Batch, Mode::Streaming][random.below(2)])
            .with_parallelism(1 + random.below(3));
        let numbered = environment
            .source("numbered", generate(RECORDS, move |index| (index % keys, index)))
            .parallelism(1);
        let once = numbered.key_by(first()).ungroup();
        let (left, right) = once
            .map(|(key, number)| (key, number))
            .name("in between")
            .parallelism(1 + random.below(3))
            .fork();
        let again = |stream: forebay::Stream<(u64, u64)>| stream.key_by(first()).ungroup().collect();
        let sinks = [again(left), again(right)];
        let report = environment.simulate("ordered", &Simulation::new(random.next_u64()));
        report.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        drop(environment);
        for sink in sinks {
            let mut last: BTreeMap<u64, u64> = BTreeMap::new();
            let records = sink.take();
            assert_eq!(records.len() as u64, RECORDS, "seed {seed}");
            for (key, number) in records {
                let before = last.insert(key, number);
                assert!(
                    before.is_none_or(|before| before < number),
                    "seed {seed}: key {key}: {number} came after {before:?}"
                );
            }
        }
        Means::check_returned(runtime, &disk);
    }
}
