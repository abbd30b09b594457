#!/usr/bin/env python3
"""The pair: from a crash to the first SMTP banner, planned switches, false takeovers under loss, CPU of an idle daemon; keepalived beside it.

Contract: starts its own pair (`twinpost up` in a fresh folder, simulated cables, a watchdog and a witness as for a newcomer) and stops it. A client sends mail
all the time, remembers each 250 and looks for each message at the end by IMAP: once, no less and no more. A crash is `kill -9` of every process that
`endpoints.json` lists for the active node. Writes bench-results/pair.json and pair.md.
"""
import argparse
import imaplib
import json
import os
import smtplib
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import keepalived  # noqa: E402
from machine import ROOT, TARGET, Deadline, Failed, spawn, stop, stop_all, wait_until  # noqa: E402

TO = "anna@school.example"


class Pair:
    """Two nodes in a folder."""

    def __init__(self, folder):
        self.dir, self.log, self.ups = folder / "pair", folder / "up.log", {}
        self.ups["both"] = self.up("--nodes", "2")
        wait_until(lambda: self.settled(), Deadline(120))

    def up(self, *more):
        return spawn([TARGET / "twinpost", "up", "--dir", self.dir, "--modem", "none", *more], self.log)

    def endpoints(self):
        try:
            return json.loads((self.dir / "endpoints.json").read_text())
        except (OSError, ValueError):
            return {}

    def pids(self, name):
        return next((n["pids"] for n in self.endpoints().get("nodes", []) if n["name"] == name), {})

    def ctl(self, *words, node=None):
        where = self.dir / node if node else self.dir
        done = subprocess.run([TARGET / "twinpost", "ctl", "--dir", where, "--json", *words], capture_output=True, text=True)
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def status(self):
        return self.ctl("pair", "status")

    def settled(self):
        """One serves, the other may take over."""
        status = self.status()
        nodes = {n["name"]: n for n in status.get("nodes", [])}
        active = status.get("active")
        other = nodes.get({"a": "b", "b": "a"}.get(active))
        return bool(other and other["eligible"] and self.endpoints().get("accounts"))

    def service(self):
        service = self.endpoints()["service"]
        return service["address"], service

    def crash(self, name):
        at = time.monotonic()
        for pid in self.pids(name).values():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        return at

    def back(self, name):
        old = self.ups.pop(name, None)
        if old:
            old.wait()
        self.ups[name] = self.up("--only", name)
        wait_until(self.settled, Deadline(60))

    def end(self):
        for up in reversed(list(self.ups.values())):
            stop(up)


