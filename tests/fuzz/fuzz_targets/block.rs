//! Fuzzes the decoder of fragments of spilled blocks.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forebay_tests::decoders::block(bytes);
});
