#!/usr/bin/env python3
"""Text messages: how many a minute a driver gets through a modem that answers at once, and how long one waits in an idle driver.

Contract: each driver is measured alone, in a fresh folder, with the simulated modem (`twinpost-modem`, instant) on its port;
whatever was started is stopped. Times are the modem's own: `asked` in its record is when `AT+CMGS` came. A driver is a class with
`name`, `period_s` (how often it looks), `start(folder, port)`, `submit(number, text)` and `stop()`; `measure` does the rest, so
another one is measured by the same rule. As a program it measures Twinpost, and smsd of smstools and gammu-smsd, as Debian sets them and tuned,
and writes bench-results/sms.json and sms.md.
"""
import argparse
import datetime
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import ROOT, TARGET, Deadline, Failed, spawn, stop, stop_all, wait_until  # noqa: E402

NUMBER = "+4915112345678"


def moment(text):
    """Seconds since 1970 of the record's times."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class Modem:
    """A simulated modem and what its phones received."""

    def __init__(self, folder, log):
        self.port, self.file = folder / "modem", folder / "record"
        self.file.touch()
        self.child = spawn([TARGET / "twinpost-modem", "--link", self.port, "--record", self.file, "--quiet", "--seed", "1"], log)
        wait_until(self.port.is_symlink, Deadline(10))

    def received(self):
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def stop(self):
        stop(self.child)


class Smsd:
    """smsd of smstools: one file a message in a folder that it looks through."""

    def __init__(self, tuned):
        self.name = "smsd, tuned" if tuned else "smsd"
        # Seconds between two looks at its folder.
        self.tuned, self.period_s = tuned, 2 if tuned else 10

    def start(self, folder, port):
        self.folder = folder
        folders = ("outgoing", "incoming", "checked", "failed", "sent")
        for f in folders:
            (folder / f).mkdir()
        # Tuned: the shortest waits that its configuration takes.
        waits = "delaytime = 1\ndelaytime_mainprocess = 1\nreceive_before_send = no\n" if self.tuned else ""
        device = "[GSM1]\nincoming = no\ncheck_network = 0\n" if self.tuned else "[GSM1]\nincoming = yes\n"
        (folder / "smsd.conf").write_text(
            "devices = GSM1\n" + "".join(f"{f} = {folder / f}\n" for f in folders) +
            f"logfile = {folder / 'log'}\ninfofile = {folder / 'info'}\npidfile = {folder / 'pid'}\nloglevel = 4\n" + waits +
            device + f"device = {port}\nbaudrate = 115200\n")
        self.child = spawn(["smsd", "-t", "-c", folder / "smsd.conf"], folder / "output", cwd=folder)
        self.n = 0

    def submit(self, number, text):
        # Written beside and moved: smsd takes what it sees.
        self.n += 1
        new = self.folder / f"new-{self.n}"
        new.write_text(f"To: {number.lstrip('+')}\n\n{text}")
        os.rename(new, self.folder / "outgoing" / f"{self.n:06}")

    def stop(self):
        stop(self.child)


class Gammu:
    """gammu-smsd with its files service."""

    def __init__(self, tuned):
        self.name = "gammu-smsd, tuned" if tuned else "gammu-smsd"
        self.tuned, self.period_s = tuned, 2 if tuned else 30

    def start(self, folder, port):
        self.folder = folder
        for f in ("inbox", "outbox", "sent", "error"):
            (folder / f).mkdir()
        waits = ("commtimeout = 1\nloopsleep = 0\nreceivefrequency = 1\nstatusfrequency = 0\n"
                 "checksecurity = 0\ncheckbattery = 0\nchecksignal = 0\nchecknetwork = 0\n") if self.tuned else ""
        (folder / "rc").write_text(
            f"[gammu]\ndevice = {port}\nconnection = at115200\n[smsd]\nservice = files\nlogfile = {folder / 'log'}\ndebuglevel = 0\n"
            f"inboxpath = {folder / 'inbox'}/\noutboxpath = {folder / 'outbox'}/\nsentsmspath = {folder / 'sent'}/\n"
            f"errorsmspath = {folder / 'error'}/\n" + waits)
        self.child = spawn(["gammu-smsd", "-c", folder / "rc"], folder / "output", cwd=folder)
        self.n = 0

    def submit(self, number, text):
        # The form of its outbox: OUT<priority><date>_<time>_<serial>_<number>_<note>.txt; made beside and moved, as its own tool is slow.
        self.n += 1
        new = self.folder / f"new-{self.n}"
        new.write_text(text)
        stamp = datetime.datetime.now().strftime("%Y%m%d_%H%M%S")
        os.rename(new, self.folder / "outbox" / f"OUTC{stamp}_{self.n % 100:02}_{number}_n{self.n}.txt")

    def stop(self):
        stop(self.child)


class Twinpost:
    """`twinpost sms`: one JSON line a message on its socket, answered after it is on the disk."""

    name, period_s = "Twinpost", 0
    # It is quick: more of each, so that its figures are more than noise.
    times = 25

    def start(self, folder, port):
        self.node, self.n = folder / "node", 0
        self.node.mkdir()
        (self.node / "appliance.toml").write_text(
            'version = 1\n[node]\nname = "a"\nhost_name = "mail.bench.example"\n'
            f'[sms]\nenabled = true\nport = "{port}"\n[sms.numbers]\nallowed = ["+"]\n')
        self.child = spawn([TARGET / "twinpost", "sms", "--node", self.node], folder / "output")
        self.socket = socket.socket(socket.AF_UNIX)
        path = self.node / "run" / "sms" / "sock"
        wait_until(path.exists, Deadline(20))
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rw")
        wait_until(lambda: self.ask({"op": "state"})["ways"][0]["condition"] == "ready", Deadline(20))

    def ask(self, request):
        self.lines.write(json.dumps(request) + "\n")
        self.lines.flush()
        return json.loads(self.lines.readline())

    def submit(self, number, text):
        self.n += 1
        answer = self.ask({"op": "submit", "key": f"bench-{self.n}", "class": "alarm", "to": number, "text": text, "durable": True})
        if answer["is"] != "accepted":
            raise Failed(f"Twinpost does not take a message: {answer}")

    def stop(self):
        self.socket.close()
        stop(self.child)


def latency(driver, modem, tries, deadline, seed):
    """Milliseconds from handing a message to an idle driver until `AT+CMGS`, at moments that do not keep step with its polling."""
    dice, taken = random.Random(seed), []
    for n in range(tries):
        # A whole turn of its polling: the moment is anywhere in it.
        time.sleep(dice.uniform(0.1, 0.1 + driver.period_s))
        before, text = len(modem.received()), f"alarm {n}"
        handed = time.time()
        driver.submit(NUMBER, text)
        wait_until(lambda: len(modem.received()) > before, deadline, 0.005)
        message = modem.received()[-1]
        if message["text"] != text:
            raise Failed(f"{driver.name} sent {message['text']!r} for {text!r}")
        taken.append((moment(message["asked"]) - handed) * 1000)
    return sorted(taken)


def throughput(driver, modem, messages, deadline):
    """Messages a minute while more are waiting, by the modem's clock."""
    before = len(modem.received())
    for n in range(messages):
        driver.submit(NUMBER, f"message {n} of a storm that nobody has ordered, with some words to fill it")
    wait_until(lambda: len(modem.received()) >= before + messages, deadline)
    got = modem.received()[before:]
    if len({m["text"] for m in got}) != messages:
        raise Failed(f"{driver.name} lost or repeated messages")
    begin, end = moment(got[0]["asked"]), moment(got[-1]["asked"])
    return (messages - 1) / max(end - begin, 0.001) * 60


