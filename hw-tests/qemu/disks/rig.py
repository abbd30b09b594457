"""One QEMU machine with two disk bays, driven over a serial line. Ends by itself: every wait has an end, and the machine dies with this
program."""
import ctypes, json, os, shutil, signal, socket, subprocess, tempfile, time

# Each bay is a slot of the PCI bus, as a bay of a real machine is a port of its controller.
SLOTS = {"1": 5, "2": 6, "usb": 10}


def with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Machine:
    def __init__(self, work):
        self.work, self.process = work, None
        self.folder = tempfile.mkdtemp(prefix="disks-")
        # bay -> (file, serial)
        self.bays = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, what):
        return f"{self.folder}/{what}"

    def disk(self, serial, size):
        """A new file for a disk."""
        with open(self.path(serial), "wb") as disk:
            disk.truncate(size)
        return self.path(serial)

    def put(self, bay, serial):
        """A disk into a bay, also while the machine runs."""
        self.bays[bay] = serial
        if self.process:
            node = f"node-{serial}"
            self.qmp("blockdev-add", {"driver": "raw", "node-name": node, "cache": {"direct": False},
                                      "file": {"driver": "file", "filename": self.path(serial)}})
            self.qmp("device_add", {"driver": "virtio-blk-pci", "id": f"bay{bay}", "drive": node, "serial": serial,
                                    "addr": hex(SLOTS[bay]), "bus": "pci.0"})

    def pull(self, bay):
        """The disk out of a bay."""
        serial = self.bays.pop(bay)
        if self.process:
            self.qmp("device_del", {"id": f"bay{bay}"})
            self.event("DEVICE_DELETED", lambda data: data.get("device") == f"bay{bay}")
            self.qmp("blockdev-del", {"node-name": f"node-{serial}"})

    def start(self):
        for old in ("shell", "qmp"):
            if os.path.exists(self.path(old)):
                os.unlink(self.path(old))
        args = ["qemu-system-x86_64", "-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1",
                "-m", "512", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                "-kernel", f"{self.work}/vmlinux", "-initrd", f"{self.work}/initrd.cpio",
                "-append", "console=ttyS0 panic=-1 net.ifnames=0 mitigations=off random.trust_cpu=on tsc=reliable no_timer_check",
                "-device", "virtio-rng-pci,addr=4",
                "-serial", f"file:{self.path('console')}", "-serial", f"unix:{self.path('shell')},server=on,wait=off",
                "-qmp", f"unix:{self.path('qmp')},server=on,wait=off"]
        for bay, serial in self.bays.items():
            args += ["-blockdev", f"driver=raw,node-name=node-{serial},file.driver=file,file.filename={self.path(serial)}",
                     "-device", f"virtio-blk-pci,id=bay{bay},drive=node-{serial},serial={serial},addr={SLOTS[bay]}"]
        self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, preexec_fn=with_parent)
        self.count, self.events = 0, []
        end = time.monotonic() + 120
        self.line = self.connect("shell", end)
        self.control = self.connect("qmp", end)
        self.control_lines = self.control.makefile("rw")
        self.control_lines.readline()
        self.qmp("qmp_capabilities")
        self.ready(end)

    def connect(self, what, end):
        while True:
            line = socket.socket(socket.AF_UNIX)
            try:
                line.connect(self.path(what))
                return line
            except OSError:
                line.close()
                if time.monotonic() > end or self.process.poll() is not None:
                    raise RuntimeError(self.console()[-2000:])
                time.sleep(0.05)

    def ready(self, end):
        # What is sent before the shell reads may be lost with the line's settings, also in part: ask until it answers the newest question. A
        # backslash keeps the echo of a line from being taken for its answer; half of a pair of quotes would swallow all that follows.
        self.rest = b""
        self.line.settimeout(1)
        asked = 0
        while f"ready-{asked}\n".encode() not in self.rest.replace(b"\r", b""):
            asked += 1
            self.line.sendall(f"\necho re\\ady-{asked}\n".encode())
            try:
                while f"ready-{asked}".encode() + b"\n" not in self.rest.replace(b"\r", b""):
                    self.rest += self.line.recv(4096)
            except TimeoutError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise RuntimeError(self.console()[-2000:])
        self.rest = b""

    def qmp(self, execute, arguments=None):
        self.control_lines.write(json.dumps({"execute": execute, "arguments": arguments or {}}) + "\n")
        self.control_lines.flush()
        while True:
            said = json.loads(self.control_lines.readline())
            if "event" in said:
                self.events.append(said)
            elif "error" in said:
                raise RuntimeError(f"{execute}: {said}")
            else:
                return said["return"]

    def event(self, name, wanted, limit=60):
        end = time.monotonic() + limit
        while True:
            for said in self.events:
                if said["event"] == name and wanted(said["data"]):
                    self.events.remove(said)
                    return
            self.control.settimeout(max(0.1, end - time.monotonic()))
            self.events.append(json.loads(self.control_lines.readline()))
            self.control.settimeout(None)

    def console(self):
        with open(self.path("console"), "rb") as console:
            return console.read().decode("latin1")

    def sh(self, command, limit=120, check=True):
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
            try:
                data = self.line.recv(65536)
            except TimeoutError:
                raise RuntimeError(f"{command}: no answer: {self.rest!r}\n{self.console()[-3000:]}")
            if not data:
                raise RuntimeError(f"the machine is gone\n{self.console()[-3000:]}")
            self.rest += data
        text, _, rest = self.rest.partition(mark.encode())
        code, _, self.rest = rest.partition(b"\n")
        text = text.decode("utf8", "replace").replace("\r", "")
        if check and int(code) != 0:
            raise RuntimeError(f"{command}: {int(code)}: {text}\n{self.console()[-1500:]}")
        return text.strip()

    def disks(self, *words, limit=240):
        """An order to the program; what it answered, as data."""
        said = self.sh("/disks " + " ".join(words), limit=limit, check=False)
        try:
            return json.loads(said.splitlines()[-1])
        except (ValueError, IndexError):
            raise RuntimeError(f"{words}: {said}\n{self.console()[-3000:]}")

    def kill(self):
        """Power off; the disks keep what they have."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.line.close()
            self.control.close()

    def again(self):
        self.kill()
        self.start()
