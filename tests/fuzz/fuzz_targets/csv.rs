//! Fuzzes the decoder of CSV files.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forebay_tests::decoders::csv_file(bytes);
});
