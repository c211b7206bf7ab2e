//! Refused by the compiler, in our words.

use forebay::record::Record;

pub struct Money(u64);

#[derive(Record)] //~ `Money` cannot be stored in a record
pub struct Account { //~ `Money` cannot be stored in a record
    id: u64,
    balance: Money, //~ `Money` cannot be stored in a record
    limit: Option<Money>, //~ put `#[derive(Record)]` on a struct or enum of your own
}

#[derive(Record)] //~ `Money` cannot be stored in a record
pub enum Change {
    Paid(Money), //~ `Money` cannot be stored in a record
    Closed { at: u64 },
}

pub fn key_of<R: Record>(_: R) {}

pub fn no_record() {
    key_of(Money(7)); //~ a record is an integer from `u8` to `u128`
}
