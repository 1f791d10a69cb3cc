"""Members of a cluster, in this process and in others.

- `member.py`: a member in this process.
- `cluster.py`: a whole cluster on this machine, to try things, to test, and for one machine's needs.
- `certificates.py`: the files of a test authority.
- `command.py`: `coterie member`, `coterie status` and `coterie certs`.
"""

from __future__ import annotations
