"""Makes the Parquet files beside it, which tests read: files of other implementations.

With pyarrow 26.0.1, duckdb 2.0.1 and polars 2.1.0:  python make.py
"""

import datetime
import decimal

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 300
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def some(n, value):
    """Every seventh value is null."""
    return None if n % 7 == 3 else value


def moment(n):
    return EPOCH + datetime.timedelta(milliseconds=n * 86_400_123)


columns = {
    "tiny": pa.array([n % 256 - 128 for n in range(ROWS)], pa.int8()),
    "wide": pa.array([2**64 - 1 - n for n in range(ROWS)], pa.uint64()),
    "flag": pa.array([some(n, n % 2 == 0) for n in range(ROWS)], pa.bool_()),
    "level": pa.array([some(n, n / 8) for n in range(ROWS)], pa.float64()),
    "word": pa.array([some(n, f"word {n % 10}") for n in range(ROWS)], pa.string()),
    "blob": pa.array([bytes([n % 256]) * (n % 5) for n in range(ROWS)], pa.binary()),
    "code": pa.array([n.to_bytes(3, "big") for n in range(ROWS)], pa.binary(3)),
    "day": pa.array([datetime.date(1970, 1, 1) + datetime.timedelta(days=n - 500) for n in range(ROWS)], pa.date32()),
    "at": pa.array([some(n, moment(n)) for n in range(ROWS)], pa.timestamp("us", "UTC")),
    "price": pa.array([decimal.Decimal(n - 500).scaleb(-2) for n in range(ROWS)], pa.decimal128(12, 2)),
    "list": pa.array([some(n, list(range(n % 4))) for n in range(ROWS)], pa.list_(pa.int32())),
    "pair": pa.array(
        [some(n, {"left": n, "right": some(n + 1, str(n))}) for n in range(ROWS)],
        pa.struct([("left", pa.int64()), ("right", pa.string())]),
    ),
    "nothing": pa.nulls(ROWS, pa.int32()),
}
table = pa.table(columns)
pq.write_table(table, "pyarrow.parquet", row_group_size=150, compression="snappy", data_page_version="2.0", data_page_size=1000)
few = table.select(["tiny", "word", "at"]).slice(0, 100)
pq.write_table(few, "pyarrow_old.parquet", version="1.0", use_deprecated_int96_timestamps=True, compression="gzip")
pq.write_table(table.select(["tiny", "word"]).slice(0, 0), "pyarrow_empty.parquet")
pq.write_table(few.select(["tiny", "word"]), "pyarrow_brotli.parquet", compression="brotli")

duckdb.execute(
    f"""
    COPY (
        SELECT (n % 256 - 128)::TINYINT AS tiny,
               (18446744073709551615 - n::HUGEINT)::UBIGINT AS wide,
               CASE WHEN n % 7 <> 3 THEN n % 2 = 0 END AS flag,
               CASE WHEN n % 7 <> 3 THEN n / 8 END AS level,
               CASE WHEN n % 7 <> 3 THEN 'word ' || (n % 10) END AS word,
               DATE '1970-01-01' + (n - 500)::INTEGER AS day,
               ((n - 500) / 100)::DECIMAL(12, 2) AS price,
               CASE WHEN n % 7 <> 3 THEN range(n % 4)::INTEGER[] END AS list,
               CASE WHEN n % 7 <> 3 THEN {{'left': n, 'right': CASE WHEN (n + 1) % 7 <> 3 THEN n::VARCHAR END}} END AS pair
        FROM range({ROWS}) AS numbers(n)
    ) TO 'duckdb.parquet' (FORMAT parquet, COMPRESSION lz4_raw, PARQUET_VERSION v2, ROW_GROUP_SIZE 2048)
    """
)

frame = polars.DataFrame({"tiny": [n % 256 - 128 for n in range(100)], "word": [some(n, f"word {n % 10}") for n in range(100)]})
frame = frame.with_columns(polars.col("tiny").cast(polars.Int8))
frame.write_parquet("polars.parquet", compression="lz4")
frame.write_parquet("polars_zstd.parquet", compression="zstd")
