//! A sink written outside the crate: JSON lines, to any writer.
//!
//! ```text
//! cargo run --release -p forebay --example custom_sink
//! ```
//!
//! A [`Sink`] is shared by the subtasks and opens a [`SinkWriter`] for each. The writer gets every record; it is told when no more
//! input is at hand ([`SinkWriter::flush`]) and when the job's input is over ([`SinkWriter::finish`]). Of a job that fails or is
//! cancelled, writers are dropped without `finish`: what they hold back is then discarded.

use forebay::record::Record;
use forebay::sink::{Sink, SinkWriter};
use forebay::source::{Subtask, generate};
use forebay::{Environment, Error, Result, Runtime};
use forebay_memory::Plan;
use std::io::Write;
use std::sync::{Arc, Mutex};

/// What somebody bought.
#[derive(Record)]
pub struct Order {
    /// Its number.
    pub id: u64,
    /// What was bought.
    pub item: String,
    /// How often, if it is known.
    pub count: Option<u32>,
}

/// Writes orders as JSON, one a line, to a writer that the subtasks share.
pub struct JsonLines<W> {
    to: Arc<Mutex<W>>,
}

impl<W: Write + Send + 'static> JsonLines<W> {
    /// A sink that writes to `to`.
    pub fn new(to: Arc<Mutex<W>>) -> Self {
        JsonLines { to }
    }
}

impl<W: Write + Send + 'static> Sink for JsonLines<W> {
    type In = Order;
    type Writer = JsonLinesWriter<W>;

    fn writer(&self, _: Subtask) -> Result<JsonLinesWriter<W>> {
        Ok(JsonLinesWriter {
            to: self.to.clone(),
            buffer: Vec::new(),
        })
    }
}

/// Writes the orders of one subtask.
pub struct JsonLinesWriter<W> {
    to: Arc<Mutex<W>>,
    /// Whole lines: those of two subtasks do not mix.
    buffer: Vec<u8>,
}

/// Bytes that a subtask holds back at most, so that they seldom wait for each other.
const BUFFER: usize = 32 << 10;

impl<W: Write + Send> SinkWriter for JsonLinesWriter<W> {
    type In = Order;

    fn write(&mut self, order: OrderView<'_>) -> Result<()> {
        let item = serde_json::Value::from(order.item);
        let count = serde_json::Value::from(order.count);
        writeln!(
            self.buffer,
            "{{\"id\":{},\"item\":{item},\"count\":{count}}}",
            order.id
        )
        .expect("writing to a vector does not fail");
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let mut to = self.to.lock().expect("writing does not panic");
        to.write_all(&self.buffer)
            .map_err(|error| Error::io("cannot write JSON lines", error))?;
        self.buffer.clear();
        Ok(())
    }
}

/// Writes `count` orders.
pub fn write_orders<W>(environment: &Environment, count: u64, to: Arc<Mutex<W>>) -> Result<()>
where
    W: Write + Send + 'static,
{
    environment
        .source(
            "orders",
            generate(count, |id| Order {
                id,
                item: ["bread", "\"good\" cheese", "wine"][id as usize % 3].into(),
                count: (id % 4 > 0).then_some(id as u32 % 4),
            }),
        )
        .sink("json", JsonLines::new(to));
    environment.execute("orders").map(|_| ())
}

fn main() -> Result<()> {
    let environment = Environment::new(Runtime::new(Plan::load(None, &[""; 0])?)?);
    write_orders(&environment, 10, Arc::new(Mutex::new(std::io::stdout())))
}
