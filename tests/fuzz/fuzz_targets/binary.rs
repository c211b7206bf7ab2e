//! Fuzzes the reader of files of plain records.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forebay_tests::decoders::binary_file(bytes);
});
