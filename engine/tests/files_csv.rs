//! CSV sources: records of every type however files are written and split, and every error they answer.

mod files_support;

use files_support::{Between, Random, Scratch, read};
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use forebay::ErrorKind;
use forebay::record::{BytesText, Date, Decimal, Record, Timestamp};
use forebay::source::{CsvSource, NotUtf8, Source, csv};
use std::io::Write;

#[derive(Record, Debug, Clone, PartialEq)]
struct Bid {
    auction: u64,
    price: i64,
    channel: String,
    note: Option<String>,
}

#[derive(Record, Debug, Clone, PartialEq)]
struct Every {
    a: u8,
    b: i128,
    c: f32,
    d: f64,
    e: bool,
    at: Timestamp,
    day: Date,
    amount: Decimal,
    name: String,
    raw: Vec<u8>,
    maybe: Option<u16>,
    inner: Inner,
}

#[derive(Record, Debug, Clone, PartialEq)]
struct Inner {
    x: Option<i8>,
    y: String,
}

fn bid(auction: u64, price: i64, channel: &str, note: Option<&str>) -> Bid {
    Bid {
        auction,
        price,
        channel: channel.into(),
        note: note.map(String::from),
    }
}

#[test]
fn every_type_is_read_from_columns_in_any_order() {
    let scratch = Scratch::new("every");
    let path = scratch.write(
        "every.csv",
        "name,inner.y,inner.x,maybe,raw,amount,day,at,e,d,c,b,a\r\n\
         \"Ann \"\"A\"\", B\",\"two\nlines\",-128,,00FF,-1.50,2026-11-22,2026-11-22T10:00:00Z,TRUE,1e300,0.1,\
         -170141183460469231731687303715884105728,255\r\n\
         ,é,,7,,0,-0001-01-01,0,0,NaN,-inf,5,0\r\n",
    );
    let found = read(csv::<Every>(path), 1).expect("the file is read");
    let first = Every {
        a: 255,
        b: i128::MIN,
        c: 0.1,
        d: 1e300,
        e: true,
        at: "2026-11-22T10:00:00Z".parse().expect("a timestamp"),
        day: "2026-11-22".parse().expect("a date"),
        amount: "-1.50".parse().expect("a decimal"),
        name: "Ann \"A\", B".into(),
        raw: vec![0, 255],
        maybe: None,
        inner: Inner {
            x: Some(-128),
            y: "two\nlines".into(),
        },
    };
    assert_eq!(found[0], first);
    assert!(found[1].d.is_nan());
    let second = Every {
        d: 0.0,
        ..found[1].clone()
    };
    let expected = Every {
        a: 0,
        b: 5,
        c: f32::NEG_INFINITY,
        d: 0.0,
        e: false,
        at: Timestamp::from_millis(0),
        day: "-0001-01-01".parse().expect("a date"),
        amount: Decimal::new(0, 0),
        name: String::new(),
        raw: vec![],
        maybe: Some(7),
        inner: Inner {
            x: None,
            y: "é".into(),
        },
    };
    assert_eq!(second, expected);
    assert_eq!(found.len(), 2);
}

/// A field of a few characters that need care.
fn random_text(random: &mut Random, newlines: bool) -> String {
    (0..random.below(8))
        .map(|_| match random.below(9) {
            0 => '"',
            1 => ',',
            2 if newlines => '\n',
            3 if newlines => '\r',
            4 => 'é',
            5 => '🌊',
            6 => ' ',
            _ => (b'a' + random.below(26) as u8) as char,
        })
        .collect()
}

fn quoted(text: &str, random: &mut Random) -> String {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) || random.below(3) == 0 {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}

