"""DuckDB."""

import os

import duckdb

from peer_task import nothing, of_sorted, of_sums, serve


def prepare(task):
    # Without it the parts of a sorted result that is read back may come in any order; files are written in order with it or not.
    ordered = task["workload"].startswith("sort")
    config = {
        "threads": task["threads"],
        "preserve_insertion_order": ordered,
        "temp_directory": task["spill_directory"],
    }
    if task["memory_bytes"]:
        config["memory_limit"] = f"{task['memory_bytes']}B"
    connection = duckdb.connect(config=config)
    for number, path in enumerate(task["input"]):
        connection.execute(f"CREATE VIEW t{number} AS SELECT * FROM read_parquet('{path}')")
    one = lambda query: lambda: connection.execute(query).fetchone()
    match task["workload"]:
        case "aggregate":
            query = "SELECT count(*), sum(c), sum(s) FROM (SELECT k, count(*) c, sum(v) s FROM t0 GROUP BY k)"
            return one(query), of_sums
        case "distinct":
            return one("SELECT count(*), sum(k) FROM (SELECT DISTINCT k FROM t0)"), of_sums
        case "join":
            return one("SELECT count(*), sum(t0.v), sum(t1.v) FROM t1 JOIN t0 USING (k)"), of_sums
        case "join-wide":
            query = "SELECT count(*), sum(t0.v), sum(t1.v), max(t0.p), max(t1.p) FROM t1 JOIN t0 USING (k)"
            return one(query), of_sums
        case "sort-u64":
            connection.execute("CREATE TABLE numbers AS SELECT k FROM t0")

            def sort():
                reader = connection.sql("SELECT k FROM numbers ORDER BY k").to_arrow_reader(1 << 20)
                return [batch.column(0) for batch in reader]

            return sort, lambda columns: of_sorted(column.to_numpy() for column in columns)
        case "sort-records":

            def sort():
                if os.path.exists(task["output"]):
                    os.remove(task["output"])
                query = f"COPY (SELECT * FROM t0 ORDER BY k) TO '{task['output']}' (FORMAT parquet)"
                connection.execute(query)

            return sort, nothing


serve(duckdb.__version__, prepare)
