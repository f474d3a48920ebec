"""Who listens hears every step; without a listener a step is nothing."""

from pathasst.core.progress import listening, step


def test_steps_reach_the_listener_and_nobody_else() -> None:
    calls: list[tuple[int, int]] = []
    step(1, 2)
    with listening(lambda done, total: calls.append((done, total))):
        step(1, 2)
        step(2, 2)
    step(3, 3)
    assert calls == [(1, 2), (2, 2)]
