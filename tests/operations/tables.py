"""The tables of docs/operations.md as the code has them; `python -m tests.operations.tables` prints them."""

from dataclasses import fields
from typing import Any

import trio
from prometheus_client.parser import text_string_to_metric_families

from bunqueue_trio.config import Settings
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.tree import Server
from bunqueue_trio.storage.memory import MemoryStore
from bunqueue_trio.transports.metrics import prometheus


def settings_table() -> list[str]:
    """Return one row for each setting."""
    rows = ["| variable | flag and key in the file | default | range | what it is |", "| --- | --- | --- | --- | --- |"]
    for f in fields(Settings):
        flag = "--" + f.name.replace("_", "-")
        what = f.metadata["help"].replace("|", "\\|")
        rows.append(f"| `{f.metadata['env']}` | `{flag}`, `{f.name}` | {_default(f)} | {_range(f.metadata)} | {what} |")
    return rows


def _default(f: Any) -> str:
    if f.default is None or f.default == ():
        return "none"
    if isinstance(f.default, tuple):
        return f"`{','.join(f.default)}`"
    return f"`{str(f.default).lower() if isinstance(f.default, bool) else f.default}`"


def _range(meta: Any) -> str:
    if meta["choices"]:
        return ", ".join(f"`{choice}`" for choice in meta["choices"])
    if meta["low"] is None:
        return ""
    unlimited = meta["unlimited"] is not None or meta["zero_is_unlimited"]
    if meta["high"] is None:
        return f"{meta['low']} …" + (" Infinity" if unlimited else "")
    return f"{meta['low']} … {meta['high']}" + (", Infinity" if unlimited else "")


def metric_families() -> dict[str, tuple[str, str]]:
    """Return the metrics of a server by name, as type and help."""

    async def scrape() -> str:
        server = Server(Settings(), MemoryStore(), Clock())
        return (await prometheus(server))[1].decode()

    return {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, family.documentation)
        for family in text_string_to_metric_families(trio.run(scrape))
    }


def metrics_table() -> list[str]:
    """Return one row for each metric."""
    rows = ["| metric | type | what it says |", "| --- | --- | --- |"]
    rows += [f"| `{name}` | {kind} | {text} |" for name, (kind, text) in metric_families().items()]
    return rows


if __name__ == "__main__":
    print("\n".join([*settings_table(), "", *metrics_table()]))  # noqa: T201 - that is what it is for
