"""prove.py WORK DISKS [PART...]: the disks of a node on the kernel's real md, in one QEMU machine with two bays. WORK holds vmlinux and
initrd.cpio (initrd.sh); DISKS is the program of system/disks/examples/disks_guest.rs. Prints one line a step; ends with 0 when every
step held."""
import os, subprocess, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import Machine

BEGAN = time.monotonic()
MIB, GIB = 1 << 20, 1 << 30


def say(text):
    print(f"[{time.monotonic() - BEGAN:6.1f}] {text}", flush=True)


def check(held, what):
    if not held:
        raise RuntimeError(what)


def codes(faults):
    return [fault["code"] for fault in faults]


def image(machine, program, serial, size=1 * GIB):
    """A disk to which the appliance's image was written."""
    machine.disk(serial, size)
    subprocess.run([program, "image", machine.path(serial), str(size)], check=True, stdout=subprocess.DEVNULL)


def state(machine, program):
    image(machine, program, "S1")
    machine.put("1", "S1")
    machine.start()
    check(machine.disks("assemble")["running"] == [], "arrays out of nothing")
    found = machine.disks("state")
    check(found["mounted"] == "persistent" and found["made"], found)
    check("array_degraded" in codes(machine.disks("assemble")["faults"]), "one disk is not two")
    machine.sh("echo keep > /state/file; sync")
    say("first boot: the state volume was made on the boot disk, over old data that lay in free space")

    machine.again()
    found = machine.disks("state")
    check(found["mounted"] == "persistent" and not found["made"] and machine.sh("cat /state/file") == "keep", found)
    check(machine.disks("state")["mounted"] == "persistent", "asked twice")
    say("power cut: opened again, nothing lost")

    machine.sh("umount /state; dd if=/dev/zero of=/dev/md/state bs=4096 count=1 conv=notrunc; sync")
    found = machine.disks("state")
    check(found["mounted"] == "persistent" and found["fsck"] and machine.sh("cat /state/file") == "keep", found)
    say("superblock zeroed: mended from a copy, nothing lost")

    machine.sh("umount /state; dd if=/dev/urandom of=/dev/md/state bs=1M count=250 conv=notrunc; sync")
    found = machine.disks("state")
    check(found["mounted"] == "volatile" and "state_volatile" in codes(found["faults"]), found)
    check("tmpfs" in machine.sh("grep ' /state ' /proc/mounts"), "no memory")
    machine.again()
    check(machine.disks("state")["mounted"] == "volatile", "a damaged volume was made anew")
    say("beyond repair: in memory, and not made anew at the next boot")
    machine.kill()

    # Written to a larger disk later: the volume is 256 MiB on a small one and 4 GiB on a large one.
    machine.pull("1")
    image(machine, program, "S2")
    machine.put("1", "S2")
    machine.start()
    machine.disks("state")
    machine.sh("echo keep > /state/file; sync")
    machine.kill()
    os.truncate(machine.path("S2"), 20 * GIB)
    machine.start()
    found = machine.disks("state")
    check(found["grown_bytes"] and found["grown_bytes"] > 4000 * MIB, found)
    check(machine.sh("cat /state/file") == "keep", "lost")
    size = int(machine.sh("df -k /state").splitlines()[-1].split()[1])
    check(size > 3_700_000, size)
    say(f"larger disk: the volume grew to {size // 1024} MiB")
    machine.kill()
    machine.pull("1")


PARTS = {"state": state}


def main():
    work, program, *parts = sys.argv[1:]
    for name in parts or PARTS:
        with Machine(work) as machine:
            PARTS[name](machine, program)
    say("every step held")


main()
