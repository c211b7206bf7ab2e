//! The operator at the end of a chain that gives its rows to a sink's writer.

use super::SinkWriter;
use crate::batch::Batch;
use crate::operator::{Downstream, Finish, Operator};
use forebay_memory::Result;

/// Gives batches to a writer.
pub struct SinkOperator<W> {
    writer: W,
    position: u64,
}

impl<W: SinkWriter> SinkOperator<W> {
    /// An operator over `writer`.
    pub fn new(writer: W) -> Self {
        SinkOperator { writer, position: 0 }
    }
}

impl<W: SinkWriter> Operator for SinkOperator<W> {
    fn process(&mut self, batch: Batch, _: &mut Downstream<'_>) -> Result<()> {
        if W::TAKES_BATCHES {
            self.writer.write_batch(&batch)?;
            self.position += batch.len() as u64;
            return Ok(());
        }
        for row in batch.rows::<W::In>() {
            self.position += 1;
            self.writer.write(row)?;
        }
        Ok(())
    }

    fn flush(&mut self, _: &mut Downstream<'_>) -> Result<()> {
        self.writer.flush()
    }

    fn finish(&mut self, _: &mut Downstream<'_>) -> Result<Finish> {
        self.writer.finish()?;
        Ok(Finish::Done)
    }

    fn position(&self) -> u64 {
        self.position
    }
}
