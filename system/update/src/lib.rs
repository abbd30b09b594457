//! Signed A/B updates of the image.
