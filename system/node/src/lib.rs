//! What a node of the image does beside its pair and its mail: boot, setup, disks, updates, reset.
