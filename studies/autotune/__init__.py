"""One command from a model and a limit to a certified export."""
