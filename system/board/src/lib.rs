//! Which port of a machine is which, as data.
