#!/bin/sh
# run.sh [WORK [PART...]]: proves the disks of a node on real md in a QEMU machine (no KVM needed, some minutes on two idle cores). WORK keeps
# the unpacked kernel for the next run. Needs Debian 12 and: qemu-system-x86, mdadm, drbd-utils, e2fsprogs, util-linux, cpio, python3,
# xz-utils. Installs nothing, needs no root, leaves no process behind.
set -eu
here=$(dirname "$(readlink -f "$0")")
work=${1:-${TMPDIR:-/tmp}/disks-work}
[ $# -eq 0 ] || shift
top=$(cd "$here/../../.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
(cd "$top" && "${CARGO:-cargo}" build -q -p twinpost-disks --example disks_guest)
mkdir -p "$work"
cp "$target/debug/examples/disks_guest" "$work/disks_guest"
strip "$work/disks_guest" 2>/dev/null || true
"$here/initrd.sh" "$work" "$work/disks_guest" > /dev/null
exec timeout 1500 python3 "$here/prove.py" "$work" "$work/disks_guest" "$@"
