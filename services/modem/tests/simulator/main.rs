//! The driver against the simulated modem, which is written from the standards alone: every family, every fault.
//! Nothing here sleeps: each step waits for a state, an event or a counter of the simulator.

mod families;
mod faults;
mod harness;
mod sim_card;
