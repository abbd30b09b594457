"""keepalived (VRRP) between two network namespaces: the usual way to move an address, measured by the rule of the pair.

Contract: makes its own namespaces `tpka-<pid>-*`, a bridge and a small banner server on each node, and removes them. `kill -9` of every
process of the active namespace is the crash; the figure is the time until a third namespace reads a banner on the service address
again. keepalived has no proof that the other is off, no data and no services to start: it moves an address, and that is all that is measured.
"""
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SERVICE = "10.78.0.10"
BANNER = """
import socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("0.0.0.0", 25)); s.listen(64)
while True:
    c, _ = s.accept(); c.sendall(b"220 " + sys.argv[1].encode() + b" ESMTP\\r\\n"); c.close()
"""
CLIENT = """
import socket, sys, time
# A line for each banner that was read: monotonic time and who said it.
while True:
    try:
        c = socket.create_connection((sys.argv[1], 25), timeout=0.05); c.settimeout(0.2); line = c.recv(100); c.close()
        if line.startswith(b"220"): print(time.monotonic(), line.split()[1].decode(), flush=True)
    except OSError: pass
    time.sleep(0.002)
"""


def sh(*words):
    subprocess.run([str(w) for w in words], check=True, stdout=subprocess.DEVNULL)


class Bench:
    """Two nodes and a client on one bridge."""

    def __init__(self, advert_s, folder):
        self.advert_s, self.folder = advert_s, folder
        self.hub = f"tpka-{os.getpid()}-hub"
        self.nodes = {n: f"tpka-{os.getpid()}-{n}" for n in "ab"}
        self.children = {}

    def __enter__(self):
        sh("ip", "netns", "add", self.hub)
        sh("ip", "-n", self.hub, "link", "add", "br0", "type", "bridge", "stp_state", 0, "forward_delay", 0)
        sh("ip", "-n", self.hub, "addr", "add", "10.78.0.1/24", "dev", "br0")
        sh("ip", "-n", self.hub, "link", "set", "br0", "up")
        for number, (name, ns) in enumerate(self.nodes.items(), 11):
            sh("ip", "netns", "add", ns)
            sh("ip", "-n", ns, "link", "set", "lo", "up")
            sh("ip", "-n", self.hub, "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", ns)
            sh("ip", "-n", self.hub, "link", "set", f"to-{name}", "master", "br0", "up")
            sh("ip", "-n", ns, "addr", "add", f"10.78.0.{number}/24", "dev", "eth0")
            sh("ip", "-n", ns, "link", "set", "eth0", "up")
            self.start(name)
        self.client = subprocess.Popen(
            ["ip", "netns", "exec", self.hub, sys.executable, "-c", CLIENT, SERVICE], stdout=subprocess.PIPE, text=True)
        return self

    def start(self, name):
        conf = self.folder / f"{name}.conf"
        conf.write_text(
            "global_defs {\n vrrp_version 3\n vrrp_garp_master_delay 1\n}\n"
            f"vrrp_instance mail {{\n state BACKUP\n nopreempt\n interface eth0\n virtual_router_id 51\n priority {100 + (name == 'a')}\n"
            f" advert_int {self.advert_s}\n virtual_ipaddress {{ {SERVICE}/24 dev eth0 }}\n}}\n")
        ns, log = self.nodes[name], open(self.folder / f"{name}.log", "a")
        run = ["ip", "netns", "exec", ns]
        keeper = ["keepalived", "-n", "-l", "-P", "-f", conf, "-p", self.folder / f"{name}.pid", "-r", self.folder / f"{name}.vrrp"]
        self.children[name] = [
            subprocess.Popen(run + [sys.executable, "-c", BANNER, name], stdout=log, stderr=log),
            subprocess.Popen(run + [str(w) for w in keeper], stdout=log, stderr=log),
        ]

    def banners(self, end):
        """Banners as they come, until `end` (monotonic)."""
        while (left := end - time.monotonic()) > 0:
            if select.select([self.client.stdout], [], [], left)[0]:
                at, who = self.client.stdout.readline().split()
                yield float(at), who

    def wait_for(self, who=None, quiet_s=20.0):
        for at, said in self.banners(time.monotonic() + quiet_s):
            if who is None or said == who:
                return at, said
        raise RuntimeError(f"nobody answered on {SERVICE} within {quiet_s} s")

    def crash(self, name):
        pids = subprocess.run(["ip", "netns", "pids", self.nodes[name]], check=True, capture_output=True, text=True).stdout.split()
        at = time.monotonic()
        for pid in pids:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        # A machine without power leaves no address behind.
        subprocess.run(["ip", "-n", self.nodes[name], "addr", "del", f"{SERVICE}/24", "dev", "eth0"], stderr=subprocess.DEVNULL)
        for child in self.children[name]:
            child.wait()
        return at

    def __exit__(self, *_):
        self.client.kill()
        for children in self.children.values():
            for child in children:
                child.kill()
                child.wait()
        for ns in [*self.nodes.values(), self.hub]:
            pids = subprocess.run(["ip", "netns", "pids", ns], capture_output=True, text=True).stdout.split()
            for pid in pids:
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    pass
            subprocess.run(["ip", "netns", "del", ns], stderr=subprocess.DEVNULL)


def measure(advert_s, rounds):
    """Seconds from each crash to the first banner of the other; each round in namespaces of its own."""
    took = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder, Bench(advert_s, Path(folder)) as bench:
            _, active = bench.wait_for()
            for _, active in bench.banners(time.monotonic() + 4 * advert_s + 3):
                pass
            at = bench.crash(active)
            seen, _ = bench.wait_for("b" if active == "a" else "a")
            took.append(seen - at)
    return took


if __name__ == "__main__":
    for advert_s in (1, 0.1):
        took = sorted(measure(advert_s, int(sys.argv[1]) if len(sys.argv) > 1 else 5))
        print(f"keepalived, advert {advert_s} s: p50 {statistics.median(took):.2f} s, worst {took[-1]:.2f} s of {len(took)}")
