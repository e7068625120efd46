"""A deterministic simulator of everything that syncs: many devices, one server, a network that fails, virtual time.

What decides is real: the protocol's bytes (``einthoven_protocol.codec``), the device's engine (``einthoven.syncing``)
on real stores, the server's service on its in-memory change store. What is simulated is the world around it: time, the
network, processes that are killed, disks that are full, clocks that are wrong, backups that are put back, a server that
fails over to a replica that lags. A history is drawn from a seed and nothing else, so that a seed that fails, fails
again; and at its end, when all faults have stopped, every replica must say the same.

It deliberately has no TLS, no HTTP and no PostgreSQL: ``einthoven_bench.kills`` runs those, for real, and slower.

``python -m einthoven_bench.simulation --seeds 0:1000`` runs it; ``--seed N --trace`` replays one.
"""
