"""The contestants of `bench_members.py`: each a cluster of three real processes on loopback and one disk."""
