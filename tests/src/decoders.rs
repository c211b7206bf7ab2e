//! Every decoder of bytes from elsewhere, each behind a function that takes any bytes and asserts what must hold.
//!
//! # Interface
//! [`DECODERS`]: a name, valid samples, and the function, which answers whether the bytes were accepted. The fuzz targets call
//! the functions; the test target `model` calls them with mutated samples.

use forebay::plan::JobPlan;
use forebay::record::{Date, Decimal, KeyFields, Record, Timestamp, first, itself, validate_row};
use forebay::source::{NotUtf8, binary, csv, generate, text};
use forebay::{Environment, ErrorKind, JobSummary, Result, Runtime};
use forebay_memory::spill::{BlockRef, HEADER_BYTES, decode_block_fragment};
use forebay_memory::{ByteSize, Config, Container, Plan, size::parse_duration};
use std::path::PathBuf;
use std::sync::LazyLock;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A decoder under test.
pub struct Decoder {
    /// Its name, which is that of its fuzz target.
    pub name: &'static str,
    /// Bytes that it accepts.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// Decodes; whether the bytes were accepted.
    pub decode: fn(&[u8]) -> bool,
    /// How many mutations `cargo test` tries.
    pub mutations: usize,
}

/// All of them.
pub const DECODERS: &[Decoder] = &[
    Decoder {
        name: "config",
        samples: config_samples,
        decode: config,
        mutations: 3000,
    },
    Decoder {
        name: "sizes",
        samples: size_samples,
        decode: sizes,
        mutations: 10_000,
    },
    Decoder {
        name: "block",
        samples: block_samples,
        decode: block,
        mutations: 20_000,
    },
    Decoder {
        name: "row",
        samples: row_samples,
        decode: row,
        mutations: 20_000,
    },
    Decoder {
        name: "csv",
        samples: csv_samples,
        decode: csv_file,
        mutations: 600,
    },
    Decoder {
        name: "text",
        samples: text_samples,
        decode: text_file,
        mutations: 600,
    },
    Decoder {
        name: "compressed",
        samples: compressed_samples,
        decode: compressed_file,
        mutations: 600,
    },
    Decoder {
        name: "binary",
        samples: binary_samples,
        decode: binary_file,
        mutations: 200,
    },
    #[cfg(feature = "parquet")]
    Decoder {
        name: "parquet",
        samples: parquet::samples,
        decode: parquet::file,
        mutations: 600,
    },
    Decoder {
        name: "key",
        samples: key_samples,
        decode: key,
        mutations: 20_000,
    },
    Decoder {
        name: "plan",
        samples: plan_samples,
        decode: plan,
        mutations: 2000,
    },
];