#[test]
fn random_files_are_read_however_they_are_split() {
    for seed in 0..24 {
        let mut random = Random(seed * 1000);
        let scratch = Scratch::new("csv");
        let spans_lines = random.below(2) == 0;
        let has_header = random.below(3) > 0;
        let mut expected = Vec::new();
        for file in 0..1 + random.below(3) {
            let mut content = String::from(if random.below(3) == 0 { "\u{feff}" } else { "" });
            let end = ["\n", "\r\n"][random.below(2)];
            if has_header {
                content.push_str("auction,channel,price,note");
                content.push_str(end);
            }
            for _ in 0..random.below(80) {
                let mut channel = random_text(&mut random, spans_lines);
                if random.below(20) == 0 {
                    channel = channel.repeat(2000);
                }
                let note = (random.below(2) == 0).then(|| random_text(&mut random, spans_lines));
                let record = bid(random.next(), random.next() as i64, &channel, note.as_deref());
                let (channel, note) = (
                    quoted(&channel, &mut random),
                    note.map(|note| quoted(&note, &mut random)).unwrap_or_default(),
                );
                let fields = match has_header {
                    true => format!("{},{channel},{},{note}", record.auction, record.price),
                    false => format!("{},{},{channel},{note}", record.auction, record.price),
                };
                content.push_str(&fields);
                content.push_str(if random.below(10) == 0 { "\n\n" } else { end });
                expected.push(record);
            }
            if random.below(2) == 0 {
                content.truncate(content.trim_end_matches(['\r', '\n']).len());
            }
            scratch.write(&format!("{file}.csv"), content);
        }
        let size = [1, 2, 7, 100, 5000, 1 << 20][random.below(6)];
        let source = || {
            let source = csv::<Bid>(scratch.pattern("*.csv")).split_size(size);
            let source = if spans_lines { source } else { source.whole_lines() };
            if has_header {
                source
            } else {
                source.without_header()
            }
        };
        let found = read(source(), 1).expect("the files are read");
        assert!(found == expected, "seed {seed}, split size {size}");
        let mut found = read(source(), 2 + random.below(3)).expect("the files are read");
        let key = |bid: &Bid| (bid.auction, bid.price);
        found.sort_by_key(key);
        expected.sort_by_key(key);
        assert!(found == expected, "seed {seed}, split size {size}, in parallel");
    }
}

/// What no writer of CSV would write: whatever it is, it is read or refused, and nothing panics or hangs.
#[test]
fn any_bytes_are_records_or_an_error() {
    let scratch = Scratch::new("any");
    let path = scratch.path("any.csv");
    let (mut read_whole, mut refused) = (0, 0);
    for seed in 0..150 {
        let mut random = Random(seed * 1000);
        let alphabet = b"aaa11,,,,\"\"\n\n\r \xff\xc3\xa9";
        let bytes: Vec<u8> = (0..random.below(200))
            .map(|_| alphabet[random.below(alphabet.len())])
            .collect();
        std::fs::write(&path, &bytes).expect("a scratch file");
        let policy = [NotUtf8::Error, NotUtf8::Replace, NotUtf8::Skip][random.below(3)];
        let source = csv::<(Option<String>, Option<String>)>(path.as_path())
            .without_header()
            .ignore_extra_columns()
            .missing_columns_are_null()
            .split_size(1 + random.next() % 50)
            .not_utf8(policy);
        let source = if random.below(2) == 0 {
            source.whole_lines()
        } else {
            source
        };
        match read(source, 1 + random.below(2)) {
            Ok(_) => read_whole += 1,
            Err(error) => {
                refused += 1;
                assert_eq!(error.kind(), ErrorKind::Corrupt, "seed {seed}: {error}");
            }
        }
    }
    assert!(
        read_whole > 20 && refused > 20,
        "{read_whole} read, {refused} refused"
    );
}

#[test]
fn dialects_are_options() {
    let scratch = Scratch::new("dialect");
    let path = scratch.write(
        "a.csv",
        "auction; price ;channel;note\n 1 ;2; 'a;b' ;NULL\n3;4;'NULL';' x '\n5;6;NULL;\n",
    );
    let found = read(
        csv::<Bid>(path.as_path())
            .delimiter(';')
            .quote('\'')
            .null("NULL")
            .trim(),
        1,
    );
    // Blanks around a quote are part of the field that it then does not start.
    let error = found.expect_err("four fields are five");
    assert_eq!(
        scratch.mask(&error.to_string()),
        "DIR/a.csv:2: 5 fields where the header has 4"
    );
    let path = scratch.write(
        "b.csv",
        "auction; price ;channel;note\n 1 ;2;'a;b';NULL\n3;4;'NULL';' x '\n5;6;NULL;\n",
    );
    let found = read(csv::<Bid>(path).delimiter(';').quote('\'').null("NULL").trim(), 1);
    assert_eq!(
        found.expect("the file is read"),
        [
            bid(1, 2, "a;b", None),
            bid(3, 4, "NULL", Some(" x ")),
            bid(5, 6, "NULL", Some(""))
        ]
    );
    type Raw = (Vec<u8>, Option<u8>);
    let path = scratch.write("raw.csv", "AP8=,\n,\"\"\n");
    let source = || {
        csv::<Raw>(path.as_path())
            .without_header()
            .bytes(BytesText::Base64)
    };
    let error = read(source(), 1).expect_err("a quoted text is not null");
    assert!(
        error.to_string().contains("column \"1\": \"\" is not a u8"),
        "{error}"
    );
    scratch.write("raw.csv", "AP8=,\n,1\n");
    let found = read(source(), 1).expect("the file is read");
    assert_eq!(found, [(vec![0, 255], None), (vec![], Some(1))]);
}

