//! Builds the appliance image from its recipe.
