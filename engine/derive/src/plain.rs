//! A struct whose own bytes are its row: its view is a reference, and a batch of its rows is a slice.

use proc_macro2::TokenStream;
use quote::quote;

use crate::input::{Field, FieldList, Input};
use crate::structs::constants;

/// The `Record` and `PlainRecord` implementations and the field constants of the struct.
pub fn expand(input: &Input, list: &FieldList) -> TokenStream {
    let Input {
        ident, name, forebay, ..
    } = input;
    let layout_type = list.layout_type();
    let count = list.fields.len();
    let offsets = list.each(|_, Field { member, .. }, _| quote!(::core::mem::offset_of!(#ident, #member)));
    let checks = list.each(|_, Field { ty, .. }, record| {
        quote! {
            assert!(
                !#record::VARIES && !#record::NULLABLE && #record::SIZE == ::core::mem::size_of::<#ty>(),
                "a field of a plain record is a number, a timestamp, a date, an array of these, or a plain record",
            );
        }
    });
    let encode_key = list.each(|index, Field { member, .. }, record| {
        let last = index + 1 == count;
        quote!(#record::encode_key(#record::view(&view.#member), #last && last, out);)
    });
    let encode_normalized = list.each(|_, Field { member, .. }, record| {
        quote!(#record::encode_normalized(#record::view(&view.#member), out);)
    });
    let decoded = list.construct(&quote!(#ident), list.decode_key(quote!(decode_key)));
    let data_type = list.data_type(name);
    let key_sizes = list.each(|_, _, record| quote!(#record::KEY_SIZE));
    let constants = constants(input, list, &quote!(view));

    quote! {
        #[allow(unused_variables, clippy::all)]
        const _: () = {
            use #forebay::record::derive as __record;

            #[allow(non_upper_case_globals)]
            const layout: #layout_type = __record::Layout {
                offsets: [#(#offsets),*],
                null_bits: [0; #count],
                fields_end: ::core::mem::size_of::<#ident>(),
                size: ::core::mem::size_of::<#ident>(),
                align: ::core::mem::align_of::<#ident>(),
            };

            const _: () = {
                assert!(
                    ::core::mem::align_of::<#ident>() <= 8,
                    "a plain record's alignment is at most 8, that of rows: use [u8; 16] for a 128-bit integer, or remove `plain`",
                );
                assert!(
                    ::core::mem::size_of::<#ident>() > 0,
                    "a plain record has at least one byte: remove `plain`",
                );
                #(#checks)*
            };

            #[automatically_derived]
            impl __record::PlainRecord for #ident {}

            #[automatically_derived]
            impl __record::Record for #ident {
                type View<'a> = &'a #ident;
                const SIZE: usize = layout.size;
                const ALIGN: usize = layout.align;
                const VARIES: bool = false;
                const ROW_ALIGN: usize = layout.align;
                const KEY_VIEWS: bool = false;
                const KEY_SIZE: ::core::option::Option<usize> = __record::key_size(&[#(#key_sizes),*]);

                fn data_type() -> __record::DataType {
                    #data_type
                }

                #[inline(always)]
                fn view(&self) -> &Self {
                    self
                }

                #[inline(always)]
                fn from_view(view: &Self) -> Self {
                    *view
                }

                #[inline(always)]
                fn shorten<'long: 'short, 'short>(view: &'long Self) -> &'short Self {
                    view
                }

                #[inline(always)]
                fn write_part(view: &Self, row: &mut [u8], at: usize, tail: usize) -> usize {
                    __record::write_plain(view, row, at);
                    tail
                }

                #[inline(always)]
                fn read_part(row: &[u8], at: usize) -> &Self {
                    __record::read_plain(row, at)
                }

                fn validate_part(row: &[u8], at: usize) -> __record::Result<()> {
                    ::core::result::Result::Ok(())
                }

                #[inline]
                fn encode_key(view: &Self, last: bool, out: &mut ::std::vec::Vec<u8>) {
                    #(#encode_key)*
                }

                #[inline]
                fn decode_key(bytes: &mut &[u8], last: bool) -> ::core::option::Option<Self> {
                    ::core::option::Option::Some(#decoded)
                }

                fn decode_key_view<'a>(bytes: &mut &'a [u8], last: bool) -> ::core::option::Option<&'a Self> {
                    ::core::option::Option::None
                }

                #[inline]
                fn encode_normalized(view: &Self, out: &mut ::std::vec::Vec<u8>) {
                    #(#encode_normalized)*
                }
            }

            #constants
        };
    }
}
