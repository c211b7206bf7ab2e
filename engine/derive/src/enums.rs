//! An enum: a tag, which is the variant's number, and the variant's fields.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::fields::bounds;
use crate::input::{Field, FieldList, Input, Variant};

/// The view and the `Record` and `EnumRecord` implementations of the enum.
pub fn expand(input: &Input, variants: &[Variant]) -> TokenStream {
    let Input {
        ident,
        vis,
        name,
        forebay,
        ..
    } = input;
    let view = input.view();
    let life = variants
        .iter()
        .any(|variant| !variant.list.fields.is_empty())
        .then(|| quote!(<'a>));
    let view_docs = format!("A borrowed [`{ident}`]: what functions see of its rows.");
    let declarations = variants.iter().map(
        |Variant {
             ident: variant,
             list,
             docs,
         }| {
            let docs = match docs.is_empty() {
                true => {
                    let text = format!("A borrowed [`{ident}::{variant}`].");
                    quote!(#[doc = #text])
                }
                false => quote!(#(#docs)*),
            };
            let declaration = list.declaration(input, &format!("[`{ident}::{variant}`]"), false);
            quote!(#docs #variant #declaration)
        },
    );

    // `each(make)` is one token stream per variant, made from its tag, paths and fields.
    let each =
        |make: &dyn Fn(u8, &TokenStream, &TokenStream, &FieldList) -> TokenStream| -> Vec<TokenStream> {
            let variants = variants.iter().enumerate().map(
                |(
                    tag,
                    Variant {
                        ident: variant, list, ..
                    },
                )| {
                    make(
                        tag as u8,
                        &quote!(#ident::#variant),
                        &quote!(#view::#variant),
                        list,
                    )
                },
            );
            variants.collect()
        };
    let name_of = |tag: u8| format_ident!("layout_{tag}");

    let layouts = each(&|tag, _, _, list| {
        let (constant, layout_type, layout) = (name_of(tag), list.layout_type(), list.layout());
        quote!(const #constant: #layout_type = #layout;)
    });
    let layout_names: Vec<_> = (0..variants.len()).map(|tag| name_of(tag as u8)).collect();
    let to_view = each(&|_, owned, view, list| {
        let pattern = list.pattern(owned);
        let value = list.construct(
            view,
            list.each(|_, Field { binding, .. }, record| quote!(#record::view(#binding))),
        );
        quote!(#pattern => #value,)
    });
    let from_view = each(&|_, owned, view, list| {
        let pattern = list.pattern(view);
        let value = list.construct(
            owned,
            list.each(|_, Field { binding, .. }, record| quote!(#record::from_view(#binding))),
        );
        quote!(#pattern => #value,)
    });
    let shorten = each(&|_, _, view, list| {
        let pattern = list.pattern(view);
        let value = list.construct(
            view,
            list.each(|_, Field { binding, .. }, record| quote!(#record::shorten(#binding))),
        );
        quote!(#pattern => #value,)
    });
    let tag_of = each(&|tag, _, view, _| quote!(#view { .. } => #tag,));
    let tail_after = each(&|tag, _, view, list| {
        let (pattern, layout, tail_after) = (list.pattern(view), name_of(tag), list.tail_after());
        quote! {
            #pattern => {
                let tail = if VARIES { __record::payload_end(tail, #layout.size) } else { tail };
                #tail_after
                tail
            }
        }
    });
    let write = each(&|tag, _, view, list| {
        let (pattern, layout, write) = (list.pattern(view), name_of(tag), list.write());
        quote! {
            #pattern => {
                let layout = const { #layout };
                let part = at;
                let (at, tail) = if VARIES {
                    __record::put_payload(row, part, tail, #tag, layout.size)
                } else {
                    (__record::put_tag(row, part, #tag, PAYLOAD), tail)
                };
                #write
                if !VARIES {
                    __record::pad(row, at + layout.size, part + SIZE);
                }
                tail
            }
        }
    });
    let read = each(&|tag, _, view, list| {
        let (layout, value) = (name_of(tag), list.construct(view, list.read()));
        quote! {
            #tag => {
                let layout = const { #layout };
                assert!(at + layout.size <= row.len(), "a row holds its variant");
                #value
            }
        }
    });
    let validate = each(&|tag, owned, _, list| {
        let (layout, validate) = (name_of(tag), list.validate());
        let variant = owned.to_string().replace(' ', "");
        quote! {
            #tag => {
                let layout = const { #layout };
                __record::check_payload(row, at, layout.size, #variant)?;
                #validate
            }
        }
    });
    let encode_key = each(&|tag, _, view, list| {
        let (pattern, encode_key) = (list.pattern(view), list.encode_key());
        quote!(#pattern => { out.push(#tag); #encode_key })
    });
    let decode_key = each(&|tag, owned, _, list| {
        let value = list.construct(owned, list.decode_key(quote!(decode_key)));
        quote!(#tag => #value,)
    });
    let decode_key_view = each(&|tag, _, view, list| {
        let value = list.construct(view, list.decode_key(quote!(decode_key_view)));
        quote!(#tag => #value,)
    });
    let encode_normalized = each(&|tag, _, view, list| {
        let (pattern, encode_normalized) = (list.pattern(view), list.encode_normalized());
        quote!(#pattern => { out.push(#tag); #encode_normalized })
    });
    let variant_names: Vec<_> = variants.iter().map(|variant| variant.ident.to_string()).collect();
    let data_types = each(&|tag, _, _, list| {
        let (layout, name) = (name_of(tag), &variant_names[tag as usize]);
        let data_type = list.data_type(name);
        quote!((#name, { let layout = const { #layout }; #data_type }))
    });
    let bounds = bounds(variants.iter().flat_map(|variant| variant.list.unknown_types()));
    let varies = each(&|_, _, _, list| list.any(quote!(VARIES)));
    let key_views = each(&|_, _, _, list| list.all(quote!(KEY_VIEWS)));
    let row_aligns = each(&|_, _, _, list| list.largest(quote!(ROW_ALIGN)));

    quote! {
        #[doc = #view_docs]
        #[automatically_derived]
        #[allow(dead_code)]
        #[derive(
            ::core::clone::Clone,
            ::core::marker::Copy,
            ::core::fmt::Debug,
            ::core::cmp::PartialEq,
        )]
        #vis enum #view #life {
            #(#declarations),*
        }

        #[allow(unused_variables, non_upper_case_globals, clippy::all)]
        const _: () = {
            use #forebay::record::derive as __record;

            #(#layouts)*
            const VARIES: bool = false #(|| #varies)*;
            const ALIGN: usize = __record::largest(&[1 #(, #layout_names.align)*]);
            /// Where a variant's fields start in the fixed part of an enum whose rows do not vary.
            const PAYLOAD: usize = ALIGN;
            const SIZE: usize = __record::enum_size(VARIES, ALIGN, &[#(#layout_names.size),*]);

            #[automatically_derived]
            impl __record::EnumRecord for #ident #bounds {
                const VARIANTS: &'static [&'static str] = &[#(#variant_names),*];

                #[inline(always)]
                fn tag(view: Self::View<'_>) -> u8 {
                    match view {
                        #(#tag_of)*
                    }
                }
            }

            #[automatically_derived]
            impl __record::Record for #ident #bounds {
                type View<'a> = #view #life;
                const SIZE: usize = SIZE;
                const ALIGN: usize = if VARIES { 4 } else { ALIGN };
                const VARIES: bool = VARIES;
                const ROW_ALIGN: usize = __record::largest(&[1 #(, #row_aligns)*]);
                const KEY_VIEWS: bool = true #(&& #key_views)*;

                fn data_type() -> __record::DataType {
                    __record::enum_type(#name, ::std::vec![#(#data_types),*])
                }

                #[inline(always)]
                fn view(&self) -> Self::View<'_> {
                    match self {
                        #(#to_view)*
                    }
                }

                #[inline]
                fn from_view(view: Self::View<'_>) -> Self {
                    match view {
                        #(#from_view)*
                    }
                }

                #[inline(always)]
                fn shorten<'long: 'short, 'short>(view: Self::View<'long>) -> Self::View<'short> {
                    match view {
                        #(#shorten)*
                    }
                }

                #[inline]
                fn tail_after(view: Self::View<'_>, tail: usize) -> usize {
                    match view {
                        #(#tail_after)*
                    }
                }

                #[inline]
                fn write_part(view: Self::View<'_>, row: &mut [u8], at: usize, tail: usize) -> usize {
                    match view {
                        #(#write)*
                    }
                }

                #[inline(always)]
                fn read_part(row: &[u8], at: usize) -> Self::View<'_> {
                    let (tag, at) = __record::take_tag(row, at, VARIES, PAYLOAD);
                    match tag {
                        #(#read)*
                        tag => __record::no_variant(#name, tag),
                    }
                }

                fn validate_part(row: &[u8], at: usize) -> __record::Result<()> {
                    let (tag, at) = __record::take_tag(row, at, VARIES, PAYLOAD);
                    match tag {
                        #(#validate)*
                        tag => return ::core::result::Result::Err(__record::unknown_variant(#name, tag)),
                    }
                    ::core::result::Result::Ok(())
                }

                #[inline]
                fn encode_key(view: Self::View<'_>, last: bool, out: &mut ::std::vec::Vec<u8>) {
                    match view {
                        #(#encode_key)*
                    }
                }

                #[inline]
                fn decode_key(bytes: &mut &[u8], last: bool) -> ::core::option::Option<Self> {
                    ::core::option::Option::Some(match __record::split_tag(bytes)? {
                        #(#decode_key)*
                        _ => return ::core::option::Option::None,
                    })
                }

                #[inline]
                fn decode_key_view<'a>(
                    bytes: &mut &'a [u8],
                    last: bool,
                ) -> ::core::option::Option<Self::View<'a>> {
                    ::core::option::Option::Some(match __record::split_tag(bytes)? {
                        #(#decode_key_view)*
                        _ => return ::core::option::Option::None,
                    })
                }

                #[inline]
                fn encode_normalized(view: Self::View<'_>, out: &mut ::std::vec::Vec<u8>) {
                    match view {
                        #(#encode_normalized)*
                    }
                }
            }
        };
    }
}
