//! Fuzzes the decoder of plans of jobs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forebay_tests::decoders::plan(bytes);
});
