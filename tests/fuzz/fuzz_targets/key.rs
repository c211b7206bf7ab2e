//! Fuzzes the decoder of keys' canonical bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forebay_tests::decoders::key(bytes);
});
