"""What the commands do, a module for each group; `studies.cli` only reads their options."""
