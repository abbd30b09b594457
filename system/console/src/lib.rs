//! The menu on the screen and the console serial line.
