//! Rows of every form of record: what is written is read, every byte is written, damaged bytes never panic.

mod record_samples;

use std::fmt::Debug;

use forebay::record::{DataType, Date, Decimal, EnumRecord, PlainRecord, Record, Timestamp, validate_row};
use record_samples::{
    Bid, BidView, Couple, Event, EventView, Marker, Nested, Random, Reading, Sale, Sample, Shape, Status,
};

/// Bytes at an address that is a multiple of 8.
struct Aligned(Vec<u64>, usize);

impl Aligned {
    fn new(size: usize, fill: u8) -> Self {
        Aligned(vec![u64::from_ne_bytes([fill; 8]); size.div_ceil(8)], size)
    }

    fn bytes(&mut self) -> &mut [u8] {
        let size = self.1;
        &mut zerocopy::IntoBytes::as_mut_bytes(&mut self.0[..])[..size]
    }
}

/// NaN is not equal to itself, so values are compared as they print.
fn same<T: Debug>(left: T, right: T) -> bool {
    format!("{left:?}") == format!("{right:?}")
}

fn round_trips<R: Record + Sample + Debug>() {
    let seed = 0xf0_0d;
    let mut random = Random(seed);
    for round in 0..200 {
        let value = R::sample(&mut random);
        let context = format!("{} seed {seed} round {round}: {value:?}", R::schema().name);
        let size = R::row_size(value.view());
        assert!(
            if R::VARIES {
                size % 8 == 0 && R::STRIDE == 0
            } else {
                size == R::STRIDE
            },
            "{context}"
        );

        let mut row = Aligned::new(size, 0xaa);
        R::write_row(value.view(), row.bytes());
        let mut again = Aligned::new(size, 0x55);
        R::write_row(R::shorten(value.view()), again.bytes());
        assert_eq!(row.bytes(), again.bytes(), "every byte is written: {context}");

        assert_eq!(R::row_size_at(row.bytes()), size, "{context}");
        validate_row::<R>(row.bytes()).unwrap_or_else(|error| panic!("{error}: {context}"));
        assert!(same(R::from_view(R::read_row(row.bytes())), value), "{context}");

        // Reading does not depend on what follows, nor on the address unless the type says so.
        let mut longer = Aligned::new(size + 16, 0xff);
        let start = if R::ROW_ALIGN == 1 { 1 } else { 8 };
        longer.bytes()[start..start + size].copy_from_slice(row.bytes());
        assert!(same(
            R::from_view(R::read_row(&longer.bytes()[start..])),
            R::from_view(R::read_row(row.bytes()))
        ));
    }
}

#[test]
fn every_record_round_trips() {
    macro_rules! check {
        ($($type:ty),*) => { $(round_trips::<$type>();)* };
    }
    for_every_type!(check);
}

/// Damages rows at random: they are refused, or read without a panic.
fn survives_damage<R: Record + Sample + Debug>() {
    let seed = 0xbad;
    let mut random = Random(seed);
    let mut refused = 0;
    for _ in 0..300 {
        let value = R::sample(&mut random);
        let size = R::row_size(value.view());
        let mut row = Aligned::new(size, 0);
        R::write_row(value.view(), row.bytes());
        for _ in 0..1 + random.below(3) {
            let at = random.below(size.min(48));
            let damage = [0, 1, 8, 0x7f, 0x80, 0xff, random.next() as u8];
            row.bytes()[at] = random.one_of(&damage);
        }
        let cut = if random.below(4) == 0 {
            random.below(size + 1)
        } else {
            size
        };
        match validate_row::<R>(&row.bytes()[..cut]) {
            Ok(()) => drop(R::from_view(R::read_row(row.bytes()))),
            Err(error) => {
                assert_eq!(error.kind(), forebay_memory::ErrorKind::Corrupt);
                refused += 1;
            }
        }
    }
    assert!(
        refused > 0,
        "{} seed {seed}: no damage was noticed",
        R::schema().name
    );
}

#[test]
fn damaged_rows_never_panic() {
    macro_rules! check {
        ($($type:ty),*) => { $(survives_damage::<$type>();)* };
    }
    for_every_type!(check);
}

