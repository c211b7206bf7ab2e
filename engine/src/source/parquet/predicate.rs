//! [`Predicate`]: what a record's fields must be, so that others need not be read.
//!
//! # Interface
//! [`Field::eq`] and its like make predicates of fields, [`Predicate::and`] and [`Predicate::or`] larger ones.
//! [`Predicate::holds`] looks at a record, [`Predicate::may_hold`] at bounds of its fields, [`Predicate::sift`] at columns of them.
//!
//! # Algorithm
//! Values are compared as the engine orders them, by their ordinals or normalized keys. Null compares with nothing, and NaN
//! neither: bounds that files keep do not count NaNs.

use crate::arrow::ArrowReader;
use crate::record::{DataType, Field, Record};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{Field as ArrowField, Schema as ArrowSchema};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// A condition on the fields of records of `R`.
///
/// ```
/// use forebay::record::{Date, Record};
///
/// #[derive(Record)]
/// struct Order {
///     day: Date,
///     status: String,
///     discount: Option<f64>,
/// }
///
/// let first = Date::from_calendar(1995, 1, 1).expect("a day");
/// let wanted = Order::day
///     .ge(first)
///     .and(Order::status.eq("open".into()).or(Order::discount.is_null()));
/// # let order = Order { day: first, status: "paid".into(), discount: None };
/// assert!(wanted.holds(order.view()));
/// ```
pub struct Predicate<R: Record>(Arc<Test<R>>);

enum Test<R: Record> {
    All([Predicate<R>; 2]),
    Any([Predicate<R>; 2]),
    Field(Box<dyn FieldTest<R>>),
}

/// What is known of a field of some records.
#[derive(Debug, Clone, Default)]
pub(super) struct Bounds {
    /// Normalized values that none of the records is below or above, nulls apart.
    pub(super) least: Option<Vec<u8>>,
    pub(super) most: Option<Vec<u8>>,
    pub(super) nulls: Option<u64>,
    pub(super) rows: u64,
}

/// What there is of a field of some records.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sifted<'c> {
    Column(&'c ArrayRef),
    /// There is no column: it is null.
    Missing,
    Unknown,
}

impl<R: Record> Clone for Predicate<R> {
    fn clone(&self) -> Self {
        Predicate(self.0.clone())
    }
}

impl<R: Record> Predicate<R> {
    /// Both hold.
    pub fn and(self, other: Predicate<R>) -> Predicate<R> {
        Predicate(Arc::new(Test::All([self, other])))
    }

    /// One of them holds.
    pub fn or(self, other: Predicate<R>) -> Predicate<R> {
        Predicate(Arc::new(Test::Any([self, other])))
    }

    /// Whether it holds for a record.
    pub fn holds(&self, record: R::View<'_>) -> bool {
        self.holds_with(record, &mut Vec::new())
    }

    /// [`Predicate::holds`], with memory for keys.
    #[inline]
    pub(super) fn holds_with(&self, record: R::View<'_>, scratch: &mut Vec<u8>) -> bool {
        match &*self.0 {
            Test::All(parts) => parts.iter().all(|part| part.holds_with(record, scratch)),
            Test::Any(parts) => parts.iter().any(|part| part.holds_with(record, scratch)),
            Test::Field(test) => test.holds(record, scratch),
        }
    }

    /// Whether it may hold for one of some records: `bounds_of` says what is known of a field of them.
    pub(super) fn may_hold(&self, bounds_of: &mut dyn FnMut(&dyn FieldTest<R>) -> Bounds) -> bool {
        match &*self.0 {
            Test::All(parts) => parts.iter().all(|part| part.may_hold(bounds_of)),
            Test::Any(parts) => parts.iter().any(|part| part.may_hold(bounds_of)),
            Test::Field(test) => {
                let bounds = bounds_of(&**test);
                test.may_hold(&bounds)
            }
        }
    }

