//! Carries requests out, and judges whether this boot is kept.
