"""Three clients write and read while things break; whoever looks at it afterwards must find one order for all of it."""

from hasty import Register

import coterie.testing
from coterie import check, sim

PATIENCE = 3.0  # seconds after which a client asks somebody else something else


@coterie.testing.worlds(Register, members=3, seeds=50, seconds=600)
def test_the_register_is_linearizable(world):
    random, recorder = sim.Random(world.seed), check.Recorder(clock=lambda: world.now)
    waiting, written = {}, 0
    while world.now < world.end:
        for client in (1, 2, 3):
            if client in waiting:
                recording, asked, since = waiting[client]
                answer = world.answer(asked)
                if answer is None and world.now - since < PATIENCE:
                    continue
                if answer is None:
                    recording.unknown()
                elif answer.error is not None:
                    recording.fail()
                else:
                    recording.ok(answer.value)
                del waiting[client]
            if random.below(4) == 0:
                member = 1 + random.below(3)
                if random.below(2) == 0:
                    written += 1
                    recording = recorder.operation(client, "write", value=written).begin()
                    waiting[client] = recording, world.request(member, ("write", written)), world.now
                else:
                    recording = recorder.operation(client, "read").begin()
                    waiting[client] = recording, world.request(member, ("read",)), world.now
        world.run(0.25)
    check.linearizable(recorder.history(), check.Register()).raise_for_violation()
