#!/usr/bin/env python3
"""The benchmark: Twinpost beside Postfix + Dovecot, on the same disk in the same run. See docs/benchmarks.md.

Contract: one server is loaded at a time; each case begins with fresh folders; each case has a time limit; whatever was
started is stopped, after a fault and after Ctrl-C too. Results go to bench-results/results.json and results.md after
each case, so an interrupted run keeps what it measured. Exit code 1 when a case could not be measured.
"""
import argparse
import datetime
import json
import os
import platform
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import report  # noqa: E402
from cases import CASES  # noqa: E402
from machine import ROOT, Deadline, Failed, stop_all  # noqa: E402
from ours import Twinpost  # noqa: E402
from postfix_dovecot import PostfixDovecot  # noqa: E402


class Bench:
    """What a case works with: a folder, a time limit, servers that are stopped at its end."""

    def __init__(self, folder, seconds, quick):
        self.dir, self.deadline, self.quick = folder, Deadline(seconds), quick
        self.servers, self.number = [], 0

    def few(self, messages):
        return max(messages // 10, 20) if self.quick else messages

    def start(self, side, shim=None, **kw):
        """A fresh server."""
        self.number += 1
        folder = self.dir / f"{side}-{self.number}"
        folder.mkdir(mode=0o755)
        return self.started((Twinpost if side == "ours" else PostfixDovecot)(folder, shim=shim, **kw))

    def started(self, server):
        self.servers.append(server)
        server.start(self.deadline)
        return server

    def stop(self, server):
        server.stop()
        self.servers.remove(server)

    def close(self):
        for server in self.servers:
            server.stop()
        self.servers.clear()


def reachable(folder):
    """Postfix and Dovecot run under their own users: these must be able to enter every folder above."""
    return all(p.stat().st_mode & 0o001 for p in (folder, *folder.parents))


def work_folder(wished, results):
    parent = Path(wished).resolve() if wished else results
    parent.mkdir(parents=True, exist_ok=True)
    if not reachable(parent):
        parent = Path("/var/tmp")
        print(f"Other users cannot enter {wished or results}; the servers work in {parent} instead.")
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    folder.chmod(0o755)
    return folder


def measure(name, side, folder, quick, keep):
    title, function, _, limit = CASES[name]
    case = folder / f"{name}-{side}"
    case.mkdir(mode=0o755)
    bench = Bench(case, limit, quick)
    begun, load = time.monotonic(), os.getloadavg()[0]
    try:
        figures = function(bench, side)
        fault = None
    except (Failed, OSError) as e:
        figures, fault = {}, str(e) or type(e).__name__
    finally:
        bench.close()
        stop_all()
    if not keep and fault is None:
        shutil.rmtree(case, ignore_errors=True)
    elif fault:
        print(f"    FAILED: {fault}\n    logs are in {case}")
    return {"figures": figures, "fault": fault, "took_s": round(time.monotonic() - begun, 1), "load_before": load}


def main():
    parser = argparse.ArgumentParser(description="Twinpost beside Postfix + Dovecot.")
    parser.add_argument("--only", help="cases, with commas: " + ", ".join(CASES))
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages: a look, not a figure")
    parser.add_argument("--ours", action="store_true", help="Twinpost only")
    parser.add_argument("--peer", action="store_true", help="Postfix + Dovecot only")
    parser.add_argument("--dir", help="folder on the disk to measure; default bench-results")
    parser.add_argument("--results", default=str(ROOT / "bench-results"), help="where results go")
    parser.add_argument("--keep", action="store_true", help="keep the servers' folders and logs")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(CASES)
    unknown = [n for n in names if n not in CASES]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    sides = [s for s in ("peer", "ours") if not (arguments.ours and s == "peer") and not (arguments.peer and s == "ours")]

    def end(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    results = Path(arguments.results).resolve()
    results.mkdir(parents=True, exist_ok=True)
    folder = work_folder(arguments.dir, results)
    outcome = {
        "begun": datetime.datetime.now().astimezone().isoformat(timespec="seconds"), "quick": arguments.quick,
        "processors": os.cpu_count(), "kernel": platform.release(), "cases": {},
    }
    faults = 0
    try:
        for name in names:
            print(f"{name}: {CASES[name][0]}", flush=True)
            for side in sides:
                done = measure(name, side, folder, arguments.quick, arguments.keep)
                outcome["cases"].setdefault(name, {})[side] = done
                faults += done["fault"] is not None
                print(f"  {side} ({done['took_s']} s): " + report.short(CASES[name][2], done["figures"]), flush=True)
            report.write(results, outcome, CASES)
    except KeyboardInterrupt:
        print("\nInterrupted: the servers are stopped; what was measured is kept.")
        faults += 1
    finally:
        stop_all()
        report.write(results, outcome, CASES)
        if not arguments.keep and not faults:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"Results: {results / 'results.md'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
