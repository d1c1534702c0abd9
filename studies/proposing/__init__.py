"""Proposes the next plan."""
