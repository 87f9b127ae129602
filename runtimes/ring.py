"""The streaming memory's bookkeeping: which slot is written next, how old each slot is."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from pocketgenie.genie.spec import MemorySpec, WorldSpec

Item = TypeVar("Item")


class SlotArray(Protocol):
    """Where a ring's entries lie: [W, *entry], in host memory or on a device."""

    def __setitem__(self, slot: int, entry: Any, /) -> None:
        """Write one frame's entry into its slot: one contiguous copy."""
        ...


class Window(Generic[Item]):
    """What an absolute window shows before the next frame: at most W past frames, oldest first."""

    def __init__(self, spec: WorldSpec) -> None:
        self.slots = spec.memories["dynamics"].slots
        self.keeps = spec.keeps or self.slots
        self.past: list[Item] = []

    def move(self) -> bool:
        """Make room for one more frame -> whether the window had to move for it."""
        moves = len(self.past) > self.slots
        if moves:
            self.past = self.past[-self.keeps :]
        return moves

    def add(self, item: Item) -> bool:
        """Take the next frame -> whether the window had to move for it."""
        moved = self.move()
        self.past.append(item)
        return moved


class Ring:
    """`memory` [W, *entry] where the runtime computes; on the host `ages` int32 [W] and `filled` int32 [1].

    The arrays keep their addresses for life, so a runtime can bind them once.
    """

    def __init__(self, spec: MemorySpec, memory: SlotArray) -> None:
        self.spec, self.memory = spec, memory
        self.ages = np.zeros(spec.slots, np.int32)
        self.filled = np.zeros(1, np.int32)
        self.reset()

    def reset(self) -> None:
        """Forget everything. Slot 0 is written first, so it will be the oldest."""
        self.filled[0] = 0
        self.ages[:] = np.arange(self.spec.slots, 0, -1)

    @property
    def full(self) -> bool:
        """Whether every slot holds a frame: the next one is written over the oldest."""
        return int(self.filled[0]) == self.spec.slots

    @property
    def slot(self) -> int:
        """The slot that the next entry goes to: the oldest."""
        return int(self.ages.argmax())

    def push(self, entry: Any) -> None:
        """Write the new frame's entry over the oldest one."""
        slot = self.slot
        self.memory[slot] = entry
        self.advance(slot)

    def advance(self, slot: int) -> None:
        """Every frame is one frame older; `slot` was written just now."""
        self.ages += 1
        self.ages[slot] = 1
        self.filled[0] = min(self.filled[0] + 1, self.spec.slots)

    def inputs(self) -> dict[str, Any]:
        """The ring as a graph's inputs, by name."""
        prefix = self.spec.prefix
        return {f"{prefix}memory": self.memory, f"{prefix}ages": self.ages, f"{prefix}filled": self.filled}
