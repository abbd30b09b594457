//! Disks by bay, their partitions, arrays and volumes.
