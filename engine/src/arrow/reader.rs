//! [`ArrowReader`]: records out of record batches.
//!
//! # Algorithm
//! Columns whose values lie in arrays as they do in rows (most numbers) are copied a column at a time into a block of rows' fixed
//! parts; what else there is follows row by row.
//!
//! # Memory
//! A block of [`BLOCK`] bytes, or of one row; the batch is shared with whoever made it.

use super::cells::{Cells, Misfit};
use super::shape::{Node, nodes};
use crate::record::{Record, RowBuilder, set_null_bit};
use arrow_array::{Array, NullArray, RecordBatch};
use arrow_schema::Schema as ArrowSchema;
use forebay_memory::{Error, Result};
use std::marker::PhantomData;
use zerocopy::IntoBytes;

/// Bytes of fixed parts that are made at a time: they stay in the first-level cache.
const BLOCK: usize = 16 << 10;

/// Reads records of `R` out of record batches of one schema.
///
/// ```
/// use forebay::arrow::{ArrowOptions, ArrowReader, ArrowWriter};
///
/// let mut writer = ArrowWriter::<(u64, Option<String>)>::new(&ArrowOptions::new())?;
/// writer.push((7, Some("seven")))?;
/// writer.push((8, None))?;
/// let batch = writer.take()?;
///
/// let mut reader = ArrowReader::<(u64, Option<String>)>::new(batch.schema_ref())?;
/// reader.read(&batch)?;
/// assert_eq!(reader.next()?, Some((7, Some("seven"))));
/// assert_eq!(reader.next()?, Some((8, None)));
/// assert_eq!(reader.next()?, None);
/// # Ok::<_, forebay::Error>(())
/// ```
pub struct ArrowReader<R> {
    nodes: Vec<Node>,
    /// The column of each node; none where it is missing.
    places: Vec<Option<usize>>,
    /// Columns that are copied whole.
    lanes: Vec<(Node, Cells)>,
    /// Those that are not.
    rest: Vec<(Node, Cells)>,
    rows: usize,
    next: usize,
    /// Fixed parts of rows, and which they are of.
    block: Vec<u64>,
    block_start: usize,
    block_end: usize,
    row: RowBuilder,
    record: PhantomData<fn() -> R>,
}

/// A value that does not fit, and the row of the batch that it is in.
pub(crate) struct RowMisfit {
    pub(crate) row: usize,
    pub(crate) misfit: Misfit,
}

impl<R: Record> ArrowReader<R> {
    /// Bytes from one fixed part in a block to the next.
    const STEP: usize = match R::STRIDE {
        0 => (crate::record::layout::part_at(R::ALIGN, true) + R::SIZE).next_multiple_of(8),
        stride => stride,
    };

    /// A reader of batches of this schema. Columns that the record does not have are passed over.
    ///
    /// # Errors
    /// `Config` where a field has no column, the column that it should have is missing, or of a type that does not suit.
    pub fn new(schema: &ArrowSchema) -> Result<Self> {
        Self::of(schema, false)
    }

    /// The same; with `missing_are_null`, fields that are an `Option` need no column.
    pub(crate) fn of(schema: &ArrowSchema, missing_are_null: bool) -> Result<Self> {
        let record = &R::schema().name;
        let nodes = nodes(R::schema())?;
        let mut places = Vec::with_capacity(nodes.len());
        for node in &nodes {
            let mut found =
                (0..schema.fields().len()).filter(|index| *schema.field(*index).name() == node.name);
            let place = found.next();
            if found.next().is_some() {
                return Err(Error::config(format!("two columns are named \"{}\"", node.name)));
            }
            match place {
                Some(place) => Cells::check(node, schema.field(place).data_type()).map_err(|misfit| {
                    Error::config(format!(
                        "column \"{}\" does not suit {record}: {}; change the field's type, or leave it out",
                        misfit.path, misfit.what
                    ))
                })?,
                None if missing_are_null && node.is_nullable => {}
                None => return Err(missing(record, node, schema)),
            }
            places.push(place);
        }
        let block = BLOCK.max(Self::STEP) / Self::STEP * Self::STEP;
        Ok(ArrowReader {
            nodes,
            places,
            lanes: Vec::new(),
            rest: Vec::new(),
            rows: 0,
            next: 0,
            block: vec![0; block.div_ceil(8)],
            block_start: 0,
            block_end: 0,
            row: RowBuilder::of::<R>(),
            record: PhantomData,
        })
    }

