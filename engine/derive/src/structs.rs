//! A struct with a view of its own.

use proc_macro2::TokenStream;
use quote::quote;

use crate::input::{Field, FieldList, Input, Style};

/// The view, the `Record` implementation and the field constants of the struct.
pub fn expand(input: &Input, list: &FieldList) -> TokenStream {
    let Input {
        ident,
        vis,
        name,
        forebay,
        ..
    } = input;
    let view = input.view();
    // A lifetime that nothing uses is an error.
    let life = (!list.fields.is_empty()).then(|| quote!(<'a>));
    let declaration = list.declaration(input, &format!("[`{ident}`]"), true);
    let semicolon = (list.style != Style::Named).then(|| quote!(;));
    let docs = format!("A borrowed [`{ident}`]: what functions see of its rows.");

    let layout = list.layout();
    let bounds = list.bounds();
    let layout_type = list.layout_type();
    let view_pattern = list.pattern(&quote!(#view));
    let to_view = list.construct(
        &quote!(#view),
        list.each(|_, Field { member, .. }, record| quote!(#record::view(&self.#member))),
    );
    let owned = list.construct(
        &quote!(#ident),
        list.each(|_, Field { member, .. }, record| quote!(#record::from_view(view.#member))),
    );
    let shortened = list.construct(
        &quote!(#view),
        list.each(|_, Field { member, .. }, record| quote!(#record::shorten(view.#member))),
    );
    let read = list.construct(&quote!(#view), list.read());
    let decoded = list.construct(&quote!(#ident), list.decode_key(quote!(decode_key)));
    let decoded_view = list.construct(&quote!(#view), list.decode_key(quote!(decode_key_view)));
    let (tail_after, write, validate) = (list.tail_after(), list.write(), list.validate());
    let (encode_key, encode_normalized) = (list.encode_key(), list.encode_normalized());
    let data_type = list.data_type(name);
    let varies = list.any(quote!(VARIES));
    let key_views = list.all(quote!(KEY_VIEWS));
    let row_align = list.largest(quote!(ROW_ALIGN));
    let key_sizes = list.each(|_, _, record| quote!(#record::KEY_SIZE));
    let constants = constants(input, list, &quote!(view));

    quote! {
        #[doc = #docs]
        #[automatically_derived]
        #[allow(dead_code)]
        #[derive(
            ::core::clone::Clone,
            ::core::marker::Copy,
            ::core::fmt::Debug,
            ::core::cmp::PartialEq,
        )]
        #vis struct #view #life #declaration #semicolon

        #[allow(unused_variables, clippy::all)]
        const _: () = {
            use #forebay::record::derive as __record;

            #[allow(non_upper_case_globals)]
            const layout: #layout_type = #layout;

            #[automatically_derived]
            impl __record::Record for #ident #bounds {
                type View<'a> = #view #life;
                const SIZE: usize = layout.size;
                const ALIGN: usize = layout.align;
                const VARIES: bool = #varies;
                const ROW_ALIGN: usize = #row_align;
                const KEY_VIEWS: bool = #key_views;
                const KEY_SIZE: ::core::option::Option<usize> = __record::key_size(&[#(#key_sizes),*]);

                fn data_type() -> __record::DataType {
                    #data_type
                }

                #[inline(always)]
                fn view(&self) -> Self::View<'_> {
                    #to_view
                }

                #[inline]
                fn from_view(view: Self::View<'_>) -> Self {
                    #owned
                }

                #[inline(always)]
                fn shorten<'long: 'short, 'short>(view: Self::View<'long>) -> Self::View<'short> {
                    #shortened
                }

                #[inline(always)]
                fn tail_after(view: Self::View<'_>, tail: usize) -> usize {
                    let #view_pattern = view;
                    #tail_after
                    tail
                }

                #[inline(always)]
                fn write_part(view: Self::View<'_>, row: &mut [u8], at: usize, tail: usize) -> usize {
                    let #view_pattern = view;
                    #write
                    tail
                }

                #[inline(always)]
                fn read_part(row: &[u8], at: usize) -> Self::View<'_> {
                    #read
                }

                fn validate_part(row: &[u8], at: usize) -> __record::Result<()> {
                    #validate
                    ::core::result::Result::Ok(())
                }

                #[inline]
                fn encode_key(view: Self::View<'_>, last: bool, out: &mut ::std::vec::Vec<u8>) {
                    let #view_pattern = view;
                    #encode_key
                }

                #[inline]
                fn decode_key(bytes: &mut &[u8], last: bool) -> ::core::option::Option<Self> {
                    ::core::option::Option::Some(#decoded)
                }

                #[inline]
                fn decode_key_view<'a>(
                    bytes: &mut &'a [u8],
                    last: bool,
                ) -> ::core::option::Option<Self::View<'a>> {
                    ::core::option::Option::Some(#decoded_view)
                }

                #[inline]
                fn encode_normalized(view: Self::View<'_>, out: &mut ::std::vec::Vec<u8>) {
                    let #view_pattern = view;
                    #encode_normalized
                }
            }

            #constants
        };
    }
}

/// The field constants of a struct. `view` is a view of it; `layout` is its layout.
pub fn constants(input: &Input, list: &FieldList, view: &TokenStream) -> TokenStream {
    let ident = &input.ident;
    let bounds = list.bounds();
    let constants = list.each(|index, field, record| {
        let Field {
            member,
            name,
            constant,
            ty,
            vis,
            ..
        } = field;
        let docs = format!("The field `{name}` as a value: a key, an order, or what an aggregate folds.");
        let plain = matches!(input.form, crate::input::Form::Plain(_));
        let value = match plain {
            true => quote!(#record::view(&#view.#member)),
            false => quote!(#view.#member),
        };
        quote! {
            #[doc = #docs]
            #vis const #constant: __record::Field<#ident, #ty> = {
                struct Projection;
                impl __record::Project<#ident, #ty> for Projection #bounds {
                    #[inline(always)]
                    fn project<'a>(view: <#ident as __record::Record>::View<'a>) -> #record::View<'a> {
                        #value
                    }
                }
                __record::Field::new::<Projection>(
                    #name,
                    #index,
                    layout.offsets[#index],
                    layout.null_bits[#index],
                )
            };
        }
    });
    quote! {
        #[automatically_derived]
        #[allow(non_upper_case_globals, dead_code)]
        impl #ident #bounds {
            #(#constants)*
        }
    }
}
