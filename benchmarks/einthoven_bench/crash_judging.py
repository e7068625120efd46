"""Judges what a crash left of one workload's store: opened, compared, used, and erased where it was being erased.

It deliberately breaks nothing, and knows what must hold only through ``crash_verifying``.

Invariants:
    1. Every error that a store raises here is a problem of that point, whatever its class; none ends the measurement.
    2. On return no store is open.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from einthoven.errors import StoreError
from einthoven.store_events import StoreEvent
from einthoven_bench.crash_script import Hands, Told
from einthoven_bench.crash_verifying import (
    Lost,
    NotOneKey,
    Observation,
    Verdict,
    check_converges,
    check_file,
    check_goes_on,
    check_observation,
    check_sound,
    dropped_segments,
    has_forked,
    has_lost_anchor,
    observe,
    one_line,
)
from einthoven_bench.crash_workloads import Workload


class Judge:
    """What must hold of one workload's store."""

    def __init__(
        self,
        workload: Workload,
        path: Path,
        states: list[Observation | None],
        key_before: bytes | None,
        hands: Callable[[Told], Hands],
    ) -> None:
        """Keep what is compared with.

        Args:
            workload: What was played.
            path: Of the store.
            states: What it shows at first and after each step where nothing fails; ``None`` where it is gone.
            key_before: Data key at first; ``None`` if there was none.
            hands: What a user has after a crash.
        """
        self._workload, self._path, self._states = workload, path, states
        self._key_before, self._hands = key_before, hands

    def judge(self, told: Told, *, killed: bool) -> Verdict:
        """Open what is there, hold it to what was told, and go on using it.

        Args:
            told: By the process that was broken.
            killed: Whether it was cut off, so that the step under way may have taken effect or not.
        """
        steps = len(self._workload.steps)
        numbers = [told.done, told.done + 1] if killed and told.done < steps else [told.done]
        hands = self._hands(told)
        events = list(told.events)
        try:
            if self._workload.ends_store and self._states[numbers[-1]] is None:
                return self._erased(hands, ended=told.done == steps)
            key, after = self._held_to(hands, told, numbers, events)
        except Exception as error:  # noqa: BLE001 - whatever a store raises here is what the harness looks for
            key_found = "none" if isinstance(error, NotOneKey) else "?"
            return Verdict(one_line(error), key_found, has_forked(events), None)
        finally:
            self._close_quietly(hands)
        return Verdict(None, "same" if key == self._key_before else "new", has_forked(events), after)

    def _erased(self, hands: Hands, *, ended: bool) -> Verdict:
        """A store that was being erased is as it was, or does not open; erasing again ends it.

        Raises:
            Lost: It is neither, or something of it is left.
            StoreError: It can't be erased.
        """
        key = "none"
        if self._path.exists():
            try:
                seen = observe(hands.opened())
                hands.closed()
            except StoreError:
                pass
            else:
                if ended or seen != self._states[-2]:
                    raise Lost("a store that was erased opens")
                key = "same"
        self._workload.steps[-1].do(hands)
        left = sorted(path.name for path in self._path.parent.rglob("*") if not path.is_dir())
        if left:
            raise Lost(f"erasing left {left}")
        return Verdict(None, key, False, len(self._states) - (key == "same"))

    def _held_to(self, hands: Hands, told: Told, numbers: list[int], events: list[StoreEvent]) -> tuple[bytes, int]:
        """The key that opens the store, and the number of steps whose effect is there.

        Raises:
            Lost: Something that must hold does not.
            StoreError: The store can't be opened or used.
        """
        try:
            store = hands.opened()
        except StoreError as error:
            raise NotOneKey(f"it does not open: {one_line(error)}") from error
        events += store.take_events()
        seen = observe(store)
        allowed = [(number, state) for number in numbers if (state := self._states[number]) is not None]
        after = check_observation(seen, allowed, forked=has_forked(events), dropped_segments=dropped_segments(events))
        check_sound(store)
        check_goes_on(store, seen)
        if told.server:
            check_converges(hands)
        hands.closed()
        events += hands.events
        if has_forked(events) and not self._workload.may_fork and not has_lost_anchor(events):
            raise Lost("it went into a new epoch without cause")
        return check_file(self._path, hands.key_provider), after

    @staticmethod
    def _close_quietly(hands: Hands) -> None:
        """A store that was found wanting must not be in the way of the next."""
        if hands.store is not None:
            store, hands.store = hands.store, None
            try:
                store.close()
            except StoreError:
                return
