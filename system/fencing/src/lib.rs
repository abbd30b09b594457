//! Power switches that read back what they did.
