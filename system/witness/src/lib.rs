//! The witness: a durable compare-and-set register of the reign, and those who ask it.
