//! The service address: set, announced, and gone by itself when its lease ends.
