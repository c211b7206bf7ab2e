//! The format of a spilled block, and the small reference that finds it again.
//!
//! # Interface
//! `encode_header` when a fragment is placed; [`decode_block_fragment`] when it is read; [`BlockRef`] in between.
//!
//! # Layout
//! A block is one fragment or, where its payload is larger than a fragment may be, several. The first starts at
//! any multiple of 64 bytes; each of the others at the first multiple of 4 KiB behind the one before. A fragment
//! is a header and the stored bytes. Integers are little endian; 8 bytes a line:
//! ```text
//!  0  magic "FBSP" | version u8 | codec u8 | fragment number u16
//!  8  raw bytes u32 | stored bytes u32
//! 16  checksum u64: XXH3 of the stored bytes, seeded with XXH3 of the header with this field zero
//! 24  sequence u32 | raw bytes of the whole block u32
//! 32  owner u64: XXH3 of the operator's name
//! 40  extent u32 | offset of this fragment in its extent u32
//! 48  reserved, zero
//! 56  reserved, zero
//! ```
//!
//! # Invariants
//! I1. A fragment is handed out only after its checksum, and then owner-independent identity (extent, offset,
//!     sequence, number), matched the reference: stale, torn, misplaced and flipped bytes are all told apart
//!     from data. Asserted by [`decode_block_fragment`].
//! I2. The decoder reads only bytes that the caller's slice holds, and never panics: see the tests.

use std::fmt;
use std::ops::Range;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The bytes of a fragment's header.
pub const HEADER_BYTES: usize = 64;

const MAGIC: [u8; 4] = *b"FBSP";
const VERSION: u8 = 1;
/// The codec number of a payload stored as it is.
pub(crate) const STORED_RAW: u8 = 0;
/// The codec number of an LZ4 block.
pub(crate) const STORED_LZ4: u8 = 1;

/// Where a block is: plain data of 20 bytes, so that tables can keep it in their pages.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct BlockRef {
    extent: U32,
    offset: U32,
    stored: U32,
    raw: U32,
    sequence: U32,
}

impl BlockRef {
    pub(crate) fn new(extent: u32, offset: u32, stored: u32, raw: u32, sequence: u32) -> Self {
        BlockRef {
            extent: extent.into(),
            offset: offset.into(),
            stored: stored.into(),
            raw: raw.into(),
            sequence: sequence.into(),
        }
    }

    /// The extent that holds the block.
    pub fn extent(&self) -> u32 {
        self.extent.get()
    }

    /// Where the block starts in its extent, in bytes.
    pub fn offset(&self) -> u32 {
        self.offset.get()
    }

    /// The bytes the block spans in its extent, headers and inner padding included.
    pub fn stored_bytes(&self) -> usize {
        self.stored.get() as usize
    }

    /// The payload's size in bytes: what a read needs room for.
    pub fn raw_bytes(&self) -> usize {
        self.raw.get() as usize
    }

    /// The block's number in its store.
    pub fn sequence(&self) -> u32 {
        self.sequence.get()
    }

    /// Where the block ends in its extent.
    pub(crate) fn end(&self) -> usize {
        self.offset() as usize + self.stored_bytes()
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    version: u8,
    codec: u8,
    fragment: U16,
    raw: U32,
    stored: U32,
    checksum: U64,
    sequence: U32,
    block_raw: U32,
    owner: U64,
    extent: U32,
    offset: U32,
    reserved: [u8; 16],
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);
const _: () = assert!(size_of::<BlockRef>() == 20);

impl Header {
    fn checksum_of(mut self, stored: &[u8]) -> u64 {
        self.checksum = U64::ZERO;
        xxh3_64_with_seed(stored, xxh3_64(self.as_bytes()))
    }
}

/// What a fragment's header says besides its checksum.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FragmentInfo {
    pub codec: u8,
    pub fragment: u16,
    pub raw: u32,
    pub sequence: u32,
    pub block_raw: u32,
    pub owner: u64,
    pub extent: u32,
    pub offset: u32,
}

/// Writes the header of a fragment whose stored bytes already follow it: `place` is header and stored bytes.
pub(crate) fn encode_header(place: &mut [u8], info: FragmentInfo) {
    let (head, stored) = place.split_at_mut(HEADER_BYTES);
    let mut header = Header {
        magic: MAGIC,
        version: VERSION,
        codec: info.codec,
        fragment: info.fragment.into(),
        raw: info.raw.into(),
        stored: (stored.len() as u32).into(),
        checksum: U64::ZERO,
        sequence: info.sequence.into(),
        block_raw: info.block_raw.into(),
        owner: info.owner.into(),
        extent: info.extent.into(),
        offset: info.offset.into(),
        reserved: [0; 16],
    };
    header.checksum = header.checksum_of(stored).into();
    head.copy_from_slice(header.as_bytes());
}

