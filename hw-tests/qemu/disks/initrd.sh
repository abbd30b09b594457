#!/bin/sh
# initrd.sh WORK PROGRAM: makes WORK/vmlinux and WORK/initrd.cpio, a machine in memory with md, this machine's mdadm, util-linux and e2fsprogs,
# busybox, and PROGRAM as /disks. Nothing is installed; the two packages are unpacked in WORK.
set -eu
work=$1; program=$2; here=$(dirname "$(readlink -f "$0")"); mkdir -p "$work"; cd "$work"
if [ ! -d kernel ]; then
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: //p' | head -1)
    apt-get download -q "$package" busybox-static
    mkdir kernel busybox
    dpkg -x linux-image-*.deb kernel
    dpkg -x busybox-static_*.deb busybox
fi
version=$(ls kernel/lib/modules)
[ -f kernel/lib/modules/$version/modules.dep ] || depmod -b kernel "$version" 2>/dev/null || busybox/bin/busybox depmod -b kernel "$version"
[ -f vmlinux ] || python3 "$here/../drbd/vmlinux.py" kernel/boot/vmlinuz-"$version" vmlinux
rm -rf root; mkdir -p root/bin root/sbin root/usr/sbin root/usr/bin root/lib64 root/dev root/proc root/sys root/etc root/run root/tmp \
    root/modules root/mnt root/state root/busybox
cp busybox/bin/busybox root/bin/
for name in sh cat ls insmod sleep dd mkdir stty grep setsid sync echo cmp df head; do ln -s busybox root/bin/$name; done
# Modules in the order in which they can be loaded.
: > root/modules/order
add() {
    file=$(grep -E "/$1\.ko:" kernel/lib/modules/$version/modules.dep) || return 0
    for dep in $(echo "${file#*:}" | tr ' ' '\n' | tac) "${file%%:*}"; do
        name=$(basename "$dep")
        [ -f root/modules/$name ] && continue
        cp kernel/lib/modules/$version/$dep root/modules/; echo "$name" >> root/modules/order
    done
}
for module in virtio_pci virtio_blk virtio_rng crc32c_generic raid1 ext4 drbd; do add $module; done
# Programs with the libraries that they need.
for tool in mdadm blockdev partx wipefs e2fsck mkfs.ext4 resize2fs mount umount drbdmeta; do
    file=$(command -v $tool || ls /sbin/$tool /usr/sbin/$tool | head -1)
    rm -f root/bin/$tool; cp -L "$file" root/bin/$tool
    ldd "$file" 2>/dev/null | grep -o '/[^ ]*'
done | sort -u > libraries
cp "$program" root/disks
ldd "$program" | grep -o '/[^ ]*\.so[^ ]*' >> libraries
sort -u libraries | grep '\.so' | while read -r library; do mkdir -p "root$(dirname "$library")"; cp -L "$library" "root$library"; done
cp "$here/init" root/init; chmod +x root/init
(cd root; find . | cpio -o -H newc --quiet) > initrd.cpio
ls -la vmlinux initrd.cpio
