//! The random jobs of the simulation on real threads, with spill files on the real disk.

use forebay::simulator::Random;
use forebay::{Environment, ErrorKind, Runtime};
use forebay_memory::spill::SpillConfig;
use forebay_memory::{MemoryManager, Plan, SpillStore};
use forebay_tests::jobs::RandomJob;

/// Managed segments: enough for the minimums of a job of ten operators with memory of their own, four subtasks each.
const MANAGED: usize = 2400;

/// The largest record, in segments: minimums have room for several.
const RECORD: usize = 50;

/// Runs the job of a seed with as few network buffers as it starts with, or with many.
fn run(seed: u64, network: usize) -> bool {
    let mut random = Random::new(seed);
    let segment_size = 4096 << random.below(2);
    let plan = Plan::with_segments_for(MANAGED, network, segment_size, RECORD * segment_size)
        .expect("the sizes make a plan");
    let manager = MemoryManager::with_segments(MANAGED, network, segment_size).expect("it is little memory");
    let config = SpillConfig {
        handles: 32,
        write_bytes: 16 << 10,
        ..SpillConfig::default()
    };
    let spill = SpillStore::open(&config).expect("the temporary directory is there");
    let runtime = Runtime::from_parts(plan, manager, spill);
    let (environment, job) = RandomJob::build(Environment::new(runtime.clone()), seed);
    let plan = environment.explain("random").expect("the job has a plan");
    match environment.execute("random") {
        Ok(_) => {
            println!("seed {seed} with {network} buffers\n{plan}");
            job.check();
        }
        Err(error) => {
            let refused = error.kind() == ErrorKind::Memory && error.to_string().contains("network");
            assert!(refused, "seed {seed} with {network} buffers: {error}\n{plan}");
            return false;
        }
    }
    assert_eq!(runtime.manager().outstanding(), 0, "seed {seed}");
    assert_eq!(runtime.spill().used_bytes(), 0, "seed {seed}");
    true
}

#[test]
fn random_jobs_equal_their_oracle() {
    for seed in 1000..1040 {
        let network = (1..)
            .map(|count| count * count * 2)
            .find(|network| run(seed, *network));
        assert!(network.is_some_and(|network| run(seed, network + 500)));
    }
}
