//! The service group: ordered start, reverse stop, checks from outside.
