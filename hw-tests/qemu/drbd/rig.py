"""Two QEMU machines with DRBD 8.4 between them, driven over a serial line each. Ends by itself: every wait has an end, and the machines die
with this program."""
import ctypes, json, os, shutil, signal, socket, subprocess, tempfile, time

DISK_BYTES = 32 << 20


def with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Node:
    def __init__(self, rig, name, number):
        self.rig, self.name, self.number, self.process = rig, name, number, None
        self.disk = f"{rig.folder}/{name}.disk"
        with open(self.disk, "wb") as disk:
            disk.truncate(DISK_BYTES)

    def path(self, what):
        return f"{self.rig.folder}/{self.name}.{what}"

    def start(self):
        mine, other = f"{self.rig.folder}/eth.{self.number}", f"{self.rig.folder}/eth.{3 - self.number}"
        for old in (mine, self.path("shell"), self.path("qmp")):
            if os.path.exists(old):
                os.unlink(old)
        args = ["qemu-system-x86_64", "-name", self.name, "-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1",
                "-m", "384", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-kernel", f"{self.rig.work}/vmlinux", "-initrd", f"{self.rig.work}/initrd.cpio",
                "-append", f"console=ttyS0 panic=-1 net.ifnames=0 mitigations=off random.trust_cpu=on tsc=reliable no_timer_check "
                           f"name={self.name} ip=10.1.1.{self.number}/24",
                "-drive", f"file={self.disk},if=none,id=d0,format=raw", "-device", "virtio-blk-pci,drive=d0",
                "-netdev", f"dgram,id=n0,local.type=unix,local.path={mine},remote.type=unix,remote.path={other}",
                "-device", f"virtio-net-pci,netdev=n0,id=eth0,romfile=,mac=52:54:00:00:01:0{self.number}",
                "-serial", f"file:{self.path('console')}", "-serial", f"unix:{self.path('shell')},server=on,wait=off",
                "-qmp", f"unix:{self.path('qmp')},server=on,wait=off"]
        if self.rig.payload:
            args += ["-drive", f"file={self.rig.payload},if=none,id=d1,format=raw,readonly=on", "-device", "virtio-blk-pci,drive=d1"]
        self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, preexec_fn=with_parent)
        self.count = 0

    def connect(self):
        end = time.monotonic() + 120
        while True:
            try:
                self.line = socket.socket(socket.AF_UNIX)
                self.line.connect(self.path("shell"))
                break
            except OSError:
                self.line.close()
                if time.monotonic() > end or self.process.poll() is not None:
                    raise RuntimeError(self.console()[-2000:])
                time.sleep(0.05)
        self.rest = b""
        # What is sent before the shell reads may be lost with the line's settings: ask until it answers the newest question.
        self.line.settimeout(1)
        asked = 0
        while f"ready-{asked}\n".encode() not in self.rest.replace(b"\r", b""):
            asked += 1
            self.line.sendall(f"\necho re''ady-{asked}\n".encode())
            try:
                while f"ready-{asked}".encode() + b"\n" not in self.rest.replace(b"\r", b""):
                    self.rest += self.line.recv(4096)
            except TimeoutError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise RuntimeError(self.console()[-2000:])
        self.rest = b""

    def console(self):
        with open(self.path("console"), "rb") as console:
            return console.read().decode("latin1")

    def sh(self, command, limit=60, check=True):
        """Runs a command; its output."""
        self.count += 1
        mark = f"end-{self.count}-"
        self.line.sendall(f"{{ {command}\n}} 2>&1; echo {mark[:-1]}''-$?\n".encode())
        end = time.monotonic() + limit
        while True:
            at = self.rest.find(mark.encode())
            if at >= 0 and b"\n" in self.rest[at:]:
                break
            self.line.settimeout(max(0.1, end - time.monotonic()))
            data = self.line.recv(65536)
            if not data:
                raise RuntimeError(f"{self.name} is gone")
            self.rest += data
        text, _, rest = self.rest.partition(mark.encode())
        code, _, self.rest = rest.partition(b"\n")
        text = text.decode("latin1").replace("\r", "")
        if check and int(code) != 0:
            raise RuntimeError(f"{self.name}: {command}: {int(code)}: {text}")
        return text.strip()

    def until(self, command, wanted, limit=60):
        end = time.monotonic() + limit
        while True:
            said = self.sh(command, check=False)
            if wanted in said:
                return said
            if time.monotonic() > end:
                raise RuntimeError(f"{self.name}: {command} never said {wanted!r}: {said}\n{self.console()[-3000:]}")
            time.sleep(0.1)

    def cable(self, up):
        """The network cable of this node."""
        with socket.socket(socket.AF_UNIX) as qmp:
            qmp.connect(self.path("qmp"))
            lines = qmp.makefile("rw")
            lines.readline()
            for order in ({"execute": "qmp_capabilities"}, {"execute": "set_link", "arguments": {"name": "eth0", "up": up}}):
                lines.write(json.dumps(order) + "\n")
                lines.flush()
                while "return" not in json.loads(lines.readline()):
                    pass

    def kill(self):
        """Power off; the disk keeps what it has."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


class Rig:
    def __init__(self, work, payload=None):
        self.work, self.payload = work, payload

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="pair-drbd-")
        self.nodes = [Node(self, "a", 1), Node(self, "b", 2)]
        try:
            for node in self.nodes:
                node.start()
            for node in self.nodes:
                node.connect()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self.nodes

    def __exit__(self, *_):
        for node in self.nodes:
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
