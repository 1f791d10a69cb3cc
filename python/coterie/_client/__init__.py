"""Clients of a cluster: what `coterie.connect` and `coterie.aio.connect` hand out. Public names are in `coterie.client`."""
