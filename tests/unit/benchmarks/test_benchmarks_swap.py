import pytest
from benchmarks.load import Answer
from benchmarks.swap import Move, first_answers, split


def answer(due: float, done: float, version: str = "1", status: int = 200) -> Answer:
    return Answer(due, due, done, status, version)


def test_the_first_answer_by_the_new_version_counts_from_when_the_move_was_asked_for() -> None:
    moves = [Move("2", 10.0, 10.1), Move("1", 20.0, 20.1)]
    answers = [
        answer(5, 6, "1"),
        answer(9.9, 10.2, "1"),
        answer(10.3, 10.8, "2"),
        answer(10.4, 11.0, "2"),
        answer(19, 20.5, "2"),
        answer(20.4, 21.5, "1"),
    ]
    assert first_answers(moves, answers) == [pytest.approx(0.8), pytest.approx(1.5)]


def test_a_version_that_answers_only_after_the_next_move_never_answered() -> None:
    moves = [Move("2", 10.0, 10.1), Move("1", 20.0, 20.1)]
    assert first_answers(moves, [answer(20, 20.3, "2"), answer(20, 21, "1")]) == [float("inf"), 1.0]


def test_an_answer_that_touches_a_window_was_given_during_it() -> None:
    windows = [(10.0, 12.0)]
    early, into, inside, out_of, late = (
        answer(8, 9),
        answer(9, 10.5),
        answer(10.5, 11.25),
        answer(11.5, 14.0),
        answer(12.5, 17.5),
    )
    failed = answer(10.2, 11, status=500)
    outside, during = split([early, into, inside, out_of, late, failed], windows)
    assert outside == [1.0, 5.0]
    assert during == [1.5, 0.75, 2.5]
