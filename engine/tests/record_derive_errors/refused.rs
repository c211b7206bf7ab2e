//! Refused by the derive itself.

use forebay::record::Record;
use std::collections::HashMap;

#[derive(Record)]
struct Tagged {
    id: u64,
    tags: HashMap<String, u64>, //~ field `tags`: `HashMap<String, u64>` cannot be stored in a record; use one record per entry
    words: Vec<String>, //~ field `words`: `Vec<String>` cannot be stored in a record; use an array `[T; N]`, `Vec<u8>` for bytes, or one record per element
    count: usize, //~ field `count`: `usize` cannot be stored in a record; use `u64` or `u32`: its size differs between machines
    text: &'static str, //~ field `text`: `&'static str` cannot be stored in a record; use `String`
    maybe: Option<Box<u64>>, //~ field `maybe`: `Option<Box<u64>>` cannot be stored in a record; use what it holds
    letters: [char; 4], //~ field `letters`: `[char; 4]` cannot be stored in a record; use `u32` or `String`
    call: fn(u64) -> u64, //~ cannot be stored in a record; use a number
    since: std::time::SystemTime, //~ field `since`: `std::time::SystemTime` cannot be stored in a record; use `Timestamp`
    fine: Vec<u8>,
}

#[derive(Record)]
struct Point(u64, (i8, isize)); //~ field `1`: `(i8, isize)` cannot be stored in a record; use `i64` or `i32`

#[derive(Record)]
struct Generic<T> { //~ a record has no parameters: all rows of `Generic` have one layout
    value: T,
}

#[derive(Record)]
struct Borrowed<'a> { //~ a record has no parameters
    id: &'a u64, //~ field `id`: `&'a u64` cannot be stored in a record; use what it refers to
}

#[derive(Record)]
enum Nothing {} //~ an enum record has 1 to 256 variants, not 0

#[derive(Record)]
union Either { //~ a union cannot be a record
    a: u64,
    b: i64,
}

#[derive(Record)]
enum Event {
    Words(String),
    Set { members: std::collections::BTreeSet<u64> }, //~ field `members`: `std::collections::BTreeSet<u64>` cannot be stored in a record; use one record per element
}

#[derive(Record)]
#[record(plain)] //~ a plain record has `#[repr(C)]`
struct NotC {
    a: u64,
}

#[derive(Record)]
#[record(plain)] //~ only a struct can be a plain record
#[repr(C)]
enum PlainEnum {
    A,
}

#[derive(Record)]
#[record(color = "red")] //~ a record has the attributes `plain`, `name = "..."` and `crate = "..."`
struct Colored {
    #[record(name = "b")] //~ a field of a record has the attribute `constant = "..."`
    a: u64,
}
