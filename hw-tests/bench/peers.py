"""The peers of the benchmark: Postfix + Dovecot from Debian's packages, in a folder of their own.

Nothing of the system's own configuration is used or changed. Needs root, as Postfix does. Dovecot runs with
mail_fsync = always, which makes its delivery durable before LMTP answers; Postfix fsyncs its queue by itself.
"""
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

PASSWORD = "bench-password"


def sh(*command, **kw):
    return subprocess.run(command, check=True, capture_output=True, text=True, **kw)


class PostfixDovecot:
    name = "Postfix + Dovecot"

    def __init__(self, folder: Path, ports):
        self.dir = folder
        self.smtp, self.imap, self.pop3 = ports
        self.user = "vmail-bench"

    def start(self):
        d = self.dir
        for program in ("postfix", "dovecot"):
            if not shutil.which(program):
                raise SystemExit(f"{program} is not installed: make bench installs it")
        try:
            pwd.getpwnam("postfix")
        except KeyError as e:
            raise SystemExit("the user postfix is missing: the package is not configured") from e
        (d / "mail").mkdir(parents=True)
        nobody = pwd.getpwnam("nobody")
        os.chown(d / "mail", nobody.pw_uid, nobody.pw_gid)
        self._dovecot(nobody)
        self._postfix()
        self._wait_port(self.smtp)
        self._wait_port(self.imap)
        return self

    def _dovecot(self, nobody):
        d = self.dir
        conf = d / "dovecot.conf"
        conf.write_text(f"""
base_dir = {d}/dovecot-run
state_dir = {d}/dovecot-state
log_path = {d}/dovecot.log
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
mail_fsync = always
mail_location = maildir:{d}/mail/%n
mail_uid = {nobody.pw_uid}
mail_gid = {nobody.pw_gid}
first_valid_uid = 1
first_valid_gid = 1
default_internal_user = dovecot
default_login_user = dovenull
default_process_limit = 4000
default_client_limit = 8000
mail_max_userip_connections = 4000
auth_username_format = %n
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid={nobody.pw_uid} gid={nobody.pw_gid} home={d}/mail/%n allow_all_users=yes
}}
service imap-login {{
  inet_listener imap {{
    port = {self.imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
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
  process_min_avail = 4
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
        with open(d / "dovecot.start", "w") as log:
            subprocess.run(["dovecot", "-c", str(conf)], check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _postfix(self):
        d = self.dir
        conf = d / "postfix"
        conf.mkdir()
        queue, data = d / "spool", d / "postfix-data"
        queue.mkdir()
        data.mkdir()
        postfix = pwd.getpwnam("postfix")
        os.chown(data, postfix.pw_uid, postfix.pw_gid)
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
daemon_directory = /usr/lib/postfix/sbin
virtual_mailbox_domains = regexp:{conf}/domains
virtual_transport = lmtp:unix:{d}/dovecot-run/lmtp
lmtp_destination_recipient_limit = 1000
default_process_limit = 400
smtpd_client_connection_count_limit = 0
smtpd_recipient_limit = 2000
smtpd_timeout = 600s
maillog_file = {d}/postfix.log
maillog_file_prefixes = {d}
smtpd_relay_restrictions = permit_mynetworks, reject
smtputf8_enable = no
alias_maps =
alias_database =
""")
        (conf / "domains").write_text("/^.*bench\\.example$/ ok\n")
        base = Path("/usr/share/postfix/master.cf.dist").read_text() if Path("/usr/share/postfix/master.cf.dist").exists() else Path("/etc/postfix/master.cf").read_text()
        lines = []
        for line in base.splitlines():
            fields = line.split()
            if line.startswith("smtp") and len(fields) > 7 and fields[1] == "inet":
                line = f"127.0.0.1:{self.smtp} inet n - n - - smtpd"
            elif len(fields) > 7 and not line.startswith((" ", "#")):
                fields[4] = "n"  # no chroot: the folder is made for this run only
                line = " ".join(fields)
            lines.append(line)
        lines.append("postlog unix-dgram n - n - 1 postlogd") if not any(x.startswith("postlog") for x in lines) else None
        (conf / "master.cf").write_text("\n".join(lines) + "\n")
        os.environ["MAIL_CONFIG"] = str(conf)
        with open(d / "postfix.start", "w") as log:
            subprocess.run(["postfix", "-c", str(conf), "start"], check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _wait_port(self, port):
        import socket
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit(f"nothing listens on port {port}; logs are in {self.dir}")

    def queued(self):
        """Messages that Postfix has answered and not delivered yet."""
        total = 0
        for name in ("incoming", "active", "deferred", "maildrop"):
            for _, _, files in os.walk(self.dir / "spool" / name):
                total += len(files)
        return total

    def wait_delivered(self):
        while self.queued():
            time.sleep(0.02)

    def count(self):
        """Messages in all maildirs."""
        return sum(len(files) for path, _, files in os.walk(self.dir / "mail") if path.endswith(("/new", "/cur")))

    def login(self, user):
        return user.split("@")[0], PASSWORD

    def pids_of_imap(self):
        out = subprocess.run(["pgrep", "-x", "imap|imap-login"], capture_output=True, text=True).stdout
        mine = []
        for pid in out.split():
            try:
                if str(self.dir) in Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace") or self._child_of_mine(int(pid)):
                    mine.append(int(pid))
            except OSError:
                continue
        return mine

    def _child_of_mine(self, pid):
        master = int((self.dir / "dovecot-run" / "master.pid").read_text())
        stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(stat[1]) == master

    def stop(self):
        subprocess.run(["postfix", "-c", str(self.dir / "postfix"), "stop"], capture_output=True)
        pidfile = self.dir / "dovecot-run" / "master.pid"
        if pidfile.exists():
            pid = int(pidfile.read_text())
            try:
                os.kill(pid, signal.SIGTERM)
                for _ in range(100):
                    os.kill(pid, 0)
                    time.sleep(0.05)
            except ProcessLookupError:
                pass
