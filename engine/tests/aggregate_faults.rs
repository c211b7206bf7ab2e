//! Every kind of aggregation in every budget from the least on, and under disks that fail or lie: what plain code gives, or a clear
//! error; nothing is left behind.

use forebay::aggregate::{
    StateBytes, StatefulAggregate, approx_count_distinct, approx_quantile, avg, collect_list, collect_set,
    count, count_distinct, first_by, last_by, max, max_by, min, min_by, stateful, sum,
};
use forebay::operator::{Collector, Group};
use forebay::record::{Record, first};
use forebay::simulator::{Random, Simulation};
use forebay::sink::Collected;
use forebay::source::from_items;
use forebay::{Environment, Error, ErrorKind, Runtime, Stream};
use forebay_memory::hash::hash_u64;
use forebay_memory::spill::{SimulatedDisk, SimulatedFaults, SpillConfig};
use forebay_memory::{MemoryManager, Plan, SpillStore};
use std::collections::{BTreeMap, BTreeSet};

const SEGMENT: usize = 4096;

#[derive(Debug, Clone, PartialEq, Record)]
struct Item {
    key: u64,
    /// Each once.
    value: i64,
    text: String,
}

fn items(count: u64, keys: u64, seed: u64) -> Vec<Item> {
    let item = |index: u64| {
        let draw = hash_u64(index + (seed << 32) + 1);
        Item {
            key: draw % keys,
            value: (index as i64 * 7919) % count as i64,
            text: format!(
                "text {}{}",
                (draw >> 20) % keys,
                "x".repeat((draw >> 50) as usize % 40)
            ),
        }
    };
    (0..count).map(item).collect()
}

/// A state of the user's own that grows with each item.
#[derive(Clone)]
struct Values;

impl StatefulAggregate<Item> for Values {
    type Out = (u64, i64);

    fn add(&self, state: &mut StateBytes<'_>, item: ItemView<'_>) {
        state.extend_from_slice(&item.value.to_le_bytes());
    }

    fn merge(&self, state: &mut StateBytes<'_>, other: &[u8]) {
        state.extend_from_slice(other);
    }

    fn finish(&self, state: &[u8]) -> (u64, i64) {
        let values = state.as_chunks::<8>().0;
        let sum = values.iter().map(|value| i64::from_le_bytes(*value)).sum();
        (values.len() as u64, sum)
    }

    fn describe(&self) -> String {
        "values".into()
    }
}

/// What a job has found, as sorted lines.
type Found = Box<dyn FnOnce() -> Vec<String>>;

fn lines<T: Record + 'static>(found: Collected<T>, line: fn(T) -> String) -> Found {
    Box::new(move || {
        let mut lines: Vec<String> = found.take().into_iter().map(line).collect();
        lines.sort_unstable();
        lines
    })
}

fn sorted<T: Ord>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_unstable();
    values
}

/// A kind of aggregation: the job, and what plain code makes of a key's items.
struct Kind {
    name: &'static str,
    /// How many items, of how many keys, spill in few segments.
    size: (u64, u64),
    /// The least segments that a subtask can do with.
    segments: usize,
    job: fn(Stream<Item>) -> Found,
    plain: fn(&[Item]) -> Vec<String>,
}

fn by_key<K: Ord>(
    items: &[Item],
    key: impl Fn(&Item) -> K,
    line: impl Fn(K, &[&Item]) -> String,
) -> Vec<String> {
    let mut groups: BTreeMap<K, Vec<&Item>> = BTreeMap::new();
    items
        .iter()
        .for_each(|item| groups.entry(key(item)).or_default().push(item));
    sorted(groups.into_iter().map(|(key, items)| line(key, &items)))
}

fn values<'i>(items: &'i [&Item]) -> impl Iterator<Item = i64> + Clone + 'i {
    items.iter().map(|item| item.value)
}

/// Count, sum, least, greatest and mean.
fn numbers(items: &[&Item]) -> (u64, i64, i64, i64, f64) {
    let (count, sum) = (items.len(), values(items).sum::<i64>());
    let least = values(items).min().expect("a group has items");
    let greatest = values(items).max().expect("a group has items");
    (count as u64, sum, least, greatest, sum as f64 / count as f64)
}

