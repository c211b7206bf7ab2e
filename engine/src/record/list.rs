//! [`List`]: any number of records of one type inside a record.
//!
//! # Layout
//! Twelve bytes in the fixed part: offset from the row's start (u32), length of the rows in bytes (u32), how many they are
//! (u32). The elements' rows are in the variable part, packed, the first at a multiple of 8.
//! In keys: how many (u32), then each element. In normalized keys: 1 before each element, 0 at the end.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use forebay_memory::{Error, Result};
use zerocopy::IntoBytes;

use super::layout::{MAX_ALIGN, MAX_ROW_SIZE, round_up};
use super::numbers::split;
use super::row::{Record, pad, put, take, validate_row};
use super::schema::DataType;

const SIZE: usize = 12;

/// A list of records, kept as their rows.
///
/// ```
/// use forebay::record::{List, Record};
///
/// let list: List<(u64, String)> = [(1, "one".to_string()), (2, "two".to_string())].into_iter().collect();
/// let mut row = vec![0; List::row_size(list.view())];
/// List::write_row(list.view(), &mut row);
/// let read = List::<(u64, String)>::read_row(&row);
/// assert_eq!(read.len(), 2);
/// assert_eq!(read.iter().last(), Some((2, "two")));
/// assert_eq!(List::from_view(read).to_vec()[0], (1, "one".to_string()));
/// ```
pub struct List<T: Record> {
    /// The rows, and zeros behind the last.
    words: Vec<u64>,
    size: usize,
    length: usize,
    element: PhantomData<fn() -> T>,
}

/// A list in a row.
pub struct ListView<'a, T: Record> {
    rows: &'a [u8],
    length: usize,
    element: PhantomData<fn() -> T>,
}

/// The elements of a list, as views.
pub struct ListIter<'a, T: Record> {
    rest: &'a [u8],
    left: usize,
    element: PhantomData<fn() -> T>,
}

impl<T: Record> List<T> {
    /// No element.
    pub fn new() -> Self {
        List {
            words: Vec::new(),
            size: 0,
            length: 0,
            element: PhantomData,
        }
    }

    /// Appends an element.
    ///
    /// # Panics
    /// Where the list gets larger than a row may be.
    pub fn push(&mut self, element: T::View<'_>) {
        let row = T::row_size(element);
        let start = self.size;
        self.size += row;
        assert!(self.size <= MAX_ROW_SIZE, "a list has at most 128 MiB");
        self.words.resize(self.size.div_ceil(8), 0);
        T::write_row(element, &mut self.words.as_mut_bytes()[start..start + row]);
        self.length += 1;
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The elements, as views.
    pub fn iter(&self) -> ListIter<'_, T> {
        self.view().iter()
    }

    /// The elements, owned.
    pub fn to_vec(&self) -> Vec<T> {
        self.view().to_vec()
    }
}

impl<'a, T: Record> ListView<'a, T> {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The elements, as views.
    pub fn iter(&self) -> ListIter<'a, T> {
        ListIter {
            rest: self.rows,
            left: self.length,
            element: PhantomData,
        }
    }

    /// The elements, owned.
    pub fn to_vec(&self) -> Vec<T> {
        self.iter().map(T::from_view).collect()
    }
}

impl<'a, T: Record> Iterator for ListIter<'a, T> {
    type Item = T::View<'a>;

    #[inline]
    fn next(&mut self) -> Option<T::View<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (row, rest) = self.rest.split_at(T::row_size_at(self.rest));
        self.rest = rest;
        Some(T::read_row(row))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T: Record> ExactSizeIterator for ListIter<'_, T> {}
impl<T: Record> FusedIterator for ListIter<'_, T> {}

impl<'a, T: Record> IntoIterator for ListView<'a, T> {
    type Item = T::View<'a>;
    type IntoIter = ListIter<'a, T>;

    fn into_iter(self) -> ListIter<'a, T> {
        self.iter()
    }
}

impl<'a, T: Record> IntoIterator for &'a List<T> {
    type Item = T::View<'a>;
    type IntoIter = ListIter<'a, T>;

    fn into_iter(self) -> ListIter<'a, T> {
        self.iter()
    }
}

impl<T: Record> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut list = List::new();
        elements.into_iter().for_each(|element| list.push(element.view()));
        list
    }
}

