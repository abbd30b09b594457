#!/usr/bin/env python3
"""The image and two machines in QEMU: time to build it, takeovers, memory of an idle node, mail taken by a guest and by this machine.

Contract: builds the image with the release program (twice: everything new, then the program alone new), runs the machine suite's twenty power cuts on it, and
starts a pair of its own for the rest; stops what it started. Needs root, as the suite does. Writes bench-results/machines.json and machines.md.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import ROOT, TARGET, Deadline, Failed, run, spawn, stop, stop_all, wait_until  # noqa: E402
from ours import Twinpost  # noqa: E402

STEPS = ("detected", "proof", "stored", "promoted", "address", "services", "checked")
CARGO = os.environ.get("CARGO") or shutil.which("cargo") or str(Path.home() / ".cargo/bin/cargo")


def build(folder, program, cache, log):
    begun = time.monotonic()
    env = {**os.environ, "CARGO": CARGO}
    run([TARGET / "twinpost-image", "build", "--profile", "test", "--binary", program, "--out", folder, "--cache", cache], Deadline(1800), log, env=env)
    return round(time.monotonic() - begun, 1)


def image(folder, log):
    """Cold: packages are unpacked and the initramfs program is compiled. Warm: only the program is another one."""
    out, cache, program = folder / "image", folder / "cache", folder / "twinpost"
    cold = build(out, TARGET / "twinpost", cache, log)
    shutil.copy(TARGET / "twinpost", program)
    with open(program, "ab") as file:
        file.write(b"another program")
    warm = build(folder / "image-2", program, cache, log)
    shutil.rmtree(folder / "image-2")
    size = json.loads((out / "size.json").read_text())
    return out, {"cold s": cold, "with another program s": warm, "squashfs MB": size["squashfs_bytes"] / 1e6, "content MB": size["content_bytes"] / 1e6,
                 "files": size["files"], "initramfs MB": (out / "initrd.cpio.zst").stat().st_size / 1e6, "UKI MB": (out / "uki-a.efi").stat().st_size / 1e6}


def suite(image_folder, log, scenarios):
    env = {**os.environ, "TWINPOST_SOAK": "1", "TWINPOST_IMAGE": str(image_folder), "TWINPOST_BIN": str(TARGET / "twinpost"), "CARGO": CARGO}
    command = [CARGO, "test", "--release", "--quiet", "-p", "twinpost-rig", "--test", "machine", "--", *scenarios]
    with open(log, "ab") as out:
        subprocess.run(command, stdout=out, stderr=out, env=env, cwd=ROOT, check=True, timeout=7200)
    return json.loads((image_folder / "rig/log/figures.json").read_text())


def takeovers(figures):
    rounds = next(v for k, v in figures.items() if "rounds" in k)
    banner = sorted(r["banner_ms"] for r in rounds)
    shares = {f"{step} p50 ms": statistics.median(r["steps"].get(f"{step}_ms", 0) for r in rounds) for step in STEPS}
    start = next(v for k, v in figures.items() if k.startswith("power on of both"))[0]
    # Of twenty values the 99th percentile is the largest.
    return {"power on of both to the banner ms": start["banner_ms"], "power on of both to an eligible standby ms": start["settled_ms"], "rounds": len(banner),
            "to the banner p50 ms": statistics.median(banner), "to the banner p99 ms": banner[-1], **shares,
            "proofs": ", ".join(sorted({r["proof"] for r in rounds}))}


class Machines:
    """A pair of machines that the rig keeps running."""

    def __init__(self, folder, image_folder, log):
        self.dir, self.log = folder / "pair", log
        self.rig = [TARGET / "twinpost-rig", "--dir", self.dir]
        self.up = spawn([*self.rig, "pair", "--image", image_folder, "--strict"], folder / "pair.log")

        def runs():
            if self.up.poll() is not None:
                raise Failed("the pair could not be founded: " + str(folder / "pair.log"))
            return "The pair runs" in (folder / "pair.log").read_text(errors="replace")
        wait_until(runs, Deadline(900), 0.5)

    def order(self, node, *words, check=True):
        return run([*self.rig, "order", node, *words], Deadline(180), self.log, check=check)

    def exec(self, *words):
        return run([*self.rig, "exec", *words], Deadline(900), self.log, check=False)


def value(text):
    """The JSON document of an answer: all of it, or its last line."""
    try:
        return json.loads(text)
    except ValueError:
        return json.loads(text.strip().splitlines()[-1])


def memory(machines):
    """What an idle node uses, as its kernel counts it, and what of that is the programs' own."""
    found, mib = {}, 1 << 20
    for node in ("a", "b"):
        status = value(machines.order(node, "--json", "pair", "status"))
        role = "active" if status["active"] == node else "standby"
        seen = value(machines.order(node, "--json", "node", "status"))["memory"]
        found[f"{role}: used MiB"] = (seen["total_bytes"] - seen["available_bytes"]) / mib
        found[f"{role}: of MiB"] = seen["total_bytes"] / mib
        found[f"{role}: the programs' own MiB"] = sum(unit["own_bytes"] for unit in seen["units"]) / mib
        found |= {f"{role}: {unit['unit']} own MiB": unit["own_bytes"] / mib for unit in seen["units"] if unit["own_bytes"] > mib}
    return found


