//! Derived records through whole jobs that spill: keys of several fields, enums, plain records.

use forebay::aggregate::{count, sum};
use forebay::record::{Record, Timestamp};
use forebay::source::generate;
use forebay::{Environment, Mode, Runtime};
use forebay_memory::Plan;
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

fn environment(managed: usize, mode: Mode) -> Environment {
    let plan = Plan::with_segments(managed, 256, 4096).expect("the test's sizes make a plan");
    let runtime = Runtime::new(plan).expect("the plan's memory is to be had");
    Environment::new(runtime).with_parallelism(2).with_mode(mode)
}

#[derive(Debug, Clone, PartialEq, Record)]
struct Bid {
    auction: u64,
    bidder: u64,
    price: i64,
    channel: String,
    at: Timestamp,
}

fn bid(index: u64) -> Bid {
    let hash = forebay_memory::hash::hash_u64(index + 1);
    Bid {
        auction: hash % 700,
        bidder: hash % 31,
        price: (hash >> 40) as i64,
        channel: format!("channel {}", hash % 3),
        at: Timestamp::from_millis(index as i64),
    }
}

/// Its alignment is 8, its key is 5 bytes: beside its key a row lies at any address.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout, Record,
)]
#[repr(C)]
#[record(plain)]
struct Sale {
    amount: i64,
    code: [u8; 5],
    kind: [u8; 3],
}

fn sale(index: u64) -> Sale {
    let hash = forebay_memory::hash::hash_u64(index + 1);
    let digits = format!("{:05}", hash % 9000);
    let code = *digits.as_bytes().first_chunk().expect("five digits");
    Sale {
        amount: (hash >> 50) as i64,
        code,
        kind: [0; 3],
    }
}

#[derive(Debug, Clone, PartialEq, Record)]
enum Event {
    Bid(Bid),
    Closed { auction: u64 },
    Tick,
}

fn event(index: u64) -> Event {
    match index % 5 {
        0 => Event::Closed { auction: index },
        1 => Event::Tick,
        _ => Event::Bid(bid(index)),
    }
}

#[test]
fn keys_of_a_string_and_an_integer_are_grouped() {
    let environment = environment(36, Mode::Batch);
    let prices = environment
        .source("events", generate(20_000, event))
        .flat_map(|event, out| {
            if let EventView::Bid(bid) = event {
                out.push(bid);
            }
        })
        .filter(|bid: BidView<'_>| bid.price > 100)
        .key_by((Bid::channel, Bid::auction))
        .aggregate((count(), sum(Bid::price)))
        .collect();
    let summary = environment.execute("prices").expect("the job runs");
    assert!(summary.spilled_bytes_written() > 0, "{summary}");
    let mut expected = BTreeMap::new();
    for bid in (0..20_000)
        .filter(|index| index % 5 > 1)
        .map(bid)
        .filter(|bid| bid.price > 100)
    {
        let (count, sum) = expected.entry((bid.channel, bid.auction)).or_insert((0, 0));
        (*count, *sum) = (*count + 1, *sum + bid.price);
    }
    let prices = prices.take();
    assert_eq!(prices.len(), expected.len());
    assert!(prices.into_iter().collect::<BTreeMap<_, _>>() == expected);
}

#[test]
fn plain_records_are_joined_wherever_their_rows_lie() {
    for mode in [Mode::Batch, Mode::Streaming] {
        let environment = environment(16, mode);
        let totals = environment
            .source("sales", generate(30_000, sale))
            .key_by(Sale::code)
            .reduce(|left: &Sale, right: &Sale| Sale {
                amount: left.amount + right.amount,
                ..*left
            })
            .collect();
        let summary = environment.execute("totals").expect("the job runs");
        assert!(summary.spilled_bytes_written() > 0, "{summary}");
        let mut expected = BTreeMap::new();
        (0..30_000)
            .map(sale)
            .for_each(|sale| *expected.entry(sale.code).or_insert(0) += sale.amount);
        let mut found = BTreeMap::new();
        // Amounts are not negative, so a key's last update is its largest.
        for total in totals.take() {
            let last = found.entry(total.code).or_insert(0);
            *last = total.amount.max(*last);
        }
        assert!(found == expected, "{mode:?}");
    }
}

#[test]
fn plain_records_are_told_apart() {
    let environment = environment(16, Mode::Batch);
    let distinct = environment
        .source("sales", generate(20_000, sale))
        .distinct()
        .collect();
    environment.execute("distinct").expect("the job runs");
    let distinct = distinct.take();
    let expected: BTreeSet<_> = (0..20_000).map(sale).collect();
    assert_eq!(distinct.len(), expected.len());
    assert!(distinct.into_iter().collect::<BTreeSet<_>>() == expected);
}
