//! What the user wrote, checked: everything that cannot be a record is refused here, at the token to blame.

use proc_macro2::Span;
use quote::{ToTokens, format_ident};
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, ExprLit, Fields, GenericArgument, Ident, Lit, LitStr, Member,
    Path, PathArguments, Result, Type, Visibility,
};

/// A struct or enum to derive `Record` for.
pub struct Input {
    /// The type.
    pub ident: Ident,
    /// Its visibility, which its view shares.
    pub vis: Visibility,
    /// Its name in schemas.
    pub name: String,
    /// The path of the crate `forebay`.
    pub forebay: Path,
    /// Its fields or variants.
    pub form: Form,
}

/// The form of a record.
pub enum Form {
    /// A struct whose bytes are its row.
    Plain(FieldList),
    /// A struct with a view of its own.
    Struct(FieldList),
    /// An enum.
    Enum(Vec<Variant>),
}

/// The fields of a struct or variant.
pub struct FieldList {
    /// Each field, in declared order.
    pub fields: Vec<Field>,
    /// Whether they are named, unnamed or none.
    pub style: Style,
}

/// How a list of fields is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `{ a: A }`
    Named,
    /// `(A)`
    Tuple,
    /// nothing
    Unit,
}

/// A field of a struct or variant.
pub struct Field {
    /// Its name or number.
    pub member: Member,
    /// Its name in schemas.
    pub name: String,
    /// The name of its constant.
    pub constant: Ident,
    /// A variable to bind it to in generated code.
    pub binding: Ident,
    /// Its type.
    pub ty: Type,
    /// Its visibility.
    pub vis: Visibility,
    /// Its documentation.
    pub docs: Vec<Attribute>,
}

/// A variant of an enum.
pub struct Variant {
    /// Its name.
    pub ident: Ident,
    /// Its fields.
    pub list: FieldList,
    /// Its documentation.
    pub docs: Vec<Attribute>,
}

impl Input {
    /// The input, or all that is wrong with it.
    pub fn new(input: &DeriveInput) -> Result<Self> {
        let mut errors = Errors::default();
        let mut plain = None;
        let mut name = input.ident.to_string();
        let mut forebay: Path = syn::parse_quote!(::forebay);
        for attribute in input
            .attrs
            .iter()
            .filter(|attribute| attribute.path().is_ident("record"))
        {
            errors.keep(attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("plain") {
                    plain = Some(meta.path.span());
                } else if meta.path.is_ident("name") {
                    name = meta.value()?.parse::<LitStr>()?.value();
                } else if meta.path.is_ident("crate") {
                    forebay = meta.value()?.parse::<LitStr>()?.parse()?;
                } else {
                    return Err(meta.error(
                        "a record has the attributes `plain`, `name = \"...\"` and `crate = \"...\"`",
                    ));
                }
                Ok(())
            }));
        }
        if !input.generics.params.is_empty() {
            errors.push(
                input.generics.params.span(),
                format!(
                    "a record has no parameters: all rows of `{}` have one layout; derive `Record` for a type of its own per use",
                    input.ident
                ),
            );
        }
        let form = match &input.data {
            Data::Struct(data) => {
                let list = FieldList::new(&data.fields, &mut errors);
                match plain {
                    Some(span) => {
                        if !has_fixed_repr(&input.attrs) {
                            errors.push(
                                span,
                                "a plain record has `#[repr(C)]`: its bytes are its row, so its fields must lie in declared order",
                            );
                        }
                        Form::Plain(list)
                    }
                    None => Form::Struct(list),
                }
            }
            Data::Enum(data) => {
                if let Some(span) = plain {
                    errors.push(span, "only a struct can be a plain record: remove `plain`");
                }
                if !(1..=256).contains(&data.variants.len()) {
                    errors.push(
                        input.ident.span(),
                        format!(
                            "an enum record has 1 to 256 variants, not {}",
                            data.variants.len()
                        ),
                    );
                }
                let variants = data.variants.iter().map(|variant| Variant {
                    ident: variant.ident.clone(),
                    list: FieldList::new(&variant.fields, &mut errors),
                    docs: docs(&variant.attrs),
                });
                Form::Enum(variants.collect())
            }
            Data::Union(data) => {
                errors.push(
                    data.union_token.span(),
                    "a union cannot be a record: its rows would not say which field they hold; use an enum",
                );
                Form::Enum(Vec::new())
            }
        };
        errors.finish()?;
        Ok(Input {
            ident: input.ident.clone(),
            vis: input.vis.clone(),
            name,
            forebay,
            form,
        })
    }

    /// The name of the view type.
    pub fn view(&self) -> Ident {
        format_ident!("{}View", self.ident)
    }
}

impl FieldList {
    fn new(fields: &Fields, errors: &mut Errors) -> Self {
        let style = match fields {
            Fields::Named(_) => Style::Named,
            Fields::Unnamed(_) => Style::Tuple,
            Fields::Unit => Style::Unit,
        };
        let fields = fields.iter().enumerate().map(|(index, field)| {
            let (member, name, mut constant) = match &field.ident {
                Some(ident) => {
                    let name = ident.to_string();
                    (
                        Member::from(ident.clone()),
                        name.trim_start_matches("r#").to_string(),
                        ident.clone(),
                    )
                }
                None => (Member::from(index), index.to_string(), format_ident!("_{index}")),
            };
            if let Some(message) = refusal(&field.ty) {
                errors.push(
                    field.ty.span(),
                    format!(
                        "field `{name}`: `{}` cannot be stored in a record; {message}",
                        text(&field.ty)
                    ),
                );
            }
            for attribute in field
                .attrs
                .iter()
                .filter(|attribute| attribute.path().is_ident("record"))
            {
                errors.keep(attribute.parse_nested_meta(|meta| {
                    if !meta.path.is_ident("constant") {
                        return Err(meta.error("a field of a record has the attribute `constant = \"...\"`"));
                    }
                    constant = meta.value()?.parse::<LitStr>()?.parse()?;
                    Ok(())
                }));
            }
            Field {
                member,
                name,
                constant,
                binding: format_ident!("field_{index}", span = Span::mixed_site()),
                ty: field.ty.clone(),
                vis: field.vis.clone(),
                docs: docs(&field.attrs),
            }
        });
        FieldList {
            fields: fields.collect(),
            style,
        }
    }
}