/// Why a fragment cannot be handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The slice ends before the fragment does: `needed` bytes from its start are wanted.
    Short {
        /// Bytes from the fragment's start to its end.
        needed: usize,
    },
    /// A field of the header is not what the reference says.
    Field {
        /// The field's name.
        name: &'static str,
        /// What the header has.
        found: u64,
        /// What it should have.
        expected: u64,
    },
    /// The stored bytes do not have the header's checksum.
    Checksum {
        /// The checksum of the bytes that were read.
        found: u64,
        /// The checksum in the header.
        expected: u64,
    },
    /// The stored bytes have the right checksum but are no LZ4 block of the stated size.
    Codec,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Short { needed } => write!(f, "the block needs {needed} bytes, fewer are there"),
            Damage::Field {
                name,
                found,
                expected,
            } => write!(f, "{name} {found:x} is not {expected:x}"),
            Damage::Checksum { found, expected } => write!(f, "checksum {found:016x} is not {expected:016x}"),
            Damage::Codec => f.write_str("the LZ4 data does not decode to its stated size"),
        }
    }
}

/// Verifies the fragment of `block` at the start of `bytes`, and writes its payload to the start of `into`.
///
/// `offset` is where `bytes` starts in the extent, `fragment` the number of the fragment in its block. Returns
/// the payload's length and the bytes of the fragment, header included.
///
/// # Errors
/// What is wrong with it; `into` may have been written to.
pub fn decode_block_fragment(
    bytes: &[u8],
    block: &BlockRef,
    offset: u32,
    fragment: u16,
    into: &mut [u8],
) -> Result<(usize, usize), Damage> {
    let (header, stored) = verify(bytes, block, offset, fragment)?;
    let raw = header.raw.get() as usize;
    let Some(into) = into.get_mut(..raw) else {
        return Err(Damage::Field {
            name: "raw length",
            found: raw as u64,
            expected: into.len() as u64,
        });
    };
    match header.codec {
        STORED_RAW if raw == stored.len() => into.copy_from_slice(stored),
        STORED_RAW => check("raw length", raw as u64, stored.len() as u64)?,
        STORED_LZ4 => match lz4_flex::block::decompress_into(stored, into) {
            Ok(length) if length == raw => {}
            _ => return Err(Damage::Codec),
        },
        codec => {
            return Err(Damage::Field {
                name: "codec",
                found: codec.into(),
                expected: STORED_LZ4.into(),
            });
        }
    }
    Ok((raw, HEADER_BYTES + stored.len()))
}

/// Verifies a block that is all of `bytes` and one fragment; where its payload lies in them, if it is stored as it is.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn payload_in_place(
    bytes: &[u8],
    block: &BlockRef,
    offset: u32,
) -> Result<Option<Range<usize>>, Damage> {
    let (header, stored) = verify(bytes, block, offset, 0)?;
    let is_whole = stored.len() == block.raw_bytes() && header.raw.get() as usize == stored.len();
    let place = HEADER_BYTES..HEADER_BYTES + stored.len();
    Ok((header.codec == STORED_RAW && is_whole).then_some(place))
}

fn check(name: &'static str, found: u64, expected: u64) -> Result<(), Damage> {
    match found == expected {
        true => Ok(()),
        false => Err(Damage::Field {
            name,
            found,
            expected,
        }),
    }
}

