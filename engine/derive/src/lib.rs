//! `#[derive(Record)]` for Forebay: rows, views and field constants for structs and enums.
//!
//! - `input`: what the user wrote, or what is wrong with it;
//! - `fields`: code for a list of fields, of a struct or of a variant;
//! - `structs`, `enums`, `plain`: the three forms of a record.

mod input;
mod fields;
mod structs;
mod enums;
mod plain;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

use crate::input::{Form, Input};

/// Derives `Record` for a struct or an enum whose fields are records, with a view and a constant per field.
///
/// For `struct Bid { auction: u64, channel: String }`:
/// - `BidView<'a>`, a `Copy` struct with the same fields by value or borrowed, is what user functions see of a
///   row: `bid.auction`, `bid.channel` (a `&str`);
/// - `Bid::auction` and `Bid::channel` are `Field` constants: keys, orders and aggregates are given as these.
///
/// Of an enum, `EventView<'a>` is an enum of the variants' views. A row is a tag, the variant's number, and the
/// variant's fields, so a row takes what its own variant needs (unless no variant has a string or bytes: then
/// all rows are as large as the largest, so that rows are of fixed size).
///
/// # Attributes
/// - `#[record(plain)]`: the struct's own bytes are its row, its view is `&Self`, and a batch of rows is
///   `&[Self]`. It has `#[repr(C)]` and derives zerocopy's `FromBytes`, `IntoBytes`, `Immutable` and
///   `KnownLayout`, and `Clone`, `Copy`.
/// - `#[record(name = "...")]`: the record's name in schemas and plans, instead of the type's.
/// - `#[record(crate = "...")]`: the path of the crate `forebay`, where it is not `::forebay`.
/// - `#[record(constant = "...")]` on a field: the name of its constant, where the type has an associated
///   function of the field's name already. Fields of tuple structs have the constants `_0`, `_1`, and so on.
#[proc_macro_derive(Record, attributes(record))]
pub fn derive_record(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    let expanded = Input::new(&input).map(|input| match &input.form {
        Form::Plain(fields) => plain::expand(&input, fields),
        Form::Struct(fields) => structs::expand(&input, fields),
        Form::Enum(variants) => enums::expand(&input, variants),
    });
    expanded.unwrap_or_else(|error| error.to_compile_error()).into()
}
