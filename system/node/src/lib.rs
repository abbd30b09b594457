//! What a node of the image does beside its pair and its mail: boot, setup, disks, updates, reset.
//!
//! `api` is the language of `twinpost system`, `server` and `client` its two ends; `daemon` carries requests out by the crates of disks, boards
//! and updates and judges whether this boot is kept. The other modules write what a boot and a setup need.

pub mod api;

pub mod client;

pub mod daemon;

pub mod filter;
pub mod folder;

pub mod render;

pub mod setup;

pub mod server;

pub mod support;

pub mod usb;

pub mod reset;
