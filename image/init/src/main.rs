//! First program of the appliance: finds, verifies and mounts the root, then becomes systemd.
//!
//! Contract: as PID 1 of the initramfs it ends in systemd or in a restart (module `start`). Started as anything else it does nothing, so that
//! the same program can run on a build machine. It is linked statically and needs no file but what the initramfs holds.
//! Failure classes: a disk or slot that cannot be used is left out and named; a root that cannot be started is told on the console and left
//! to the boot manager; a fault of this program itself makes the kernel restart the machine (`panic=` on the command line).

mod console;
mod disks;
mod drivers;
mod loader;
mod machine;
mod start;

fn main() {
    if std::process::id() == 1 {
        start::run();
    }
}
