//! The bridge to Arrow: records become record batches and records again; what does not suit is named.

mod record_samples;

use forebay::arrow::arrow_array::types::Int8Type;
use forebay::arrow::arrow_array::*;
use forebay::arrow::arrow_schema::{DataType, Field, Schema, TimeUnit};
use forebay::arrow::{ArrowOptions, ArrowReader, ArrowWriter, schema_of};
use forebay::record::{Date, Decimal, List, Record, Timestamp, validate_row};
use forebay::{Error, ErrorKind};
use record_samples::{Bid, Couple, Event, Marker, Random, Sale, Sample, Status};
use std::sync::Arc;

fn row<R: Record>(view: R::View<'_>) -> Vec<u8> {
    let mut row = vec![0; R::row_size(view)];
    R::write_row(view, &mut row);
    row
}

/// Floats are compared by their bits.
fn round_trip<R: Record + Sample>() {
    for seed in 0..6 {
        let mut random = Random(seed);
        let mut writer =
            ArrowWriter::<R>::new(&ArrowOptions::new().decimal_scale(4)).expect("all are columns");
        let mut reader = ArrowReader::<R>::new(writer.schema()).expect("what was written suits");
        // Several batches, some of more than a block, none of what is in one is left in the next.
        for _ in 0..4 {
            let count = random.one_of(&[0, 1, 7, 100, 3000]);
            let records: Vec<R> = (0..count).map(|_| R::sample(&mut random)).collect();
            for record in &records {
                writer.push(record.view()).expect("it fits");
            }
            assert_eq!((writer.len(), writer.is_empty()), (count, count == 0));
            let batch = writer.take().expect("a batch");
            assert_eq!(batch.num_rows(), count);
            // In pieces that begin anywhere.
            let mut start = 0;
            while start < count {
                let length = (1 + random.below(count)).min(count - start);
                reader
                    .read(&batch.slice(start, length))
                    .expect("it is of the schema");
                for record in &records[start..start + length] {
                    let view = reader.next().expect("it fits").expect("there are as many");
                    let found = row::<R>(view);
                    validate_row::<R>(&found).expect("it is a row");
                    assert_eq!(
                        found,
                        row::<R>(record.view()),
                        "{}, seed {seed}",
                        R::schema().name
                    );
                }
                assert!(reader.next().expect("the end").is_none());
                start += length;
            }
        }
    }
}

/// A decimal that has four digits after the point, which is what columns of the test have.
#[derive(Debug, Clone, Copy, PartialEq, Record)]
struct Money(Decimal);

impl Sample for Money {
    fn sample(random: &mut Random) -> Self {
        let most = 10_i128.pow(38) - 1;
        Money(Decimal::new(random.one_of(&[0, 1, -1, 12_345, most, -most]), 4))
    }
}

#[derive(Debug, Clone, PartialEq, Record)]
struct Everything {
    flag: bool,
    small: (u8, i8, u16, i16),
    wide: (u128, i128, Option<u128>),
    level: Option<f64>,
    weight: f32,
    day: Option<Date>,
    at: Timestamp,
    amount: Option<Money>,
    bid: Bid,
    maybe_bid: Option<Bid>,
    maybe_sale: Option<Sale>,
    codes: [[u8; 3]; 2],
    strings: [String; 2],
    maybe: [Option<(u16, Option<String>)>; 3],
    list: List<u32>,
    maybe_list: Option<List<Option<String>>>,
    deep: List<(u8, List<Option<i128>>, Vec<u8>)>,
    rows: List<Sale>,
    couple: Couple,
}

impl<T: Record + Sample> Sample for List<T> {
    fn sample(random: &mut Random) -> Self {
        let length = random.one_of(&[0, 0, 1, 2, 5]);
        (0..length).map(|_| T::sample(random)).collect()
    }
}

impl Sample for Everything {
    fn sample(random: &mut Random) -> Self {
        Everything {
            flag: Sample::sample(random),
            small: Sample::sample(random),
            wide: Sample::sample(random),
            level: Sample::sample(random),
            weight: Sample::sample(random),
            day: Sample::sample(random),
            at: Sample::sample(random),
            amount: Sample::sample(random),
            bid: Sample::sample(random),
            maybe_bid: Sample::sample(random),
            maybe_sale: Sample::sample(random),
            codes: Sample::sample(random),
            strings: Sample::sample(random),
            maybe: Sample::sample(random),
            list: Sample::sample(random),
            maybe_list: Sample::sample(random),
            deep: Sample::sample(random),
            rows: Sample::sample(random),
            couple: Sample::sample(random),
        }
    }
}

