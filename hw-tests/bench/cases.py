"""The cases: what is done to each server, and which figures come out.

A case is a function of (bench, side) that returns {figure: number}. `side` is "ours" or "peer". The title, unit and
direction of each figure stand in FIGURES, so that results of both sides meet in one table.
"""
import contextlib
import json
import select
import subprocess
import time
from dataclasses import dataclass

from machine import TARGET, Failed, Shim, cpu_s, disk_bytes, private_kib, run
from ours import Sink

MORE, LESS = "more is better", "less is better"


class Addresses(list):
    """Accounts user0, user1, ... of one or several domains."""

    def __init__(self, users, domains=1):
        self.users, self.domains = users, domains
        self.pattern = "user{}@bench.example" if domains == 1 else "user{}@d{d}.bench.example"
        super().__init__(self.pattern.replace("{}", str(n)).replace("{d}", str(n % domains)) for n in range(users))


@dataclass
class Mail:
    """A load of mail by SMTP."""
    messages: int
    size: int
    users: int
    connections: int = 20
    domains: int = 1
    recipients: int = 1


def load(bench, kind, port, *arguments, **kw):
    command = [TARGET / "twinpost-load", kind]
    command += ["--addr", f"127.0.0.1:{port}"] if port else []
    text = run([*command, *arguments], bench.deadline, bench.dir / "load.log", **kw)
    if not text.strip():
        tail = (bench.dir / "load.log").read_text(errors="replace").strip().splitlines()[-1:]
        raise Failed(" ".join(tail))
    return json.loads(text.strip().splitlines()[-1])


def send(bench, server, mail):
    """Sends it; gives the report with the time until everything was in the mailboxes."""
    addresses = Addresses(mail.users, mail.domains)
    before = sum(cpu_s(p) for p in server.pids())
    report = load(bench, "smtp", server.smtp, "--to", addresses.pattern, "--users", mail.users, "--domains", mail.domains,
                  "--recipients", mail.recipients, "--messages", mail.messages, "--size", mail.size,
                  "--connections", mail.connections, check=False)
    if report["refused"] or report["fault"] or report["answered"] != mail.messages:
        raise Failed(f"{server.name} did not take all messages: {report}")
    answered = time.monotonic()
    if server.key != "sink":
        server.wait_delivered(bench.deadline)
    report["in_mailbox_s"] = report["seconds"] + time.monotonic() - answered if server.key == "peer" else report["seconds"]
    report["cpu_s"] = sum(cpu_s(p) for p in server.pids()) - before
    return report


def check_count(bench, server, addresses, expected):
    """Every answered message is in a mailbox: by the server's own count, and as an IMAP client sees it."""
    found = server.count(addresses, bench.deadline)
    if found != expected:
        raise Failed(f"{server.name} answered {expected} copies and has {found}")
    if len(addresses) <= 100:
        user, password = server.login(addresses.pattern)
        seen = load(bench, "status", server.imap, "--user", user, "--password", password, "--users", addresses.users)
        if seen["messages"] != expected:
            raise Failed(f"{server.name} answered {expected} copies and IMAP shows {seen['messages']}")


def intake(mail):
    def case(bench, side):
        m = Mail(**{**mail.__dict__, "messages": bench.few(mail.messages)})
        addresses = Addresses(m.users, m.domains)
        server = bench.start(side)
        server.add_users(addresses, bench.deadline)
        empty = disk_bytes(server.data())
        report = send(bench, server, m)
        grown = disk_bytes(server.data()) - empty
        check_count(bench, server, addresses, m.messages * m.recipients)
        copies = m.messages * m.recipients
        return {
            "answered": copies / report["seconds"],
            "in mailbox": copies / report["in_mailbox_s"],
            "seconds": report["in_mailbox_s"],
            "cpu ms": report["cpu_s"] * 1e3 / m.messages,
            "disk MB": grown / 1e6,
        }
    return case


