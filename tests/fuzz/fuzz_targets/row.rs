//! Fuzzes the decoder of rows from elsewhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forebay_tests::decoders::row(bytes);
});