macro_rules! round_trips {
    ($($type:ty),* $(,)?) => {{ $(round_trip::<$type>();)* }};
}

#[test]
fn records_of_every_type_become_batches_and_records_again() {
    round_trips!(
        u8,
        u16,
        u32,
        u64,
        u128,
        i8,
        i16,
        i32,
        i64,
        i128,
        f32,
        f64,
        bool,
        Timestamp,
        Date,
        Money,
        String,
        Vec<u8>,
        Option<u8>,
        Option<String>,
        Option<bool>,
        Option<i128>,
        [u8; 10],
        [String; 3],
        [Option<u16>; 9],
        [Option<bool>; 2],
        (u64, i64),
        (u8, u64),
        (String,),
        (String, u8, Vec<u8>),
        (Option<u8>, Option<String>, Option<i128>),
        ((u8, String), [(bool, u32); 2]),
        Bid,
        Sale,
        Couple,
        Marker,
        List<String>,
        Option<List<(u8, Option<u64>)>>,
        Option<(u64, Option<bool>)>,
        Everything,
    );
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true))
        .collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns of one length")
}

fn read<R: Record>(batch: &RecordBatch) -> Result<Vec<R>, Error> {
    let mut reader = ArrowReader::<R>::new(batch.schema_ref())?;
    reader.read(batch)?;
    let mut records = Vec::new();
    while let Some(view) = reader.next()? {
        records.push(R::from_view(view));
    }
    Ok(records)
}