#[test]
fn columns_may_be_missing_or_extra_where_that_was_said() {
    let scratch = Scratch::new("columns");
    let path = scratch.write("a.csv", "price,x,auction,channel,y\n1,2,3,c,4\n");
    let source = || csv::<Bid>(path.as_path());
    let found = read(source().ignore_extra_columns().missing_columns_are_null(), 1);
    assert_eq!(found.expect("the file is read"), [bid(3, 1, "c", None)]);
    scratch.write("a.csv", "1,2\n3,4,c,n,5,6\n");
    let source = || csv::<Bid>(path.as_path()).without_header();
    let options = || source().ignore_extra_columns().missing_columns_are_null();
    let error = read(options(), 1).expect_err("the channel is missing");
    assert_eq!(
        scratch.mask(&error.to_string()),
        "DIR/a.csv:1: column \"channel\" is missing, and is not an Option"
    );
    scratch.write("a.csv", "1,2,c\n3,4,c,n,5,6\n");
    let found = read(options(), 1).expect("the file is read");
    assert_eq!(found, [bid(1, 2, "c", None), bid(3, 4, "c", Some("n"))]);
}

/// A file without a byte lacks its header, whatever other files there are; a program that failed may have left it.
#[test]
fn empty_files_are_errors_where_they_should_have_a_header() {
    let scratch = Scratch::new("empty");
    let header = "auction,price,channel,note\n";
    scratch.write("a.csv", "");
    scratch.write("b.csv", format!("{header}1,2,c,\n"));
    let of = |pattern: &str| csv::<Bid>(scratch.pattern(pattern));
    let message = "DIR/a.csv: the file is empty, where a header with the columns of Bid, \"auction\", \"price\", \"channel\", \"note\", is \
                   expected; write the header, pass over such files with skip_empty_files(), or say without_header() where files have none";
    for (pattern, parallelism) in [("a.csv", 1), ("*.csv", 1), ("*.csv", 2)] {
        for whole_lines in [false, true] {
            let source = || {
                if whole_lines {
                    of(pattern).whole_lines()
                } else {
                    of(pattern)
                }
            };
            let error = read(source(), parallelism).expect_err("a header is missing");
            assert_eq!(
                (error.kind(), &*scratch.mask(&error.to_string())),
                (ErrorKind::Corrupt, message)
            );
            let found = read(source().skip_empty_files(), parallelism).expect("the files are read");
            let expected = [bid(1, 2, "c", None)];
            assert_eq!(found, expected[..usize::from(pattern != "a.csv")]);
        }
    }
    // A byte order mark is no header; a header is one without records, and where there is none nothing is missing.
    scratch.write("a.csv", "\u{feff}");
    assert_eq!(
        scratch.mask(&read(of("a.csv"), 1).expect_err("a header is missing").to_string()),
        message
    );
    scratch.write("a.csv", header);
    assert_eq!(read(of("a.csv"), 1).expect("the file is read"), []);
    scratch.write("a.csv", "");
    assert_eq!(
        read(of("a.csv").without_header(), 1).expect("the file is read"),
        []
    );
    let mut packed = GzEncoder::new(Vec::new(), Level::default());
    packed.write_all(b"").expect("memory takes everything");
    scratch.write("c.csv.gz", packed.finish().expect("memory takes everything"));
    let error = read(of("c.csv.gz"), 1).expect_err("a header is missing");
    assert!(
        error.to_string().contains("c.csv.gz: the file is empty"),
        "{error}"
    );
    assert_eq!(
        read(of("c.csv.gz").skip_empty_files(), 1).expect("the file is read"),
        []
    );
}

