//! Code for a list of fields, of a struct or of a variant: declaration of its view, patterns, and the
//! statements that write, read, check and encode it.
//!
//! The code names the hidden module `forebay::record::derive` as `__record`, and expects the constant `layout`
//! of the list, the variables that the patterns bind, and `row`, `at`, `tail`, `bytes`, `last`, `out` as in the
//! functions of the trait `Record`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::Type;
use syn::spanned::Spanned;

use crate::input::{Field, FieldList, Input, Style};

/// `where` these types are records.
pub fn bounds<'a>(types: impl Iterator<Item = &'a Type>) -> TokenStream {
    quote!(where #(#types: __record::Record),*)
}

/// Whether a type is a record for sure.
fn is_known(ty: &Type) -> bool {
    const KNOWN: [&str; 14] = [
        "u8", "u16", "u32", "u64", "u128", "i8", "i16", "i32", "i64", "i128", "f32", "f64", "bool", "String",
    ];
    match ty {
        Type::Path(path) => KNOWN.iter().any(|known| path.path.is_ident(known)),
        Type::Array(array) => is_known(&array.elem),
        _ => false,
    }
}

impl Field {
    /// `<T as Record>`.
    pub fn record(&self) -> TokenStream {
        let ty = &self.ty;
        quote_spanned!(ty.span()=> <#ty as __record::Record>)
    }

    /// The field of a view's declaration.
    fn declaration(&self, input: &Input, of: &str, with_vis: bool) -> TokenStream {
        let Field { ty, docs, member, .. } = self;
        let vis = with_vis.then_some(&self.vis);
        let forebay = &input.forebay;
        let docs = match docs.is_empty() {
            true => {
                let text = format!("`{}` of {of}.", self.name);
                quote!(#[doc = #text])
            }
            false => quote!(#(#docs)*),
        };
        let name = match member {
            syn::Member::Named(ident) => quote!(#ident:),
            syn::Member::Unnamed(_) => quote!(),
        };
        let view = quote_spanned!(ty.span()=> <#ty as #forebay::record::Record>::View<'a>);
        quote!(#docs #vis #name #view)
    }
}

impl FieldList {
    /// The fields of a view's declaration: `{ .. }`, `(..)` or nothing. `of` says in documentation whose.
    pub fn declaration(&self, input: &Input, of: &str, with_vis: bool) -> TokenStream {
        let fields = self
            .fields
            .iter()
            .map(|field| field.declaration(input, of, with_vis));
        match self.style {
            Style::Named => quote!({ #(#fields),* }),
            Style::Tuple => quote!((#(#fields),*)),
            Style::Unit => quote!(),
        }
    }

    /// `Name { a: field_0, b: field_1 }`: a pattern that binds every field.
    pub fn pattern(&self, path: &TokenStream) -> TokenStream {
        let bindings = self.fields.iter().map(|field| {
            let binding = &field.binding;
            quote!(#binding)
        });
        self.construct(path, bindings)
    }

    /// `Name { a: .., b: .. }` with these values, in declared order.
    pub fn construct(
        &self,
        path: &TokenStream,
        values: impl IntoIterator<Item = TokenStream>,
    ) -> TokenStream {
        let members = self.fields.iter().map(|field| &field.member);
        let values = values.into_iter();
        // `Name { 0: x }` is right for tuple structs too, and `Name {}` for unit ones.
        quote!(#path { #(#members: #values),* })
    }

    /// One expression per field: `make` of it, its index and the path `<T as Record>`.
    pub fn each(&self, make: impl Fn(usize, &Field, TokenStream) -> TokenStream) -> Vec<TokenStream> {
        self.fields
            .iter()
            .enumerate()
            .map(|(index, field)| make(index, field, field.record()))
            .collect()
    }

    /// The types of the fields that may turn out to be no records.
    pub fn unknown_types(&self) -> impl Iterator<Item = &Type> {
        self.fields
            .iter()
            .map(|field| &field.ty)
            .filter(|ty| !is_known(ty))
    }

    /// `where` these types are records: so the compiler speaks of one that is not here, and not of its every use.
    pub fn bounds(&self) -> TokenStream {
        bounds(self.unknown_types())
    }

    /// The list's layout, a constant expression.
    pub fn layout(&self) -> TokenStream {
        let types = self.fields.iter().map(|field| &field.ty);
        quote!(__record::layout([#(__record::slot::<#types>()),*]))
    }

    /// The type of the list's layout.
    pub fn layout_type(&self) -> TokenStream {
        let count = self.fields.len();
        quote!(__record::Layout<#count>)
    }

    /// Statements that advance `tail` by the bound fields.
    pub fn tail_after(&self) -> TokenStream {
        let steps = self
            .each(|_, Field { binding, .. }, record| quote!(let tail = #record::tail_after(#binding, tail);));
        quote!(#(#steps)*)
    }

    /// Statements that write the bound fields at `row[at..]` and advance `tail`.
    pub fn write(&self) -> TokenStream {
        let writes = self.each(|index, Field { binding, .. }, record| {
            quote! {
                __record::pad(row, at + end, at + layout.offsets[#index]);
                let tail = #record::write_slot(#binding, row, at + layout.offsets[#index], tail);
                let end = layout.offsets[#index] + #record::SLOT_SIZE;
            }
        });
        let nulls = self.each(|index, Field { binding, .. }, record| {
            quote! {
                if #record::NULLABLE && #record::is_null(#binding) {
                    __record::set_null_bit(row, at * 8 + layout.null_bits[#index]);
                }
            }
        });
        quote! {
            let end = 0;
            #(#writes)*
            __record::pad(row, at + end, at + layout.size);
            #(#nulls)*
        }
    }

    /// Expressions that read each field at `row[at..]`.
    pub fn read(&self) -> Vec<TokenStream> {
        self.each(|index, _, record| {
            quote! {
                #record::read_slot(
                    row,
                    at + layout.offsets[#index],
                    #record::NULLABLE && __record::null_bit(row, at * 8 + layout.null_bits[#index]),
                )
            }
        })
    }

    /// Statements that check each field at `row[at..]`.
    pub fn validate(&self) -> TokenStream {
        let checks = self.each(|index, Field { name, .. }, record| {
            quote! {
                __record::within(#name, #record::validate_slot(
                    row,
                    at + layout.offsets[#index],
                    #record::NULLABLE && __record::null_bit(row, at * 8 + layout.null_bits[#index]),
                ))?;
            }
        });
        quote!(#(#checks)*)
    }

    /// Statements that encode the bound fields as a key.
    pub fn encode_key(&self) -> TokenStream {
        let count = self.fields.len();
        let steps = self.each(|index, Field { binding, .. }, record| {
            let last = index + 1 == count;
            quote!(#record::encode_key(#binding, #last && last, out);)
        });
        quote!(#(#steps)*)
    }

    /// Expressions that decode each field of a key by `function`.
    pub fn decode_key(&self, function: TokenStream) -> Vec<TokenStream> {
        let count = self.fields.len();
        self.each(|index, _, record| {
            let last = index + 1 == count;
            quote!(#record::#function(bytes, #last && last)?)
        })
    }

    /// Statements that encode the bound fields as a normalized key.
    pub fn encode_normalized(&self) -> TokenStream {
        let steps =
            self.each(|_, Field { binding, .. }, record| quote!(#record::encode_normalized(#binding, out);));
        quote!(#(#steps)*)
    }

    /// The list as a `DataType`, with offsets from `layout`.
    pub fn data_type(&self, name: &str) -> TokenStream {
        let fields = self.each(|index, Field { name, .. }, record| {
            quote! {
                __record::field_info(
                    #name,
                    #record::data_type(),
                    layout.offsets[#index],
                    #record::NULLABLE.then_some(layout.null_bits[#index]),
                )
            }
        });
        quote!(__record::record_type(#name, ::std::vec![#(#fields),*]))
    }

    /// `a || b` over a boolean constant of every field.
    pub fn any(&self, constant: TokenStream) -> TokenStream {
        let values = self.each(|_, _, record| quote!(#record::#constant));
        quote!((false #(|| #values)*))
    }

    /// `a && b` over a boolean constant of every field.
    pub fn all(&self, constant: TokenStream) -> TokenStream {
        let values = self.each(|_, _, record| quote!(#record::#constant));
        quote!((true #(&& #values)*))
    }

    /// The largest of a constant of every field, at least 1.
    pub fn largest(&self, constant: TokenStream) -> TokenStream {
        let values = self.each(|_, _, record| quote!(#record::#constant));
        quote!(__record::largest(&[1 #(, #values)*]))
    }
}