/// The header and the stored bytes of a fragment, if they are what `block` refers to.
fn verify<'a>(
    bytes: &'a [u8],
    block: &BlockRef,
    offset: u32,
    fragment: u16,
) -> Result<(Header, &'a [u8]), Damage> {
    let Ok((header, rest)) = Header::read_from_prefix(bytes) else {
        return Err(Damage::Short { needed: HEADER_BYTES });
    };
    check(
        "magic",
        u32::from_be_bytes(header.magic).into(),
        u32::from_be_bytes(MAGIC).into(),
    )?;
    check("version", header.version.into(), VERSION.into())?;
    let stored_bytes = header.stored.get() as usize;
    // A damaged length must not make the caller read further than the block's own span.
    if stored_bytes > (block.stored_bytes()).saturating_sub(HEADER_BYTES) {
        return Err(Damage::Field {
            name: "stored length",
            found: stored_bytes as u64,
            expected: block.stored_bytes().saturating_sub(HEADER_BYTES) as u64,
        });
    }
    let Some(stored) = rest.get(..stored_bytes) else {
        return Err(Damage::Short {
            needed: HEADER_BYTES + stored_bytes,
        });
    };
    let found = header.checksum_of(stored);
    if found != header.checksum.get() {
        return Err(Damage::Checksum {
            found,
            expected: header.checksum.get(),
        });
    }
    check("sequence", header.sequence.get().into(), block.sequence().into())?;
    check("fragment", header.fragment.get().into(), fragment.into())?;
    check("extent", header.extent.get().into(), block.extent().into())?;
    check("offset", header.offset.get().into(), offset.into())?;
    check(
        "block length",
        header.block_raw.get().into(),
        block.raw_bytes() as u64,
    )?;
    Ok((header, stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(payload: &[u8], codec: u8, raw: usize) -> (Vec<u8>, BlockRef) {
        let mut place = vec![0; HEADER_BYTES];
        place.extend_from_slice(payload);
        let info = FragmentInfo {
            codec,
            fragment: 0,
            raw: raw as u32,
            sequence: 9,
            block_raw: raw as u32,
            owner: 1,
            extent: 3,
            offset: 128,
        };
        encode_header(&mut place, info);
        let block = BlockRef::new(3, 128, place.len() as u32, raw as u32, 9);
        (place, block)
    }

    #[test]
    fn a_fragment_comes_back() {
        let (bytes, block) = fragment(b"hello", STORED_RAW, 5);
        let mut into = [0; 8];
        assert_eq!(
            decode_block_fragment(&bytes, &block, 128, 0, &mut into),
            Ok((5, 69))
        );
        assert_eq!(&into[..5], b"hello");
        let raw = vec![7u8; 5000];
        let (bytes, block) = fragment(&lz4_flex::block::compress(&raw), STORED_LZ4, raw.len());
        let mut into = vec![0; 5000];
        assert_eq!(
            decode_block_fragment(&bytes, &block, 128, 0, &mut into),
            Ok((5000, bytes.len()))
        );
        assert_eq!(into, raw);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (bytes, block) = fragment(b"some payload", STORED_RAW, 12);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut into = [0; 64];
            assert!(
                decode_block_fragment(&damaged, &block, 128, 0, &mut into).is_err(),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn a_valid_block_in_the_wrong_place_is_found() {
        let (bytes, block) = fragment(b"some payload", STORED_RAW, 12);
        let mut into = [0; 64];
        let stale = BlockRef::new(3, 128, 76, 12, 10);
        assert_eq!(
            decode_block_fragment(&bytes, &stale, 128, 0, &mut into),
            Err(Damage::Field {
                name: "sequence",
                found: 9,
                expected: 10
            })
        );
        assert!(decode_block_fragment(&bytes, &block, 192, 0, &mut into).is_err());
        assert!(decode_block_fragment(&bytes, &block, 128, 1, &mut into).is_err());
    }

    /// What a fuzzer would find: random bytes, damaged fragments, and headers of random fields whose checksum is
    /// right, so that what comes behind the checksum is reached too.
    #[test]
    fn no_input_makes_the_decoder_panic() {
        let mut state = 0x5eed_u64;
        let mut random = || {
            state = state
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 32) as u32
        };
        let raw: Vec<u8> = (0..3000u32).map(|at| (at / 9) as u8).collect();
        let (valid, block) = fragment(&lz4_flex::block::compress(&raw), STORED_LZ4, raw.len());
        let mut into = vec![0; 4000];
        let mut decoded = 0;
        for round in 0..100_000 {
            let mut bytes = valid.clone();
            let mut block = block;
            match round % 4 {
                0 => bytes.iter_mut().for_each(|byte| *byte = random() as u8),
                1 => bytes.truncate(random() as usize % (valid.len() + 1)),
                2 => {
                    let at = random() as usize % bytes.len();
                    bytes[at] = random() as u8;
                }
                _ => {
                    // Sound checksums over damaged headers, lengths and LZ4 data.
                    let mut header = Header::read_from_prefix(&bytes).unwrap().0;
                    match random() % 6 {
                        0 => header.raw = (random() % 5000).into(),
                        1 => header.codec = random() as u8 % 3,
                        2 => header.fragment = (random() as u16 % 3).into(),
                        3 => bytes.truncate(HEADER_BYTES + random() as usize % (valid.len() - HEADER_BYTES)),
                        4 => block = BlockRef::new(3, 128, random() % 9000, random() % 5000, 9),
                        _ => {
                            let at = HEADER_BYTES + random() as usize % (bytes.len() - HEADER_BYTES);
                            bytes[at] = random() as u8;
                        }
                    }
                    header.stored = (bytes.len() as u32 - HEADER_BYTES as u32).into();
                    header.checksum = header.checksum_of(&bytes[HEADER_BYTES..]).into();
                    bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
                }
            }
            let room = random() as usize % into.len();
            if let Ok((length, stored)) = decode_block_fragment(&bytes, &block, 128, 0, &mut into[..room]) {
                assert!(length <= room && stored <= bytes.len(), "round {round}");
                assert!(round % 4 > 0, "round {round}: random bytes passed for a block");
                decoded += 1;
            }
        }
        assert!(decoded > 100, "some inputs are sound: {decoded}");
    }
}
