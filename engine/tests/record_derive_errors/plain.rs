//! Plain records whose bytes cannot be rows.

use forebay::record::Record;

#[derive(Clone, Copy, Record)]
#[repr(C)]
#[record(plain)]
pub struct NoBytes { //~ Consider adding `#[derive(FromBytes)]` to `NoBytes`
    a: u64,
}
