//! `join`: probe records joined with build records by an integer key.

use super::input::hash_of;
use super::{Answer, Bare, Outcome, Workload, folded};
use crate::data::keyed::KEYED_RECORD;
use crate::data::mix::{mix, start_of, unit};
use crate::data::{Keyed, Modulus, Zipf};
use crate::limits::MachineLimits;
use crate::options::Choice;
use crate::scratch::Scratch;
use crate::setting::{JoinKind, Setting, Strategy};
use forebay::record::{PlainRecord, Record};
use forebay::sink::HashSink;
use forebay::source::generate_rows;
use forebay::{Environment, JoinStrategy, Result, Stream};
use std::io::Write;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// See the module.
pub const WORKLOAD: Workload = Workload {
    name: "join",
    about: "--records probe records joined with --keys build records, (u64 key, i64 value) each, by key",
    help: "Build record i has key (i * 7919 mod --keys) * 2 and value mix(i) & 0xffffff; probe record i has key\n\
           mix(i + 77) mod (--keys * 2) and value mix(i + 99) & 0xffffff, so that half of them have a match. Results are pairs of\n\
           values. Of 50 M and 10 M records the inner join has 25002205.\n\
           --join KIND: inner, left, right, full, semi, anti. --selectivity S: the share of probe records with a match.\n\
           --skew S draws the probe keys that match from a Zipf distribution, into a file that is written beforehand.\n\
           --hot S gives this share of both sides one key. --wide makes records of 104 bytes. --strategy HOW: automatic, hash, merge, broadcast.",
    records: 10_000_000,
    keys: 2_000_000,
    takes: &[
        Choice::Keys,
        Choice::Skew,
        Choice::Hot,
        Choice::Seed,
        Choice::Input,
        Choice::FromFile,
        Choice::Join,
        Choice::Selectivity,
        Choice::Wide,
        Choice::Strategy,
    ],
    takes_of_files: &[
        Choice::Keys,
        Choice::Hot,
        Choice::Seed,
        Choice::Join,
        Choice::Selectivity,
        Choice::Strategy,
    ],
    prepare,
    run,
    oracle,
    bare,
    stall: None,
    read_back: None,
};

/// What is sent: the values of a pair, −1 for a side that is not there.
type Values = (i64, i64);

/// A record with more to carry.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Record)]
#[repr(C)]
#[record(plain)]
pub struct Wide {
    key: u64,
    value: i64,
    payload: [u64; 11],
}

/// The records of both sides.
#[derive(Clone, Copy)]
struct Data {
    build: Modulus,
    /// Build keys are multiples of it.
    step: u64,
    domain: Modulus,
    zipf: Option<Zipf>,
    hot: f64,
    start: u64,
}

impl Data {
    fn new(setting: &Setting) -> Data {
        let keys = setting.keys.max(1);
        let step = (1.0 / setting.join.selectivity).round().max(1.0) as u64;
        Data {
            build: Modulus::new(keys),
            step,
            domain: Modulus::new(keys * step),
            zipf: (setting.skew != 0.0).then(|| Zipf::new(keys, setting.skew)),
            hot: setting.join.hot,
            start: start_of(setting.seed),
        }
    }

    fn is_hot(&self, random: u64) -> bool {
        self.hot > 0.0 && unit(random) < self.hot
    }

    #[inline(always)]
    fn build(&self, index: u64) -> Keyed {
        let random = mix(self.start.wrapping_add(index));
        let key = match self.is_hot(random) {
            true => 0,
            false => self.build.of(index * 7919) * self.step,
        };
        Keyed {
            key,
            value: (random & 0xff_ffff) as i64,
        }
    }

    #[inline(always)]
    fn probe(&self, index: u64) -> Keyed {
        let random = mix(self.start.wrapping_add(index + 77));
        let key = match &self.zipf {
            _ if self.is_hot(random) => 0,
            None => self.domain.of(random),
            Some(zipf) => {
                let key = self.build.of(zipf.sample(mix(random)) * 7919) * self.step;
                // One in so many has a match, as without skew.
                key + random % self.step
            }
        };
        Keyed {
            key,
            value: (mix(self.start.wrapping_add(index + 99)) & 0xff_ffff) as i64,
        }
    }
}

fn prepare(setting: &mut Setting) -> Result<Option<Scratch>> {
    if (setting.skew == 0.0 && !setting.from_file) || !setting.input.is_empty() {
        return Ok(None);
    }
    let (data, records) = (Data::new(setting), setting.records);
    let scratch = Scratch::write(|file| {
        let mut rows = Vec::new();
        for first in (0..records).step_by(4096) {
            rows.clear();
            rows.extend((first..records.min(first + 4096)).map(|index| data.probe(index)));
            file.write_all(rows.as_bytes())?;
        }
        Ok(records * KEYED_RECORD as u64)
    })?;
    setting.input = vec![scratch.path().display().to_string()];
    Ok(Some(scratch))
}

