"""prove.py WORK DISKS [PART...]: the disks of a node on the kernel's real md, in one QEMU machine with two bays. WORK holds vmlinux and
initrd.cpio (initrd.sh); DISKS is the program of system/disks/examples/disks_guest.rs. Prints one line a step; ends with 0 when every
step held."""
import os, random, subprocess, sys, time

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


def refusals(plan):
    return [refusal["code"] for refusal in plan["refusals"]]


def in_sync(machine):
    """Both arrays have both members, equal."""
    arrays = machine.disks("arrays")
    return [a["array"] for a in arrays] == ["state", "mail"] and all(
        a["degraded"] == 0 and a["action"] is None and len(a["members"]) == 2 and all(m["state"] == "in_sync" for m in a["members"])
        for a in arrays)


def until(held, what, limit=240):
    end = time.monotonic() + limit
    while not held():
        check(time.monotonic() < end, what)
        time.sleep(0.5)


def part(machine, bay, name):
    """Device of a partition in a bay."""
    for found in machine.disks("list"):
        if found["name"] == bay:
            device = found["disk"]["device"]
            return next(device + str(p["number"]) for p in found["disk"]["holds"]["partitions"] if p["name"] == name)


def same_system(machine):
    for name in ("twinpost-esp", "twinpost-a", "twinpost-b"):
        one, two = part(machine, "1", name), part(machine, "2", name)
        machine.sh(f"cmp {one} {two}", limit=240)


def boot(machine):
    """Start; a slot of the first disk is in use as on a running node; the state volume opened."""
    machine.start()
    machine.sh("mkdir -p /mnt; mount -t ext4 -o ro $(ls /dev/vda2 /dev/vdb2 2>/dev/null | head -1) /mnt", check=False)
    return machine.disks("state"), machine.disks("assemble")