fn config_samples() -> Vec<Vec<u8>> {
    [
        "[memory]\nprocess_size = \"2 GiB\"\nmanaged_fraction = 0.5\nweights = { operator = 70, state = 30 }\n",
        "[memory]\nmanaged_size = \"256MiB\"\nuser_size = \"128MiB\"\nsegment_size = \"32KiB\"\n[job]\nparallelism = 4\n",
        "[network]\nbuffer_timeout = \"100 ms\"\n[spill]\ndirectories = [\"/tmp\"]\nmax_bytes = \"1 TiB\"\n[cancel]\ntimeout = \"1 min\"\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Configuration files: refused with a `Config` error, or proved to a plan whose parts sum up to the process.
pub fn config(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let mut config = Config::default();
    if let Err(error) = config.read_toml(text, "fuzz.toml") {
        assert!(!error.to_string().is_empty());
        return false;
    }
    let container = Container {
        limit: None,
        ram: Some(ByteSize::gib(8)),
        cores: 4,
        temporary_directory: PathBuf::from("/tmp"),
    };
    match Plan::prove(&config, &container) {
        Ok(plan) => {
            let explanation = plan.explain();
            let sum: u64 = explanation.components().iter().map(|part| part.bytes).sum();
            assert_eq!(sum, plan.process_bytes(), "{text}");
            true
        }
        Err(error) => {
            assert!(
                matches!(error.kind(), ErrorKind::Config | ErrorKind::Memory),
                "{error:?}"
            );
            false
        }
    }
}

fn size_samples() -> Vec<Vec<u8>> {
    [
        "32kb", "64 mb", "1gb", "1 GiB", "512MB", "4096", "0", "100 ms", "1 min", "1h", "500ms",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Sizes and durations, and assignments of the command line.
pub fn sizes(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let size = text.parse::<ByteSize>();
    if let Ok(size) = &size {
        let plain: ByteSize = size.0.to_string().parse().expect("plain bytes are a size");
        assert_eq!(plain, *size);
    }
    let duration = parse_duration(text);
    let assigned = Config::default().set(&format!("memory.user_size={text}"));
    // In an assignment, what starts like a TOML string or list is read as one.
    if !text.trim().starts_with(['"', '\'', '[']) {
        assert_eq!(size.is_ok() && !text.is_empty(), assigned.is_ok(), "{text:?}");
    }
    size.is_ok() || duration.is_ok()
}

/// The reference, where the fragment is and which, and the size of the place for its payload.
const PREFIX: usize = 28;

fn block_samples() -> Vec<Vec<u8>> {
    [0usize, 1, 100, 5000]
        .map(|length| {
            let reference = [3u32, 8192, (HEADER_BYTES + length) as u32, length as u32, 77];
            let mut bytes: Vec<u8> = reference.iter().flat_map(|field| field.to_le_bytes()).collect();
            bytes.extend(8192u32.to_le_bytes());
            bytes.extend(0u16.to_le_bytes());
            bytes.extend((length as u16).to_le_bytes());
            bytes.extend(b"FBSP\x01\x00\x00\x00");
            bytes.extend([length as u32; 2].iter().flat_map(|field| field.to_le_bytes()));
            bytes.extend([0; 8]);
            bytes.extend([77, length as u32].iter().flat_map(|field| field.to_le_bytes()));
            bytes.extend([5; 8]);
            bytes.extend([3u32, 8192].iter().flat_map(|field| field.to_le_bytes()));
            bytes.extend([0; 16]);
            bytes.extend((0..length).map(|at| at as u8));
            bytes
        })
        .to_vec()
}

/// Fragments of spilled blocks. The checksum is put right first, so that what is checked after it is reached; a
/// wrong one must be found.
pub fn block(bytes: &[u8]) -> bool {
    let Some((prefix, fragment)) = bytes.split_at_checked(PREFIX) else {
        return false;
    };
    let reference = BlockRef::read_from_bytes(&prefix[..20]).expect("a reference is any 20 bytes");
    let offset = u32::from_le_bytes([prefix[20], prefix[21], prefix[22], prefix[23]]);
    let number = u16::from_le_bytes([prefix[24], prefix[25]]);
    let mut into = vec![0; usize::from(u16::from_le_bytes([prefix[26], prefix[27]]))];
    let mut fragment = fragment.to_vec();
    if let Some((header, stored)) = fragment.split_at_mut_checked(HEADER_BYTES) {
        let length = u32::from_le_bytes([header[12], header[13], header[14], header[15]]) as usize;
        if let Some(stored) = stored.get(..length) {
            header[16..24].fill(0);
            let checksum = xxh3_64_with_seed(stored, xxh3_64(header));
            header[16..24].copy_from_slice(&(!checksum).to_le_bytes());
            let wrong = decode_block_fragment(&fragment, &reference, offset, number, &mut into);
            assert!(wrong.is_err(), "a wrong checksum was accepted");
            fragment[16..24].copy_from_slice(&checksum.to_le_bytes());
        }
    }
    match decode_block_fragment(&fragment, &reference, offset, number, &mut into) {
        Ok((payload, used)) => {
            assert!(payload <= into.len() && used <= fragment.len());
            true
        }
        Err(damage) => {
            assert!(!damage.to_string().is_empty());
            false
        }
    }
}

/// A record with a field of every kind.
#[derive(Debug, Clone, PartialEq, Record)]
pub struct Mixed {
    id: u64,
    name: String,
    price: Option<i64>,
    note: Option<String>,
    flag: bool,
    bytes: Vec<u8>,
    at: Timestamp,
    day: Date,
    amount: Decimal,
    pair: (i8, Option<f64>),
}

/// An enum whose rows vary.
#[derive(Debug, Clone, PartialEq, Record)]
pub enum Event {
    /// A record.
    Mixed(Mixed),
    /// Fields of its own.
    Named {
        /// A number.
        id: u32,
        /// A text.
        label: Option<String>,
    },
    /// Nothing.
    Tick,
}

fn mixed(id: u64) -> Mixed {
    Mixed {
        id,
        name: "long enough to be outside of the fixed part"
            .chars()
            .take(id as usize % 44)
            .collect(),
        price: id.is_multiple_of(2).then_some(-5),
        note: id.is_multiple_of(3).then(|| "né".to_string()),
        flag: id.is_multiple_of(5),
        bytes: vec![1, 2, 3],
        at: Timestamp::default(),
        day: Date::default(),
        amount: Decimal::default(),
        pair: (-1, Some(0.5)),
    }
}

fn encoded<R: Record>(kind: u8, record: &R) -> Vec<u8> {
    let mut row = vec![0; R::row_size(record.view())];
    R::write_row(record.view(), &mut row);
    [&[kind], &row[..]].concat()
}

fn row_samples() -> Vec<Vec<u8>> {
    let mut samples: Vec<Vec<u8>> = (0..7).map(|id| encoded(0, &mixed(id))).collect();
    samples.extend((0..3).map(|id| encoded(1, &Event::Mixed(mixed(id)))));
    samples.push(encoded(1, &Event::Tick));
    let label = Some("named".to_string());
    samples.push(encoded(1, &Event::Named { id: 1, label }));
    samples.push(encoded(2, &(1u64, "text".to_string())));
    samples.push(encoded(3, &(true, Some(7u16), -1i128)));
    samples
}

/// Rows from elsewhere: refused, or read without a panic and written again.
pub fn row(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((0, row)) => row_of::<Mixed>(row),
        Some((1, row)) => row_of::<Event>(row),
        Some((2, row)) => row_of::<(u64, String)>(row),
        Some((3, row)) => row_of::<(bool, Option<u16>, i128)>(row),
        _ => false,
    }
}

fn row_of<R: Record + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> bool {
    // Rows start at multiples of 16.
    let mut words = vec![0u128; bytes.len().div_ceil(16)];
    let aligned = zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice());
    aligned[..bytes.len()].copy_from_slice(bytes);
    let row = &aligned[..bytes.len()];
    if let Err(error) = validate_row::<R>(row) {
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        return false;
    }
    let record = R::from_view(R::read_row(row));
    let again = &encoded(0, &record)[1..];
    let mut words = vec![0u128; again.len().div_ceil(16)];
    let aligned = zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice());
    aligned[..again.len()].copy_from_slice(again);
    let again = &aligned[..again.len()];
    validate_row::<R>(again).expect("a row that was written here is one");
    let read = R::from_view(R::read_row(again));
    // NaN is not equal to itself: what is shown is.
    assert_eq!(format!("{read:?}"), format!("{record:?}"));
    true
}

/// What a CSV file has.
#[derive(Debug, Clone, PartialEq, Record)]
pub struct Line {
    id: u64,
    name: String,
    price: Option<f64>,
    day: Date,
    flag: bool,
}

fn csv_samples() -> Vec<Vec<u8>> {
    [
        "id,name,price,day,flag\n1,one,1.5,2024-02-29,true\n2,\"two, \"\"quoted\"\"\",,1970-01-01,false\n",
        "flag,day,price,name,id\r\ntrue,2024-01-01,-0,\"a\nb\",3\r\nfalse,1999-12-31,1e9,é,4",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// What jobs over files run on.
static MEANS: LazyLock<Runtime> = LazyLock::new(|| {
    let plan = Plan::with_segments(16, 64, 4096).expect("the sizes make a plan");
    Runtime::new(plan).expect("the plan's memory is to be had")
});

/// Calls `decode` with a job and the name of a file that has these bytes.
fn with_file<T>(bytes: &[u8], ending: &str, decode: impl FnOnce(Environment, String) -> T) -> T {
    let thread = std::thread::current().id();
    let name = format!("forebay-decoder-{}-{thread:?}.{ending}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, bytes).expect("the temporary directory is writable");
    let environment = Environment::new(MEANS.clone()).with_parallelism(1);
    let decoded = decode(environment, path.display().to_string());
    std::fs::remove_file(&path).expect("it was written above");
    decoded
}

/// Whether the job of a file was done; an error names the file.
fn is_read(result: Result<JobSummary>) -> bool {
    let Err(error) = result else {
        return true;
    };
    let kinds = [
        ErrorKind::User,
        ErrorKind::Config,
        ErrorKind::Corrupt,
        ErrorKind::Io,
    ];
    let message = error.to_string();
    let is_too_long = error.kind() == ErrorKind::Memory
        && ["record.max_size", "needs a window of"]
            .iter()
            .any(|bound| message.contains(bound));
    assert!(kinds.contains(&error.kind()) || is_too_long, "{error:?}");
    assert!(message.contains("forebay-decoder-"), "{error}");
    false
}

/// CSV files, by way of a job: refused with an error that names the file, or read.
pub fn csv_file(bytes: &[u8]) -> bool {
    with_file(bytes, "csv", |environment, path| {
        let source = csv::<Line>(path).split_size(64);
        environment.source("lines", source).blackhole();
        is_read(environment.execute("csv"))
    })
}

fn text_samples() -> Vec<Vec<u8>> {
    [
        "one line\nanother\r\n\n\rlast",
        "é\n日本\n🌊🌊🌊🌊\n",
        "no line end, and longer than a split",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Text files in splits of 16 bytes: read where they are UTF-8, and with replacements whatever they are, as `std` does.
pub fn text_file(bytes: &[u8]) -> bool {
    // Longer lines are over the largest record.
    let bytes = &bytes[..bytes.len().min(2000)];
    with_file(bytes, "txt", |environment, path| {
        let source = text(path).split_size(16);
        environment.source("lines", source.clone()).blackhole();
        let is_accepted = is_read(environment.execute("text"));
        assert_eq!(is_accepted, std::str::from_utf8(bytes).is_ok());
        let lines = environment
            .source("lines", source.not_utf8(NotUtf8::Replace))
            .collect();
        environment.execute("text").expect("any bytes are text");
        let expected: Vec<String> = bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| match line {
                [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] | line => String::from_utf8_lossy(line).into(),
            })
            .collect();
        assert_eq!(lines.take(), expected);
        is_accepted
    })
}

/// What a compressed sample says.
const COMPRESSED: &str = "some lines\nthat were compressed\n";

fn compressed_samples() -> Vec<Vec<u8>> {
    let text = COMPRESSED.as_bytes();
    let length = text.len() as u8;
    let checksum = !text.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    // One block that is stored, in each of the two.
    let gzip = [
        &b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"[..],
        &[1, length, 0, !length, 0xff],
        text,
        &checksum.to_le_bytes(),
        &u32::from(length).to_le_bytes(),
    ];
    let header = (u32::from(length) << 3 | 1).to_le_bytes();
    let zstd = [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, length][..], &header[..3], text];
    vec![
        [&b"g"[..], &gzip.concat()].concat(),
        [&b"g"[..], &gzip.concat(), &gzip.concat()].concat(),
        [&b"z"[..], &zstd.concat()].concat(),
    ]
}

/// Files by gzip (those that begin with `g`) and zstd: refused with an error that names the file, or read.
pub fn compressed_file(bytes: &[u8]) -> bool {
    let Some((form, bytes)) = bytes.split_first() else {
        return false;
    };
    let ending = if *form == b'g' { "gz" } else { "zst" };
    with_file(bytes, ending, |environment, path| {
        let source = text(path).not_utf8(NotUtf8::Replace);
        environment.source("lines", source).blackhole();
        is_read(environment.execute("compressed"))
    })
}

fn binary_samples() -> Vec<Vec<u8>> {
    [0, 1, 5, 700].map(|count| vec![7; count * 16]).to_vec()
}

/// A plain record.
#[derive(Debug, Clone, Copy, PartialEq, Record, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[record(plain)]
pub struct Pair {
    left: u64,
    right: i64,
}

/// Files of plain records: what is no whole number of them is refused, and every bit pattern is one.
pub fn binary_file(bytes: &[u8]) -> bool {
    with_file(bytes, "bin", |environment, path| {
        let environment = environment.with_parallelism(2);
        let source = binary::<Pair>(path).split_size(100);
        let found = environment.source("pairs", source).collect();
        let is_accepted = is_read(environment.execute("binary"));
        assert_eq!(is_accepted, bytes.len().is_multiple_of(16));
        if is_accepted {
            let mut found: Vec<[u8; 16]> = (found.take().iter())
                .map(|pair| *pair.as_bytes().first_chunk().expect("16 bytes"))
                .collect();
            let mut expected = bytes.as_chunks().0.to_vec();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected);
        }
        is_accepted
    })
}

#[cfg(feature = "parquet")]
mod parquet {
    use super::*;
    use forebay::record::List;
    use forebay::sink::{ParquetCodec, ParquetSink, Sink, SinkWriter};
    use forebay::source::{ParquetSource, Subtask, parquet};

    /// Columns with pages of each kind.
    #[derive(Debug, Clone, PartialEq, Record)]
    struct Columns {
        id: u64,
        level: Option<f64>,
        name: String,
        tags: List<Option<u32>>,
        amount: Decimal,
    }

    pub(super) fn samples() -> Vec<Vec<u8>> {
        let name = format!(
            "forebay-sample-{}-{:?}.parquet",
            std::process::id(),
            std::thread::current().id()
        );
        let path = std::env::temp_dir().join(name);
        let codecs = [
            ParquetCodec::None,
            ParquetCodec::Snappy,
            ParquetCodec::Lz4,
            ParquetCodec::Gzip,
        ];
        let mut samples = Vec::new();
        for codec in codecs {
            let sink = ParquetSink::<Columns>::file(&path)
                .decimal_scale(2)
                .codec(codec)
                .row_group_rows(20);
            let subtask = Subtask {
                index: 0,
                parallelism: 1,
            };
            let mut writer = sink.writer(subtask).expect("the file can be made");
            for id in 0..50 {
                let columns = Columns {
                    id,
                    level: (id % 3 > 0).then_some(id as f64 / 4.0),
                    name: format!("name {}", id % 7),
                    tags: (0..id % 4).map(|tag| (tag != 1).then_some(tag as u32)).collect(),
                    amount: Decimal::new(i128::from(id) * 25, 2),
                };
                writer.write(columns.view()).expect("it can be written");
            }
            writer.finish().expect("it can be written");
            samples.push(std::fs::read(&path).expect("it was written"));
            std::fs::remove_file(&path).expect("it was written");
        }
        samples
    }

    /// Parquet files, whole, and what a predicate wants of them, by pages: refused, or read.
    pub fn file(bytes: &[u8]) -> bool {
        let records = |change: &dyn Fn(ParquetSource<Columns>) -> ParquetSource<Columns>| {
            with_file(bytes, "parquet", |environment, path| {
                let environment = environment.with_parallelism(2);
                let source = change(parquet(path).split_size(1));
                let found = environment.source("records", source).collect();
                is_read(environment.execute("parquet")).then(|| found.take())
            })
        };
        let all = records(&|source| source);
        let wanted = Columns::id.lt(30).and(Columns::level.ge(Some(2.0)));
        let some = records(&|source| source.only(wanted.clone()));
        // Statistics may be damaged: then there are fewer than there should be.
        if let (Some(all), Some(some)) = (&all, &some) {
            let most = all.iter().filter(|record| wanted.holds(record.view())).count();
            assert!(some.len() <= most, "{} of {most}", some.len());
        }
        all.is_some()
    }
}

#[cfg(feature = "parquet")]
pub use parquet::file as parquet_file;

fn key_samples() -> Vec<Vec<u8>> {
    fn sample<R: Record>(kind: u8, key: R) -> Vec<u8> {
        let mut bytes = vec![kind];
        itself::<R>().encode_key(key.view(), &mut bytes);
        bytes
    }
    vec![
        sample(0, "a text".to_string()),
        sample(1, (7_u64, "a text".to_string())),
        sample(2, Some(0.5_f64)),
        sample(2, None::<f64>),
        sample(3, mixed(5)),
        sample(4, Event::Tick),
        sample(4, Event::Mixed(mixed(3))),
    ]
}

/// Canonical bytes of keys, as they lie in hash pages and spilled blocks: refused, or decoded to a key whose bytes decode to it.
pub fn key(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((0, key)) => key_of::<String>(key),
        Some((1, key)) => key_of::<(u64, String)>(key),
        Some((2, key)) => key_of::<Option<f64>>(key),
        Some((3, key)) => key_of::<Mixed>(key),
        Some((4, key)) => key_of::<Event>(key),
        _ => false,
    }
}

fn key_of<R: Record + std::fmt::Debug>(bytes: &[u8]) -> bool {
    let field = itself::<R>();
    let Some(decoded) = field.decode_key(bytes) else {
        assert!(field.with_key(bytes, |_| ()).is_none());
        return false;
    };
    let encoded = |key: &R| {
        let mut bytes = Vec::new();
        field.encode_key(key.view(), &mut bytes);
        bytes
    };
    let again = encoded(&decoded);
    let read = field.decode_key(&again).expect("what was encoded here is a key");
    // Keys that are equal are encoded alike: −0.0 as 0.0.
    assert_eq!(encoded(&read), again, "{read:?} {decoded:?}");
    true
}

fn plan_samples() -> Vec<Vec<u8>> {
    let environment = Environment::new(MEANS.clone()).with_parallelism(2);
    environment
        .source("pairs", generate(10, |index| (index, index.to_string())))
        .filter(|pair| pair.0 > 3)
        .key_by(first())
        .count()
        .uid("counts")
        .blackhole();
    let plan = environment.plan("sample").expect("the job has a plan");
    vec![plan.to_json().into_bytes()]
}

/// Plans of jobs as JSON: refused with a `Config` error, or read, and written so that they are read back.
pub fn plan(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    match JobPlan::from_json(text) {
        Ok(plan) => {
            let again = JobPlan::from_json(&plan.to_json()).expect("it was written here");
            assert_eq!(again, plan);
            assert!(plan.explain().starts_with("job \""));
            assert!(plan.to_dot().ends_with("}\n") && plan.to_mermaid().starts_with("flowchart"));
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            false
        }
    }
}
