//! The heart of the pair: frames and the takeover state machine, without I/O and without a clock.
#![no_std]