def usable_slot(machine, program, serial):
    """Slot a of the image holds a file system, so that it can be in use."""
    slot = machine.path("slot")
    with open(slot, "wb") as out:
        out.truncate(160 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", slot], check=True)
    subprocess.run(["dd", f"if={slot}", f"of={machine.path(serial)}", "bs=1M", "seek=97", "conv=notrunc,sparse", "status=none"], check=True)


def init(machine, program):
    image(machine, program, "S1")
    usable_slot(machine, program, "S1")
    machine.disk("S2", GIB + 100 * MIB)
    machine.put("1", "S1")
    boot(machine)
    check(refusals(machine.disks("init")) == ["no_disk"], "one disk")
    machine.sh("echo keep > /state/file; sync")
    machine.kill()
    machine.put("2", "S2")
    boot(machine)
    plan = machine.disks("init")
    check(refusals(plan) == [], plan)
    steps = [step["step"] for step in plan["steps"]]
    say(f"init: steps {' '.join(steps)}")
    for number in range(1, len(plan["steps"]) + 1):
        # The power goes after each step; the next start goes on with what is missing.
        left = machine.disks("init")
        check(refusals(left) == [], left)
        if not left["steps"]:
            break
        machine.disks("init", "--go", "--stop-after", "1" if number < 3 else str(number))
        machine.sh("sync")
        check(machine.sh("cat /state/file") == "keep", "the state volume suffered")
        machine.kill()
        found, _ = boot(machine)
        check(found["mounted"] == "persistent" and machine.sh("cat /state/file") == "keep", found)
    check(machine.disks("init")["steps"] == [], "init never ends")
    until(lambda: in_sync(machine), "the arrays were never whole")
    same_system(machine)
    say("power cut after each step: init went on each time; both disks are system disks and equal")
    machine.sh("mdadm --detail /dev/md/mail | grep -q 'State : clean'")
    machine.sh("umount /state; mdadm --stop /dev/md/state")
    check(refusals(machine.disks("init")) == [], "what is there already is put together, not refused")
    machine.kill()

    # Either disk alone starts the node; the other order of names too.
    for bay in ("1", "2"):
        serial = machine.bays[bay]
        machine.pull(bay)
        found, arrays = boot(machine)
        check(found["mounted"] == "persistent" and machine.sh("cat /state/file") == "keep", found)
        check(len(arrays["running"]) == 2 and "array_degraded" in codes(arrays["faults"]), arrays)
        machine.sh(f"echo without-{bay} > /state/last; sync; umount /state")
        machine.sh("mdadm --stop /dev/md/state; mdadm --stop /dev/md/mail")
        machine.kill()
        machine.put(bay, serial)
        if bay == "1":
            found, arrays = boot(machine)
            check(machine.sh("cat /state/last") == "without-1", "the older copy won")
            until(lambda: in_sync(machine), "the disk that was away did not come back")
            machine.sh("umount /state; mdadm --stop /dev/md/state; mdadm --stop /dev/md/mail")
            machine.kill()
    say("either disk alone starts the node; one that was away is brought up to date")

    # Bay 2 was away just now: let it run alone as well.
    machine.pull("1")
    boot(machine)
    machine.sh("echo other > /state/last; sync; umount /state; mdadm --stop /dev/md/state; mdadm --stop /dev/md/mail")
    machine.kill()
    machine.put("1", "S1")
    found, arrays = boot(machine)
    check("member_diverged" in codes(found["faults"]) + codes(arrays["faults"]), (found, arrays))
    kept = machine.sh("cat /state/last")
    check(all(a["degraded"] == 1 for a in machine.disks("arrays")), "copies that differ were joined")
    loser = "1" if kept == "other" else "2"
    plan = machine.disks("replace", loser)
    check(refusals(plan) == ["holds_data"], plan)
    plan = machine.disks("replace", loser, "--erase", machine.bays[loser], "--go")
    check(refusals(plan) == [] and in_sync(machine), plan)
    check(machine.sh("cat /state/last") == kept, "the wrong copy won")
    say("both ran alone: never joined by themselves, and only with the disk named")


def replace(machine, program):
    image(machine, program, "S1")
    usable_slot(machine, program, "S1")
    machine.disk("S2", GIB)
    machine.put("1", "S1")
    machine.put("2", "S2")
    boot(machine)
    machine.disks("init", "--go")
    until(lambda: in_sync(machine), "the arrays were never whole")
    machine.sh("echo keep > /state/file; sync")
    machine.sh("/disks watch /run/events > /dev/null 2>&1 &")
    machine.sh("mkfs.ext4 -q /dev/md/mail; mkdir -p /data; mount /dev/md/mail /data; echo mail > /data/file; sync")
    check(machine.disks("replace", "2")["steps"] == [], "nothing is to be done")
    machine.pull("2")
    machine.sh("dd if=/dev/urandom of=/data/more bs=1M count=8; sync")
    until(lambda: machine.disks("assemble")["running"][1]["degraded"] == 1, "nobody noticed")
    check("degraded" in machine.sh("cat /run/events"), "no event")
    check(refusals(machine.disks("replace", "2")) == ["no_disk"], "an empty bay")
    say("disk pulled: degraded, told, and the service goes on")

    machine.disk("SMALL", 900 * MIB)
    machine.put("2", "SMALL")
    until(lambda: machine.disks("list")[1]["disk"], "the disk was not seen")
    plan = machine.disks("replace", "2")
    check(refusals(plan) == ["too_small"] and "943.7 MB" in plan["refusals"][0]["text"]["en"], plan)
    machine.pull("2")
    machine.disk("FOREIGN", 2 * GIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-L", "Photos", machine.path("FOREIGN")], check=True)
    machine.put("2", "FOREIGN")
    until(lambda: machine.disks("list")[1]["disk"], "the disk was not seen")
    plan = machine.disks("replace", "2")
    check(refusals(plan) == ["holds_data"] and "Photos" in plan["refusals"][0]["text"]["en"], plan)
    check("error" not in machine.disks("replace", "2", "--go"), "a refused plan is no error of the program")
    machine.pull("2")
    check(subprocess.run(["e2label", machine.path("FOREIGN")], capture_output=True, text=True).stdout.strip() == "Photos", "destroyed")
    say("too small: refused with both sizes; foreign: refused until named, and untouched")

    machine.put("2", "FOREIGN")
    until(lambda: machine.disks("list")[1]["disk"], "the disk was not seen")
    began = time.monotonic()
    said = machine.disks("replace", "2", "--erase", "FOREIGN", "--go")
    check(refusals(said) == [] and in_sync(machine), (said, machine.disks("arrays")))
    same_system(machine)
    check("whole" in machine.sh("cat /run/events"), machine.sh("cat /run/events"))
    say(f"named: replaced and rebuilt in {time.monotonic() - began:.0f} s, told by events")

    machine.pull("2")
    machine.sh("echo new > /data/new; sync")
    until(lambda: machine.disks("assemble")["running"][1]["degraded"] == 1, "nobody noticed")
    machine.put("2", "FOREIGN")
    until(lambda: machine.disks("list")[1]["disk"], "the disk was not seen")
    plan = machine.disks("replace", "2")
    check(refusals(plan) == [], plan)
    machine.disks("replace", "2", "--go")
    check(in_sync(machine), machine.disks("arrays"))
    say("the same disk put back under another name: taken back without naming it")

    machine.sh("umount /data; umount /state; mdadm --stop /dev/md/mail; mdadm --stop /dev/md/state")
    machine.kill()
    machine.pull("1")
    found, arrays = boot(machine)
    check(found["mounted"] == "persistent" and machine.sh("cat /state/file") == "keep", found)
    machine.sh("mkdir -p /data; mount /dev/md/mail /data; cat /data/more > /dev/null")
    check(machine.sh("cat /data/new") == "new", "lost")
    say("the new disk alone has everything")


def install(machine, program):
    image(machine, program, "USB", 420 * MIB)
    with open(machine.path("USB"), "r+b") as medium:
        # The command line of a kernel somewhere on the ESP.
        medium.seek(1 * MIB + 5 * MIB + 512)
        medium.write(b"quiet twinpost.install=1 twinpost.slot=a\0")
    machine.disk("S1", GIB)
    machine.disk("S2", GIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-L", "Photos", machine.path("S2")], check=True)
    machine.put("1", "S1")
    machine.put("2", "S2")
    machine.put("usb", "USB")
    machine.start()
    plan = machine.disks("install", "/dev/vdc", "--go")
    check(refusals(plan) == ["holds_data"], plan)
    check(refusals(machine.disks("install", "/dev/vdb", "--go")) != [], "not from a disk without a system")
    plan = machine.disks("install", "/dev/vdc", "--erase", "S2", "--go")
    check(refusals(plan) == [], plan)
    for disk in ("vda", "vdb"):
        machine.sh(f"cmp /dev/vdc2 /dev/{disk}2")
        line = machine.sh(f"dd if=/dev/{disk}1 bs=512 skip=10241 count=1 2>/dev/null | strings | head -1")
        check(line.split() == ["quiet", "twinpost.slot=a"], line)
    guids = [found["disk"]["holds"]["disk_guid"] for found in machine.disks("list")]
    check(len(set(guids)) == 2, guids)
    say("installed to both disks, read back, no longer an installer; the one with data only when named")
    machine.pull("usb")
    machine.kill()
    for disk in ("S1", "S2"):
        usable_slot(machine, program, disk)
    found, _ = boot(machine)
    check(found["mounted"] == "persistent" and found["made"], found)
    # The root stands on both disks' slots.
    machine.sh("mkdir -p /mnt2; mount -t ext4 -o ro /dev/vdb2 /mnt2")
    plan = machine.disks("init", "--go")
    check(refusals(plan) == [] and "wipe" not in [step["step"] for step in plan["steps"]], plan)
    until(lambda: in_sync(machine), "the arrays were never whole")
    say("first start from an installed disk, and both joined while both were in use")


def cuts(machine, program):
    """Power cuts at random moments of an init."""
    seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    say(f"SEED={seed}")
    chance = random.Random(seed)
    image(machine, program, "S1")
    usable_slot(machine, program, "S1")
    machine.disk("S2", GIB)
    machine.put("1", "S1")
    machine.put("2", "S2")
    boot(machine)
    machine.sh("echo keep > /state/file; sync")
    for number in range(6):
        machine.sh("/disks init --go > /run/init 2>&1 &")
        moment = chance.uniform(0.1, 6)
        time.sleep(moment)
        step = machine.sh("tail -1 /run/init | cut -c1-150", check=False)
        machine.kill()
        found, _ = boot(machine)
        check(found["mounted"] == "persistent" and machine.sh("cat /state/file") == "keep", found)
        plan = machine.disks("init")
        check(refusals(plan) == [], plan)
        say(f"cut after {moment:.1f} s at {step}: {len(plan['steps'])} steps left")
    check(refusals(machine.disks("init", "--go")) == [], "init")
    until(lambda: in_sync(machine), "the arrays were never whole")
    same_system(machine)
    say("complete in the end")


PARTS = {"state": state, "init": init, "replace": replace, "install": install, "cuts": cuts}


def main():
    work, program, *parts = sys.argv[1:]
    for name in parts or PARTS:
        with Machine(work) as machine:
            PARTS[name](machine, program)
    say("every step held")


main()