def send(command_prefix, address, to, messages):
    command = [TARGET / "twinpost-load", "smtp", "--addr", address, "--to", to, "--users", "1", "--messages", str(messages), "--connections", "20"]
    report = value(command_prefix(*command))
    if report["refused"] or report["fault"] or report["answered"] != messages:
        raise Failed(f"{address} did not take all messages: {report}")
    return messages / report["seconds"]


def intake(folder, machines, log):
    deadline = Deadline(900)
    guest = send(machines.exec, "10.9.0.100:25", "anna@school.example", 1000)
    host = Twinpost(folder).start(deadline)
    host.add_users(["user0@bench.example"], deadline)
    plain = send(lambda *words: run(words, deadline, log), f"127.0.0.1:{host.smtp}", "user0@bench.example", 5000)
    host.stop()
    return {"guest a second": guest, "this machine a second": plain, "guest, % of this machine": 100 * guest / plain}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", help="use this built image (of the release program) instead of building one")
    parser.add_argument("--results", default=str(ROOT / "bench-results"))
    parser.add_argument("--only", default="image,takeover,memory,intake", help="with commas: image, takeover, memory, intake")
    parser.add_argument("--keep", action="store_true", help="keep disks and logs")
    arguments = parser.parse_args()
    only = arguments.only.split(",")
    if os.geteuid() != 0:
        sys.exit("machines.py makes a network of its own for the machines: it needs root")
    results = Path(arguments.results).resolve()
    results.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="machines-", dir=results))
    log = folder / "log"
    outcome = {"processors": os.cpu_count(), "load_before": os.getloadavg()[0], "cases": {}}
    failed = False

    def case(name, work):
        nonlocal failed
        if name not in only:
            return
        print(f"{name} ...", flush=True)
        begun = time.monotonic()
        try:
            figures = work()
        except (Failed, OSError, subprocess.SubprocessError, KeyError, StopIteration, ValueError) as e:
            figures, failed = {"FAILED": str(e) or type(e).__name__}, True
        outcome["cases"][name] = {"figures": figures, "took_s": round(time.monotonic() - begun, 1)}
        for key, figure in figures.items():
            print(f"    {key:<32} {figure:.1f}" if isinstance(figure, float) else f"    {key:<32} {figure}", flush=True)

    built = {"folder": Path(arguments.image).resolve() if arguments.image else folder / "image"}

    def make():
        out, figures = image(folder, log)
        built["folder"] = out
        return figures
    try:
        case("image", make)
        case("takeover", lambda: takeovers(suite(built["folder"], log, ["twenty_power_cuts"])))
        if {"memory", "intake"} & set(only):
            machines = Machines(folder, built["folder"], log)
            case("memory", lambda: memory(machines))
            case("intake", lambda: intake(folder, machines, log))
            stop(machines.up)
    finally:
        stop_all()
    (results / "machines.json").write_text(json.dumps(outcome, indent=2) + "\n")
    lines = ["| what | figure |", "|---|---:|"]
    for name, done in outcome["cases"].items():
        lines += [f"| {name}: {key} | {figure:.1f} |" if isinstance(figure, float) else f"| {name}: {key} | {figure} |" for key, figure in done["figures"].items()]
    (results / "machines.md").write_text("\n".join(lines) + "\n")
    print(f"results: {results / 'machines.json'}")
    if failed or arguments.keep:
        print(f"disks and logs are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