impl<T: Record> From<Vec<T>> for List<T> {
    fn from(elements: Vec<T>) -> Self {
        elements.into_iter().collect()
    }
}

impl<T: Record> Default for List<T> {
    fn default() -> Self {
        List::new()
    }
}

impl<T: Record> Clone for List<T> {
    fn clone(&self) -> Self {
        List {
            words: self.words.clone(),
            ..*self
        }
    }
}

impl<T: Record> Clone for ListView<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Record> Copy for ListView<'_, T> {}

impl<T: Record> Clone for ListIter<'_, T> {
    fn clone(&self) -> Self {
        ListIter { ..*self }
    }
}

/// Lists are equal where their elements' rows are.
impl<T: Record> PartialEq for List<T> {
    fn eq(&self, other: &Self) -> bool {
        self.view() == other.view()
    }
}

/// As of [`List`].
impl<T: Record> PartialEq for ListView<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length && self.rows == other.rows
    }
}

impl<T: Record> fmt::Debug for List<T>
where
    for<'a> T::View<'a>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<T: Record> fmt::Debug for ListView<'_, T>
where
    for<'a> T::View<'a>: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

impl<T: Record> Record for List<T> {
    type View<'a> = ListView<'a, T>;
    const SIZE: usize = SIZE;
    const ALIGN: usize = 4;
    const VARIES: bool = true;
    const ROW_ALIGN: usize = T::ROW_ALIGN;
    const KEY_VIEWS: bool = false;

    fn data_type() -> DataType {
        DataType::List(Box::new(T::data_type()))
    }