const KINDS: [Kind; 12] = [
    Kind {
        name: "numbers of integer keys",
        size: (6_000, 4_000),
        segments: 8,
        job: |items| {
            let numbers = (
                count(),
                sum(Item::value),
                min(Item::value),
                max(Item::value),
                avg(Item::value),
            );
            lines(items.group_by(Item::key).aggregate(numbers).collect(), |group| {
                format!("{group:?}")
            })
        },
        plain: |items| {
            by_key(
                items,
                |item| item.key,
                |key, items| format!("{:?}", (key, numbers(items))),
            )
        },
    },
    Kind {
        name: "numbers of texts",
        size: (1_500, 400),
        segments: 18,
        job: |items| {
            let numbers = (
                count(),
                sum(Item::value),
                min(Item::value),
                max(Item::value),
                avg(Item::value),
            );
            lines(items.group_by(Item::text).aggregate(numbers).collect(), |group| {
                format!("{group:?}")
            })
        },
        plain: |items| {
            by_key(
                items,
                |item| item.text.clone(),
                |key, items| format!("{:?}", (key, numbers(items))),
            )
        },
    },
    Kind {
        name: "first and last",
        size: (1_500, 400),
        segments: 18,
        job: |items| {
            let best = (
                first_by(Item::text, Item::value),
                last_by(Item::key, Item::value),
                min_by(Item::value, Item::value),
                max_by(Item::text, Item::value),
            );
            lines(items.group_by(Item::key).aggregate(best).collect(), |group| {
                format!("{group:?}")
            })
        },
        plain: |items| {
            by_key(
                items,
                |item| item.key,
                |key, items| {
                    let least = items.iter().min_by_key(|item| item.value).expect("an item");
                    let greatest = items.iter().max_by_key(|item| item.value).expect("an item");
                    let best = (&least.text, greatest.key, least.value, &greatest.text);
                    format!("{:?}", (key, best))
                },
            )
        },
    },
    Kind {
        name: "collect_list",
        size: (3_000, 800),
        segments: 18,
        job: |items| {
            let lists = items.group_by(Item::key).aggregate(collect_list(Item::value));
            lines(lists.collect(), |(key, list)| {
                format!("{key} {:?}", sorted(list.to_vec()))
            })
        },
        plain: |items| {
            by_key(
                items,
                |item| item.key,
                |key, items| format!("{key} {:?}", sorted(values(items))),
            )
        },
    },
    Kind {
        name: "collect_set and count_distinct of texts",
        size: (1_500, 400),
        segments: 18,
        job: |items| {
            let sets = items
                .group_by(Item::key)
                .aggregate((collect_set(Item::text), count_distinct(Item::text)));
            lines(sets.collect(), |(key, (set, count))| {
                format!("{key} {:?} {count}", sorted(set.to_vec()))
            })
        },
        plain: |items| {
            by_key(
                items,
                |item| item.key,
                |key, items| {
                    let set: BTreeSet<_> = items.iter().map(|item| &item.text).collect();
                    format!("{key} {:?} {}", sorted(set.iter()), set.len())
                },
            )
        },
    },
    Kind {
        name: "approximations",
        size: (1_500, 400),
        segments: 18,
        job: |items| {
            // So few values are counted to the unit, and the least and the greatest are exact.
            let near = items.group_by(Item::key).aggregate((
                approx_count_distinct(Item::value),
                approx_quantile(Item::value, 0.0),
                approx_quantile(Item::value, 1.0),
            ));
            lines(near.collect(), |group| format!("{group:?}"))
        },
        plain: |items| {
            by_key(
                items,
                |item| item.key,
                |key, items| {
                    let (count, _, least, greatest, _) = numbers(items);
                    format!("{:?}", (key, (count, least, greatest)))
                },
            )
        },
    },
    Kind {
        name: "a state of the user's own",
        size: (3_000, 800),
        segments: 18,
        job: |items| {
            let states = items.group_by(Item::key).aggregate(stateful(Values));
            lines(states.collect(), |group| format!("{group:?}"))
        },
        plain: |items| {
            by_key(
                items,
                |item| item.key,
                |key, items| format!("{:?}", (key, (items.len() as u64, values(items).sum::<i64>()))),
            )
        },
    },
    Kind {
        name: "reduce",
        size: (1_500, 400),
        segments: 10,
        job: |items| {
            let own = |item: ItemView<'_>| Item {
                key: item.key,
                value: item.value,
                text: item.text.to_string(),
            };
            let greatest =
                items
                    .key_by(Item::text)
                    .reduce(move |left, right| match left.value > right.value {
                        true => own(left),
                        false => own(right),
                    });
            lines(greatest.collect(), |item| format!("{item:?}"))
        },
        plain: |items| {
            by_key(
                items,
                |item| item.text.clone(),
                |_, items| {
                    format!(
                        "{:?}",
                        items.iter().max_by_key(|item| item.value).expect("an item")
                    )
                },
            )
        },
    },
    Kind {
        name: "distinct integers",
        size: (6_000, 4_000),
        segments: 8,
        job: |items| {
            let keys = items.key_by(Item::key).distinct();
            lines(keys.collect(), |key| format!("{key}"))
        },
        plain: |items| by_key(items, |item| item.key, |key, _| format!("{key}")),
    },
    Kind {
        name: "distinct records",
        size: (1_500, 400),
        segments: 10,
        job: |items| {
            let texts = items.map(|item| (item.key % 4, item.text.to_string())).distinct();
            lines(texts.collect(), |text| format!("{text:?}"))
        },
        plain: |items| {
            by_key(
                items,
                |item| (item.key % 4, item.text.clone()),
                |both, _| format!("{both:?}"),
            )
        },
    },
    Kind {
        name: "reduce_group",
        size: (1_500, 400),
        segments: 10,
        job: |items| {
            let folded = items.group_by(Item::key).reduce_group_by(
                Item::value,
                |key, items: &mut Group<'_, Item>, out: &mut Collector<'_, (u64, u64)>| {
                    let mut fold = 0u64;
                    while let Some(item) = items.next() {
                        fold = fold.wrapping_mul(31).wrapping_add(item.value as u64);
                    }
                    out.push((key, fold));
                },
            );
            lines(folded.collect(), |group| format!("{group:?}"))
        },
        plain: |items| {
            let fold = |fold: u64, value: i64| fold.wrapping_mul(31).wrapping_add(value as u64);
            by_key(
                items,
                |item| item.key,
                |key, items| {
                    let in_order = sorted(values(items));
                    format!("{:?}", (key, in_order.into_iter().fold(0, fold)))
                },
            )
        },
    },
    Kind {
        name: "co_group",
        size: (1_500, 400),
        segments: 18,
        job: |items| {
            let (left, right) = items.fork();
            let right = right.map(|item| (item.key / 2, item.value));
            let counted = left.join(right).on(Item::key, first()).co_group(
                |key,
                 left: &mut Group<'_, Item>,
                 right: &mut Group<'_, (u64, i64)>,
                 out: &mut Collector<'_, (u64, u64, i64)>| {
                    let (mut count, mut sum) = (0, 0);
                    while left.next().is_some() {
                        count += 1;
                    }
                    while let Some((_, value)) = right.next() {
                        sum += value;
                    }
                    out.push((key, count, sum));
                },
            );
            lines(counted.collect(), |group| format!("{group:?}"))
        },
        plain: |items| {
            let mut groups: BTreeMap<u64, (u64, i64)> = BTreeMap::new();
            for item in items {
                groups.entry(item.key).or_default().0 += 1;
                groups.entry(item.key / 2).or_default().1 += item.value;
            }
            sorted(
                groups
                    .into_iter()
                    .map(|(key, (count, sum))| format!("{:?}", (key, count, sum))),
            )
        },
    },
];