#[test]
fn columns_of_other_types_are_read_where_every_value_fits() {
    #[derive(Debug, Clone, PartialEq, Record)]
    struct Wide {
        a: i64,
        b: u32,
        c: i128,
        d: f64,
        e: Decimal,
        f: Timestamp,
        g: Vec<u8>,
        h: Option<Date>,
    }
    let found = batch(vec![
        ("h", Arc::new(Date64Array::from(vec![None, Some(-1)]))),
        (
            "g",
            Arc::new(StringViewArray::from(vec![
                "bytes that are in no view themselves",
                "",
            ])),
        ),
        ("f", Arc::new(TimestampNanosecondArray::from(vec![1_999_999, -1]))),
        ("e", Arc::new(Int32Array::from(vec![7, -7]))),
        ("d", Arc::new(Float32Array::from(vec![0.5, f32::INFINITY]))),
        ("c", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
        ("b", Arc::new(UInt8Array::from(vec![255, 0]))),
        ("a", Arc::new(UInt32Array::from(vec![u32::MAX, 0]))),
        ("more", Arc::new(BooleanArray::from(vec![true, false]))),
    ]);
    let records = read::<Wide>(&found).expect("all fit");
    assert_eq!(
        records,
        [
            Wide {
                a: u32::MAX.into(),
                b: 255,
                c: u64::MAX.into(),
                d: 0.5,
                e: Decimal::new(7, 0),
                f: Timestamp::from_millis(1),
                g: b"bytes that are in no view themselves".to_vec(),
                h: None,
            },
            Wide {
                a: 0,
                b: 0,
                c: 0,
                d: f64::INFINITY,
                e: Decimal::new(-7, 0),
                f: Timestamp::from_millis(-1),
                g: Vec::new(),
                h: Some(Date::from_days(-1)),
            }
        ]
    );
}

#[test]
fn dictionaries_are_read_as_their_values() {
    let words: DictionaryArray<Int8Type> = vec![Some("b"), None, Some("a"), Some("b")].into_iter().collect();
    let keys = Int8Array::from(vec![Some(0), Some(2), Some(1), None]);
    // A value that is null, and one that is used by no key.
    let values = Int32Array::from(vec![Some(10), None, Some(30), Some(40)]);
    let numbers = DictionaryArray::new(keys, Arc::new(values));
    let found = batch(vec![
        ("0", Arc::new(words.slice(1, 3))),
        ("1", Arc::new(numbers.slice(0, 3))),
    ]);
    let records = read::<(Option<String>, Option<i64>)>(&found).expect("all fit");
    assert_eq!(
        records,
        [
            (None, Some(10)),
            (Some("a".into()), Some(30)),
            (Some("b".into()), None)
        ]
    );
    let nothing: DictionaryArray<Int8Type> = vec![None::<&str>, None].into_iter().collect();
    let records = read::<(Option<String>,)>(&batch(vec![("0", Arc::new(nothing))])).expect("nulls");
    assert_eq!(records, [(None,), (None,)]);
    let nulls = batch(vec![("0", Arc::new(NullArray::new(2)) as ArrayRef)]);
    assert_eq!(read::<(Option<u64>,)>(&nulls).expect("nulls"), [(None,), (None,)]);
}

#[test]
fn values_of_a_null_record_are_nothing() {
    // What a struct's columns hold where it is null must not be seen.
    let inner = StructArray::new(
        vec![
            Field::new("0", DataType::UInt64, false),
            Field::new("1", DataType::Utf8, false),
        ]
        .into(),
        vec![
            Arc::new(UInt64Array::from(vec![1, 2])),
            Arc::new(StringArray::from(vec!["one", "two"])),
        ],
        Some(vec![false, true].into()),
    );
    let found = batch(vec![("0", Arc::new(inner))]);
    type Row = (Option<(u64, String)>,);
    let mut reader = ArrowReader::<Row>::new(found.schema_ref()).expect("it suits");
    reader.read(&found).expect("it suits");
    let first = row::<Row>(reader.next().expect("it fits").expect("a record"));
    assert_eq!(first, row::<Row>((None,)));
    assert_eq!(reader.next().expect("it fits"), Some((Some((2, "two")),)));
}

fn refusal<R: Record + std::fmt::Debug>(found: Vec<(&str, ArrayRef)>) -> String {
    let error = read::<R>(&batch(found)).expect_err("it does not suit");
    format!("{:?}: {error}", error.kind())
}

#[test]
fn what_does_not_suit_is_named() {
    #[derive(Debug, Clone, PartialEq, Record)]
    struct Bid {
        price: i32,
        tags: [u16; 2],
    }
    let tags = |lengths: [usize; 2]| -> ArrayRef {
        let lists = lengths.map(|length| Some((0..length as i32).map(Some).collect::<Vec<_>>()));
        let lists = ListArray::from_iter_primitive::<types::Int32Type, _, _>(lists);
        let field = Arc::new(Field::new("element", DataType::UInt16, true));
        let values: UInt16Array = (0..lists.values().len() as u16).collect();
        Arc::new(ListArray::new(
            field,
            lists.offsets().clone(),
            Arc::new(values),
            None,
        ))
    };
    let numbers = |values: Vec<Option<i32>>| Arc::new(Int32Array::from(values)) as ArrayRef;
    assert_eq!(
        refusal::<Bid>(vec![("cost", numbers(vec![Some(1)]))]),
        "Config: there is no column \"price\" of Bid, only \"cost\"; rename the field, or leave it out"
    );
    assert_eq!(
        refusal::<Bid>(vec![
            ("price", Arc::new(Int64Array::from(vec![1]))),
            ("tags", tags([2, 2]).slice(0, 1))
        ]),
        "Config: column \"price\" does not suit Bid: it is of type i64, and the field of type i32; change the field's type, or \
         leave it out"
    );
    assert_eq!(
        refusal::<Bid>(vec![
            ("price", numbers(vec![Some(1), None])),
            ("tags", tags([2, 2]))
        ]),
        "Corrupt: row 1 of a record batch, column \"price\": null, but the field is no Option; make it Option<i32>"
    );
    assert_eq!(
        refusal::<Bid>(vec![
            ("price", numbers(vec![Some(1), Some(2)])),
            ("tags", tags([2, 3]))
        ]),
        "Corrupt: row 1 of a record batch, column \"tags\": a list of 3, where [u16; 2] has 2; a List has any number"
    );
    assert_eq!(
        refusal::<(Timestamp,)>(vec![("0", Arc::new(TimestampSecondArray::from(vec![i64::MAX])))]),
        "Corrupt: row 0 of a record batch, column \"0\": 9223372036854775807 seconds are no timestamp in milliseconds: too many"
    );
    let wide = Decimal128Array::from(vec![-1])
        .with_precision_and_scale(38, 0)
        .expect("a scale");
    assert_eq!(
        refusal::<(u128,)>(vec![("0", Arc::new(wide))]),
        "Corrupt: row 0 of a record batch, column \"0\": -1 does not fit in u128"
    );
    for (array, what) in [
        (Arc::new(UInt64Array::from(vec![1])) as ArrayRef, "u64"),
        (Arc::new(TimestampSecondArray::from(vec![1])), "timestamp in s"),
        (Arc::new(StringArray::from(vec!["1"])), "string"),
        (Arc::new(NullArray::new(1)), "Null"),
    ] {
        let text = refusal::<(i64,)>(vec![("0", array)]);
        assert!(
            text.contains(&format!("it is of type {what}, and the field of type i64")),
            "{text}"
        );
    }
}

#[test]
fn a_reader_is_for_one_schema() {
    let right = batch(vec![("0", Arc::new(UInt64Array::from(vec![1])))]);
    let wrong = batch(vec![("0", Arc::new(Int64Array::from(vec![1])))]);
    let mut reader = ArrowReader::<(u64,)>::new(right.schema_ref()).expect("it suits");
    let error = reader.read(&wrong).expect_err("it is another schema");
    assert_eq!(error.kind(), ErrorKind::Config);
    reader.read(&right).expect("it is the schema");
    assert_eq!(
        (reader.rows_left(), reader.next().expect("it fits")),
        (1, Some((1,)))
    );
}

#[test]
fn what_has_no_column_is_refused_before_anything_is_written() {
    fn refused<R: Record>() -> String {
        let error = ArrowWriter::<R>::new(&ArrowOptions::new())
            .err()
            .expect("it has no column");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }
    assert!(
        refused::<(u8, Event)>().contains("field \"1\" of (u8, Event) is of type Event, which has no column")
    );
    assert!(refused::<Status>().contains("field \"value\""));
    assert!(refused::<(u8, (u8, Option<Option<u8>>))>().contains("field \"1.1\""));
    assert!(refused::<(u8, List<()>)>().contains("field \"1.element\""));
    assert_eq!(
        refused::<(u8, (Decimal,))>(),
        "field \"1.0\" of (u8, (decimal)) is a decimal, whose scale may differ by value; a column has one: choose it with \
         decimal_scale(2) or decimal_scale_of(\"1.0\", 2)"
    );
}

#[test]
fn decimals_have_the_scale_of_their_column() {
    type Row = (Decimal, (Decimal,));
    let options = ArrowOptions::new().decimal_scale(2).decimal_scale_of("1.0", 0);
    let schema = schema_of::<Row>(&options).expect("columns");
    assert_eq!(*schema.field(0).data_type(), DataType::Decimal128(38, 2));
    let mut writer = ArrowWriter::<Row>::new(&options).expect("columns");
    let decimal = |text: &str| text.parse::<Decimal>().expect("a decimal");
    writer
        .push((decimal("1.5"), (decimal("3.00"),)))
        .expect("they fit");
    let batch = writer.take().expect("a batch");
    let found = read::<Row>(&batch).expect("it suits")[0];
    assert_eq!((found.0.units(), found.0.scale(), found.1.0.units()), (150, 2, 3));
    for (first, second, field) in [
        ("1.005", "0", "\"0\""),
        ("0", "0.5", "\"1.0\""),
        ("1e37", "0", "\"0\""),
    ] {
        let first = match first {
            "1e37" => Decimal::new(10_i128.pow(37), 0),
            text => decimal(text),
        };
        let error = writer
            .push((first, (decimal(second),)))
            .expect_err("digits would be lost");
        assert!(
            error.to_string().starts_with(&format!("field {field}: ")),
            "{error}"
        );
        // What was begun is gone.
        assert!(writer.is_empty());
        assert_eq!(writer.take().expect("an empty batch").num_rows(), 0);
    }
}

#[test]
fn times_of_every_unit_are_cut_to_milliseconds() {
    let zone: Arc<str> = "+02:00".into();
    let arrays: [ArrayRef; 4] = [
        Arc::new(TimestampSecondArray::from(vec![-1]).with_timezone(zone.clone())),
        Arc::new(TimestampMillisecondArray::from(vec![-1000])),
        Arc::new(TimestampMicrosecondArray::from(vec![-999_001])),
        Arc::new(TimestampNanosecondArray::from(vec![-999_000_001]).with_timezone(zone)),
    ];
    for array in arrays {
        assert!(matches!(
            array.data_type(),
            DataType::Timestamp(
                TimeUnit::Second | TimeUnit::Millisecond | TimeUnit::Microsecond | TimeUnit::Nanosecond,
                _
            )
        ));
        let found = read::<(Timestamp,)>(&batch(vec![("0", array)])).expect("it fits");
        assert_eq!(found[0].0.millis(), -1000);
    }
}
