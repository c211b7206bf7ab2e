"""What the scripts of all engines share: the task, as JSON in a file, timed runs, and the report, as JSON on standard output.

A script gives `serve` its engine's version and a function that prepares a task and answers `(run, check)`: `run()` is what
is timed, `check(outcome)` makes the answer from what the last run gave, and is not timed. An answer is
{"rows": n, "sums": [...]}, sums modulo 2^64; a sorted file is checked by a process of its own.
"""

import json
import sys
import time

WORD = 1 << 64


def serve(version, prepare):
    with open(sys.argv[1]) as file:
        task = json.load(file)
    run, check = prepare(task)
    seconds = []
    outcome = None
    for number in range(task["runs"] + (1 if task["warm_up"] else 0)):
        # The outcome of the run before is not part of this one's memory.
        outcome = None
        start = time.perf_counter()
        outcome = run()
        elapsed = time.perf_counter() - start
        if number > 0 or not task["warm_up"]:
            seconds.append(elapsed)
    json.dump({"version": version, "seconds": seconds, "answer": check(outcome)}, sys.stdout)


def of_sums(row):
    """The answer of a query whose only row is a count and sums; of a text, the first eight characters count."""

    def number(value):
        return int.from_bytes(value[:8].encode(), "big") if isinstance(value, str) else int(value or 0)

    rows, *sums = map(number, row)
    return {"rows": rows, "sums": [total % WORD for total in sums]}


def of_sorted(arrays):
    """The answer of sorted numbers, given as arrays one after the other."""
    import numpy

    rows, total, last = 0, 0, None
    for numbers in arrays:
        numbers = numpy.asarray(numbers)
        if len(numbers) == 0:
            continue
        if (last is not None and last > numbers[0]) or not (numbers[:-1] <= numbers[1:]).all():
            raise SystemExit("peer: the numbers are not in order")
        last = numbers[-1]
        rows += len(numbers)
        total += int(numbers.sum(dtype=numpy.uint64))
    return {"rows": rows, "sums": [total % WORD]}


def nothing(_):
    """The answer of a run that leaves a file."""
    return None
