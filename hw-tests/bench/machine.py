"""What the benchmark needs of the machine: processes, ports, memory, a shim that counts and slows fsync.

Contract: everything started through `spawn` is stopped by `stop_all`, and nothing else is ever signalled.
"""
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"

_children = []


class Failed(Exception):
    """A case could not be measured; the sentence says why."""


class Deadline:
    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        left = self.end - time.monotonic()
        if left <= 0:
            raise Failed("the case took longer than its time limit")
        return left


def wait_until(condition, deadline, pause=0.02):
    while not condition():
        deadline.left()
        time.sleep(pause)


def spawn(command, log, env=None, cwd=None):
    """Starts a server in a session of its own, with its output in a file: a pipe would be held open by its children."""
    with open(log, "ab") as out:
        child = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                 env=env, cwd=cwd, start_new_session=True)
    _children.append(child)
    return child


def descendants(pid):
    """This process and all below it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        todo.extend(parents.get(one, []))
    return found


def stop(child, grace=20):
    """SIGTERM, and SIGKILL to it and its descendants if it does not end. Our own child only."""
    if child not in _children:
        return
    _children.remove(child)
    if child.poll() is not None:
        return
    below = descendants(child.pid)
    child.terminate()
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        pass
    # Not a zombie yet and no pid reused: these were its children a moment ago, and are checked to be in its session.
    for pid in below:
        try:
            if os.getsid(pid) == child.pid:
                os.kill(pid, signal.SIGKILL)
        except OSError:
            continue
    child.wait()


def stop_all():
    for child in list(_children):
        stop(child, 5)


def run(command, deadline, log, env=None, stdin=None, check=True):
    """Runs a short program; gives its standard output. Its messages go to the log."""
    with open(log, "ab") as errors:
        try:
            done = subprocess.run([str(c) for c in command], input=stdin, stdout=subprocess.PIPE, stderr=errors, env=env,
                                  timeout=deadline.left(), stdin=None if stdin is not None else subprocess.DEVNULL)
        except subprocess.TimeoutExpired as e:
            raise Failed(f"{Path(command[0]).name} did not end in time") from e
    if check and done.returncode != 0:
        tail = Path(log).read_text(errors="replace").strip().splitlines()[-1:]
        raise Failed(f"{' '.join(str(c) for c in command[:3])} ended with {done.returncode}: {' '.join(tail)} {done.stdout[:300]!r}")
    return done.stdout.decode()


def free_ports(count):
    """All held at once, so that no port comes twice."""
    held = [socket.socket() for _ in range(count)]
    try:
        for s in held:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in held]
    finally:
        for s in held:
            s.close()


def wait_port(port, child, deadline, log):
    def open_():
        if child.poll() is not None:
            raise Failed(f"the server ended by itself; see {log}")
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0
    wait_until(open_, deadline, 0.05)


def private_kib(pid):
    """Private pages of a process and all below it: shared libraries do not count for each process."""
    total = 0
    for one in descendants(pid):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                total += int(line.split()[1])
    return total


def cpu_s(pid):
    """Processor seconds of a process and all below it, ended children included."""
    tick, total = os.sysconf("SC_CLK_TCK"), 0
    for one in descendants(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += sum(int(f) for f in fields[11:15])
    return total / tick


def disk_bytes(folder):
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.stat(os.path.join(path, name)).st_blocks * 512
            except OSError:
                continue
    return total


class Shim:
    """Counts the fsyncs of a server and slows each by `delay_us`."""

    def __init__(self, folder, delay_us=0):
        self.library = folder / "slowsync.so"
        self.counter = folder / "slowsync.count"
        self.delay_us = delay_us
        if not self.library.exists():
            subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(self.library), str(HERE / "slowsync.c"), "-ldl"],
                           check=True, stdin=subprocess.DEVNULL)
        self.counter.write_bytes(bytes(8))
        self.counter.chmod(0o666)  # Postfix and Dovecot run under several users

    def variables(self):
        return {"LD_PRELOAD": str(self.library), "SLOWSYNC_COUNT": str(self.counter), "SLOWSYNC_US": str(self.delay_us)}

    def count(self):
        return struct.unpack("=Q", self.counter.read_bytes()[:8])[0]