#[test]
fn errors_name_file_line_column_and_value() {
    let scratch = Scratch::new("errors");
    let header = "auction,price,channel,note\n";
    let long = "x".repeat(100);
    for (content, message) in [
        (
            format!("{header}1,2,a,\n3,12x,\"b\nc\",\n"),
            "DIR/a.csv:3: column \"price\": \"12x\" is not an i64".to_string(),
        ),
        (
            // The line is that of the file, after a field with lines of its own.
            format!("{header}1,2,\"a\n\nb\",\n-3,4,c,\n"),
            "DIR/a.csv:5: column \"auction\": \"-3\" is not a u64".into(),
        ),
        (
            format!("{header}1,{long},a,\n"),
            format!("DIR/a.csv:2: column \"price\": \"{}\"... is not an i64", &long[..60]),
        ),
        (
            format!("{header}1,,a,\n"),
            "DIR/a.csv:2: column \"price\": \"\" is null, but price is no Option; expected an i64".into(),
        ),
        (
            format!("{header}1,2,a\n"),
            "DIR/a.csv:2: 3 fields where the header has 4".into(),
        ),
        (
            format!("{header}1,2,a,,\n"),
            "DIR/a.csv:2: 5 fields where the header has 4".into(),
        ),
        (
            format!("{header}1,2,\"a,b\n1,2,3,4\n"),
            "DIR/a.csv:2: a quoted field does not end in its file".into(),
        ),
        (
            format!("{header}1,2,\"a\"b,\n"),
            "DIR/a.csv:2: text follows a closing quote; a quote inside a quoted field is doubled, and only a \
             delimiter or line end follows the field"
                .into(),
        ),
        (
            "auction,channel,note\n1,2,3\n".into(),
            "DIR/a.csv: there is no column \"price\" of Bid; the header has \"auction\", \"channel\", \"note\"".into(),
        ),
        (
            "auction,price,channel\n1,2,3\n".into(),
            "DIR/a.csv: there is no column \"note\" of Bid; the header has \"auction\", \"price\", \"channel\"; take \
             missing columns as null with missing_columns_are_null()"
                .into(),
        ),
        (
            "auction,price,channel,note,more\n1,2,3,4,5\n".into(),
            "DIR/a.csv: column \"more\" is not in Bid, which has \"auction\", \"price\", \"channel\", \"note\"; pass over \
             such columns with ignore_extra_columns()"
                .into(),
        ),
        (
            "auction;price;channel;note\n1;2;3;4\n".into(),
            "DIR/a.csv: column \"auction;price;channel;note\" is not in Bid, which has \"auction\", \"price\", \"channel\", \
             \"note\"; where ';' is between the columns, say so with delimiter(';')"
                .into(),
        ),
        (
            "auction, price,channel,note\n1,2,3,4\n".into(),
            "DIR/a.csv: column \" price\" is not in Bid, which has \"auction\", \"price\", \"channel\", \"note\"; take \
             spaces away with trim()"
                .into(),
        ),
        (
            "auction,price,channel,note,price\n1,2,3,4,5\n".into(),
            "DIR/a.csv: two columns are named \"price\"".into(),
        ),
    ] {
        let path = scratch.write("a.csv", &content);
        let error = read(csv::<Bid>(path.as_path()), 2).expect_err("the file is malformed");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{content}");
        assert_eq!(scratch.mask(&error.to_string()), message, "{content}");
    }

    let path = scratch.write("a.csv", format!("{header}1,2,\"a\nb\",\n"));
    let error = read(csv::<Bid>(path.as_path()).whole_lines(), 1).expect_err("the line is not whole");
    assert_eq!(
        scratch.mask(&error.to_string()),
        "DIR/a.csv:2: a quoted field does not end in its line; if fields may have line ends, leave out whole_lines()"
    );
    scratch.write("a.csv", format!("{header}1,2,\"{}", "a\n".repeat(200_000)));
    let error = read(csv::<Bid>(path), 1).expect_err("the record is too long");
    assert_eq!(error.kind(), ErrorKind::Memory);
    let message = scratch.mask(&error.to_string());
    assert!(message.starts_with("DIR/a.csv:2: a record of "), "{message}");
    assert!(
        message.ends_with("over record.max_size (131072 B); close its quotes, or raise record.max_size"),
        "{message}"
    );
}