#[test]
fn noise_is_never_a_panic() {
    let mut random = Random(7);
    let mut noise = Aligned::new(512, 0);
    for _ in 0..2000 {
        let size = random.below(513);
        for byte in noise.bytes() {
            *byte = random.next() as u8;
        }
        let bytes = &mut noise.bytes()[..size];
        if let Some(header) = bytes.first_chunk_mut() {
            *header = (size as u32).to_le_bytes();
        }
        let _ = validate_row::<Nested>(bytes);
        let _ = validate_row::<Event>(bytes);
        let _ = validate_row::<(Option<String>, [Event; 2])>(bytes);
    }
}

#[test]
fn damage_is_told_with_its_place() {
    let bid = Bid {
        auction: 1,
        bidder: 2,
        price: 3,
        channel: "apple".into(),
        at: Timestamp::MIN,
    };
    let mut row = Aligned::new(Bid::row_size(bid.view()), 0);
    Bid::write_row(bid.view(), row.bytes());
    let size = row.bytes().len();
    let mut damaged = |at: usize, byte: u8| {
        let kept = std::mem::replace(&mut row.bytes()[at], byte);
        let message = validate_row::<Bid>(row.bytes()).expect_err("damaged").to_string();
        row.bytes()[at] = kept;
        message
    };
    assert_eq!(
        damaged(0, 63),
        "row of Bid: says it has 63 B where there are 64; sizes are multiples of 8 up to 128 MiB"
    );
    assert_eq!(
        damaged(36, 60),
        "row of Bid: channel: byte 32: 60 bytes at offset 56 reach out of the row of 64 B"
    );
    assert!(
        damaged(56, 0xff).contains("channel: byte 32: the prefix"),
        "{}",
        damaged(56, 0xff)
    );
    assert!(damaged(60, 0xff).contains("is not UTF-8"));
    assert_eq!(size, 64);
}

#[test]
fn a_view_has_the_fields_of_its_record() {
    let bid = Bid {
        auction: 1,
        bidder: 2,
        price: 300,
        channel: "apple".into(),
        at: Timestamp::from_millis(5),
    };
    let mut row = vec![0; Bid::row_size(bid.view())];
    Bid::write_row(bid.view(), &mut row);
    let view: BidView<'_> = Bid::read_row(&row);
    assert!(view.price > 100 && view.channel == "apple" && view.at == bid.at);
    assert_eq!(view, bid.view());
    assert_eq!(Bid::price.read(&row), 300);
    assert_eq!(Bid::channel.read(&row), "apple");
    assert_eq!(Bid::channel.get(view), "apple");
    assert_eq!(Bid::bidder.integer_layout().expect("an integer").read(&row), 2);
    assert_eq!((Bid::at.name(), Bid::at.index()), ("at", 4));
    assert_eq!(format!("{:?}", Bid::at), "Bid.at");
    assert_eq!(Couple::LABEL.get(Couple(1, "x".into()).view()), "x");
    assert_eq!(Couple::_0.get(Couple(1, "x".into()).view()), 1);
}

