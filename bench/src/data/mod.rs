//! Input data: every generator is a pure function of a seed and an index, so that any part of it can be made
//! again anywhere: by a subtask, by the oracle's process, by another program.

pub mod mix;
pub mod zipf;
pub mod keyed;
pub mod parquet_files;
pub mod gensort;
pub mod gensort_check;
pub mod rows;
pub mod text;
pub mod tpch;
#[cfg(feature = "parquet")]
pub mod tpch_parquet;

pub use gensort::{GensortForm, GensortRow, fill_gensort, gensort_record};
pub use gensort_check::GensortCheck;
pub use keyed::{Keyed, KeyedData};
pub use mix::{Modulus, mix};
pub use rows::write_rows;
pub use text::TextData;
pub use tpch::{TpchData, TpchTable};
pub use zipf::Zipf;
