"""Read the scans of a JPEG to their last bit: coefficients for the packer, and what is damaged."""
