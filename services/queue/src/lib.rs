//! Empty until its part arrives.
