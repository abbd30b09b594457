"""Twinpost in a folder of its own, started as `make run` starts it."""
import json
import os
import socket
from pathlib import Path

from machine import TARGET, Failed, free_ports, run, spawn, stop, wait_until

PASSWORD = "bench-password"
# The password above as $5$, so that an import of 10,000 accounts does not wait for Argon2id.
HASH = "$5$rounds=1000$twinpostbench$mmkAYUEsGTRFav3.ScE7kQpg67UoxIdfXhTwCTV3AO."
SERVICES = ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s")


class Twinpost:
    name = "Twinpost"
    key = "ours"

    def __init__(self, folder: Path, shim=None, store=""):
        self.dir = folder / "node"
        self.log = folder / "twinpost.log"
        self.shim = shim
        self.store = store
        self.ports = dict(zip(SERVICES, free_ports(len(SERVICES))))
        self.smtp, self.imap, self.imaps, self.pop3 = (self.ports[s] for s in ("smtp", "imap", "imaps", "pop3"))
        self.up = None

    def start(self, deadline):
        program = TARGET / "twinpost"
        if not program.exists():
            raise Failed(f"{program} is not built")
        document = self.dir / "a" / "appliance.toml"
        if not document.exists():
            document.parent.mkdir(parents=True)
            listeners = "".join(f'{service} = ["127.0.0.1:{port}"]\n' for service, port in self.ports.items())
            document.write_text('version = 1\n[node]\nname = "a"\nhost_name = "mail.bench.example"\n[network]\n' + listeners
                                + '[tls]\nallow_plain_sign_in = true\n[imap]\nper_account = 4000\n'
                                + '[limits]\nexempt = ["127.0.0.0/8"]\n[store]\n' + self.store)
        env = {**os.environ, **(self.shim.variables() if self.shim else {})}
        self.up = spawn([program, "up", "--dir", self.dir, "--demo", "none"], self.log, env=env)

        def answers():
            if self.up.poll() is not None:
                raise Failed(f"twinpost ended by itself: {self._last_line()}")
            with socket.socket() as s:
                return (self.dir / "endpoints.json").exists() and s.connect_ex(("127.0.0.1", self.smtp)) == 0
        wait_until(answers, deadline, 0.05)
        return self

    def _last_line(self):
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "no log"

    def ctl(self, *arguments, deadline):
        text = run([TARGET / "twinpost", "ctl", "--dir", self.dir, "--json", *arguments], deadline, self.log)
        return json.loads(text) if text.strip() else None

    def add_users(self, addresses, deadline):
        accounts = self.dir.parent / "accounts.csv"
        accounts.write_text("address,hash\n" + "".join(f"{a},{HASH}\n" for a in addresses))
        self.ctl("import", accounts, "--create-domains", deadline=deadline)

    def login(self, address):
        return address, PASSWORD

    def sign_in_all(self, addresses, deadline):
        """The first sign-in turns the imported hash into Argon2id, which is not what the cases measure."""
        pattern = addresses.pattern
        run([TARGET / "twinpost-load", "status", "--addr", f"127.0.0.1:{self.imap}", "--user", pattern, "--password", PASSWORD,
             "--users", addresses.users, "--domains", addresses.domains], deadline, self.log)

    def wait_delivered(self, deadline):
        """What is answered is in the mailbox: there is nothing to wait for."""

    def wait_indexed(self, deadline):
        """Until the full-text index has everything that the store has."""
        def caught_up():
            status = self.ctl("status", deadline=deadline)
            return status.get("search_position", 0) >= status["log_position"]
        wait_until(caught_up, deadline, 0.2)

    def count(self, addresses, deadline):
        """Messages as the node counts them for each domain."""
        domains = sorted({a.split("@")[1] for a in addresses})
        return sum(self.ctl("quota", "show", d, deadline=deadline)["used_messages"] for d in domains)

    def data(self):
        return self.dir

    def imap_pid(self):
        return self.up.pid

    def pids(self):
        return [self.up.pid]

    def stop(self):
        if self.up:
            stop(self.up)
            self.up = None


class Sink:
    """Our SMTP server in front of nothing: what protocol and load program reach alone."""
    name = "sink"
    key = "sink"

    def __init__(self, folder: Path):
        self.log = folder / "sink.log"
        self.smtp = free_ports(1)[0]
        self.child = None

    def start(self, deadline):
        program = TARGET / "examples" / "sink"
        if not program.exists():
            raise Failed(f"{program} is not built")
        self.child = spawn([program, f"127.0.0.1:{self.smtp}"], self.log)

        def listens():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.smtp)) == 0
        wait_until(listens, deadline, 0.05)
        return self

    def pids(self):
        return [self.child.pid]

    def stop(self):
        if self.child:
            stop(self.child)
            self.child = None
