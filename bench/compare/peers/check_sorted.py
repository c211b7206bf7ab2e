"""Checks a sorted Parquet file of gensort records (columns k and p): prints its rows, whether k ascends, and the fingerprint.

The fingerprint is that of check.rs: for each record of 100 bytes (k, p, CR LF), padded with zeros to 13 words, the words times
odd numbers, summed and mixed; the sum over all records modulo 2^64.
"""

import json
import sys

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.parquet

RECORD, KEY, PAYLOAD, WORDS = 100, 10, 88, 13


def bytes_of(column, width):
    texts = pyarrow.compute.cast(column, pyarrow.binary())
    texts = texts.combine_chunks() if isinstance(texts, pyarrow.ChunkedArray) else texts
    if isinstance(texts, pyarrow.ChunkedArray):
        texts = pyarrow.concat_arrays(texts.chunks)
    _, offsets, data = texts.buffers()
    offsets = numpy.frombuffer(offsets, dtype=numpy.int32)[texts.offset : texts.offset + len(texts) + 1]
    if not (numpy.diff(offsets) == width).all():
        raise SystemExit(f"check: a text has not {width} bytes")
    return numpy.frombuffer(data, dtype=numpy.uint8)[offsets[0] : offsets[-1]].reshape(len(texts), width)


def main():
    multipliers = numpy.array([(2 * n + 1) * 0x9E3779B97F4A7C15 % (1 << 64) for n in range(WORDS)], dtype=numpy.uint64)
    rows, ordered, total, last = 0, True, 0, None
    for batch in pyarrow.parquet.ParquetFile(sys.argv[1]).iter_batches(batch_size=1 << 17, columns=["k", "p"]):
        count = batch.num_rows
        records = numpy.zeros((count, 8 * WORDS), dtype=numpy.uint8)
        records[:, :KEY] = bytes_of(batch.column(0), KEY)
        records[:, KEY : KEY + PAYLOAD] = bytes_of(batch.column(1), PAYLOAD)
        records[:, RECORD - 2 : RECORD] = (13, 10)
        keys = numpy.ascontiguousarray(records[:, :KEY]).view(f"S{KEY}").reshape(count)
        ordered = ordered and bool((keys[:-1] <= keys[1:]).all()) and (last is None or last <= keys[0])
        last = keys[-1]
        mixed = (records.view("<u8") * multipliers).sum(axis=1, dtype=numpy.uint64)
        mixed ^= mixed >> numpy.uint64(32)
        mixed *= numpy.uint64(0xD6E8FEB86659FD93)
        total += int((mixed ^ (mixed >> numpy.uint64(32))).sum(dtype=numpy.uint64))
        rows += count
    json.dump({"rows": rows, "ordered": ordered, "fingerprint": total % (1 << 64)}, sys.stdout)


main()
