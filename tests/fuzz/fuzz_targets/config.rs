//! Fuzzes the decoder of configuration files.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forebay_tests::decoders::config(bytes);
});