/// A run with so many segments on a simulated disk, and all that it may leave behind checked: what was found, and the bytes written.
fn run(
    kind: &Kind,
    items: &[Item],
    segments: usize,
    parallelism: usize,
    faults: SimulatedFaults,
    seed: u64,
) -> Result<(Vec<String>, u64), Error> {
    let plan = Plan::with_segments_for(64, 512, SEGMENT, 2048).expect("the test's sizes make a plan");
    let manager = MemoryManager::with_segments(segments, 512, SEGMENT).expect("it is little memory");
    let disk = SimulatedDisk::new(seed, faults);
    let handles = 3 * parallelism;
    let config = SpillConfig {
        workspace_bytes: handles * 4 * (8 << 10),
        write_bytes: 8 << 10,
        handles,
        extent_bytes: 128 << 10,
        ..SpillConfig::default()
    };
    let spill = SpillStore::on_simulated(&disk, &config).expect("a store on a simulated disk");
    let runtime = Runtime::from_parts(plan, manager, spill);
    let environment = Environment::new(runtime.clone()).with_parallelism(parallelism);
    let found = (kind.job)(environment.source("items", from_items(items.to_vec())));
    let result = environment.simulate(kind.name, &Simulation::new(seed));
    drop(environment);
    let name = kind.name;
    assert_eq!(
        runtime.manager().outstanding(),
        0,
        "{name}, {segments}: segments are out"
    );
    assert_eq!(
        runtime.spill().used_bytes(),
        0,
        "{name}, {segments}: spill space is in use"
    );
    assert_eq!(
        disk.report().in_flight,
        0,
        "{name}, {segments}: transfers are in flight"
    );
    drop(runtime);
    assert_eq!(
        disk.report().open_files,
        0,
        "{name}, {segments}: spill files are left"
    );
    let written = result?.summary.spilled_bytes_written();
    Ok((found(), written))
}

