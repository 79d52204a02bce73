"""What tools/bench_peers.py measures pygpt against: one module an engine, and what they share."""