    /// Begins to read a batch; what is left of the one before is passed over.
    ///
    /// # Errors
    /// `Config` where its schema is not that of [`ArrowReader::new`]; `Corrupt` where a column has nulls that the record cannot
    /// have.
    pub fn read(&mut self, batch: &RecordBatch) -> Result<()> {
        for (node, place) in self.nodes.iter().zip(&self.places) {
            let suits = |place: usize| {
                (batch.columns().get(place))
                    .is_some_and(|column| Cells::check(node, column.data_type()).is_ok())
            };
            if !place.is_none_or(suits) {
                return Err(Error::config(format!(
                    "a record batch of another schema than its reader's: column \"{}\" is not where it was, or of another type; \
                     make a reader for it",
                    node.path
                )));
            }
        }
        self.begin(batch).map_err(RowMisfit::into_error)
    }

    /// [`ArrowReader::read`] of a batch whose schema is known to be right.
    pub(crate) fn begin(&mut self, batch: &RecordBatch) -> Result<(), RowMisfit> {
        self.lanes.clear();
        self.rest.clear();
        self.rows = batch.num_rows();
        (self.next, self.block_start, self.block_end) = (0, 0, 0);
        let bound: Vec<Cells> = self
            .nodes
            .iter()
            .zip(&self.places)
            .map(|(node, place)| match place {
                Some(place) => Cells::bind(node, &**batch.column(*place)),
                None => Cells::bind(node, &NullArray::new(batch.num_rows()) as &dyn Array),
            })
            .collect();
        for (index, cells) in bound.into_iter().enumerate() {
            self.divide(self.nodes[index].clone(), cells);
        }
        let is_misfit = |(node, cells): &&(Node, Cells)| !node.is_nullable && cells.has_nulls();
        if let Some((node, cells)) = self.lanes.iter().find(is_misfit) {
            let row = (0..self.rows).find(|row| cells.is_null(*row)).unwrap_or(0);
            self.rows = 0;
            return Err(RowMisfit {
                row,
                misfit: Misfit::null(node),
            });
        }
        Ok(())
    }

    /// Puts a column to those that are copied whole or to the others; a record in a record by its members, if it can.
    fn divide(&mut self, node: Node, cells: Cells) {
        if let Some(members) = node.members().filter(|_| cells.is_whole()) {
            for (member, cells) in members.zip(cells.into_members()) {
                self.divide(member, cells);
            }
            return;
        }
        match cells.lane().is_some() || cells.bits().is_some() {
            true => self.lanes.push((node, cells)),
            false => self.rest.push((node, cells)),
        }
    }

    /// Makes the fixed parts of the next rows.
    fn fill(&mut self) {
        let most = self.block.len() * 8 / Self::STEP;
        let count = most.min(self.rows - self.next);
        (self.block_start, self.block_end) = (self.next, self.next + count);
        let mut block = std::mem::take(&mut self.block);
        self.fill_fixed(&mut block.as_mut_bytes()[..count * Self::STEP]);
        self.block = block;
    }

    /// Whether rows are their fixed parts, and all that is in them is copied a column at a time.
    pub(crate) fn is_fixed(&self) -> bool {
        !R::VARIES && self.rest.is_empty()
    }

    /// Writes rows, of which [`ArrowReader::is_fixed`] is true, into memory for at most as many as are left.
    pub(crate) fn fill_rows(&mut self, rows: &mut [u8]) -> usize {
        debug_assert!(self.is_fixed() && self.next >= self.block_end);
        self.fill_fixed(rows);
        let count = rows.len() / Self::STEP;
        self.next += count;
        self.block_end = self.next;
        count
    }