    #[inline]
    fn view(&self) -> ListView<'_, T> {
        ListView {
            rows: &self.words.as_bytes()[..self.size],
            length: self.length,
            element: PhantomData,
        }
    }

    fn from_view(view: ListView<'_, T>) -> Self {
        let mut words = vec![0; view.rows.len().div_ceil(8)];
        words.as_mut_bytes()[..view.rows.len()].copy_from_slice(view.rows);
        List {
            words,
            size: view.rows.len(),
            length: view.length,
            element: PhantomData,
        }
    }

    #[inline(always)]
    fn shorten<'long: 'short, 'short>(view: ListView<'long, T>) -> ListView<'short, T> {
        view
    }

    #[inline]
    fn tail_after(view: ListView<'_, T>, tail: usize) -> usize {
        round_up(tail, MAX_ALIGN) + view.rows.len()
    }

    #[inline]
    fn write_part(view: ListView<'_, T>, row: &mut [u8], at: usize, tail: usize) -> usize {
        let start = round_up(tail, MAX_ALIGN);
        let end = start + view.rows.len();
        assert!(end <= MAX_ROW_SIZE, "a row has at most 128 MiB");
        put(row, at, (start as u32).to_le_bytes());
        put(row, at + 4, (view.rows.len() as u32).to_le_bytes());
        put(row, at + 8, (view.length as u32).to_le_bytes());
        pad(row, tail, start);
        row[start..end].copy_from_slice(view.rows);
        end
    }

    #[inline]
    fn read_part(row: &[u8], at: usize) -> ListView<'_, T> {
        let word = |at: usize| u32::from_le_bytes(take(row, at)) as usize;
        let start = word(at);
        ListView {
            rows: &row[start..start + word(at + 4)],
            length: word(at + 8),
            element: PhantomData,
        }
    }

    fn validate_part(row: &[u8], at: usize) -> Result<()> {
        let word = |at: usize| u32::from_le_bytes(take(row, at)) as usize;
        let (start, size, length) = (word(at), word(at + 4), word(at + 8));
        let rows = start
            .checked_add(size)
            .and_then(|end| row.get(start..end))
            .filter(|_| start.is_multiple_of(MAX_ALIGN));
        let Some(mut rest) = rows else {
            return Err(Error::corrupt(format!(
                "byte {at}: a list of {size} B at offset {start} reaches out of the row of {} B, or does not begin at a \
                 multiple of {MAX_ALIGN}",
                row.len()
            )));
        };
        for index in 0..length {
            let element = match rest.len() >= 4 || !T::VARIES {
                true => rest.split_at_checked(T::row_size_at(rest)),
                false => None,
            };
            let Some((element, after)) = element.filter(|(element, _)| !element.is_empty()) else {
                return Err(Error::corrupt(format!(
                    "byte {at}: element {index} of a list of {length} reaches out of its {size} B"
                )));
            };
            validate_row::<T>(element)?;
            rest = after;
        }
        match rest.len() {
            0 => Ok(()),
            left => Err(Error::corrupt(format!(
                "byte {at}: {left} B are left behind the {length} elements of a list"
            ))),
        }
    }

    fn encode_key(view: ListView<'_, T>, _last: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(&(view.length as u32).to_le_bytes());
        view.iter().for_each(|element| T::encode_key(element, false, out));
    }

    fn decode_key(bytes: &mut &[u8], _last: bool) -> Option<Self> {
        let length = u32::from_le_bytes(split(bytes)?);
        let mut list = List::new();
        for _ in 0..length {
            list.push(T::decode_key(bytes, false)?.view());
        }
        Some(list)
    }

    fn decode_key_view<'a>(_bytes: &mut &'a [u8], _last: bool) -> Option<ListView<'a, T>> {
        // Keys have no rows to look at: see `KEY_VIEWS`.
        None
    }

    fn encode_normalized(view: ListView<'_, T>, out: &mut Vec<u8>) {
        for element in view {
            out.push(1);
            T::encode_normalized(element, out);
        }
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row_of<T: Record>(list: &List<T>) -> Vec<u8> {
        let mut row = vec![0xaa; List::row_size(list.view())];
        List::write_row(list.view(), &mut row);
        row
    }

    fn round_trip<T: Record + Clone + PartialEq + fmt::Debug>(elements: Vec<T>) {
        let list = List::from(elements.clone());
        let row = row_of(&list);
        validate_row::<List<T>>(&row).expect("a written row is valid");
        let read = List::<T>::read_row(&row);
        assert_eq!(
            (read.len(), read.is_empty()),
            (elements.len(), elements.is_empty())
        );
        assert_eq!(read.to_vec(), elements);
        assert_eq!(List::from_view(read).to_vec(), elements);
        type Nested<T> = (u8, List<T>, Vec<u8>);
        let nested: Nested<T> = (7, list.clone(), vec![1, 2, 3]);
        let mut row = vec![0; Nested::<T>::row_size(nested.view())];
        Nested::<T>::write_row(nested.view(), &mut row);
        validate_row::<Nested<T>>(&row).expect("a written row is valid");
        let read = Nested::<T>::read_row(&row);
        assert_eq!(
            (read.0, read.1.to_vec(), read.2),
            (7, elements.clone(), &[1, 2, 3][..])
        );
        let mut key = Vec::new();
        List::encode_key(list.view(), true, &mut key);
        let mut rest = &key[..];
        let decoded = List::<T>::decode_key(&mut rest, true).expect("canonical bytes");
        assert_eq!((decoded.to_vec(), rest.len()), (elements, 0));
        assert!(decoded == list);
    }

    #[test]
    fn lists_round_trip() {
        round_trip::<u64>(vec![]);
        round_trip(vec![7u8, 8, 9]);
        round_trip(vec![String::new(), "naïve".into(), "x".repeat(100)]);
        round_trip(vec![(1u64, Some("one".to_string())), (2, None)]);
        let nested = List::from(vec![List::from(vec![1u16, 2]), List::new()]);
        let row = row_of(&nested);
        let read = List::<List<u16>>::read_row(&row);
        assert_eq!(
            read.iter().map(|list| list.to_vec()).collect::<Vec<_>>(),
            [vec![1, 2], vec![]]
        );
    }

    #[test]
    fn normalized_lists_order_element_by_element() {
        let lists: [&[i32]; 6] = [&[], &[-1], &[-1, 0], &[0], &[0, 0], &[1]];
        let keys = lists.map(|elements| {
            let mut key = Vec::new();
            List::encode_normalized(List::from(elements.to_vec()).view(), &mut key);
            key
        });
        assert!(keys.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn damaged_lists_are_refused() {
        let row = row_of(&List::from(vec!["one".to_string(), "two".to_string()]));
        for at in 0..row.len() {
            for bit in 0..8 {
                let mut damaged = row.clone();
                damaged[at] ^= 1 << bit;
                if validate_row::<List<String>>(&damaged).is_ok() {
                    List::<String>::read_row(&damaged).iter().count();
                }
            }
        }
        let mut damaged = row.clone();
        damaged[4 + 8] = 3;
        assert!(
            validate_row::<List<String>>(&damaged).is_err(),
            "one element more"
        );
    }
}
