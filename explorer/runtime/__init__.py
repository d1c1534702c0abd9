"""Runs plans: on a pipeline or a bare UNet, eager, compiled or captured."""
