//! The trusted channel between the two nodes: pairing, mutual TLS, configuration copy, orders.
