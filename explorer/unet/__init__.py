"""A UNet as a list of named nodes: its structure, masks over it, and the functions that run it."""