    /// Says no to those of the rows of `keep` for which it does not hold: `sifted` says what is known of a field of all of them.
    pub(super) fn sift<'c>(&self, sifted: &dyn Fn(&dyn FieldTest<R>) -> Sifted<'c>, keep: &mut [bool]) {
        match &*self.0 {
            Test::All(parts) => parts.iter().for_each(|part| part.sift(sifted, keep)),
            Test::Any([one, other]) => {
                let mut others = keep.to_vec();
                one.sift(sifted, keep);
                other.sift(sifted, &mut others);
                keep.iter_mut()
                    .zip(others)
                    .for_each(|(keep, other)| *keep |= other);
            }
            Test::Field(test) => test.sift(sifted(&**test), keep),
        }
    }

    /// Calls `look` with each condition on a field.
    pub(super) fn each_test(&self, look: &mut dyn FnMut(&dyn FieldTest<R>)) {
        match &*self.0 {
            Test::All(parts) | Test::Any(parts) => parts.iter().for_each(|part| part.each_test(look)),
            Test::Field(test) => look(&**test),
        }
    }
}

impl<R: Record> fmt::Debug for Predicate<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Test::All([left, right]) => write!(f, "({left:?} and {right:?})"),
            Test::Any([left, right]) => write!(f, "({left:?} or {right:?})"),
            Test::Field(test) => write!(f, "{} {}", test.name(), test.operator()),
        }
    }
}

/// A condition on one field.
pub(super) trait FieldTest<R: Record>: Send + Sync {
    fn name(&self) -> &'static str;
    fn operator(&self) -> &'static str;
    fn holds(&self, record: R::View<'_>, scratch: &mut Vec<u8>) -> bool;
    fn may_hold(&self, bounds: &Bounds) -> bool;
    /// Says no to those of the rows of `keep` for which it does not hold. What cannot be looked at may hold.
    fn sift(&self, sifted: Sifted<'_>, keep: &mut [bool]);
    /// The normalized values of a column, as the field's type; nothing where it has none of them.
    fn normalized(&self, column: &ArrayRef) -> Vec<Option<Vec<u8>>>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Eq,
    Lt,
    Le,
    Gt,
    Ge,
    IsNull,
    IsPresent,
}

impl Operator {
    fn accepts(self, found: Ordering) -> bool {
        match self {
            Operator::Eq => found.is_eq(),
            Operator::Lt => found.is_lt(),
            Operator::Le => found.is_le(),
            Operator::Gt => found.is_gt(),
            Operator::Ge => found.is_ge(),
            Operator::IsNull | Operator::IsPresent => false,
        }
    }
}

/// A field compared with a value.
struct Comparison<R: Record, T: Record> {
    field: Field<R, T>,
    operator: Operator,
    value: Vec<u8>,
    /// The value's ordinal, where its type has one.
    ordinal: Option<u64>,
    /// What is above it is NaN; nothing where there is no NaN.
    numbers: Option<Vec<u8>>,
    /// Whether the value is neither null nor NaN.
    is_comparable: bool,
}

impl<R: Record, T: Record> Comparison<R, T> {
    fn predicate(field: Field<R, T>, operator: Operator, value: Option<T>) -> Predicate<R> {
        let view = value.as_ref().map(T::view);
        let mut bytes = Vec::new();
        if let Some(view) = view {
            T::encode_normalized(view, &mut bytes);
        }
        let numbers = infinity(&T::data_type());
        let is_comparable = view.is_some_and(|view| !T::is_null(view))
            && numbers.as_ref().is_none_or(|numbers| bytes <= *numbers);
        let ordinal = view.filter(|_| T::ORDINAL).map(T::to_ordinal);
        Predicate(Arc::new(Test::Field(Box::new(Comparison {
            field,
            operator,
            value: bytes,
            ordinal,
            numbers,
            is_comparable,
        }))))
    }

    /// Whether it holds for a value.
    #[inline]
    fn accepts(&self, found: T::View<'_>, scratch: &mut Vec<u8>) -> bool {
        match (self.operator, T::is_null(found)) {
            (Operator::IsNull, is_null) => return is_null,
            (Operator::IsPresent, is_null) => return !is_null,
            (_, true) => return false,
            (_, false) if !self.is_comparable => return false,
            _ => {}
        }
        if let Some(ordinal) = self.ordinal.filter(|_| self.numbers.is_none()) {
            return self.operator.accepts(T::to_ordinal(found).cmp(&ordinal));
        }
        scratch.clear();
        T::encode_normalized(found, scratch);
        self.is_number(scratch) && self.operator.accepts(scratch.as_slice().cmp(&self.value))
    }

    fn is_number(&self, normalized: &[u8]) -> bool {
        self.numbers
            .as_ref()
            .is_none_or(|numbers| normalized <= &numbers[..])
    }
}

/// The normalized infinity of a type of floats or of an `Option` of them.
fn infinity(data_type: &DataType) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match data_type {
        DataType::Float(32) => f32::encode_normalized(f32::INFINITY, &mut bytes),
        DataType::Float(_) => f64::encode_normalized(f64::INFINITY, &mut bytes),
        DataType::Option(inner) => {
            bytes.push(1);
            bytes.extend(infinity(inner)?);
        }
        _ => return None,
    }
    Some(bytes)
}

impl<R: Record, T: Record> FieldTest<R> for Comparison<R, T> {
    fn name(&self) -> &'static str {
        self.field.name()
    }