/// What a run finds whatever its disk does.
fn expected(kind: &Kind, items: &[Item]) -> Vec<String> {
    if kind.name == "approximations" {
        // Two of a few thousand groups of values may have one hash.
        let (found, written) = run(kind, items, 4_000, 1, slow(), 0).expect("nothing fails");
        assert_eq!(written, 0, "it is enough memory");
        return found;
    }
    (kind.plain)(items)
}

/// A healthy disk whose transfers complete in any order.
fn slow() -> SimulatedFaults {
    SimulatedFaults {
        delays: true,
        ..SimulatedFaults::default()
    }
}

/// Less than the least budget is refused with the remedy; from there on each completes with what plain code gives.
#[test]
fn every_kind_in_every_budget_from_the_least_on() {
    for kind in &KINDS {
        let items = items(kind.size.0, kind.size.1, 1);
        let expected = (kind.plain)(&items);
        let (mut least, mut spilled) = (None, 0);
        let budgets = (kind.segments - 2..kind.segments + 9).chain((30..150).step_by(17));
        for segments in budgets {
            match run(kind, &items, segments, 1, slow(), segments as u64) {
                Ok((found, written)) => {
                    least.get_or_insert(segments);
                    spilled += u64::from(written > 0);
                    assert!(found == expected, "{}, {segments} segments", kind.name);
                }
                Err(error) => {
                    let message = error.to_string();
                    assert_eq!(
                        error.kind(),
                        ErrorKind::Memory,
                        "{}, {segments}: {message}",
                        kind.name
                    );
                    assert!(
                        message.contains("memory.managed_size"),
                        "{}, {segments}: {message}",
                        kind.name
                    );
                    assert_eq!(
                        least, None,
                        "{}: {segments} are too few, less were enough",
                        kind.name
                    );
                }
            }
        }
        assert_eq!(least, Some(kind.segments), "{}", kind.name);
        assert!(spilled > 4, "{} spills", kind.name);
    }
}

/// Disks that are full, fail, tear writes or flip bits, from some transfer on.
#[test]
fn disks_that_fail_or_lie_give_the_right_groups_or_an_error() {
    for kind in &KINDS {
        let (mut right, mut errors) = (0, [0; 2]);
        for seed in 0..24 {
            let mut random = Random::new(seed);
            let items = items(kind.size.0, kind.size.1, seed);
            let parallelism = 1 + random.below(2);
            let segments = parallelism * (kind.segments + random.below(4));
            let rate = 1 + random.below(12) as u32;
            let mut faults = slow();
            match seed % 6 {
                0 => faults.write_error_one_in = rate,
                1 => faults.read_error_one_in = rate,
                2 => faults.no_space_one_in = rate,
                3 => faults.torn_one_in = rate,
                4 => faults.bit_flip_one_in = rate,
                _ => faults.capacity_bytes = Some((random.below(3) * (128 << 10)) as u64),
            }
            match run(kind, &items, segments, parallelism, faults, seed) {
                Ok((found, _)) => {
                    assert!(
                        found == expected(kind, &items),
                        "{}, seed {seed}: other groups",
                        kind.name
                    );
                    right += 1;
                }
                Err(error) => {
                    let place = match error.kind() {
                        ErrorKind::Io => 0,
                        ErrorKind::Corrupt => 1,
                        _ => panic!("{}, seed {seed}, {faults:?}: {error}", kind.name),
                    };
                    errors[place] += 1;
                    assert!(error.to_string().contains("spill"), "{error}");
                }
            }
        }
        assert!(
            errors[0] > 2 && errors[1] > 0,
            "{}: {right} right, {errors:?} failed",
            kind.name
        );
    }
}
