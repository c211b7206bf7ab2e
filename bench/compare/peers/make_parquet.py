"""Writes a Parquet file from a file of binary records: make_parquet.py FROM TO COLUMNS

COLUMNS is a JSON array of [name, type]: "<u8", "<i8", or "S<n>" for strings of n bytes; those named "" are left out. Row
groups of 122,880 rows, which is what DuckDB writes, and Snappy pages. The file appears under its name when it is whole.
"""

import json
import os
import sys

import numpy
import pyarrow
import pyarrow.parquet

ROWS = 122_880


def column(values):
    if values.dtype.kind != "S":
        return pyarrow.array(values)
    width = values.dtype.itemsize
    offsets = numpy.arange(0, (len(values) + 1) * width, width, dtype=numpy.int32)
    buffers = [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(values.tobytes())]
    return pyarrow.Array.from_buffers(pyarrow.string(), len(values), buffers)


def main():
    source, target, columns = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    layout = numpy.dtype([(name or f"skipped{place}", kind) for place, (name, kind) in enumerate(columns)])
    names = [name for name, _ in columns if name]
    # Random keys have no dictionary; small numbers have.
    dictionaries = [name for name in names if name == "v"]
    records = numpy.memmap(source, dtype=layout, mode="r")
    writer = None
    for first in range(0, len(records), ROWS):
        part = records[first : first + ROWS]
        table = pyarrow.table({name: column(numpy.ascontiguousarray(part[name])) for name in names})
        if writer is None:
            writer = pyarrow.parquet.ParquetWriter(
                f"{target}.tmp", table.schema, compression="snappy", use_dictionary=dictionaries
            )
        writer.write_table(table, row_group_size=ROWS)
    writer.close()
    os.rename(f"{target}.tmp", target)


main()
