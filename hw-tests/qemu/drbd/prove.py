"""prove.py WORK DRBD_NODE: the DRBD driver on real DRBD 8.4, two machines in QEMU. WORK holds vmlinux and initrd.cpio (initrd.sh);
DRBD_NODE is the program of system/storage/examples/drbd_node.rs. Prints one line a step; ends with 0 when every step held."""
import os, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import Rig

BEGAN = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - BEGAN:6.1f}] {text}", flush=True)


class Driver:
    """The driver program on a node."""

    def __init__(self, node, peer):
        self.node = node
        address = lambda n: f"10.1.1.{n.number}:7789"
        node.sh("rm -f /run/orders; mkfifo /run/orders; exec 3<>/run/orders; mkdir -p /run/state /mnt; : > /run/out")
        node.sh(f"/run/drbd_node {node.name} {address(node)} {peer.name} {address(peer)} /dev/vda /mnt /run/state "
                "< /run/orders > /run/out 2> /run/err &")
        self.seen = 0
        self.wait("READY")

    def out(self):
        return self.node.sh("cat /run/out").splitlines()

    def wait(self, *wanted, limit=60):
        """The next line, after those already waited for, that holds one of the words."""
        end = time.monotonic() + limit
        while True:
            lines = self.out()
            for n, line in enumerate(lines[self.seen:]):
                if any(word in line for word in wanted):
                    self.seen += n + 1
                    return line
            if time.monotonic() > end:
                raise RuntimeError(f"{self.node.name} never said {wanted}: {lines[-12:]}\n{self.node.sh('cat /run/err')}\n"
                                   f"{self.node.sh('cat /proc/drbd; tail -30 /tmp/h 2>/dev/null', check=False)}\n{self.node.console()[-2500:]}")
            time.sleep(0.1)

    def send(self, order):
        self.node.sh(f"echo '{order}' >&3")

    def order(self, order, good=True, limit=60):
        self.send(order)
        said = self.wait(f"SAID {order}: ", limit=limit).split(": ", 1)[1]
        if good and not said.startswith("ok"):
            raise RuntimeError(f"{self.node.name}: {order}: {said}\n{self.node.console()[-2500:]}")
        return said

    def status(self, wanted, limit=60):
        end = time.monotonic() + limit
        while True:
            said = self.order("status", good=False)
            if wanted in said:
                return said
            if time.monotonic() > end:
                raise RuntimeError(f"{self.node.name}: status never said {wanted}: {said}")
            time.sleep(0.2)


def check(held, what):
    if not held:
        raise RuntimeError(what)


def prove(a, b):
    one, two = Driver(a, b), Driver(b, a)
    for driver in (one, two):
        driver.order("blank")
    one.status("peer_disk: \"Inconsistent\"")
    one.order("promote 1")
    one.order("writes alone")
    one.wait("Complete")
    one.order("writes mirrored")
    two.wait("Position(1)")
    a.sh("echo first > /mnt/first; sync")
    say("a blank pair was founded; the standby read the reign from its own disk")

    a.cable(False)
    one.wait("Lost")
    one.order("writes held")
    a.sh("(echo second > /mnt/second; sync; echo done > /run/synced) > /dev/null 2>&1 &")
    time.sleep(1)
    check("no" in a.sh("[ -f /run/synced ] && echo yes || echo no"), "a write was answered without the peer and without a proof")
    one.order("writes alone")
    a.until("cat /run/synced", "done")
    say("cable cut: the write waited for the core, and went on with its word")

    a.cable(True)
    one.status("StandAlone")
    check("CopyPartial" not in "".join(two.out()[two.seen:]), "the copy was overwritten without the core's word")
    one.order("resync")
    one.wait("Behind")
    one.wait("Complete")
    two.wait("CopyPartial")
    two.wait("CopyWhole")
    one.order("writes mirrored")
    say("mended: the resync waited for the core's word, then the copies were equal again")

    one.order("demote")
    began = time.monotonic()
    two.order("promote 2")
    two.order("writes alone")
    two.wait("Complete")
    two.order("writes mirrored")
    check(b.sh("cat /mnt/first /mnt/second") == "first\nsecond", "something is missing")
    one.wait("Position(2)")
    check("error" in one.order("promote 2", good=False), "a reign of two nodes")
    say(f"planned switch: promote took {time.monotonic() - began:.2f} s here")

    b.sh("echo third > /mnt/third; sync")
    b.kill()
    began = time.monotonic()
    one.order("promote 3")
    say(f"power cut of the active: promoted after {time.monotonic() - began:.2f} s")
    check(a.sh("cat /mnt/third") == "third", "an answered write is missing")
    one.order("writes alone")
    b.start()
    b.connect()
    two = Driver(b, a)
    time.sleep(1)
    one.order("resync")
    one.wait("Complete", limit=240)
    one.order("writes mirrored")
    two.wait("Position(3)")
    say("the node that had lost power was brought up to date")

    b.cable(False)
    one.wait("Lost")
    one.order("writes held")
    a.sh("(echo never > /mnt/never; sync; echo done > /run/never) > /dev/null 2>&1 &")
    time.sleep(1)
    began = time.monotonic()
    one.order("demote")
    say(f"gave up with held writes in {time.monotonic() - began:.2f} s")
    two.order("promote 4")
    two.order("writes alone")
    check("never" not in b.sh("ls /mnt"), "a write that was never answered")
    b.sh("echo fourth > /mnt/fourth; sync")
    b.cable(True)
    two.status("StandAlone")
    two.order("resync")
    two.wait("Complete", limit=240)
    two.order("writes mirrored")
    one.wait("Position(4)")
    say("the other took over without any divergence, and the first was brought up to date")

    a.cable(False)
    two.wait("Lost")
    two.order("writes held")
    two.order("writes alone")
    b.sh("echo right > /mnt/right; sync")
    one.order("promote 5")
    one.order("writes alone")
    a.sh("echo lost > /mnt/lost; sync")
    one.order("demote")
    a.cable(True)
    one.wait("Diverged")
    check("error" in one.order("promote 6", good=False), "diverged data was served")
    folder = one.order("aside", limit=240).split('"')[1]
    check(a.sh(f"cat {folder}/lost") == "lost", "what was kept is not there")
    two.send("resync")
    two.wait("Complete", limit=240)
    one.wait("Position(4)")
    two.order("writes mirrored")
    two.order("demote")
    one.order("promote 7")
    check(a.sh("cat /mnt/right") == "right" and "lost" not in a.sh("ls -1 /mnt").split(), "the wrong copy won")
    say("split brain: found, kept aside, resolved for the right copy")

    one.order("writes alone")
    one.wait("Complete")
    check("true" in one.order("verify"), "no verify")
    one.status("out_of_sync_bytes: Some(0)")
    say("both copies compared")


def main():
    work, program = sys.argv[1:3]
    with tempfile.NamedTemporaryFile(prefix="payload-") as payload:
        data = open(program, "rb").read()
        payload.write(data + bytes(-len(data) % 65536))
        payload.flush()
        with Rig(work, payload.name) as (a, b):
            say("both machines are up")
            prove(a, b)
    say("every step held")


main()
