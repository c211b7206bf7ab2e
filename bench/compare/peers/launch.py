"""Runs a command in bounds, and reports what it used: launch.py REPORT SECONDS BOUND COMMAND…

BOUND is `cgroup:DIRECTORY` of a control group with a memory limit, `data:BYTES` of private writable memory (RLIMIT_DATA), or
`none`. After SECONDS the command and its children are killed. REPORT is replaced by a JSON object.
"""

import json
import os
import resource
import signal
import sys
import time


def enter(bound):
    kind, _, value = bound.partition(":")
    if kind == "cgroup":
        with open(os.path.join(value, "cgroup.procs"), "w") as processes:
            processes.write(str(os.getpid()))
    elif kind == "data":
        resource.setrlimit(resource.RLIMIT_DATA, (int(value), int(value)))
    elif kind != "none":
        raise ValueError(f"no bound: {bound}")


def main():
    report, seconds, bound, *command = sys.argv[1:]
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            os.setpgid(0, 0)
            enter(bound)
            os.execvp(command[0], command)
        except BaseException as error:
            print(f"launch: {error}", file=sys.stderr)
        finally:
            os._exit(127)
    late = []

    def kill(number, _):
        late.append(number == signal.SIGALRM)
        try:
            os.killpg(child, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(child, signal.SIGKILL)

    for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, kill)
    signal.alarm(int(seconds))
    _, status, usage = os.wait4(child, 0)
    signal.alarm(0)
    answer = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "timed_out": any(late),
        "wall_seconds": time.monotonic() - start,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_rss_bytes": usage.ru_maxrss * 1024,
    }
    with open(report, "w") as file:
        json.dump(answer, file)
    if late and not any(late):
        sys.exit(130)


main()
