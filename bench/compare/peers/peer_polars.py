"""Polars, by its streaming engine."""

import json
import os
import sys

# Read when the library is loaded.
with open(sys.argv[1]) as file:
    task = json.load(file)
os.environ["POLARS_MAX_THREADS"] = str(task["threads"])
os.environ["POLARS_TEMP_DIR"] = os.environ["POLARS_OOC_SPILL_DIR"] = task["spill_directory"]
if task["memory_bytes"]:
    os.environ["POLARS_OOC_MEMORY_BUDGET_MB"] = str(max(1, task["memory_bytes"] >> 20))

import polars as pl

from peer_task import nothing, of_sorted, of_sums, serve


def prepare(task):
    tables = [pl.scan_parquet(path) for path in task["input"]]
    one = lambda query: lambda: query.collect(engine="streaming").row(0)
    match task["workload"]:
        case "aggregate":
            groups = tables[0].group_by("k").agg(pl.len().cast(pl.Int64).alias("c"), pl.col("v").sum().alias("s"))
            return one(groups.select(pl.len(), pl.col("c").sum(), pl.col("s").sum())), of_sums
        case "distinct":
            keys = tables[0].select("k").unique()
            return one(keys.select(pl.len(), pl.col("k").sum())), of_sums
        case "join":
            pairs = tables[1].join(tables[0], on="k")
            return one(pairs.select(pl.len(), pl.col("v_right").sum(), pl.col("v").sum())), of_sums
        case "join-wide":
            pairs = tables[1].join(tables[0], on="k")
            most = pl.col("p_right").max(), pl.col("p").max()
            return one(pairs.select(pl.len(), pl.col("v_right").sum(), pl.col("v").sum(), *most)), of_sums
        case "sort-u64":
            numbers = tables[0].select("k").collect()
            return lambda: numbers.sort("k"), lambda sorted: of_sorted([sorted["k"].to_numpy()])
        case "sort-records":
            return lambda: tables[0].sort("k").sink_parquet(task["output"], compression="snappy", engine="streaming"), nothing


serve(pl.__version__, prepare)
