"""A register on three members: a primary, and backups that take over. In haste: see `careful.py`."""

from dataclasses import dataclass

from coterie import sim


@dataclass(frozen=True)
class State:
    view: int
    value: object


class Register(sim.Process):
    def __init__(self, id):
        self.id = id
        self.others = [peer for peer in (1, 2, 3) if peer != id]

    def start(self, now, random, records, out):
        self.view, self.value = records[-1] if records else (0, None)
        self.heard = now
        out.set("tick", now + 0.5)

    @property
    def primary(self):
        return self.view % 3 + 1

    def request(self, now, id, request, out):
        if self.primary != self.id:
            out.answer(id, error="not the primary")
            return
        if request[0] == "write":
            self.value = request[1]
            self.tell(out)
        out.answer(id, self.value)

    def receive(self, now, sender, message, out):
        if message.view >= self.view:
            self.view, self.value, self.heard = message.view, message.value, now
            out.checkpoint((self.view, self.value))

    def expire(self, now, timer, out):
        out.set("tick", now + 0.5)
        if self.primary != self.id and now - self.heard > 2.0:
            self.view, self.heard = self.view + 1, now  # it is silent: the next one's turn
        if self.primary == self.id:
            self.tell(out)

    def tell(self, out):
        out.checkpoint((self.view, self.value))
        for peer in self.others:
            out.send(peer, State(self.view, self.value))
