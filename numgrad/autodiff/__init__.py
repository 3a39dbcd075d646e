"""The derivative floor: reverse and forward builders, aggregation, and what derives from them."""