fn widen(Keyed { key, value }: Keyed) -> Wide {
    Wide {
        key,
        value,
        payload: [key; 11],
    }
}

/// A side of the join, made by its source.
fn side<R: PlainRecord>(
    environment: &Environment,
    name: &str,
    count: u64,
    at: impl Fn(u64) -> R + Clone + Send + Sync + 'static,
) -> Stream<R> {
    let source = generate_rows(count, move |first, rows: &mut [R]| {
        for (index, row) in (first..).zip(rows) {
            *row = at(index);
        }
    });
    environment.source(name, source)
}

macro_rules! joined {
    ($setting:expr, $join:expr) => {{
        let join = $join.strategy(match $setting.join.strategy {
            Strategy::Automatic => JoinStrategy::Automatic,
            Strategy::Hash => JoinStrategy::Hash,
            Strategy::Merge => JoinStrategy::Merge,
            Strategy::Broadcast => JoinStrategy::Broadcast,
        });
        match $setting.join.kind {
            JoinKind::Inner => join.inner(|probe, build| (probe.value, build.value)),
            JoinKind::Left => {
                join.left_outer(|probe, build| (probe.value, build.map_or(-1, |build| build.value)))
            }
            JoinKind::Right => {
                join.right_outer(|probe, build| (probe.map_or(-1, |probe| probe.value), build.value))
            }
            JoinKind::Full => join.full_outer(|probe, build| {
                let value = probe.map_or(-1, |probe| probe.value);
                (value, build.map_or(-1, |build| build.value))
            }),
            JoinKind::Semi => join.semi().map(|probe| (probe.value, -1)).name("values"),
            JoinKind::Anti => join.anti().map(|probe| (probe.value, -1)).name("values"),
        }
    }};
}

/// The join, and how many probe records it has.
fn results(environment: &Environment, setting: &Setting) -> Result<(Stream<Values>, u64)> {
    let data = Data::new(setting);
    let mut records = setting.records;
    let results = if setting.join.wide {
        let probe = side(environment, "probe", records, move |index| {
            widen(data.probe(index))
        });
        let build = side(environment, "build", setting.keys, move |index| {
            widen(data.build(index))
        });
        joined!(setting, probe.join(build).on(Wide::key, Wide::key))
    } else {
        let probe = if setting.input.is_empty() {
            side(environment, "probe", records, move |index| data.probe(index))
        } else {
            let (probe, found) = super::input::read_keyed(environment, "probe", setting)?;
            records = found;
            probe
        };
        let build = side(environment, "build", setting.keys, move |index| data.build(index));
        joined!(setting, probe.join(build).on(Keyed::key, Keyed::key))
    };
    Ok((results, records))
}

fn run(environment: &Environment, setting: &Setting) -> Result<Outcome> {
    let (results, records) = results(environment, setting)?;
    let (sink, total) = HashSink::new();
    results.sink("hash", sink);
    let summary = environment.execute("join")?;
    let row = if setting.join.wide {
        size_of::<Wide>()
    } else {
        KEYED_RECORD
    };
    Ok(Outcome {
        records,
        bytes: (records + setting.keys) * row as u64,
        answer: folded(&total),
        summary,
        latency: None,
    })
}

/// Sorts both sides, where the job hashes.
fn oracle(setting: &Setting) -> Result<Answer> {
    let data = Data::new(setting);
    let sorted = |mut records: Vec<(u64, i64)>| {
        records.sort_unstable();
        records
    };
    let pair = |record: Keyed| (record.key, record.value);
    let mut probe = Vec::new();
    if setting.input.is_empty() {
        probe.extend((0..setting.records).map(|index| pair(data.probe(index))));
    } else {
        super::input::for_each_keyed(setting, 0, 1, u64::MAX, |record| probe.push(pair(record)))?;
    }
    let probe = sorted(probe);
    let build = sorted((0..setting.keys).map(|index| pair(data.build(index))).collect());
    let (mut answer, mut row) = (Answer::default(), Vec::new());
    let mut send = |probe: i64, build: i64| {
        answer.records += 1;
        answer.hash = answer
            .hash
            .wrapping_add(hash_of::<Values>(&(probe, build), &mut row));
    };
    let kind = setting.join.kind;
    let mut builds = build.chunk_by(|a, b| a.0 == b.0).peekable();
    let keeps_probe = matches!(kind, JoinKind::Left | JoinKind::Full | JoinKind::Anti);
    let keeps_build = matches!(kind, JoinKind::Right | JoinKind::Full);
    for probes in probe.chunk_by(|a, b| a.0 == b.0) {
        let key = probes[0].0;
        while let Some(alone) = builds.next_if(|build| build[0].0 < key) {
            if keeps_build {
                alone.iter().for_each(|(_, value)| send(-1, *value));
            }
        }
        match builds.next_if(|build| build[0].0 == key) {
            None if keeps_probe => probes.iter().for_each(|(_, value)| send(*value, -1)),
            None => {}
            Some(_) if kind == JoinKind::Anti => {}
            Some(_) if kind == JoinKind::Semi => probes.iter().for_each(|(_, value)| send(*value, -1)),
            Some(build) => {
                for (_, probe) in probes {
                    build.iter().for_each(|(_, build)| send(*probe, *build));
                }
            }
        }
    }
    if keeps_build {
        builds.flatten().for_each(|(_, value)| send(-1, *value));
    }
    Ok(answer)
}

