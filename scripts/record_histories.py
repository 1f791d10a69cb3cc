"""Record the histories in tests/data/histories anew: from seeded worlds, and from programs with threads.

    python scripts/record_histories.py

Each is a file of JSON lines, named MODEL_WHAT_VERDICT.jsonl. What comes of threads differs from run to run; that it is
linearizable, or not, does not.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coterie import check, sim

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "data" / "histories"


# ── Worlds: a register on three members, read and written through them ──────────────────────────────────────────


class Replica(sim.Process):
    """A member of a majority register (Attiya, Bar-Noy and Dolev 1995): ask a majority, then tell a majority.

    With ``hasty`` reads answer from this member alone, which may lag behind.
    """

    def __init__(self, me: int, *, hasty: bool = False) -> None:
        self.me, self.hasty = me, hasty
        self.stamp, self.value = (0, 0, 0), None
        self.rounds: dict[int, dict[str, Any]] = {}

    def start(self, now: float, random: Any, records: list[Any], out: Any) -> None:
        for stamp, value in records:
            self.stamp, self.value = stamp, value

    def request(self, now: float, id: int, request: Any, out: Any) -> None:
        operation, value = request
        if self.hasty and operation == "read":
            out.answer(id, self.value)
            return
        self.rounds[id] = {"operation": operation, "value": value, "answers": {}, "phase": "ask"}
        for peer in (1, 2, 3):
            out.promise(peer, ("ask", id))

    def receive(self, now: float, sender: int, message: Any, out: Any) -> None:
        match message:
            case ("ask", id):
                out.promise(sender, ("have", id, self.stamp, self.value))
            case ("tell", id, stamp, value):
                if stamp > self.stamp:
                    self.stamp, self.value = stamp, value
                    out.persist((stamp, value))
                out.promise(sender, ("told", id))
            case ("have", id, stamp, value) if self.rounds.get(id, {}).get("phase") == "ask":
                self.heard(id, sender, (stamp, value), out)
            case ("told", id) if self.rounds.get(id, {}).get("phase") == "tell":
                self.heard(id, sender, None, out)
            case _:
                pass

    def heard(self, id: int, sender: int, what: Any, out: Any) -> None:
        turn = self.rounds[id]
        turn["answers"][sender] = what
        if len(turn["answers"]) < 2:
            return
        if turn["phase"] == "tell":
            out.answer(id, turn["result"])
            del self.rounds[id]
            return
        stamp, value = max(turn["answers"].values(), key=lambda answer: answer[0])
        if turn["operation"] == "write":
            stamp, value = (stamp[0] + 1, self.me, id), turn["value"]
        turn.update(phase="tell", answers={}, result=None if turn["operation"] == "write" else value)
        for peer in (1, 2, 3):
            out.promise(peer, ("tell", id, stamp, value))


def world(seed: int, *, hasty: bool, seconds: float = 6.0) -> check.History:
    """What three clients saw, who lose their patience after half a second."""
    simulated = sim.World(
        lambda me: Replica(me, hasty=hasty),
        members=3,
        seed=seed,
        faults=sim.Faults.swarm(heals=False, horizon=seconds, interval=1.0),
    )
    drawn = random.Random(seed)
    recorder = check.Recorder(clock=lambda: simulated.now)
    waiting: dict[int, tuple[Any, Any, float]] = {}
    number = 0
    while simulated.now < seconds:
        for client in (1, 2, 3):
            if client in waiting:
                id, recording, begun = waiting[client]
                answer = simulated.answer(id)
                if answer is not None and answer.error is None:
                    recording.ok(answer.value)
                elif answer is not None or simulated.now - begun > 0.5:
                    recording.unknown()
                else:
                    continue
                recording.__exit__(None, None, None)
                del waiting[client]
            number += 1
            operation = drawn.choice(["read", "write"])
            value = number if operation == "write" else None
            recording = recorder.operation(client, operation, value=value).__enter__()
            waiting[client] = (simulated.request(client, (operation, value)), recording, simulated.now)
        simulated.run(seconds=drawn.choice([0.01, 0.03, 0.1]))
    return recorder.history()


# ── Threads ─────────────────────────────────────────────────────────────────────────────────────────────────────


def threads(client: Callable[[check.Recorder, int, random.Random], None], count: int = 4) -> check.History:
    recorder = check.Recorder()
    clients = [
        threading.Thread(target=client, args=(recorder, number, random.Random(number)))
        for number in range(count)
    ]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    return recorder.history()


def slowly(recording: check.Recording, do: Callable[[], Any]) -> None:
    """Do it, with a wait before and after, in which others run."""
    time.sleep(0.0005)
    result = do()
    time.sleep(0.0005)
    recording.ok(result)


def queue(recorder: check.Recorder, me: int, drawn: random.Random, *, items: deque[Any]) -> None:
    for number in range(12):
        if drawn.random() < 0.5:
            with recorder.operation(me, "enqueue", value=[me, number]) as recording:
                slowly(recording, lambda value=[me, number]: items.append(value))
        else:
            with recorder.operation(me, "dequeue") as recording:
                slowly(recording, lambda: items.popleft() if items else None)


def stack(recorder: check.Recorder, me: int, drawn: random.Random, *, items: list[Any]) -> None:
    """Says that it is a queue, and is none."""
    for number in range(12):
        if drawn.random() < 0.5:
            with recorder.operation(me, "enqueue", value=[me, number]) as recording:
                slowly(recording, lambda value=[me, number]: items.append(value))
        else:
            with recorder.operation(me, "dequeue") as recording:
                slowly(recording, lambda: items.pop() if items else None)


def counting(*, locked: bool) -> Callable[[check.Recorder, int, random.Random], None]:
    total, lock = [0], threading.Lock()

    def add() -> int:
        before = total[0]
        time.sleep(0.0002)
        total[0] = before + 1
        return total[0]

    def client(recorder: check.Recorder, me: int, drawn: random.Random) -> None:
        for _ in range(12):
            if drawn.random() < 0.7:
                with recorder.operation(me, "add") as recording:
                    if locked:
                        with lock:
                            recording.ok(add())
                    else:
                        recording.ok(add())
            else:
                with recorder.operation(me, "read") as recording:
                    slowly(recording, lambda: total[0])

    return client


def locking(*, broken: bool) -> Callable[[check.Recorder, int, random.Random], None]:
    lock, tokens = threading.Lock(), [0]

    def client(recorder: check.Recorder, me: int, _: random.Random) -> None:
        for turn in range(6):
            with recorder.operation(me, "acquire") as recording:
                # Once, somebody gets in without having waited.
                held = not (broken and me == 0 and turn == 3) and lock.acquire()
                tokens[0] += 1
                recording.ok(tokens[0])
            time.sleep(0.001)
            with recorder.operation(me, "release"):
                if held:
                    lock.release()

    return client


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    items: deque[Any] = deque()
    pile: list[Any] = []
    histories = {
        "register_majority-seed-3_linearizable": world(3, hasty=False),
        "register_majority-seed-15_linearizable": world(15, hasty=False),
        "register_hasty-reads-seed-3_violation": world(3, hasty=True),
        "register_hasty-reads-seed-15_violation": world(15, hasty=True),
        "queue_threads_linearizable": threads(lambda *given: queue(*given, items=items)),
        "queue_threads-with-a-stack_violation": threads(lambda *given: stack(*given, items=pile)),
        "counter_threads_linearizable": threads(counting(locked=True)),
        "counter_threads-without-lock_violation": threads(counting(locked=False)),
        "lock_threads_linearizable": threads(locking(broken=False)),
        "lock_threads-one-intruder_violation": threads(locking(broken=True)),
    }
    for name, history in histories.items():
        model, _, expected = name.split("_")
        verdict = check.linearizable(history, model)
        if verdict.outcome != expected:
            raise SystemExit(f"{name}: {verdict}\nrun it again, or find out why")
        history.to_json(FOLDER / f"{name}.jsonl")
        print(f"{name}: {len(history)} operations, conflict of {len(verdict.conflict)}")


if __name__ == "__main__":
    main()
