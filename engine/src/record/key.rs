//! [`KeyFields`]: a key, which is a field or a tuple of fields of a record.
//!
//! # Interface
//! [`KeyFields::key_view`] of a view; canonical bytes to store and compare ([`KeyFields::key_bytes`], back by
//! [`KeyFields::decode_key`] or [`KeyFields::with_key`]); [`KeyFields::hash`]. An integer key of up to 64 bits
//! ([`KeyFields::as_u64_column`]) is its own 64 bits instead: [`KeyFields::key_u64`], [`KeyFields::key_from_u64`].
//!
//! # Invariants
//! I1. Equal keys have equal canonical bytes, other keys others; tested in `engine/tests/record_keys.rs`.
//! I2. The hash of a key depends on its value alone, never on which row or view it came from.

use std::any::TypeId;

use forebay_memory::hash::{hash_bytes, hash_u64};

use super::field::{BytesColumn, Field, IntegerColumn};
use super::normalized::{OrderPart, SortFields};
use super::row::Record;

/// A field of `R`, or a tuple of up to 8 of them, used as a key.
///
/// ```
/// use forebay::record::{KeyFields, Record, first, third};
///
/// type Trade = (u64, f64, String);
/// let trade: Trade = (7, 1.5, "EUR".into());
/// let key = (first::<Trade>(), third::<Trade>());
/// assert_eq!(key.key(trade.view()), (7, "EUR".to_string()));
/// assert_eq!(key.describe(), [".0", ".2"]);
/// ```
pub trait KeyFields<R: Record>: SortFields<R> {
    /// The key as a record: a field's type, or a tuple of them.
    type Key: Record;

    /// The key of a view.
    fn key_view<'a>(&self, view: R::View<'a>) -> <Self::Key as Record>::View<'a>;

    /// The names of its fields.
    fn describe(&self) -> Vec<String>;

    /// What tells it from other keys of the same records: those with the same identity have the same hashes.
    fn identity(&self) -> KeyIdentity {
        KeyIdentity {
            key: TypeId::of::<Self::Key>(),
            fields: self.order(),
        }
    }

    /// Where the key lies in a row, if it is one integer (or `bool`, timestamp, date) of up to 64 bits.
    fn as_u64_column(&self) -> Option<IntegerColumn> {
        None
    }

    /// Whether a key, or a part of it, can be null.
    const NULLABLE: bool;

    /// Whether the key of a view is null, or a part of it that is a field of its own: such keys are like no other in a join.
    fn has_null(&self, view: R::View<'_>) -> bool;

    /// Where the key's canonical bytes lie in a row, if it is one string or bytes.
    fn as_bytes_column(&self) -> Option<BytesColumn> {
        None
    }

    /// The key of a view, owned.
    #[inline]
    fn key(&self, view: R::View<'_>) -> Self::Key {
        Self::Key::from_view(self.key_view(view))
    }

    /// Appends the key's canonical bytes.
    #[inline]
    fn encode_key(&self, view: R::View<'_>, out: &mut Vec<u8>) {
        Self::Key::encode_key(self.key_view(view), true, out);
    }

    /// The key's canonical bytes: in `scratch`, or where they are if they lie in one piece.
    #[inline(always)]
    fn key_bytes<'a>(&self, view: R::View<'a>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        Self::Key::key_bytes(self.key_view(view), scratch)
    }

    /// The key of canonical bytes; nothing where they are none.
    fn decode_key(&self, mut bytes: &[u8]) -> Option<Self::Key> {
        Self::Key::decode_key(&mut bytes, true).filter(|_| bytes.is_empty())
    }

    /// What `then` makes of the key of canonical bytes, without copying strings; nothing where they are none.
    fn with_key<T>(
        &self,
        mut bytes: &[u8],
        then: impl FnOnce(<Self::Key as Record>::View<'_>) -> T,
    ) -> Option<T> {
        if Self::Key::KEY_VIEWS {
            let view = Self::Key::decode_key_view(&mut bytes, true)?;
            bytes.is_empty().then(|| then(view))
        } else {
            self.decode_key(bytes).map(|key| then(key.view()))
        }
    }

    /// The 64 bits of an integer key: its value, extended by its sign if it is signed.
    ///
    /// # Panics
    /// When the key is not one integer of up to 64 bits.
    #[inline(always)]
    fn key_u64(&self, view: R::View<'_>) -> u64 {
        Self::Key::to_u64(self.key_view(view))
    }

    /// The integer key whose 64 bits these are.
    ///
    /// # Panics
    /// When the key is not one integer of up to 64 bits.
    #[inline(always)]
    fn key_from_u64(&self, bits: u64) -> Self::Key {
        Self::Key::from_u64(bits)
    }

    /// The key's hash: `hash_u64` of an integer key's 64 bits, `hash_bytes` of other keys' canonical bytes.
    #[inline(always)]
    fn hash(&self, view: R::View<'_>, scratch: &mut Vec<u8>) -> u64 {
        if Self::Key::INTEGER.is_some() {
            hash_u64(self.key_u64(view))
        } else {
            hash_bytes(self.key_bytes(R::shorten(view), scratch))
        }
    }
}

/// Which key of a record type it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyIdentity {
    key: TypeId,
    fields: Vec<OrderPart>,
}

impl<R: Record, T: Record> KeyFields<R> for Field<R, T> {
    type Key = T;
    const NULLABLE: bool = T::NULLABLE;

    #[inline(always)]
    fn has_null(&self, view: R::View<'_>) -> bool {
        T::NULLABLE && T::is_null(self.get(view))
    }

    #[inline(always)]
    fn key_view<'a>(&self, view: R::View<'a>) -> T::View<'a> {
        self.get(view)
    }

    fn describe(&self) -> Vec<String> {
        vec![self.label()]
    }

    fn as_u64_column(&self) -> Option<IntegerColumn> {
        self.integer_layout()
    }

    fn as_bytes_column(&self) -> Option<BytesColumn> {
        self.bytes_layout()
    }
}

/// The key that all records share: there is nothing of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoKey;

impl<R: Record> SortFields<R> for NoKey {
    fn encode_normalized(&self, _: R::View<'_>, _: &mut Vec<u8>) {}

    fn describe_order(&self) -> Vec<String> {
        Vec::new()
    }

    fn order(&self) -> Vec<OrderPart> {
        Vec::new()
    }
}

impl<R: Record> KeyFields<R> for NoKey {
    type Key = ();
    const NULLABLE: bool = false;

    fn has_null(&self, _: R::View<'_>) -> bool {
        false
    }

    fn key_view<'a>(&self, _: R::View<'a>) -> <() as Record>::View<'a> {}

    fn describe(&self) -> Vec<String> {
        Vec::new()
    }
}

macro_rules! tuple {
    ($($type:ident $index:tt),*) => {
        impl<R: Record, $($type: KeyFields<R>),*> KeyFields<R> for ($($type,)*) {
            type Key = ($($type::Key,)*);
            const NULLABLE: bool = $($type::NULLABLE)||*;

            #[inline(always)]
            fn has_null(&self, view: R::View<'_>) -> bool {
                $($type::NULLABLE && self.$index.has_null(R::shorten(view)))||*
            }

            #[inline(always)]
            fn key_view<'a>(&self, view: R::View<'a>) -> <Self::Key as Record>::View<'a> {
                ($(self.$index.key_view(view),)*)
            }

            fn describe(&self) -> Vec<String> {
                let mut names = Vec::new();
                $(names.extend(self.$index.describe());)*
                names
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