fn bare(_: &Setting, limits: &MachineLimits) -> Result<Bare> {
    Ok(Bare {
        is_limit: true,
        rate: limits.random_loads.all,
        name: "random loads".into(),
        what: "one load of 8 bytes at random over memory for each probe record: its match in the table"
            .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setting::JoinOptions;
    use forebay::Runtime;
    use forebay_memory::Plan;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    fn check(setting: &mut Setting) -> u64 {
        let _input = prepare(setting).expect("writable");
        let plan = Plan::with_segments(96, 128, 4096).expect("a plan for tests");
        let runtime = Runtime::new(plan).expect("the plan's memory is to be had");
        let outcome = run(&super::super::environment(&runtime, setting), setting).expect("it runs");
        assert_eq!(outcome.answer, oracle(setting).expect("plain"), "{setting:?}");
        outcome.summary.spilled_bytes_written()
    }

    #[test]
    fn every_kind_and_option_equals_the_oracle() {
        use JoinKind::{Anti, Full, Inner, Left, Right, Semi};
        for kind in [Inner, Left, Right, Full, Semi, Anti] {
            for (options, skew, keys) in [
                (JoinOptions::default(), 0.0, 20_000),
                (
                    JoinOptions {
                        selectivity: 0.1,
                        ..JoinOptions::default()
                    },
                    0.0,
                    3_000,
                ),
                (
                    JoinOptions {
                        wide: true,
                        ..JoinOptions::default()
                    },
                    0.0,
                    4_000,
                ),
                (
                    JoinOptions {
                        selectivity: 1.0,
                        ..JoinOptions::default()
                    },
                    1.0,
                    9_000,
                ),
            ] {
                let mut setting = Setting {
                    join: JoinOptions { kind, ..options },
                    skew,
                    keys,
                    ..super::super::tests::setting("join")
                };
                assert!(check(&mut setting) > 0 || keys < 20_000, "{setting:?} spills");
            }
            let mut setting = Setting {
                join: JoinOptions {
                    kind,
                    hot: 0.3,
                    ..JoinOptions::default()
                },
                records: 2_000,
                keys: 1_500,
                ..super::super::tests::setting("join")
            };
            check(&mut setting);
        }
    }

    /// All of the published data, in 16 MiB, where `FOREBAY_HEAVY` is set: 60 M records, of use with `--release` alone.
    #[test]
    fn the_results_are_the_published_ones() {
        if std::env::var_os("FOREBAY_HEAVY").is_none() {
            return;
        }
        let setting = Setting {
            records: 50_000_000,
            keys: 10_000_000,
            seed: 0,
            ..super::super::tests::setting("join")
        };
        let plan = Plan::with_segments(512, 512, 32 << 10).expect("a plan for tests");
        let runtime = Runtime::new(plan).expect("the plan's memory is to be had");
        let environment = super::super::environment(&runtime, &setting);
        let (results, _) = results(&environment, &setting).expect("the job is built");
        let sums: [Arc<AtomicI64>; 3] = Default::default();
        let [rows, build, probe] = sums.clone();
        results.for_each(move |values: Values| {
            rows.fetch_add(1, Ordering::Relaxed);
            probe.fetch_add(values.0, Ordering::Relaxed);
            build.fetch_add(values.1, Ordering::Relaxed);
            Ok(())
        });
        environment.execute("join").expect("it runs");
        let sums = sums.map(|sum| sum.load(Ordering::Relaxed));
        assert_eq!(sums, [25_002_205, 209_674_348_011_547, 209_737_761_737_713]);
    }

    #[test]
    fn the_data_is_the_published_one() {
        let data = Data::new(&Setting {
            keys: 10_000_000,
            seed: 0,
            ..super::super::tests::setting("join")
        });
        assert_eq!(data.build(3).key, 3 * 7919 * 2);
        assert_eq!(data.build(3).value as u64, mix(3) & 0xff_ffff);
        assert_eq!(data.probe(5).key, mix(82) % 20_000_000);
        assert_eq!(data.probe(5).value as u64, mix(104) & 0xff_ffff);
    }
}
