//! Fuzzes the decoder of files by gzip and zstd.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    forebay_tests::decoders::compressed_file(bytes);
});
