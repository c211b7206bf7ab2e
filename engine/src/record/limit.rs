//! The check that a record's row is no larger than `record.max_size`.

use forebay_memory::{ByteSize, Error, Result};

use super::layout::MAX_ROW_SIZE;
use super::row::Record;

/// [`Record::row_size`] of the record at `position` of its source, refused where it is over `max_size`, the
/// value of `record.max_size`, or over [`MAX_ROW_SIZE`].
///
/// ```
/// use forebay::record::{Record, checked_row_size};
///
/// let text = "x".repeat(3 << 19);
/// let error = checked_row_size::<String>(&text, 12, 1 << 20).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "record \"string\" at position 12: 1.5 MiB is over record.max_size (1 MiB); raise it or split the record"
/// );
/// ```
///
/// # Errors
/// `User`: only the job's owner can make the record smaller or the limit larger.
#[inline]
pub fn checked_row_size<R: Record>(view: R::View<'_>, position: u64, max_size: usize) -> Result<usize> {
    let size = R::row_size(view);
    if size <= max_size && size <= MAX_ROW_SIZE {
        return Ok(size);
    }
    Err(too_large::<R>(size, position, max_size))
}

#[cold]
fn too_large<R: Record>(size: usize, position: u64, max_size: usize) -> Error {
    let name = &R::schema().name;
    let shown = ByteSize(size as u64);
    Error::user(if size > max_size {
        let limit = ByteSize(max_size as u64);
        format!(
            "record \"{name}\" at position {position}: {shown} is over record.max_size ({limit}); raise it or split the record"
        )
    } else {
        let limit = ByteSize(MAX_ROW_SIZE as u64);
        format!(
            "record \"{name}\" at position {position}: {shown} is over {limit}, the most that a row can have; split the record"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_at_the_limit_pass_and_others_say_by_how_much() {
        let text = "x".repeat((1 << 20) - 16);
        assert_eq!(
            checked_row_size::<String>(&text, 0, 1 << 20).expect("at the limit"),
            1 << 20
        );
        let message = |size: usize, max_size| {
            let bytes = vec![0; size];
            checked_row_size::<Vec<u8>>(&bytes, 3, max_size)
                .expect_err("too large")
                .to_string()
        };
        assert_eq!(
            message(1 << 20, 1 << 20),
            "record \"bytes\" at position 3: 1.0 MiB is over record.max_size (1 MiB); raise it or split the record"
        );
        assert_eq!(
            message(MAX_ROW_SIZE, usize::MAX),
            "record \"bytes\" at position 3: 128.0 MiB is over 128 MiB, the most that a row can have; split the record"
        );
    }
}
