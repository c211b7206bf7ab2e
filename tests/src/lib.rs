//! Test support shared by the test binaries.