def measure(driver, folder, messages=60, tries=10, seconds=600, seed=1):
    """Figures of one driver: {"a_minute", "latency_p50_ms", "latency_most_ms", ...}."""
    deadline = Deadline(seconds)
    modem = Modem(folder, folder / "modem.log")
    try:
        driver.start(folder, modem.port)
        try:
            driver.submit(NUMBER, "first")
            wait_until(lambda: modem.received(), deadline)
            taken = latency(driver, modem, tries, deadline, seed)
            a_minute = throughput(driver, modem, messages, deadline)
        finally:
            driver.stop()
    finally:
        modem.stop()
    return {"a_minute": a_minute, "latency_p50_ms": taken[len(taken) // 2], "latency_most_ms": taken[-1],
            "tries": tries, "messages": messages}


DRIVERS = {"twinpost": Twinpost, "smsd": lambda: Smsd(False), "smsd-tuned": lambda: Smsd(True), "gammu": lambda: Gammu(False), "gammu-tuned": lambda: Gammu(True)}


def main():
    parser = argparse.ArgumentParser(description="Twinpost, smsd and gammu-smsd with a modem that answers at once.")
    parser.add_argument("--only", help="drivers, with commas: " + ", ".join(DRIVERS))
    parser.add_argument("--messages", type=int, default=40, help="messages of the storm")
    parser.add_argument("--tries", type=int, default=8, help="single messages")
    parser.add_argument("--results", default=str(ROOT / "bench-results"), help="where results go")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(DRIVERS)
    if unknown := [n for n in names if n not in DRIVERS]:
        parser.error(f"no such driver: {', '.join(unknown)}")

    def end(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, end)
    results, figures, faults = Path(arguments.results).resolve(), {}, 0
    results.mkdir(parents=True, exist_ok=True)
    try:
        for name in names:
            driver = DRIVERS[name]()
            with tempfile.TemporaryDirectory(prefix="sms-") as folder:
                try:
                    times = getattr(driver, "times", 1)
                    figures[driver.name] = measure(driver, Path(folder), arguments.messages * times, arguments.tries * times)
                    f = figures[driver.name]
                    print(f"{driver.name}: {f['a_minute']:.0f} a minute; to AT+CMGS {f['latency_p50_ms']:.1f} ms, at most "
                          f"{f['latency_most_ms']:.1f} ms", flush=True)
                except (Failed, OSError, subprocess.SubprocessError) as e:
                    faults += 1
                    print(f"{driver.name}: FAILED: {e}", flush=True)
                finally:
                    stop_all()
    except KeyboardInterrupt:
        faults += 1
    finally:
        stop_all()
    (results / "sms.json").write_text(json.dumps(figures, indent=1) + "\n")
    rows = [f"| {name} | {f['a_minute']:.0f} | {f['latency_p50_ms']:.1f} | {f['latency_most_ms']:.1f} | {f['tries']} |" for name, f in figures.items()]
    head = "| driver | messages a minute | to `AT+CMGS`, median, ms | longest, ms | tries |\n|---|---:|---:|---:|---:|\n"
    (results / "sms.md").write_text(head + "\n".join(rows) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
