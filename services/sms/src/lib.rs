//! The SMS process: spool, scheduler, transports, the local socket.
