"""Students: what to remove, assembly and distillation, measured."""
