"""Postfix + Dovecot from Debian's packages, in a folder of their own.

Nothing of the system's own configuration is used or changed. Needs root, as Postfix does. Dovecot runs with
mail_fsync = always, which makes its delivery durable before LMTP answers; Postfix fsyncs its queue by itself.
What Debian's packages set is kept, except limits that would stop a load from one address.
"""
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

from machine import Failed, descendants, free_ports, spawn, stop, wait_port, wait_until

PASSWORD = "bench-password"
POSTFIX_DAEMONS = "/usr/lib/postfix/sbin"


class PostfixDovecot:
    name = "Postfix + Dovecot"
    key = "peer"

    def __init__(self, folder: Path, shim=None):
        self.dir = folder
        self.shim = shim
        self.smtp, self.imap, self.imaps, self.pop3 = free_ports(4)
        self.dovecot = self.postfix = None

    def start(self, deadline):
        d = self.dir
        for program in ("postfix", "dovecot"):
            if not shutil.which(program):
                raise Failed(f"{program} is not installed: make bench installs it")
        if os.geteuid() != 0:
            raise Failed("Postfix needs root: run make bench as root, or with --ours")
        nobody = pwd.getpwnam("nobody")
        if not (d / "mail").exists():
            (d / "mail").mkdir(parents=True)
            os.chown(d / "mail", nobody.pw_uid, nobody.pw_gid)
            d.chmod(0o755)
            self._certificate()
            self._dovecot(nobody)
            self._postfix()
        self.dovecot = spawn(["dovecot", "-F", "-c", d / "dovecot.conf"], d / "dovecot.start", env=self._env())
        wait_port(self.imap, self.dovecot, deadline, d / "dovecot.log")
        self.postfix = spawn(["postfix", "-c", d / "postfix", "start-fg"], d / "postfix.start", env=self._env())
        wait_port(self.smtp, self.postfix, deadline, d / "postfix.log")
        return self

    def _env(self):
        env = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "TZ")}
        env["MAIL_CONFIG"] = str(self.dir / "postfix")
        return env

    def _certificate(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", "/CN=bench.example", "-keyout", str(self.dir / "key.pem"), "-out", str(self.dir / "cert.pem")],
                       check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _import(self):
        return " ".join(f"{k}={v}" for k, v in self.shim.variables().items()) if self.shim else ""

    def _dovecot(self, nobody):
        d = self.dir
        many = "process_limit = 4000\n"
        (d / "dovecot.conf").write_text(f"""
base_dir = {d}/dovecot-run
state_dir = {d}/dovecot-state
log_path = {d}/dovecot.log
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <{d}/cert.pem
ssl_key = <{d}/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain
mail_fsync = always
mail_location = maildir:{d}/mail/%d/%n
first_valid_uid = 1
first_valid_gid = 1
default_client_limit = 8000
mail_max_userip_connections = 4000
import_environment = TZ {self._import()}
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid={nobody.pw_uid} gid={nobody.pw_gid} home={d}/mail/%d/%n allow_all_users=yes
}}
service imap-login {{
  {many}
  inet_listener imap {{
    port = {self.imap}
  }}
  inet_listener imaps {{
    port = {self.imaps}
    ssl = yes
  }}
}}
service imap {{
  {many}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {self.pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
}}
service stats {{
  client_limit = 20000
}}
service anvil {{
  client_limit = 20000
}}
service auth {{
  client_limit = 20000
}}
""")

    def _postfix(self):
        d = self.dir
        conf, queue, data = d / "postfix", d / "spool", d / "postfix-data"
        for folder in (conf, queue, data):
            folder.mkdir()
        os.chown(data, pwd.getpwnam("postfix").pw_uid, pwd.getpwnam("postfix").pw_gid)
        (conf / "main.cf").write_text(f"""
compatibility_level = 3.6
myhostname = bench.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
queue_directory = {queue}
data_directory = {data}
command_directory = /usr/sbin
daemon_directory = {POSTFIX_DAEMONS}
virtual_mailbox_domains = regexp:{conf}/domains
virtual_transport = lmtp:unix:{d}/dovecot-run/lmtp
lmtp_destination_recipient_limit = 1000
default_process_limit = 450
smtpd_client_connection_count_limit = 0
smtpd_recipient_limit = 2000
maillog_file = {d}/postfix.log
maillog_file_prefixes = {d}
smtpd_relay_restrictions = permit_mynetworks, reject
alias_maps =
alias_database =
import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ XAUTHORITY DISPLAY LANG=C {self._import()}
""")
        (conf / "domains").write_text("/^(.*\\.)?bench\\.example$/ ok\n")
        lines = []
        for line in Path("/usr/share/postfix/master.cf.dist").read_text().splitlines():
            fields = line.split()
            if len(fields) > 7 and not line.startswith((" ", "#")):
                if fields[0] == "smtp" and fields[1] == "inet":
                    fields[0] = f"127.0.0.1:{self.smtp}"
                fields[4] = "n"  # no chroot: the folder is made for this run only
                line = " ".join(fields)
            lines.append(line)
        (conf / "master.cf").write_text("\n".join(lines) + "\n")

    def add_users(self, addresses, deadline):
        """Every address of bench.example is a user."""

    def login(self, address):
        return address, PASSWORD

    def sign_in_all(self, addresses, deadline):
        """Signing in changes nothing here."""

    def _queued(self):
        for name in ("incoming", "active", "maildrop"):
            with os.scandir(self.dir / "spool" / name) as entries:
                if any(True for _ in entries):
                    return True
        for _, _, files in os.walk(self.dir / "spool" / "deferred"):
            if files:
                raise Failed(f"Postfix deferred messages; see {self.dir}/postfix.log")
        return False

    def wait_delivered(self, deadline):
        """Until everything that Postfix answered is in a mailbox."""
        wait_until(lambda: not self._queued(), deadline)

    def wait_indexed(self, deadline):
        """There is no full-text index here."""

    def count(self, addresses, deadline):
        """Messages in all mailboxes."""
        return sum(len(files) for path, _, files in os.walk(self.dir / "mail") if path.endswith(("/new", "/cur")))

    def data(self):
        return self.dir / "mail"

    def imap_pid(self):
        return self.dovecot.pid

    def pids(self):
        return [self.dovecot.pid, self.postfix.pid]

    def stop(self):
        if self.postfix:
            # The master has a session of its own: end it by its pid file, if it is below our child.
            pidfile = self.dir / "spool" / "pid" / "master.pid"
            try:
                master = int(pidfile.read_text())
                if master in descendants(self.postfix.pid):
                    below = descendants(master)
                    os.kill(master, signal.SIGTERM)
                    for _ in range(100):
                        if not any(Path(f"/proc/{p}").exists() for p in below[1:]):
                            break
                        time.sleep(0.05)
            except (OSError, ValueError):
                pass
            stop(self.postfix)
            self.postfix = None
        if self.dovecot:
            stop(self.dovecot)
            self.dovecot = None
