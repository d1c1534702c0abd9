"""What the commands do, a module for each group; the modules beside this package only read their options."""
