"""DataFusion."""

import os

import datafusion

from peer_task import nothing, of_sorted, of_sums, serve


def prepare(task):
    runtime = datafusion.RuntimeEnvBuilder().with_temp_file_path(task["spill_directory"])
    if task["memory_bytes"]:
        runtime = runtime.with_fair_spill_pool(task["memory_bytes"])
    config = datafusion.SessionConfig().with_target_partitions(task["threads"])
    if task["variant"] == "sort-merge join":
        config = config.set("datafusion.optimizer.prefer_hash_join", "false")
    context = datafusion.SessionContext(config, runtime)
    for number, path in enumerate(task["input"]):
        context.register_parquet(f"t{number}", path)

    def one(query):
        def run():
            batch = context.sql(query).collect()[0]
            return [column[0].as_py() for column in batch.columns]

        return run

    match task["workload"]:
        case "aggregate":
            query = "SELECT count(*), sum(c), sum(s) FROM (SELECT k, count(*) c, sum(v) s FROM t0 GROUP BY k)"
            return one(query), of_sums
        case "distinct":
            return one("SELECT count(*), sum(k) FROM (SELECT DISTINCT k FROM t0)"), of_sums
        case "join":
            return one("SELECT count(*), sum(t0.v), sum(t1.v) FROM t0 JOIN t1 ON t0.k = t1.k"), of_sums
        case "join-wide":
            query = "SELECT count(*), sum(t0.v), sum(t1.v), max(t0.p), max(t1.p) FROM t0 JOIN t1 ON t0.k = t1.k"
            return one(query), of_sums
        case "sort-u64":
            batches = context.sql("SELECT k FROM t0").collect()
            half = len(batches) // 2
            context.register_record_batches("numbers", [batches[:half], batches[half:]])
            query = "SELECT k FROM numbers ORDER BY k"
            return lambda: context.sql(query).collect(), lambda sorted: of_sorted(batch.column(0).to_numpy() for batch in sorted)
        case "sort-records":

            def sort():
                if os.path.exists(task["output"]):
                    os.remove(task["output"])
                context.sql("SELECT * FROM t0 ORDER BY k").write_parquet(task["output"], compression="snappy")

            return sort, nothing


serve(datafusion.__version__, prepare)
