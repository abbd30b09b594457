#!/bin/sh
# run.sh [WORK]: proves the DRBD driver on real DRBD 8.4 in two QEMU machines (no KVM needed, about 3 minutes on two idle cores, up to 10 on
# busy ones). WORK keeps the unpacked kernel for the next run. Needs Debian 12 and: qemu-system-x86, drbd-utils, e2fsprogs, cpio, python3,
# xz-utils. Installs nothing, needs no root, leaves no process behind.
set -eu
here=$(dirname "$(readlink -f "$0")")
work=${1:-${TMPDIR:-/tmp}/pair-drbd-work}
top=$(cd "$here/../../.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
(cd "$top" && "${CARGO:-cargo}" build -q -p twinpost-storage --example drbd_node)
"$here/initrd.sh" "$work" > /dev/null
cp "$target/debug/examples/drbd_node" "$work/drbd_node"
strip "$work/drbd_node" 2>/dev/null || true
exec timeout 900 python3 "$here/prove.py" "$work" "$work/drbd_node"
