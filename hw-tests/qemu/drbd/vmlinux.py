"""vmlinux.py VMLINUZ OUT: the kernel without its compression, so that QEMU starts it directly (PVH)."""
import lzma, subprocess, sys, zlib

data = open(sys.argv[1], "rb").read()
METHODS = {
    b"\xfd7zXZ\x00": lambda b: lzma.LZMADecompressor().decompress(b),
    b"\x28\xb5\x2f\xfd": lambda b: subprocess.run(["zstd", "-dcq"], input=b, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout,
    b"\x1f\x8b\x08": lambda b: zlib.decompressobj(31).decompress(b),
}
for magic, unpack in METHODS.items():
    at = data.find(magic)
    while at >= 0:
        try:
            out = unpack(data[at:])
            if out[:4] == b"\x7fELF":
                open(sys.argv[2], "wb").write(out)
                sys.exit(0)
        except Exception:
            pass
        at = data.find(magic, at + 1)
sys.exit("no kernel in " + sys.argv[1])