    /// Makes as many fixed parts of rows as `block` has, from the next on.
    fn fill_fixed(&self, block: &mut [u8]) {
        let step = Self::STEP;
        let count = block.len() / step;
        block.fill(0);
        for (node, cells) in &self.lanes {
            if let Some(bits) = cells.bits() {
                for (number, row) in block.chunks_exact_mut(step).enumerate() {
                    row[node.offset] = bits.value(self.next + number).into();
                }
            } else if let Some((values, width)) = cells.lane() {
                let values = &values[self.next * width..(self.next + count) * width];
                let scatter = match width {
                    1 => scatter::<1>,
                    2 => scatter::<2>,
                    4 => scatter::<4>,
                    8 => scatter::<8>,
                    16 => scatter::<16>,
                    _ => scatter_bytes,
                };
                scatter(block, step, node.offset, values, width);
            }
            if cells.has_nulls() {
                for (number, row) in block.chunks_exact_mut(step).enumerate() {
                    if cells.is_null(self.next + number) {
                        row[node.offset..node.offset + node.size].fill(0);
                        set_null_bit(row, node.null_bit);
                    }
                }
            }
        }
    }

    /// The next record of the batch; nothing after its last.
    ///
    /// # Errors
    /// `Corrupt` where a value does not fit into its field: the record is passed over by the next call.
    #[allow(
        clippy::should_implement_trait,
        reason = "what it gives borrows from the reader"
    )]
    pub fn next(&mut self) -> Result<Option<R::View<'_>>> {
        self.advance().map_err(RowMisfit::into_error)
    }

    /// [`ArrowReader::next`], with the row in which a value does not fit.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<Option<R::View<'_>>, RowMisfit> {
        if self.next >= self.block_end {
            if self.next == self.rows {
                return Ok(None);
            }
            self.fill();
        }
        let number = self.next;
        self.next += 1;
        let at = (number - self.block_start) * Self::STEP;
        let fixed = &self.block.as_bytes()[at..at + Self::STEP];
        if self.is_fixed() {
            return Ok(Some(R::read_row(fixed)));
        }
        self.row.start();
        let size = fixed.len().min(self.row.bytes().len());
        self.row.bytes()[..size].copy_from_slice(&fixed[..size]);
        for (node, cells) in &self.rest {
            cells
                .write(node, number, &mut self.row, 0, 0)
                .map_err(|misfit| RowMisfit { row: number, misfit })?;
        }
        Ok(Some(self.row.view::<R>()))
    }

    /// Rows of the batch that have not been read.
    pub fn rows_left(&self) -> usize {
        self.rows - self.next
    }
}

impl RowMisfit {
    fn into_error(self) -> Error {
        Error::corrupt(format!(
            "row {} of a record batch, column \"{}\": {}",
            self.row, self.misfit.path, self.misfit.what
        ))
    }
}

#[cold]
fn missing(record: &str, node: &Node, schema: &ArrowSchema) -> Error {
    const MOST: usize = 20;
    let names: Vec<String> = schema
        .fields()
        .iter()
        .take(MOST)
        .map(|field| format!("\"{}\"", field.name()))
        .collect();
    let more = match schema.fields().len().saturating_sub(MOST) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Error::config(format!(
        "there is no column \"{}\" of {record}, only {}{more}; rename the field, or leave it out",
        node.name,
        names.join(", ")
    ))
}

fn scatter<const WIDTH: usize>(block: &mut [u8], step: usize, offset: usize, values: &[u8], _: usize) {
    let (values, _) = values.as_chunks::<WIDTH>();
    for (row, value) in block.chunks_exact_mut(step).zip(values) {
        row[offset..offset + WIDTH].copy_from_slice(value);
    }
}

fn scatter_bytes(block: &mut [u8], step: usize, offset: usize, values: &[u8], width: usize) {
    if width == 0 {
        return;
    }
    for (row, value) in block.chunks_exact_mut(step).zip(values.chunks_exact(width)) {
        row[offset..offset + width].copy_from_slice(value);
    }
}
