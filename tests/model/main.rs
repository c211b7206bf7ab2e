//! Decoders on damaged input.