    fn operator(&self) -> &'static str {
        match self.operator {
            Operator::Eq => "==",
            Operator::Lt => "<",
            Operator::Le => "<=",
            Operator::Gt => ">",
            Operator::Ge => ">=",
            Operator::IsNull => "is null",
            Operator::IsPresent => "is present",
        }
    }

    #[inline]
    fn holds(&self, record: R::View<'_>, scratch: &mut Vec<u8>) -> bool {
        self.accepts(self.field.get(record), scratch)
    }

    fn sift(&self, sifted: Sifted<'_>, keep: &mut [bool]) {
        let column = match sifted {
            Sifted::Column(column) => column,
            Sifted::Missing if self.operator == Operator::IsNull => return,
            Sifted::Missing => return keep.fill(false),
            Sifted::Unknown => return,
        };
        let Some((mut reader, batch)) = reader_of::<T>(column) else {
            return;
        };
        if reader.read(&batch).is_err() {
            return;
        }
        let mut scratch = Vec::new();
        for keep in keep {
            // A value that does not suit stays: reading its record names it.
            if let Ok(Some(found)) = reader.next() {
                *keep = *keep && self.accepts(found, &mut scratch);
            }
        }
    }

    fn may_hold(&self, bounds: &Bounds) -> bool {
        let are_null = bounds.nulls.is_some_and(|nulls| nulls >= bounds.rows);
        match self.operator {
            Operator::IsNull => return bounds.nulls != Some(0),
            Operator::IsPresent => return !are_null,
            _ if are_null || !self.is_comparable => return false,
            _ => {}
        }
        let least_above = bounds.least.as_ref().is_some_and(|least| match self.operator {
            Operator::Lt => *least >= self.value,
            Operator::Le | Operator::Eq => *least > self.value,
            _ => false,
        });
        let most_below = bounds.most.as_ref().is_some_and(|most| match self.operator {
            Operator::Gt => *most <= self.value,
            Operator::Ge | Operator::Eq => *most < self.value,
            _ => false,
        });
        !least_above && !most_below
    }

    fn normalized(&self, column: &ArrayRef) -> Vec<Option<Vec<u8>>> {
        // A bound that is NaN bounds nothing.
        let values = normalized::<T>(column);
        values
            .into_iter()
            .map(|value| value.filter(|value| self.is_number(value)))
            .collect()
    }
}

/// A reader of the values of a column as a field's type, where its values are of one type and suit.
fn reader_of<T: Record>(column: &ArrayRef) -> Option<(ArrowReader<T>, RecordBatch)> {
    if matches!(
        T::data_type(),
        DataType::Record(_) | DataType::Array(_, _) | DataType::List(_) | DataType::Enum(_) | DataType::Unit
    ) {
        return None;
    }
    let field = ArrowField::new("value", column.data_type().clone(), true);
    let schema = Arc::new(ArrowSchema::new(vec![field]));
    let reader = ArrowReader::<T>::new(&schema).ok()?;
    let batch = RecordBatch::try_new(schema, vec![column.clone()]).ok()?;
    Some((reader, batch))
}

/// The values of a column as normalized keys of `T`: none where it is null, or does not suit.
fn normalized<T: Record>(column: &ArrayRef) -> Vec<Option<Vec<u8>>> {
    let Some((mut reader, batch)) = reader_of::<T>(column) else {
        return vec![None; column.len()];
    };
    let mut value = |row: usize| {
        if column.is_null(row) {
            return None;
        }
        reader.read(&batch.slice(row, 1)).ok()?;
        let view = reader.next().ok()??;
        let mut bytes = Vec::new();
        T::encode_normalized(view, &mut bytes);
        Some(bytes)
    };
    (0..column.len()).map(&mut value).collect()
}

