//! The leaves of an Arrow schema that a record type's columns have, as column files number them: depth first.

use super::shape::{Node, Shape, nodes};
use crate::record::Record;
use arrow_schema::{DataType as ArrowType, Schema as ArrowSchema};
use forebay_memory::Result;

/// A leaf that a record needs.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    /// Its number among all leaves.
    pub(crate) number: usize,
    /// The names that lead to the field, joined by dots, and the first of them.
    pub(crate) path: String,
    pub(crate) root: String,
    /// Whether it is a field of the record itself.
    pub(crate) is_top: bool,
    /// Whether its field may be null.
    pub(crate) is_nullable: bool,
    /// Whether it is a signed number, whose order every writer agrees on.
    pub(crate) is_signed: bool,
}

/// The leaves of `schema` that fields of `R` are read from.
///
/// # Errors
/// As [`schema_of`](super::schema_of).
pub(crate) fn leaves<R: Record>(schema: &ArrowSchema) -> Result<Vec<Leaf>> {
    let nodes = nodes(R::schema())?;
    let (mut next, mut found) = (0, Vec::new());
    for field in schema.fields() {
        let node = nodes.iter().find(|node| node.name == *field.name());
        let start = found.len();
        add(node, field.data_type(), &mut next, &mut found);
        for leaf in &mut found[start..] {
            leaf.root.clone_from(field.name());
            leaf.is_top = !matches!(
                node.map(|node| &node.shape),
                Some(Shape::Record(_) | Shape::Array(_, _) | Shape::List(_))
            );
        }
    }
    Ok(found)
}

/// Adds the leaves of a column; without a node they are passed over.
fn add(node: Option<&Node>, found: &ArrowType, next: &mut usize, leaves: &mut Vec<Leaf>) {
    let element = node.and_then(|node| match &node.shape {
        Shape::Array(element, _) => Some(&**element),
        Shape::List(element) => Some(&element.node),
        _ => None,
    });
    match found {
        ArrowType::Struct(fields) => {
            for field in fields {
                let member = node.and_then(|node| match &node.shape {
                    Shape::Record(members) => members.iter().find(|member| member.name == *field.name()),
                    _ => None,
                });
                add(member, field.data_type(), next, leaves);
            }
        }
        ArrowType::List(field) | ArrowType::LargeList(field) | ArrowType::FixedSizeList(field, _) => {
            add(element, field.data_type(), next, leaves);
        }
        ArrowType::Map(field, _) => add(None, field.data_type(), next, leaves),
        found => {
            let number = *next;
            *next += 1;
            if let Some(node) = node {
                leaves.push(Leaf {
                    number,
                    path: node.path.clone(),
                    root: String::new(),
                    is_top: false,
                    is_nullable: node.is_nullable,
                    is_signed: found.is_signed_integer()
                        || found.is_floating()
                        || matches!(found, ArrowType::Date32 | ArrowType::Timestamp(_, _)),
                });
            }
        }
    }
}
