//! Fuzzes the reader of Parquet files: footers, page indexes, pages.
#![no_main]

use std::panic::{set_hook, take_hook};
use std::sync::Once;

/// Panics of the Parquet library are its answer to some damage, which the engine turns into an error: only others are findings.
fn pass_over_panics_of_the_library() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            let file = panic.location().map_or("", |place| place.file());
            if !["/parquet-", "/arrow-", "/bytes-"].iter().any(|library| file.contains(library)) {
                before(panic);
            }
        }));
    });
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    pass_over_panics_of_the_library();
    forebay_tests::decoders::parquet_file(bytes);
});
