//! Fuzzes the decoder of text files.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forebay_tests::decoders::text_file(bytes);
});