/// Conditions on a field: [`Predicate`]s. Null, a value that is null, and NaN compare with nothing: no such condition holds.
impl<R: Record, T: Record> Field<R, T> {
    /// It equals `value`.
    pub fn eq(self, value: T) -> Predicate<R> {
        Comparison::predicate(self, Operator::Eq, Some(value))
    }

    /// It is less than `value`.
    pub fn lt(self, value: T) -> Predicate<R> {
        Comparison::predicate(self, Operator::Lt, Some(value))
    }

    /// It is `value` or less.
    pub fn le(self, value: T) -> Predicate<R> {
        Comparison::predicate(self, Operator::Le, Some(value))
    }

    /// It is greater than `value`.
    pub fn gt(self, value: T) -> Predicate<R> {
        Comparison::predicate(self, Operator::Gt, Some(value))
    }

    /// It is `value` or greater.
    pub fn ge(self, value: T) -> Predicate<R> {
        Comparison::predicate(self, Operator::Ge, Some(value))
    }
}

impl<R: Record, T: Record> Field<R, Option<T>> {
    /// It is null.
    pub fn is_null(self) -> Predicate<R> {
        Comparison::predicate(self, Operator::IsNull, None)
    }

    /// It is not null.
    pub fn is_present(self) -> Predicate<R> {
        Comparison::predicate(self, Operator::IsPresent, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{first, second};

    type Row = (Option<f64>, String);

    fn bounds(least: Option<f64>, most: Option<f64>, nulls: Option<u64>) -> Bounds {
        let normalized = |value: Option<f64>| {
            value.map(|value| {
                let mut bytes = Vec::new();
                Option::<f64>::encode_normalized(Some(value), &mut bytes);
                bytes
            })
        };
        Bounds {
            least: normalized(least),
            most: normalized(most),
            nulls,
            rows: 10,
        }
    }

    /// What bounds exclude, no value within them is.
    #[test]
    fn bounds_exclude_only_what_values_do() {
        let values = [f64::NEG_INFINITY, -1.0, -0.0, 0.0, 0.5, 1.0, f64::INFINITY];
        let makers: [fn(Field<Row, Option<f64>>, Option<f64>) -> Predicate<Row>; 5] =
            [Field::eq, Field::lt, Field::le, Field::gt, Field::ge];
        let (mut excluded, mut kept) = (0, 0);
        for make in makers {
            for value in values.into_iter().chain([f64::NAN]) {
                let predicate = make(first(), Some(value));
                for (index, least) in values.into_iter().enumerate() {
                    for most in &values[index..] {
                        let may = predicate.may_hold(&mut |_| bounds(Some(least), Some(*most), Some(3)));
                        let holds = values
                            .iter()
                            .filter(|found| (least..=*most).contains(*found))
                            .any(|found| predicate.holds((Some(*found), "")));
                        assert!(may || !holds, "{predicate:?} {value} in {least}..={most}");
                        match may {
                            true => kept += 1,
                            false => excluded += 1,
                        }
                    }
                }
                assert!(!predicate.holds((None, "")));
                assert!(!predicate.holds((Some(f64::NAN), "")), "{predicate:?} {value}");
            }
        }
        assert!(excluded > 300 && kept > 300, "{excluded} {kept}");
    }

    #[test]
    fn predicates_join() {
        let wanted =
            (first::<Row>().is_null().or(first::<Row>().gt(Some(1.0)))).and(second::<Row>().ge("b".into()));
        for (record, holds) in [
            ((None, "b"), true),
            ((None, "a"), false),
            ((Some(1.0), "c"), false),
            ((Some(1.5), "c"), true),
        ] {
            assert_eq!(wanted.holds(record), holds, "{record:?}");
        }
        assert_eq!(format!("{wanted:?}"), "((0 is null or 0 >) and 1 >=)");
        let unknown = |_: &dyn FieldTest<Row>| Bounds::default();
        assert!(wanted.may_hold(&mut unknown.clone()));
        let null = first::<Row>().is_null();
        let present = first::<Row>().is_present();
        for (nulls, may_null, may_present) in [
            (Some(0), false, true),
            (Some(10), true, false),
            (None, true, true),
        ] {
            assert_eq!(null.may_hold(&mut |_| bounds(None, None, nulls)), may_null);
            assert_eq!(present.may_hold(&mut |_| bounds(None, None, nulls)), may_present);
        }
        assert!(!first::<Row>().eq(None).holds((None, "")));
    }
}
