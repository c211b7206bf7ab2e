//! Merging two sorted lists of items without a branch on their keys.

use super::item::Item;

/// Merges from the beginnings of two sorted slices until the output is full or one of them is used up; answers how many items
/// of each were taken. `less` says whether an item of the second comes before one of the first.
#[inline]
pub(super) fn merge_slices<T: Item>(
    first: &[T],
    second: &[T],
    output: &mut [T],
    less: &mut impl FnMut(&T, &T) -> bool,
) -> (usize, usize) {
    let (mut i, mut j) = (0, 0);
    loop {
        let surely = (first.len() - i).min(second.len() - j).min(output.len() - i - j);
        if surely == 0 {
            return (i, j);
        }
        let done = i + j;
        for place in &mut output[done..done + surely] {
            let (a, b) = (&first[i], &second[j]);
            let second_wins = less(b, a);
            *place = if second_wins { *b } else { *a };
            i += usize::from(!second_wins);
            j += usize::from(second_wins);
        }
    }
}
