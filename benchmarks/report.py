"""The README's tables and figures from the committed results, so that none of their numbers is typed by hand.

    python -m benchmarks.report             # rewrite README.md between its markers, draw docs/benchmarks/*.png
    python -m benchmarks.report --check     # exit status 1 if README.md or a figure is not what the results say
    python -m benchmarks.report --machine SLUG   # print one machine's parts and draw its figures; README.md stays

The README shows, of each kind of device, the machines whose operators and whose networks were measured last.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from . import figures, tables
from .results import FOLDER, Results, load, machines

README = FOLDER.parents[1] / "README.md"
PARTS = {
    "xsepconv": (tables.xsepconv, "ops"),
    "operators": (tables.operators, "ops"),
    "memory": (tables.memory, "ops"),
    "models": (tables.models, "models"),
}
"""Each part's function and the rows that it is made of."""
MARKED = re.compile(r"(<!-- benchmarks: (?P<name>[\w-]+) -->\n)(?P<text>.*?)(<!-- /benchmarks -->)", re.DOTALL)


def shown(results: Sequence[Results], kind: str) -> list[Results]:
    """Of each kind of device the machine whose operators (``ops``) or networks (``models``) were measured last."""
    measured = [result for result in results if getattr(result, kind)]
    last = {}
    for result in sorted(measured, key=lambda result: result.head(kind)["date"]):
        last[result.machine["device"]] = result
    return [result for result in measured if result is last[result.machine["device"]]]


def parts(results: Sequence[Results]) -> dict[str, str]:
    """Every part of the README by its marker's name."""
    texts = {"headline": tables.headline(shown(results, "ops"))}
    for name, (make, kind) in PARTS.items():
        texts[name] = "\n\n".join(map(make, shown(results, kind))) or "Not yet measured."
    return texts


def filled(readme: str, texts: dict[str, str]) -> str:
    """The README with what is between its markers replaced."""
    names = [match["name"] for match in MARKED.finditer(readme)]
    if sorted(names) != sorted(texts):
        sys.exit(
            f"README.md has the benchmark markers {', '.join(names) or 'none'}; needed is each of {', '.join(texts)}"
        )
    return MARKED.sub(lambda match: f"{match[1]}{texts[match['name']]}\n{match[4]}", readme)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--machine", metavar="SLUG", help="print this machine's parts and draw its figures; README.md stays as it is")
    add("--check", action="store_true", help="write nothing; exit status 1 if README.md or a figure is out of date")
    options = parser.parse_args(arguments)
    folders = machines()
    if options.machine is not None:
        chosen = [folder for folder in folders if folder.name == options.machine]
        if not chosen:
            measured = ", ".join(folder.name for folder in folders) or "none yet"
            parser.error(f"--machine is {options.machine!r}; there are results of {measured}")
        results = [load(folder) for folder in chosen]
    else:
        results = [load(folder) for folder in folders]
    stale = [path for result in results for path in figures.stale(result)]
    texts = parts(results)
    readme = README.read_text()
    text = readme if options.machine is not None else filled(readme, texts)
    if options.check:
        wrong = [README.name] * (text != readme) + [str(path) for path in stale]
        if wrong:
            sys.exit(f"not what the results say: {', '.join(wrong)}; python -m benchmarks.report writes them")
        return
    for result in results:
        for path in figures.draw(result):
            print(f"wrote {path}")
    if options.machine is not None:
        print("\n\n".join(texts.values()))
    else:
        README.write_text(text)
        print(f"wrote {README.name}")


if __name__ == "__main__":
    main()
