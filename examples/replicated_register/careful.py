"""A register on three members: a primary, and backups that take over.

Nobody is primary whom a majority does not follow, and nothing is answered that a majority has not written down: a view
is a ballot of Paxos, and its primary a proposer.
"""

from dataclasses import dataclass

from coterie import sim


@dataclass(frozen=True)
class Follow:
    """I want to be primary in this view."""

    view: int


@dataclass(frozen=True)
class Following:
    """I take nothing from an older view any more. This is the last that I have."""

    view: int
    last: tuple


@dataclass(frozen=True)
class Write:
    view: int
    number: int
    value: object


@dataclass(frozen=True)
class Written:
    view: int
    number: int


class Register(sim.Process):
    def __init__(self, id):
        self.id = id
        self.others = [peer for peer in (1, 2, 3) if peer != id]

    def start(self, now, random, records, out):
        # `last` is (view, number, value): what was written last, and where in the order of all writes.
        self.view, self.last = records[-1] if records else (0, (0, 0, None))
        self.random, self.heard, self.patience = random, now, random.uniform(0.0, 2.0)
        self.following, self.written, self.waiting = None, {}, {}
        out.set("tick", now + 0.5)

    def request(self, now, id, request, out):
        if self.following != "majority":
            out.answer(id, error="not the primary")
            return
        view, number, value = self.last
        if request[0] == "write":
            value = request[1]
        self.waiting[number + 1] = (id, value)
        self.write(number + 1, value, out)

    def write(self, number, value, out):
        """A read is a write, too: it writes again what is there, so a primary that was replaced cannot answer it."""
        self.last = (self.view, number, value)
        self.share(out)

    def share(self, out):
        view, number, value = self.last
        out.checkpoint((self.view, self.last))
        out.promise(self.id, Written(view, number))
        for peer in self.others:
            out.send(peer, Write(view, number, value))

    def receive(self, now, sender, message, out):
        if message.view < self.view:
            return
        if message.view > self.view:
            self.view, self.following, self.written, self.waiting = message.view, None, {}, {}
        match message:
            case Follow(view):
                self.heard = now
                out.checkpoint((self.view, self.last))
                out.promise(sender, Following(view, self.last))
            case Following(view, last) if isinstance(self.following, dict):
                self.following[sender] = last
                if len(self.following) == 2:
                    _, number, value = max(self.following.values(), key=lambda last: last[:2])
                    self.following = "majority"
                    self.write(number + 1, value, out)
            case Write(view, number, value):
                self.heard = now
                if (view, number) > self.last[:2]:
                    self.last = (view, number, value)
                    out.checkpoint((self.view, self.last))
                out.promise(sender, Written(view, self.last[1]))
            case Written(view, number):
                self.written[sender] = max(number, self.written.get(sender, 0))
                if len(self.written) >= 2:
                    safe = sorted(self.written.values())[-2]
                    for ready in [number for number in self.waiting if number <= safe]:
                        out.answer(self.waiting[ready][0], self.waiting.pop(ready)[1])

    def expire(self, now, timer, out):
        out.set("tick", now + 0.5)
        if self.following == "majority":
            self.share(out)
        elif now - self.heard > 2.0 + self.patience:
            self.heard, self.patience = now, self.random.uniform(0.0, 2.0)
            self.view += 3 - (self.view - self.id) % 3  # the next view that is mine: nobody else leads it
            self.following, self.written, self.waiting = {}, {}, {}
            out.checkpoint((self.view, self.last))
            out.promise(self.id, Following(self.view, self.last))
            for peer in self.others:
                out.send(peer, Follow(self.view))