def limits(bench, side):
    """What could be reached: our protocol without a store; the same bytes with the same number of syncs and nothing else."""
    mail = Mail(messages=bench.few(5000), size=10_240, users=100)
    if side == "peer":
        return {}
    sink = bench.started(Sink(bench.dir))
    reached = send(bench, sink, mail)
    bench.stop(sink)
    shim = Shim(bench.dir)
    server = bench.start(side, shim=shim)
    server.add_users(Addresses(mail.users), bench.deadline)
    before = shim.count()
    ours = send(bench, server, mail)
    syncs = shim.count() - before
    bench.stop(server)
    bare = load(bench, "bare", None, "--file", bench.dir / "bare.bin", "--messages", mail.messages, "--size", mail.size,
                "--syncs", max(syncs, 1))
    alone = load(bench, "bare", None, "--file", bench.dir / "bare.bin", "--messages", bench.few(1000), "--size", mail.size,
                 "--syncs", bench.few(1000))
    return {
        "one sync": 1e3 / alone["per_second"], "sink": reached["per_second"], "ours beside": ours["per_second"], "of the sink %": 100 * ours["per_second"] / reached["per_second"],
        "syncs": syncs, "messages a sync": mail.messages / max(syncs, 1), "bare": bare["per_second"],
    }


def slow_disk(bench, side):
    """5 ms in every fsync of every process (a preloaded library), 100 connections."""
    mail = Mail(messages=bench.few(5000), size=10_240, users=100, connections=100)
    figures = {}
    for name, delay_us in (("fast", 0), ("slow", 5000)):
        # The peer takes long with a slow disk: a fifth of the messages says as much.
        m = mail if side == "ours" or delay_us == 0 else Mail(**{**mail.__dict__, "messages": max(mail.messages // 5, 100)})
        first = Mail(**{**mail.__dict__, "messages": 100})
        shim = Shim(bench.dir, delay_us)
        server = bench.start(side, shim=shim)
        server.add_users(Addresses(m.users), bench.deadline)
        send(bench, server, first)  # one to each user: making mailboxes is not the subject here
        before = shim.count()
        report = send(bench, server, m)
        figures[f"{name} disk"] = m.messages / report["in_mailbox_s"]
        figures[f"syncs a message, {name}"] = (shim.count() - before) / m.messages
        check_count(bench, server, Addresses(m.users), m.messages + first.messages)
        bench.stop(server)
    figures["slow / fast %"] = 100 * figures["slow disk"] / figures["fast disk"]
    if side == "ours":
        # The product's own switch delays the syncs of the packs only.
        server = bench.start(side, store='slow_fsync = "5 ms"\n')
        server.add_users(Addresses(mail.users), bench.deadline)
        figures["slow packs only"] = mail.messages / send(bench, server, mail)["seconds"]
        bench.stop(server)
    return figures


def imap(bench, side):
    addresses = Addresses(1)
    small, total = bench.few(1000), bench.few(20_000)
    server = bench.start(side)
    server.add_users(addresses, bench.deadline)
    server.sign_in_all(addresses, bench.deadline)
    user, password = server.login(addresses[0])
    who = ("--user", user, "--password", password)
    box = load(bench, "append", server.imap, *who, "--messages", small)
    # Between the two figures by SMTP, as 20,000 synchronous appends take minutes where a sync takes milliseconds.
    between = Mail(messages=total - 2 * small, size=10_240, users=1)
    send(bench, server, between)
    filling = load(bench, "append", server.imap, *who, "--run", 2, "--first", total - small, "--messages", small)
    server.wait_indexed(bench.deadline)
    # A restart: "first" is with cold caches of the program.
    bench.stop(server)
    bench.started(server)
    server.wait_indexed(bench.deadline)
    rare = f"{total // 3:08x}"
    times = load(bench, "read", server.imap, *who, "--rounds", 5,
                 "--command", "flags=FETCH 1:* (FLAGS)", "--command", "envelope=FETCH 1:* (ENVELOPE)",
                 "--command", "structure=FETCH 1:* (BODYSTRUCTURE)",
                 "--command", f"rare=SEARCH TEXT {rare}", "--command", "common=SEARCH TEXT holiday",
                 "--command", f'subject=SEARCH SUBJECT "message {total // 3} "')
    check_count(bench, server, addresses, total)
    bench.stop(server)
    figures = {"append small": box["per_second"], "append filling": filling["per_second"]}
    for name in ("select", "flags", "envelope", "structure", "rare", "common", "subject"):
        figures[f"{name} first"], figures[f"{name} later"] = times[name]["first_ms"], times[name]["best_ms"]
    return figures


def pop3(bench, side):
    addresses = Addresses(1)
    messages = bench.few(5000)
    server = bench.start(side)
    server.add_users(addresses, bench.deadline)
    send(bench, server, Mail(messages=messages, size=10_240, users=1))
    server.sign_in_all(addresses, bench.deadline)
    user, password = server.login(addresses[0])
    figures = {}
    for name, more in (("drain first", ()), ("drain again", ()), ("drain and delete", ("--delete",))):
        got = load(bench, "drain", server.pop3, "--user", user, "--password", password, *more)
        if got["messages"] != messages:
            raise Failed(f"{server.name} gave {got['messages']} of {messages} messages by POP3")
        figures[name] = got["with_quit_ms"] / 1e3
    if server.count(addresses, bench.deadline):
        raise Failed(f"{server.name} kept messages that POP3 deleted")
    bench.stop(server)
    return figures


@contextlib.contextmanager
def held_idle(bench, server, port, connections, users, tls):
    """Keeps so many connections selected and idle."""
    user, password = server.login(Addresses(users).pattern)
    command = [TARGET / "twinpost-load", "idle", "--addr", f"127.0.0.1:{port}", "--user", user, "--password", password,
               "--connections", connections, "--users", users, *(["--tls"] if tls else [])]
    with open(bench.dir / "load.log", "ab") as log:
        child = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    try:
        if not select.select([child.stdout], [], [], bench.deadline.left())[0]:
            raise Failed(f"{connections} idle connections were not open in time")
        if not child.stdout.readline():
            tail = (bench.dir / "load.log").read_text(errors="replace").strip().splitlines()[-1:]
            raise Failed(f"{server.name} did not hold {connections} idle connections: {' '.join(tail)}")
        time.sleep(3)  # not a wait for an event: allocators and login processes come to rest
        yield private_kib(server.imap_pid())
        child.stdin.close()
        child.wait(bench.deadline.left())
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def idle(bench, side):
    # One account: each further one signs in by Argon2id, whose memory the allocator keeps and connections would then use.
    users, few, many = 1, bench.few(500), bench.few(2000)
    addresses = Addresses(users)
    figures = {}
    for how, tls in (("plain", False), ("TLS", True)):
        server = bench.start(side)
        server.add_users(addresses, bench.deadline)
        send(bench, server, Mail(messages=1000, size=10_240, users=users))
        server.sign_in_all(addresses, bench.deadline)
        port = server.imaps if tls else server.imap
        with held_idle(bench, server, port, 20, users, tls):
            pass
        before = private_kib(server.imap_pid())
        figures[f"whole {how}"] = before / 1024
        with held_idle(bench, server, port, few, users, tls) as at_few:
            with held_idle(bench, server, port, many - few, users, tls) as at_many:
                figures[f"500 {how}"], figures[f"2000 {how}"] = (at_few - before) / few, (at_many - before) / many
                figures[f"further {how}"] = (at_many - at_few) / (many - few)
        bench.stop(server)
    return figures


KB, INTAKE = 1024, {
    "answered": ("answered", "copies/s", MORE), "in mailbox": ("in the mailbox", "copies/s", MORE),
    "seconds": ("until all are in the mailbox", "s", LESS), "cpu ms": ("processor time of the server a message", "ms", LESS),
    "disk MB": ("room on disk", "MB", LESS),
}
READ = {f"{key} {when}": (f"{title}, {when}", "ms", LESS) for key, title in (
    ("select", "SELECT"), ("flags", "FETCH 1:* FLAGS"), ("envelope", "FETCH 1:* ENVELOPE"), ("structure", "FETCH 1:* BODYSTRUCTURE"),
    ("rare", "SEARCH TEXT, a word of one message"), ("common", "SEARCH TEXT, a word of all"), ("subject", "SEARCH SUBJECT"),
) for when in ("first", "later")}

# name: (title, function, figures, time limit in seconds for each side)
CASES = {
    "100-users": ("5,000 x 10 KB to 100 users, 20 connections", intake(Mail(5000, 10 * KB, 100)), INTAKE, 180),
    "one-user": ("5,000 x 10 KB to one user, 20 connections", intake(Mail(5000, 10 * KB, 1)), INTAKE, 240),
    "1000-recipients": ("20 x 10 KB to 1,000 recipients each, 4 connections",
                        intake(Mail(20, 10 * KB, 1000, connections=4, recipients=1000)), INTAKE, 300),
    "300-kb": ("500 x 300 KB to 100 users, 20 connections", intake(Mail(500, 300 * KB, 100)), INTAKE, 120),
    "limits": ("The limits beside it: 5,000 x 10 KB to 100 users, 20 connections", limits, {
        "one sync": ("the disk: 10 KB appended and fdatasync", "ms", LESS),
        "sink": ("our SMTP server that stores nothing", "messages/s", MORE), "ours beside": ("Twinpost just after it", "messages/s", MORE),
        "of the sink %": ("Twinpost in % of the sink", "%", MORE), "syncs": ("fsyncs of Twinpost for all of them", "", LESS),
        "messages a sync": ("messages for each fsync", "", MORE), "bare": ("the same bytes and fsyncs and nothing else", "messages/s", MORE),
    }, 180),
    "old-10": ("Old table: 5,000 x 10 KB to one user, 10 connections", intake(Mail(5000, 10 * KB, 1, 10)), INTAKE, 240),
    "old-100": ("Old table: 5,000 x 10 KB to one user, 100 connections", intake(Mail(5000, 10 * KB, 1, 100)), INTAKE, 240),
    "old-400": ("Old table: 5,000 x 10 KB to one user, 400 connections", intake(Mail(5000, 10 * KB, 1, 400)), INTAKE, 300),
    "old-500x10": ("Old table: 500 users, 10 x 10 KB each", intake(Mail(5000, 10 * KB, 500)), INTAKE, 240),
    "old-100x500": ("Old table: 100 users, 500 x 10 KB each", intake(Mail(50_000, 10 * KB, 100)), INTAKE, 900),
    "old-domains": ("Old table: 1,000 domains with 10 users, 10 KB each", intake(Mail(10_000, 10 * KB, 10_000, domains=1000)), INTAKE, 400),
    "old-300kb": ("Old table: 2,000 x 300 KB to one user", intake(Mail(2000, 300 * KB, 1)), INTAKE, 240),
    "slow-disk": ("5 ms more in every fsync, 100 connections, 10 KB to 100 users", slow_disk, {
        "fast disk": ("in the mailbox, without", "messages/s", MORE), "slow disk": ("in the mailbox, with 5 ms", "messages/s", MORE),
        "slow / fast %": ("what is left", "%", MORE), "syncs a message, fast": ("fsyncs a message, without", "", LESS),
        "syncs a message, slow": ("fsyncs a message, with 5 ms", "", LESS),
        "slow packs only": ("with `[store] slow_fsync` (packs only)", "messages/s", MORE),
    }, 400),
    "imap": ("IMAP on a mailbox of 20,000 x 10 KB", imap, {
        "append small": ("APPEND one by one, the first 1,000 of a box", "messages/s", MORE),
        "append filling": ("APPEND one by one, the last 1,000 up to 20,000", "messages/s", MORE), **READ,
    }, 400),
    "pop3": ("POP3, 5,000 x 10 KB", pop3, {
        "drain first": ("drain, the first time", "s", LESS), "drain again": ("drain again", "s", LESS),
        "drain and delete": ("drain and delete", "s", LESS),
    }, 240),
    "idle": ("An idle, selected IMAP connection (private memory of the server)", idle, {
        f"{n} {how}": (f"{title}, {how}", "KiB each", LESS) for how in ("plain", "TLS")
        for n, title in (("500", "500 connections"), ("2000", "2,000 connections"), ("further", "each one from 500 to 2,000"))
    } | {
        f"whole {how}": (f"the server before, {how}", "MiB", LESS) for how in ("plain", "TLS")
    }, 600),
}
