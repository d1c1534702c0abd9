"""UNets made from a UNet: students, which lack some of its nodes."""
