"""Pieces of the generated pages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown table."""
    lines = [list(header), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine(e: dict[str, Any]) -> str:
    """One line on what a result was measured on."""
    return (
        f"{e['cpu']} ({e['cores']} cores, {e['cpu_level']}), {e['threads']} threads, load before {e['load_before']}, "
        f"torch {e['torch']}, Python {e['python']}, commit {e['commit']}, {e['date']}."
    )


def verdict(value: float, bar: float, aim: float) -> str:
    """In words; a smaller value is better where the aim is below the bar."""
    sign = 1 if aim > bar else -1
    return "aim reached" if sign * value >= sign * aim else "met" if sign * value >= sign * bar else "**missed**"
