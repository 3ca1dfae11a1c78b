"""Which sample comes when, as pure functions, and what an order asks of the shards."""
