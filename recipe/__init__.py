"""The recipe that made the embedded model: from emoji pictures to the weights that ship, one stage a module."""
