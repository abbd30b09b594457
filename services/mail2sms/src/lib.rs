//! The gateway between mail and text messages.
