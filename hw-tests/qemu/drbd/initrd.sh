#!/bin/sh
# initrd.sh WORK: makes WORK/vmlinux and WORK/initrd.cpio, a machine in memory with DRBD 8.4: Debian's kernel, this machine's drbd-utils and
# e2fsprogs, busybox. Nothing is installed; the two packages are unpacked in WORK.
set -eu
work=$1; here=$(dirname "$(readlink -f "$0")"); mkdir -p "$work"; cd "$work"
if [ ! -d kernel ]; then
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: //p' | head -1)
    apt-get download -q "$package" busybox-static
    mkdir kernel busybox
    dpkg -x linux-image-*.deb kernel
    dpkg -x busybox-static_*.deb busybox
fi
version=$(ls kernel/lib/modules)
[ -f kernel/lib/modules/$version/modules.dep ] || depmod -b kernel "$version" 2>/dev/null || busybox/bin/busybox depmod -b kernel "$version"
[ -f vmlinux ] || python3 "$here/vmlinux.py" kernel/boot/vmlinuz-"$version" vmlinux
rm -rf root; mkdir -p root/bin root/sbin root/usr/sbin root/usr/bin root/lib/drbd root/lib64 root/dev root/proc root/sys root/etc \
    root/run root/tmp root/var/lib/drbd root/var/lock root/modules root/mnt root/var/run/drbd
cp busybox/bin/busybox root/bin/; for name in sh cat ls mount umount ip insmod sleep tar dd mkdir stty grep; do ln -s busybox root/bin/$name; done
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
for module in virtio_pci virtio_blk virtio_net virtio_rng crc32c_generic sha256_generic sha1_generic hmac drbd ext4; do add $module; done
# Programs with the libraries that they need.
for program in /usr/sbin/drbdadm /usr/sbin/drbdsetup /usr/sbin/drbdmeta /lib/drbd/drbdadm-84 /lib/drbd/drbdsetup-84 /sbin/mkfs.ext4 /sbin/e2fsck; do
    cp -L "$program" "root$program" 2>/dev/null || { mkdir -p "root$(dirname "$program")"; cp -L "$program" "root$program"; }
    ldd "$program" 2>/dev/null | grep -o '/[^ ]*'
done | sort -u > libraries
# What a Rust program needs besides.
ldd /bin/true /usr/bin/ldconfig 2>/dev/null | grep -o '/[^ ]*\.so[^ ]*' >> libraries || true
for library in libgcc_s.so.1 libm.so.6; do ls /lib/x86_64-linux-gnu/$library; done >> libraries
sort -u libraries | grep '\.so' | while read -r library; do mkdir -p "root$(dirname "$library")"; cp -L "$library" "root$library"; done
ln -sf e2fsck root/sbin/fsck.ext4; ln -sf ../usr/sbin/drbdadm root/sbin/drbdadm
cp "$here/init" root/init; chmod +x root/init
(cd root; find . | cpio -o -H newc --quiet) > initrd.cpio
ls -la vmlinux initrd.cpio