#[test]
fn field_constants_read_nested_and_nullable_fields_from_rows() {
    let mut random = Random(3);
    for _ in 0..100 {
        let value = Nested::sample(&mut random);
        let mut row = Aligned::new(Nested::row_size(value.view()), 0);
        Nested::write_row(value.view(), row.bytes());
        let row = &*row.bytes();
        assert!(same(Nested::maybe_bid.read(row), value.maybe_bid.view()));
        assert!(same(Nested::sale.read(row), &value.sale));
        assert!(same(Nested::twice.read(row), value.twice));
        assert!(same(Nested::event.read(row), value.event.view()));
        assert!(same(Nested::shape.read(row), value.shape.view()));
        assert_eq!(Nested::r#type.name(), "type");
    }
}

#[test]
fn plain_rows_are_a_slice() {
    let mut random = Random(11);
    let sales: Vec<_> = (0..5).map(|_| Sale::sample(&mut random)).collect();
    let mut batch = Aligned::new(5 * Sale::STRIDE, 0);
    for (row, sale) in batch.bytes().chunks_exact_mut(Sale::STRIDE).zip(&sales) {
        Sale::write_row(sale, row);
    }
    assert!(same(Sale::rows(batch.bytes()), &sales[..]));
    Sale::rows_mut(batch.bytes())[3].shop = 77;
    let row = &batch.bytes()[3 * Sale::STRIDE..];
    assert_eq!(Sale::shop.read(row), 77);
    assert_eq!(Sale::shop.get(Sale::read_row(row)), 77);
    assert_eq!(
        Sale::at.integer_layout().expect("an integer").read(row),
        sales[3].at.millis() as u64
    );
    let mut unaligned = [0; Sale::STRIDE + 8];
    for start in 0..8 {
        unaligned[start..start + Sale::STRIDE].copy_from_slice(&row[..Sale::STRIDE]);
        assert!(same(
            Sale::copy_row(&unaligned[start..]),
            Sale::rows(batch_of(row).bytes())[0]
        ));
    }
}

fn batch_of(row: &[u8]) -> Aligned {
    let mut batch = Aligned::new(Sale::STRIDE, 0);
    batch.bytes().copy_from_slice(&row[..Sale::STRIDE]);
    batch
}

#[test]
fn enum_rows_take_what_their_variant_needs() {
    let row_of = |event: &Event| {
        let mut row = vec![0; Event::row_size(event.view())];
        Event::write_row(event.view(), &mut row);
        row
    };
    let tick = row_of(&Event::Tick);
    assert_eq!(tick, [8, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(Event::row_tag(&tick), 2);
    let named = row_of(&Event::Named { id: 5, label: None });
    assert_eq!(named[..16], *b"\x20\0\0\0\x03\x01\0\0\x05\0\0\0\0\0\0\0");
    assert_eq!(
        (named.len(), Event::VARIANTS[Event::row_tag(&named) as usize]),
        (32, "Named")
    );
    assert!(matches!(
        Event::read_row(&named),
        EventView::Named { id: 5, label: None }
    ));
    assert_eq!(Event::tag(Event::read_row(&named)), 3);
    assert_eq!((Status::STRIDE, Shape::STRIDE), (1, 16));
    let mut row = [0; 16];
    Shape::write_row(Shape::Circle(1.0).view(), &mut row);
    assert_eq!(row, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    assert_eq!(Shape::row_tag(&row), 1);
}

#[test]
fn large_values_fit() {
    let value = (String::from("é").repeat(1 << 20), vec![7_u8; 3 << 20], 9_u64);
    type Large = (String, Vec<u8>, u64);
    let mut row = vec![0; Large::row_size(value.view())];
    Large::write_row(value.view(), &mut row);
    assert_eq!(Large::from_view(Large::read_row(&row)), value);
}

#[test]
fn schemas_describe_every_form() {
    let schema = Nested::schema();
    assert_eq!((schema.name.as_str(), schema.stride), ("nested.v1", 0));
    let bid = schema.field("maybe_bid").expect("a field");
    assert!(bid.nullable && bid.null_bit > bid.offset * 8);
    let DataType::Enum(event) = &schema.field("event").expect("a field").data_type else {
        panic!()
    };
    assert_eq!(
        event
            .variants
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>(),
        Event::VARIANTS
    );
    let offsets: Vec<_> = Sale::schema().fields.iter().map(|field| field.offset).collect();
    assert_eq!((offsets, Sale::schema().stride), (vec![0, 8, 16, 24, 28], 32));
    assert_eq!(
        schema.field("type").map(|field| field.offset),
        Some(Nested::r#type.offset())
    );
    assert_eq!(Marker::schema().fields, []);
    let text = serde_json::to_string(schema).expect("schemas serialize");
    assert_eq!(
        &serde_json::from_str::<forebay::record::Schema>(&text).expect("and back"),
        schema
    );
    assert_eq!(
        Bid::schema().field("channel").map(|field| &field.data_type),
        Some(&DataType::String)
    );
    let _ = (Date::schema(), Decimal::schema(), Reading::schema());
}

/// The bytes that docs/FORMATS.md shows.
#[test]
fn the_documented_row_is_the_row() {
    let formats = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/FORMATS.md"))
        .expect("the documentation is readable");
    let example = formats
        .split("of the guide is")
        .nth(1)
        .expect("it has the example");
    let example = example.split("```").nth(1).expect("in a block");
    let mut documented = Vec::new();
    for line in example.lines().skip(1) {
        let bytes = line[5..].split_whitespace().take(8);
        documented.extend(bytes.map(|byte| u8::from_str_radix(byte, 16).expect("a byte")));
    }
    let bid = Bid {
        auction: 7,
        bidder: 1,
        price: 250,
        channel: "apple".into(),
        at: Timestamp::from_millis(1000),
    };
    let mut row = vec![0; Bid::row_size(bid.view())];
    Bid::write_row(bid.view(), &mut row);
    assert_eq!(row, documented);
}
