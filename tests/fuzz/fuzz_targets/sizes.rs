//! Fuzzes the decoder of sizes, durations and assignments.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forebay_tests::decoders::sizes(bytes);
});