/// Errors found so far, reported together.
#[derive(Default)]
struct Errors(Option<Error>);

impl Errors {
    fn push(&mut self, span: Span, message: impl std::fmt::Display) {
        self.keep(Err(Error::new(span, message)));
    }

    fn keep(&mut self, result: Result<()>) {
        if let Err(error) = result {
            match &mut self.0 {
                Some(first) => first.combine(error),
                None => self.0 = Some(error),
            }
        }
    }

    fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// Why a type cannot be stored in a record and what to use, where that is known from its name. Types that are
/// not known here are left to the compiler, which knows whether they are records.
fn refusal(ty: &Type) -> Option<&'static str> {
    match ty {
        Type::Path(path) => {
            let last = path.path.segments.last()?;
            let name = last.ident.to_string();
            let inner = match &last.arguments {
                PathArguments::AngleBracketed(arguments) => {
                    arguments.args.iter().find_map(|argument| match argument {
                        GenericArgument::Type(ty) => Some(ty),
                        _ => None,
                    })
                }
                _ => None,
            };
            match (name.as_str(), inner) {
                ("Option", Some(inner)) => refusal(inner),
                ("Vec", Some(inner)) if text(inner) == "u8" => None,
                ("Vec" | "VecDeque" | "LinkedList", Some(_)) => {
                    Some("use an array `[T; N]`, `Vec<u8>` for bytes, or one record per element")
                }
                ("HashMap" | "BTreeMap" | "IndexMap", Some(_)) => {
                    Some("use one record per entry, with the key and the value as fields")
                }
                ("HashSet" | "BTreeSet" | "BinaryHeap", Some(_)) => Some("use one record per element"),
                ("Box" | "Rc" | "Arc" | "Cow" | "Cell" | "RefCell" | "Mutex" | "RwLock", Some(_)) => {
                    Some("use what it holds: a record owns its values")
                }
                ("Result", Some(_)) => Some("use an enum of your own with `#[derive(Record)]`"),
                ("usize", None) => Some("use `u64` or `u32`: its size differs between machines"),
                ("isize", None) => Some("use `i64` or `i32`: its size differs between machines"),
                ("char", None) => Some("use `u32` or `String`"),
                ("str", None) => Some("use `String`"),
                ("SystemTime" | "Instant", None) => Some("use `Timestamp`"),
                ("Duration", None) => Some("use `i64`, say which unit in the field's name"),
                ("PathBuf" | "OsString", None) => Some("use `String` or `Vec<u8>`"),
                _ => None,
            }
        }
        Type::Array(array) => refusal(&array.elem),
        Type::Tuple(tuple) if tuple.elems.len() > 8 => {
            Some("use a struct with `#[derive(Record)]`: a tuple has at most 8 elements")
        }
        Type::Tuple(tuple) => tuple.elems.iter().find_map(refusal),
        Type::Group(group) => refusal(&group.elem),
        Type::Paren(paren) => refusal(&paren.elem),
        Type::Reference(reference) => Some(match &*reference.elem {
            Type::Path(path) if path.path.is_ident("str") => "use `String`: a record owns its values",
            Type::Slice(_) => "use `Vec<u8>` or an array `[T; N]`: a record owns its values",
            _ => "use what it refers to: a record owns its values",
        }),
        Type::Slice(_) => Some("use `Vec<u8>` or an array `[T; N]`"),
        Type::Macro(_) => None,
        _ => Some(
            "use a number, `bool`, `String`, `Vec<u8>`, `Timestamp`, `Date`, `Decimal`, an `Option`, array or tuple of these, or a type with `#[derive(Record)]`",
        ),
    }
}

/// A type as it is usually written.
fn text(ty: &Type) -> String {
    let mut text = ty.to_token_stream().to_string();
    for (from, to) in [
        (" < ", "<"),
        (" >", ">"),
        (" ,", ","),
        (" :: ", "::"),
        ("& ", "&"),
        (" ;", ";"),
    ] {
        text = text.replace(from, to);
    }
    text.replace("< ", "<").replace("[ ", "[").replace(" ]", "]")
}

/// Whether the type's fields lie in declared order.
fn has_fixed_repr(attributes: &[Attribute]) -> bool {
    let mut found = false;
    for attribute in attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("repr"))
    {
        // What else `repr` says is the compiler's to check.
        let _ = attribute.parse_nested_meta(|meta| {
            found |= meta.path.is_ident("C") || meta.path.is_ident("transparent");
            Ok(())
        });
    }
    found
}

/// The documentation among `attributes`.
fn docs(attributes: &[Attribute]) -> Vec<Attribute> {
    let is_text = |attribute: &&Attribute| match &attribute.meta {
        syn::Meta::NameValue(meta) => {
            meta.path.is_ident("doc") && matches!(&meta.value, Expr::Lit(ExprLit { lit: Lit::Str(_), .. }))
        }
        _ => false,
    };
    attributes.iter().filter(is_text).cloned().collect()
}
