"""A user's program: a member with clients in its process, or clients alone. It ends with its standard input.

The first line says what it is, as JSON; each other one asks for something and gets a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import coterie
from coterie.exceptions import CoterieError
from records import Records
from workload import Clients, Plan, watch

# Of a process that ended because its member did.
FAILED = 9
# How often it is asked whether the member still lives.
LOOK = 0.05


def main() -> None:
    told = json.loads(sys.stdin.readline())
    try:
        client = start(told)
    except CoterieError as error:
        fail(told, error)
    clients = None
    if told["clients"]:
        records = Records(Path(told["records"]))
        clients = Clients(client, records, told["life"], told["clients"], told["seed"], Plan(**told["plan"]))
        if told["watches"]:
            watch(client, records, told["life"])
    say({"up": True})
    for line in sys.stdin:
        say(obey(client, clients, line.split()))
        if line.strip() == "end":
            break
    os._exit(0)  # nothing here is to be ended in order, unless it was asked for


def start(told: dict[str, Any]) -> coterie.client.Client:
    secret = told["secret"].encode()
    tls = told["tls"] and tuple(told["tls"])
    if told["member"] is None:
        return coterie.connect(told["url"], secret=secret, tls=tls, grace=told["grace"])
    member = coterie.Member(told["name"], secret=secret, tls=tls, grace=told["grace"], **told["member"])
    threading.Thread(target=look, args=(told, member), daemon=True).start()
    return member


def look(told: dict[str, Any], member: coterie.Member) -> None:
    while True:
        time.sleep(LOOK)
        try:
            member._raise_if_failed()
        except CoterieError as error:
            fail(told, error)


def fail(told: dict[str, Any], error: CoterieError) -> NoReturn:
    Path(told["failure"]).write_text(json.dumps([type(error).__name__, str(error)]))
    os._exit(FAILED)


def obey(client: coterie.client.Client, clients: Clients | None, words: list[str]) -> Any:
    answer: Any = None
    match words:
        case ["fork", keeper]:
            answer = fork(int(keeper))
        case ["transfer", name] if isinstance(client, coterie.Member):
            # Whom it is to go to may be dead.
            with contextlib.suppress(CoterieError):
                client.transfer(name)
        case ["stop"] if clients is not None:
            clients.stop()
        case ["end"]:
            client.close()
        case ["status"] if isinstance(client, coterie.Member):
            answer = client._member.status()
    return answer


def fork(keeper: int) -> int:
    """A child that lives on, as long as the test does."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    while Path(f"/proc/{keeper}").exists():
        time.sleep(0.5)
    os._exit(0)


def say(line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
