"""The ops floor: one record per op, one module per family; this list names the families."""
