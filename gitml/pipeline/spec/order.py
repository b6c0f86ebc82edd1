"""The order of stages: every stage after those it reads, otherwise as in the file."""

from collections.abc import Collection, Mapping, Sequence
from heapq import heapify, heappop, heappush


class CycleError(Exception):
    """Stages that read each other. Carries their `names`, each read by the next, and the last by the first."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(" -> ".join([*names, names[0]]))
        self.names = tuple(names)


def topological(upstream: Mapping[str, Collection[str]]) -> list[str]:
    """The keys of `upstream`, each after those it maps to; of those that are ready the first one first.

    Raise `CycleError`: one of the cycles, beginning with its first key.
    """
    names = list(upstream)
    rank = {name: number for number, name in enumerate(names)}
    waits = {name: len(set(sources)) for name, sources in upstream.items()}
    readers: dict[str, list[str]] = {name: [] for name in names}
    for name, sources in upstream.items():
        for source in set(sources):
            readers[source].append(name)
    ready = [rank[name] for name in names if waits[name] == 0]
    heapify(ready)
    ordered: list[str] = []
    while ready:
        name = names[heappop(ready)]
        ordered.append(name)
        for reader in readers[name]:
            waits[reader] -= 1
            if waits[reader] == 0:
                heappush(ready, rank[reader])
    if len(ordered) < len(names):
        raise CycleError(_cycle({name: upstream[name] for name in names if waits[name] > 0}, rank))
    return ordered


def _cycle(stuck: Mapping[str, Collection[str]], rank: Mapping[str, int]) -> list[str]:
    """One cycle among stages of which each waits for another one of them, rotated so that the first leads."""
    walked: list[str] = []
    name = next(iter(stuck))
    while name not in walked:
        walked.append(name)
        name = min((source for source in stuck[name] if source in stuck), key=rank.__getitem__)
    cycle = walked[walked.index(name) :][::-1]
    first = cycle.index(min(cycle, key=rank.__getitem__))
    return cycle[first:] + cycle[:first]
