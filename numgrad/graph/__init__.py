"""The graph floor: tensors, operations, graphs, the op table, and ways to walk, check, show and evaluate them."""
