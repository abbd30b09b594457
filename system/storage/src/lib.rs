//! Where the mail volume lies and who may write it: storage drivers behind one trait.