#[test]
fn contradictions_are_told_before_anything_is_read() {
    let config = |error: forebay::Error| {
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    let error = read(csv::<Bid>("/dev/null").delimiter('"'), 1).expect_err("they are the same");
    assert_eq!(
        config(error),
        "CSV delimiter and quote are both '\"'; make them differ"
    );
    for delimiter in ['é', 'a', '\n'] {
        let error =
            read(csv::<Bid>("/dev/null").delimiter(delimiter), 1).expect_err("it has another meaning");
        assert!(config(error).starts_with(&format!("CSV delimiter {delimiter:?}: use an ASCII character")));
    }
    let error = read(csv::<(u8, [u8; 3])>("/dev/null"), 1).expect_err("an array is no column");
    assert!(
        config(error)
            .starts_with("field \"1\" of (u8, [u8; 3]) is of type [u8; 3], which is no column of text")
    );
}

#[test]
fn text_that_is_not_utf8_is_an_error_replaced_or_skipped() {
    let scratch = Scratch::new("utf8");
    let path = scratch.write(
        "a.csv",
        b"auction,price,channel,note\n1,2,\"a\xff\",\xc0,\n3,4,b,\n".as_slice(),
    );
    let source = || csv::<Bid>(path.as_path());
    let error = read(source(), 1).expect_err("the text is damaged");
    assert_eq!(
        scratch.mask(&error.to_string()),
        "DIR/a.csv:2: byte 33 (0xff) is not UTF-8 text; read on with NotUtf8::Replace or NotUtf8::Skip"
    );
    scratch.write(
        "a.csv",
        b"auction,price,channel,note\n1,2,\"a\xff\",\xc0\n3,4,b,\n".as_slice(),
    );
    let found = read(source().not_utf8(NotUtf8::Replace), 1).expect("the file is read");
    assert_eq!(
        found,
        [bid(1, 2, "a\u{fffd}", Some("\u{fffd}")), bid(3, 4, "b", None)]
    );
    let found = read(source().not_utf8(NotUtf8::Skip), 1).expect("the file is read");
    assert_eq!(found, [bid(3, 4, "b", None)]);
}

#[test]
fn files_that_vanish_are_errors_or_skipped() {
    let scratch = Scratch::new("vanish");
    let content = format!("auction,price,channel,note\n{}", "1,2,a,b\n".repeat(1000));
    for name in ["a", "b"] {
        scratch.write(name, &content);
    }
    let vanish = {
        let path = scratch.path("b");
        move || drop(std::fs::remove_file(&path))
    };
    let source = || csv::<Bid>(scratch.pattern("*")).whole_lines().split_size(1000);
    let error = read(Between(source(), vanish.clone()), 2).expect_err("b is gone");
    assert_eq!(error.kind(), ErrorKind::Io);
    scratch.write("b", &content);
    let found = read(Between(source().skip_unreadable(), vanish), 2).expect("the rest is read");
    assert_eq!(found.len(), 1000);
}

/// Has a place for much that a line need not have.
#[derive(Record, Debug, Clone, PartialEq)]
struct Sparse {
    number: u64,
    name: String,
    amount: Option<i128>,
    balance: Option<i128>,
    limit: Option<i128>,
    note: Option<String>,
}

/// What a source says of the bytes of its rows is true of them; the most is at most `times` the text.
fn check_bounds<R: Record>(source: impl Fn() -> CsvSource<R>, text: usize, times: u64) {
    let said = source().rows_bytes();
    let rows = read(source(), 1).expect("the file is read");
    let bytes: u64 = rows.iter().map(|row| R::row_size(row.view()) as u64).sum();
    let most = said.most().expect("a size bounds it");
    assert!((said.least()..=most).contains(&bytes), "{said} of {bytes} B");
    assert!(most <= times * text as u64, "{said} of {text} B of text");
}

/// There are no more bytes of rows than a source says, however short lines are.
#[test]
fn no_lines_are_so_short_that_there_are_more_rows_than_was_said() {
    type Seven = (u8, u8, u8, u8, u8, u8, u8);
    let scratch = Scratch::new("short");
    let path = scratch.pattern("short.csv");
    let write = |start: &str, line: &str, count| {
        let text = format!("{start}{}", line.repeat(count));
        scratch.write("short.csv", &text);
        text.len()
    };
    let source = || csv::<Sparse>(&*path);
    let all = "number,name,amount,balance,limit,note\n";
    check_bounds(source, write(all, "1,,,,,\n", 1000), 20);
    check_bounds(source, write(all, "1,,,,,\r\n", 1000), 20);
    let missing = || source().missing_columns_are_null();
    check_bounds(missing, write("name,number\n", ",1\n", 1000), 50);
    let bare = || missing().without_header();
    check_bounds(bare, write("", "1,\n", 1000), 50);
    check_bounds(bare, write("1,\n1,", "a", 1000), 50);
    check_bounds(bare, write("", "1,", 1), 60);
    // Each byte that is no UTF-8 text becomes a character of three.
    let replaced = || {
        let bytes = csv::<(Seven, Seven, String)>(&*path);
        bytes.without_header().not_utf8(NotUtf8::Replace)
    };
    let text = [b"1,".repeat(14), vec![0xff; 5000]].concat();
    scratch.write("short.csv", &text);
    check_bounds(replaced, text.len(), 6);
}