def first_banner(address, port, limit_s=30):
    """When a banner was read for the first time (monotonic)."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            with socket.create_connection((address, port), timeout=0.2) as s:
                s.settimeout(0.5)
                if s.recv(64).startswith(b"220"):
                    return time.monotonic()
        except OSError:
            pass
        time.sleep(0.002)
    raise Failed(f"no banner on {address}:{port} within {limit_s} s")


class Sender(threading.Thread):
    """Sends all the time, one message after the other, each until its 250."""

    def __init__(self, address, port):
        super().__init__(daemon=True)
        self.address, self.port, self.sent, self.errors, self.over = address, port, [], 0, threading.Event()

    def run(self):
        session, number = None, 0
        while not self.over.is_set():
            number += 1
            name = f"bench.{number}@load.example"
            text = f"From: load@elsewhere.example\r\nTo: {TO}\r\nSubject: {number}\r\nMessage-ID: <{name}>\r\n\r\n" + "x" * 2000 + "\r\n"
            while not self.over.is_set():
                try:
                    if session is None:
                        session = smtplib.SMTP(self.address, self.port, timeout=20)
                    session.sendmail("load@elsewhere.example", [TO], text)
                    self.sent.append(name)
                    break
                except (OSError, smtplib.SMTPException):
                    # Trying to connect while nobody listens is no broken connection.
                    self.errors, session = self.errors + (session is not None), None
                    time.sleep(0.01)

    def end(self):
        self.over.set()
        self.join()


def found(pair):
    """How often each Message-ID is in the mailbox."""
    endpoints = pair.endpoints()
    account = next(a for a in endpoints["accounts"] if a["address"] == TO)
    context = ssl.create_default_context(cafile=endpoints["ca"])
    address, ports = pair.service()
    first_banner(address, ports["smtp"])
    box = imaplib.IMAP4_SSL(address, ports["imaps"], ssl_context=context)
    box.login(TO, account["password"])
    box.select("INBOX", readonly=True)
    _, data = box.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")
    box.logout()
    counts = {}
    for part in data:
        if isinstance(part, tuple):
            name = part[1].decode().split("<", 1)[-1].split(">", 1)[0]
            counts[name] = counts.get(name, 0) + 1
    return counts


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def crashes(folder, rounds):
    pair = Pair(folder)
    address, ports = pair.service()
    sender = Sender(address, ports["smtp"])
    sender.start()
    took = []
    for n in range(rounds):
        active = pair.status()["active"]
        at = pair.crash(active)
        took.append(first_banner(address, ports["smtp"]) - at)
        print(f"  crash {n + 1}/{rounds}: {took[-1] * 1000:.0f} ms", flush=True)
        pair.back(active)
    switches, before = [], sender.errors
    for _ in range(max(5, rounds // 3)):
        wait_until(pair.settled, Deadline(60))
        active, errors = pair.status()["active"], sender.errors
        pair.ctl("pair", "standby", "--yes")
        wait_until(lambda: pair.status().get("active") not in (None, active) and pair.settled(), Deadline(60), 0.05)
        switches.append((pair.status()["last_switch"]["took_ms"] / 1000, sender.errors - errors))
    planned_errors = sender.errors - before
    sender.end()
    counts = found(pair)
    lost = [name for name in sender.sent if name not in counts]
    # A message of which the answer was cut off is sent again: that one may be there twice (RFC 5321 4.5.3.2.6), an answered one never.
    twice = [name for name in sender.sent if counts.get(name, 0) > 1]
    pair.end()
    return {
        "crash_s": took, "switch_s": [s for s, _ in switches], "switch_errors": planned_errors,
        "acknowledged": len(sender.sent), "lost": len(lost), "twice": len(twice),
    }


def cpu_idle(folder, seconds):
    pair = Pair(folder)
    ticks = os.sysconf("SC_CLK_TCK")

    def used():
        total = 0
        for node in "ab":
            fields = Path(f"/proc/{pair.pids(node)['pair']}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / ticks / 2

    before = used()
    time.sleep(seconds)
    share = (used() - before) / seconds
    pair.end()
    return share


def loss(folder, seconds):
    """A pair for each link, all at once, each with 20 % loss on that link."""
    pairs = {}
    for link in ("eth1", "lan", "serial"):
        (folder / link).mkdir()
        pairs[link] = Pair(folder / link)
    reigns = {link: pair.status()["reign"] for link, pair in pairs.items()}
    for link, pair in pairs.items():
        pair.ctl("rack", "garble" if link == "serial" else "loss", *(["serial", "0.0035"] if link == "serial" else [link, "20"]))
    time.sleep(seconds)
    false = {link: pair.status()["reign"] - reigns[link] for link, pair in pairs.items()}
    for pair in pairs.values():
        pair.end()
    return false


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=50)
    options.add_argument("--loss-seconds", type=int, default=600)
    options.add_argument("--idle-seconds", type=int, default=60)
    options.add_argument("--without-keepalived", action="store_true")
    wished = options.parse_args()
    result, rows = {}, []
    with tempfile.TemporaryDirectory(prefix="tp-pair-", ignore_cleanup_errors=True) as folder:
        try:
            folder = Path(folder)
            for name in ("crash", "idle", "loss"):
                (folder / name).mkdir()
            print("crashes and planned switches under load", flush=True)
            result |= crashes(folder / "crash", wished.rounds)
            took, planned = result["crash_s"], result["switch_s"]
            rows.append(("crash to first SMTP banner, Twinpost", f"p50 {statistics.median(took):.2f} s, p99 {quantile(took, 0.99):.2f} s, {len(took)} rounds"))
            rows.append(("planned switch, Twinpost", f"p50 {statistics.median(planned):.2f} s, worst {max(planned):.2f} s, {len(planned)} rounds, {result['switch_errors']} broken connections"))
            rows.append(("acknowledged messages", f"{result['acknowledged']}, lost {result['lost']}, twice {result['twice']}"))
            if wished.idle_seconds:
                print("an idle pair", flush=True)
                result["idle_cpu"] = cpu_idle(folder / "idle", wished.idle_seconds)
                rows.append(("CPU of an idle pair daemon", f"{result['idle_cpu'] * 100:.2f} % of one processor"))
            if wished.loss_seconds:
                print("20 % loss on one link", flush=True)
                result["false_takeovers"] = loss(folder / "loss", wished.loss_seconds)
                rows.append((f"takeovers in {wished.loss_seconds} s at 20 % loss on eth1 / lan / serial", " / ".join(str(n) for n in result["false_takeovers"].values())))
        finally:
            # Before the folder goes: nodes would still write into it.
            stop_all()
    if not wished.without_keepalived:
        if os.geteuid():
            rows.append(("keepalived", "not measured: it needs root"))
        else:
            for advert_s in (1, 0.1):
                print(f"keepalived, advert {advert_s} s", flush=True)
                took = keepalived.measure(advert_s, min(wished.rounds, 10))
                result[f"keepalived_{advert_s}"] = took
                rows.append((f"crash to first banner, keepalived with adverts every {advert_s} s (an address only: no proof, no data, no services)",
                             f"p50 {statistics.median(took):.2f} s, worst {max(took):.2f} s, {len(took)} rounds"))
    out = ROOT / "bench-results"
    out.mkdir(exist_ok=True)
    (out / "pair.json").write_text(json.dumps(result, indent=1))
    text = "| what | figure |\n|---|---|\n" + "".join(f"| {a} | {b} |\n" for a, b in rows)
    (out / "pair.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
